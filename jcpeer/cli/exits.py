"""What the exit status of a command says. This table is the documentation: `jcpeer --help` prints it."""

from __future__ import annotations

from collections.abc import Mapping

from jcpeer.errors import (
    ApplicationFailedError,
    ConfigError,
    GraphError,
    JcpeerError,
    MembershipError,
    NoNodeError,
    ProtocolError,
    RequestError,
    StalledError,
    StorageError,
    UnreachableError,
)

OK = 0
FAILED = 1
USAGE = 2
CANCELLED = 3
REFUSED = 4
NO_NODE = 69
INTERNAL = 70
STORAGE = 74
LATER = 75
MEMBERSHIP = 77
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

MEANINGS: Mapping[int, str] = {
    OK: "done; of run and wait: the application ended well",
    FAILED: "the application failed",
    USAGE: "wrong usage, an impossible setting, or a file that describes no application",
    CANCELLED: "the application was cancelled",
    REFUSED: "the node says no: an unknown application or task, an ambiguous name",
    NO_NODE: "no node runs here: start one with `jcpeer node`",
    INTERNAL: "an error in jcpeer itself",
    STORAGE: "a disk cannot be read or written",
    LATER: "not now: the node went away, or nobody answers; try again later",
    MEMBERSHIP: "a token, certificate or key does not hold",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""BROKEN_PIPE and TERMINATED are what a shell reports of any program that ends by these signals."""

_BY_ERROR: Mapping[type[JcpeerError], int] = {
    ConfigError: USAGE,
    GraphError: USAGE,
    MembershipError: MEMBERSHIP,
    ProtocolError: INTERNAL,
    NoNodeError: LATER,
    UnreachableError: LATER,
    StalledError: LATER,
    StorageError: STORAGE,
    RequestError: REFUSED,
    ApplicationFailedError: FAILED,
}


class Leave(Exception):
    """End the command with this status, saying this line first, if any."""

    def __init__(self, status: int, line: str = "") -> None:
        super().__init__(line)
        self.status = status


def status_of(error: JcpeerError) -> int:
    """The exit status for this error, by the nearest of its classes."""
    return next((_BY_ERROR[kind] for kind in type(error).__mro__ if kind in _BY_ERROR), FAILED)


def status_of_end(state: str) -> int:
    """The exit status for an application that ended so."""
    return {"ok": OK, "failed": FAILED, "cancelled": CANCELLED}[state]


def table() -> str:
    """The table for people."""
    return "\n".join(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())
