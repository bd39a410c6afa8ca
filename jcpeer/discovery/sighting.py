"""What the ways of discovery report: somebody may be at an address.

Only a checked certificate puts a node in the directory; a sighting is a reason to dial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from attrs import frozen

from jcpeer.ids import NodeId
from jcpeer.wire.messages import NodeRecord

if TYPE_CHECKING:  # machines take sightings, and import no trio
    import trio


@frozen
class Sighting:
    """A node was seen: by mDNS, by the runtime directory, in the address book, by another node, or named by the user or
    by the token with which its grid was joined.

    `node` is None where only an address is known. `grid` is the fingerprint that it claims, "" where unknown.
    """

    source: Literal["mdns", "machine", "book", "peer", "bootstrap", "token", "simulated"]
    node: NodeId | None
    addresses: tuple[str, ...]
    grid: str = ""
    incarnation: int = 0
    grid_name: str = ""
    host: str = ""


@frozen
class Farewell:
    """A node said goodbye by the same way."""

    node: NodeId
    incarnation: int


class Discovery(Protocol):
    """One way of finding nodes; opened by an async context manager of its module."""

    @property
    def sightings(self) -> trio.MemoryReceiveChannel[Sighting | Farewell]: ...

    def announce(self, record: NodeRecord) -> None:
        """Publish the node's own record as it now is; never blocks."""
