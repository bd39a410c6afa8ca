"""Addresses as people and peers write them: `HOST:PORT` and multiaddresses of TCP. Pure text; nothing is resolved."""

from __future__ import annotations

import ipaddress

from attrs import frozen

from jcpeer.errors import ConfigError
from jcpeer.ids import NodeId

_NAMES = ("dns", "dns4", "dns6")
_REMEDY = "write HOST:PORT, [IPV6]:PORT or a multiaddress such as /ip4/192.0.2.1/tcp/4001"


@frozen
class Endpoint:
    """A port of a machine: `host` is an address or a name. `node` is who should be there, where that was written."""

    host: str
    port: int
    node: NodeId | None = None


def parse_address(text: str) -> Endpoint:
    """What an address says.

    Raises:
        ConfigError: it is none; the text shows how to write one.
    """
    endpoint = _parse_multiaddress(text) if text.startswith("/") else _parse_pair(text)
    if endpoint is None:
        raise ConfigError(f"{text!r:.120} is not an address: {_REMEDY}")
    return endpoint


def format_address(host: str, port: int) -> str:
    """The multiaddress of a port of a machine."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}"


def is_loopback(host: str) -> bool:
    """Whether this is an address that leads to the asking machine itself, whoever asks."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_multiaddress(text: str) -> Endpoint | None:
    match text.split("/")[1:]:
        case [kind, host, "tcp", port]:
            node = None
        case [kind, host, "tcp", port, "p2p", name] if name:
            node = NodeId(name)
        case _:
            return None
    if not _fits(kind, host) or (number := _port(port)) is None:
        return None
    return Endpoint(host, number, node)


def _parse_pair(text: str) -> Endpoint | None:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _fits("ip6", host):
            return None
    elif ":" in host:
        return None  # an IPv6 address without brackets: where it ends and the port begins is a guess
    if not colon or not _is_host(host) or (number := _port(port)) is None:
        return None
    return Endpoint(host, number)


def _fits(kind: str, host: str) -> bool:
    if kind in _NAMES:
        return _is_host(host)
    try:
        return kind == f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return False


def _is_host(host: str) -> bool:
    return 0 < len(host) <= 255 and host.isprintable() and not set(host) & set("/ \t@[]")


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    number = int(text)
    return number if number <= 65535 else None
