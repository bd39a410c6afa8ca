"""What can go wrong, as one tree. Each error's text is the line a person reads: it names the thing and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class JcpeerError(Exception):
    """Anything that jcpeer raises on purpose."""


class ConfigError(JcpeerError):
    """A setting, a flag or a state directory is impossible; the command line exits with 2."""


class GraphError(JcpeerError):
    """An application that cannot be: a cycle, an unknown input, two producers of one file, a wrong type.

    Attributes:
        cycle: The tasks of the cycle in order, empty where another fault was found.
    """

    def __init__(self, message: str, *, cycle: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.cycle = tuple(cycle)


class MembershipError(JcpeerError):
    """A certificate, token or grid key that does not hold; the text says which and why."""


class ProtocolError(JcpeerError):
    """Never raised itself."""


class LocalProtocolError(ProtocolError):
    """We took a forbidden step: our own bug, so it propagates."""


class RemoteProtocolError(ProtocolError):
    """A peer sent nonsense: its stream is closed, everybody else is served on."""


class UnreachableError(JcpeerError):
    """No answer in time: expected, try the next peer."""


class NoWayError(UnreachableError):
    """Neither of two nodes can be dialled by the other: to try again soon is of no use."""


class NoNodeError(UnreachableError):
    """No node listens on this machine's local socket, or it went away; the remedy is `jcpeer node`."""


class StorageError(JcpeerError):
    """The journal or the blob store cannot be read or written: disk full, wrong owner, damaged file."""


class RequestError(JcpeerError):
    """The node understood a request and says no.

    Attributes:
        kind: "unknown" application or task, "ambiguous" name, or "invalid" for everything else.
    """

    def __init__(self, message: str, *, kind: str = "invalid") -> None:
        super().__init__(message)
        self.kind = kind


class StalledError(JcpeerError):
    """Fewer than `ack` journals are in reach.

    Attributes:
        missing: Names of the replicas that do not answer.
    """

    def __init__(self, message: str, *, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class ApplicationFailedError(JcpeerError):
    """A task used all its attempts, or the application was cancelled.

    Attributes:
        story: One line an event, oldest first: attempts, nodes, what each said last.
    """

    def __init__(self, message: str, *, story: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.story = tuple(story)
