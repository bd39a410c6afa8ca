"""TCP by itself: listening, dialling, and where this machine can be reached.

libp2p's own listener sets SO_REUSEPORT, so a second node on a taken port would start and get half of its connections;
and it hides its sockets, which a carrier must be able to close under a stuck writer. So the sockets are opened here.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator

import psutil
import trio

from jcpeer.errors import ConfigError, UnreachableError
from jcpeer.net.libp2p.addresses import Endpoint, format_address, is_loopback, parse_address

_VIRTUAL = ("docker", "br-", "veth", "virbr", "vmnet", "lxc", "lxd", "cni", "podman")
"""How interfaces to containers and virtual machines are called: they seldom lead to other machines."""


class RefusedError(UnreachableError):
    """The machine answered that nothing listens on that port."""


async def listen(address: str) -> list[trio.SocketListener]:
    """Listening sockets for an address such as "0.0.0.0:0".

    Raises:
        ConfigError: the port is taken or forbidden, or the machine has no such address.
    """
    endpoint = parse_address(address)
    where = f"port {endpoint.port} on {endpoint.host}"
    try:
        return await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where} is taken; stop the program that has it, choose another with --listen HOST:PORT, "
                "or take a free one with port 0"
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(f"{where} needs the rights of root; choose one above 1023 with --listen") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"this machine has no address {endpoint.host}; --listen 0.0.0.0:{endpoint.port} takes all that it has"
            ) from error
        raise ConfigError(f"cannot listen on {where}: {error}; choose another address with --listen") from error


async def connect(endpoint: Endpoint) -> trio.SocketStream:
    """A TCP connection.

    Raises:
        RefusedError: every address of the endpoint refused.
        UnreachableError: any other way in which nobody was reached.
    """
    try:
        return await trio.open_tcp_stream(endpoint.host, endpoint.port)
    except OSError as error:
        where = f"{endpoint.host}:{endpoint.port}"
        causes = list(_leaves(error))
        if all(isinstance(cause, ConnectionRefusedError) for cause in causes):
            raise RefusedError(f"{where} refused the connection: no node listens there") from error
        if isinstance(error, socket.gaierror):
            raise UnreachableError(f"the host name {endpoint.host!r} is unknown: {error.strerror}") from error
        raise UnreachableError(f"cannot reach {where}: {causes[0]}") from error
    except ValueError as error:  # an impossible name, such as one with an empty label
        raise UnreachableError(f"the host name {endpoint.host!r} is impossible: {error}") from error


def remote_of(tcp: trio.SocketStream) -> tuple[str, int]:
    """Address and port of the other end, ("", 0) where it is gone already."""
    try:
        name = tcp.socket.getpeername()
    except OSError:
        return "", 0
    return str(name[0]).removeprefix("::ffff:"), int(name[1])


def reachable_addresses(listeners: Iterable[trio.SocketListener]) -> tuple[str, ...]:
    """Where others can dial these sockets: the machine's addresses as they are now, most useful first."""
    addresses = []
    for listener in listeners:
        host, port = listener.socket.getsockname()[:2]
        hosts = machine_hosts(listener.socket.family) if host in ("0.0.0.0", "::") else (str(host),)
        addresses += [format_address(each, port) for each in hosts]
    return tuple(addresses)


def machine_hosts(family: int) -> tuple[str, ...]:
    """This machine's addresses: those of real interfaces, of virtual ones, then loopback. No link-local IPv6, which
    means something only together with an interface of the dialler."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    ranked = []
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if name not in up or address.family != family or address.address.startswith("fe80"):
                continue
            rank = 2 if is_loopback(address.address) else int(name.startswith(_VIRTUAL))
            ranked.append((rank, address.address))
    return tuple(host for _, host in sorted(ranked, key=lambda pair: pair[0]))


def is_here(host: str) -> bool:
    """Whether an address is one of this machine."""
    return is_loopback(host) or host in machine_hosts(socket.AF_INET) or host in machine_hosts(socket.AF_INET6)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """trio raises one OSError whose cause is, or groups, what happened at each address that a name stands for."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif isinstance(error, OSError) and error.errno is None and error.__cause__ is not None:
        yield from _leaves(error.__cause__)
    else:
        yield error
