"""Two halves of a network on this machine, each a network namespace, between which nothing may be made to pass.

    left: eth0 --- bridge-left ==patch== bridge-right --- eth0 :right

The cable that is pulled is the patch between two switches, so that on either side every link stays up: nobody is told
anything, packets are simply lost, as between two buildings.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from attrs import frozen
from demo_parts.errors import DemoError

PREFIX = "jcpeer-drill"
PROGRAMS = ("ip", "unshare", "hostname")


@frozen
class Half:
    """One side; `inside` runs a command there, under a host name of its own."""

    name: str
    address: str
    inside: tuple[str, ...]


@frozen
class Halves:
    left: Half
    right: Half
    _switches: str

    def set_cable(self, *, plugged: bool) -> None:
        """Between them."""
        _ip("-n", self._switches, "link", "set", "patch-left", "up" if plugged else "down")


def why_not() -> str:
    """Why there cannot be any here; empty if there can."""
    if os.geteuid() != 0:
        return "it needs root, for network namespaces"
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    return f"it needs the program {missing[0]}, for network namespaces" if missing else ""


@contextmanager
def open_halves() -> Iterator[Halves]:
    """Both, joined. Raises: DemoError: they cannot be made here."""
    _remove_left_over()
    label = f"{PREFIX}-{os.getpid()}"
    made: list[str] = []

    def add(name: str) -> str:
        namespace = f"{label}-{name}"
        _ip("netns", "add", namespace)
        made.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace

    try:
        switches = add("switches")
        _ip("-n", switches, "link", "add", "patch-left", "type", "veth", "peer", "name", "patch-right")
        left, right = (
            _half(name, add(name), f"10.77.{at}.1", switches) for at, name in enumerate(("left", "right"), 1)
        )
        yield Halves(left, right, switches)
    finally:
        for namespace in made:
            _remove(namespace)


def _half(name: str, namespace: str, address: str, switches: str) -> Half:
    bridge, port = f"bridge-{name}", f"port-{name}"
    _ip("-n", switches, "link", "add", bridge, "type", "bridge")
    _ip("-n", switches, "link", "set", bridge, "up")
    _ip("-n", switches, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    for each in (port, f"patch-{name}"):
        _ip("-n", switches, "link", "set", each, "master", bridge, "up")
    _ip("-n", namespace, "address", "add", f"{address}/16", "dev", "eth0")
    _ip("-n", namespace, "link", "set", "eth0", "up")
    inside = ("ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name)
    return Half(name, address, inside)


def _ip(*arguments: str) -> str:
    try:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10).stdout
    except subprocess.CalledProcessError as error:
        raise DemoError(f"network namespaces cannot be made here: {error.stderr.strip()}") from error


def _remove(namespace: str) -> None:
    with suppress(DemoError):
        _ip("netns", "delete", namespace)


def _remove_left_over() -> None:
    """Of a drill that was killed."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove(name)
