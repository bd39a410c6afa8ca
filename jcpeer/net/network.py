"""The seam between a node and whatever carries its messages: libp2p, or the memory of a simulation.

The contract, which every carrier keeps and `tests/net/contract.py` checks on each:

- Between `PeerUp` and `PeerDown` of a peer, messages arrive in order and at most once, and a suffix may be lost.
  Across reconnects anything may happen. There is at most one live connection a peer, as seen from above.
- `send` and `dial` never block and never raise for a peer's fault: a queue over its limit means `PeerDown`.
- `PeerUp` comes only after both ends found the other's certificate good; its `certificate` is the checked one, and
  `peer` the identity that the handshake proved.
- `PeerDown.proof` says whether the death is proven (a redial was refused) or guessed (silence), or that the connection
  was closed on purpose ("left", "parted"). After a connection broke, the carrier redials once by itself before it
  speaks; a peer that is silent it looks for during the silence, so that speaking is not put off; after a connection
  that was closed on purpose nobody redials.
- A dial is accepted unless `expected` is up, the same dial is under way, or this node is closing. Of each accepted dial
  that names whom it expects, exactly one event tells the end: `PeerUp` of that peer, whoever dialled and to whichever
  address, which ends all dials to it at once, or `DialFailed` with its address and name. A dial without a name that
  finds a peer which is up ends without an event, since there is nothing to add.
- Heartbeats are sent and counted by the carrier, and then delivered like any message, for whoever tells people when a
  peer was last heard; a simulation that models them delivers none. A `Goodbye` is never delivered: it is `PeerDown`.
- A message sent to oneself is delivered to oneself, in order, without `PeerUp`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from jcpeer.ids import NodeId
from jcpeer.net.events import DialFailed, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.wire.peer import PeerMessage

__all__ = [
    "ByteStream",
    "DialFailed",
    "Network",
    "NetworkEvent",
    "PeerDown",
    "PeerUp",
    "Received",
    "StreamHandler",
]


class ByteStream(Protocol):
    """A stream of bytes to one peer, beside its messages, for bulk data."""

    @property
    def peer(self) -> NodeId: ...

    async def send_all(self, data: bytes) -> None:
        """Raises: UnreachableError: the stream or the peer is gone."""

    async def receive_some(self, bytes_max: int) -> bytes:
        """At least one byte, or none at the end. Raises: UnreachableError: the stream or the peer is gone."""

    async def aclose(self) -> None:
        """Ends it both ways; never raises."""


StreamHandler = Callable[[ByteStream], Awaitable[None]]


class Network(Protocol):
    """One node's view of its carrier. Opened by an async context manager of the carrier's module, which listens
    before it yields and says `Goodbye` to every peer, within a second, when it is left."""

    @property
    def me(self) -> NodeId: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialled: multiaddresses without the trailing peer id, most useful first."""

    @property
    def events(self) -> trio.MemoryReceiveChannel[NetworkEvent]:
        """Everything that happens, in order; read by one child of the node."""

    def dial(self, address: str, expected: NodeId | None = None) -> None:
        """Connect if not connected; ends in `PeerUp` or `DialFailed`, as the contract says."""

    async def probe(self, address: str, expected: NodeId) -> bool:
        """Whether that very node answers at that address, be it up or not. What was opened to find out is closed."""

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        """Queue a message; dropped where the peer is not up."""

    def disconnect(self, peer: NodeId, why: str) -> None:
        """Close the connection; `PeerDown` follows."""

    def part(self, peer: NodeId) -> None:
        """Close the connection for want of use, after all that is queued; both ends are told `PeerDown` "parted".

        Byte streams that are open break off: see `streams`. What the peer sent meanwhile is lost.
        """

    def streams(self, peer: NodeId) -> int:
        """How many byte streams with this peer are open at this end, whoever opened them."""

    async def open_stream(self, peer: NodeId) -> ByteStream:
        """A new byte stream to a peer that is up. Raises: UnreachableError."""

    def serve_streams(self, handler: StreamHandler) -> None:
        """Have each incoming byte stream handled in a child of its own; set once, before the first peer is up."""
