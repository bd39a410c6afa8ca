"""The network as the rest of the node sees it: whomever one speaks to is connected to on demand.

parts of the node → Reach → `discovery.connections` → carrier → its events → Reach → the node
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import NoReturn

import structlog
import trio

from jcpeer.discovery.connections import (
    CallFor,
    Connections,
    Effect,
    Notice,
    Part,
    Tick,
    Transmit,
    TurnedAway,
    Undelivered,
    Unreached,
)
from jcpeer.discovery.dialling import Dial
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.errors import NoWayError, UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.net.network import ByteStream, Network, NetworkEvent, PeerDown, PeerUp, Received, StreamHandler
from jcpeer.node.alarm import Alarm
from jcpeer.wire.messages import Heartbeat, Need, NodeRecord
from jcpeer.wire.peer import PeerMessage

log = structlog.get_logger()

STREAM_S = 5.0
"""For a connection to whoever a byte stream is wanted to."""


class Reach:
    """Implements `Network` over a carrier, and owns the machine that decides about connections.

    Whoever reads the carrier's events shows each to `take` first.
    """

    def __init__(
        self,
        carrier: Network,
        *,
        undelivered: Callable[[NodeId, PeerMessage], None] = lambda node, message: None,
        unreached: Callable[[NodeId], None] = lambda node: None,
        turned_away: Callable[[NodeId], None] = lambda node: None,
        call_for: Callable[[NodeId, int], None] = lambda node, turn: None,
    ) -> None:
        self.machine = Connections(carrier.me)
        self._carrier = carrier
        self._undelivered = undelivered
        self._unreached = unreached
        self._turned_away = turned_away
        self._call_for = call_for
        self._alarm = Alarm(self.machine.wake_s, self._ring)
        self._ups: dict[NodeId, trio.Event] = {}
        self._holds = count(1)

    # --- the `Network` of the parts above

    @property
    def me(self) -> NodeId:
        return self._carrier.me

    @property
    def addresses(self) -> tuple[str, ...]:
        return self._carrier.addresses

    @property
    def events(self) -> trio.MemoryReceiveChannel[NetworkEvent]:
        return self._carrier.events

    def dial(self, address: str, expected: NodeId | None = None) -> None:
        self._carrier.dial(address, expected)

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        """Say this to a node, which is connected to first if need be; whether it arrives, nobody promises."""
        self.send_to(peer, (), message)

    def send_to(self, peer: NodeId, addresses: tuple[str, ...], message: PeerMessage) -> None:
        """The same where the directory may not know the node, but whoever named it said where it is."""
        now_s = trio.current_time()
        if peer == self.me or self.machine.used(peer, now_s=now_s):
            self._carrier.send(peer, message)
        else:
            self._perform(self.machine.send(peer, message, addresses=addresses, now_s=now_s))

    async def probe(self, address: str, expected: NodeId) -> bool:
        return await self._carrier.probe(address, expected)

    def disconnect(self, peer: NodeId, why: str) -> None:
        self._carrier.disconnect(peer, why)

    def part(self, peer: NodeId) -> None:
        self._carrier.part(peer)

    def streams(self, peer: NodeId) -> int:
        return self._carrier.streams(peer)

    async def open_stream(self, peer: NodeId) -> ByteStream:
        if self.machine.is_hopeless(peer):
            raise NoWayError(f"neither node …{short(peer)} nor this one can be dialled by the other")
        if peer not in self.machine.up:
            up = self._ups.setdefault(peer, trio.Event())
            self._perform(self.machine.reach(peer, now_s=trio.current_time()))
            with trio.move_on_after(STREAM_S) as scope:
                await up.wait()
            if scope.cancelled_caught:
                raise UnreachableError(f"no connection to node …{short(peer)}")
        return await self._carrier.open_stream(peer)

    def serve_streams(self, handler: StreamHandler) -> None:
        self._carrier.serve_streams(handler)

    # --- what the node needs and knows

    def hold(self, holder: str, nodes: frozenset[NodeId]) -> None:
        """From now on this holder needs connections to these nodes, and to none that it needed before."""
        self._perform(self.machine.hold(holder, nodes, now_s=trio.current_time()))

    @contextmanager
    def holding(self, *nodes: NodeId) -> Iterator[None]:
        """Within the block connections to these are kept."""
        holder = f"holding {next(self._holds)}"
        self.hold(holder, frozenset(nodes) - {self.me})
        try:
            yield
        finally:
            self.hold(holder, frozenset())

    def met(self, record: NodeRecord) -> None:
        """The directory has this node."""
        now_s = trio.current_time()
        met = self.machine.met
        self._perform(met(record.node, record.addresses, record.incarnation, dialable=record.dialable, now_s=now_s))

    def lost_sight(self, node: NodeId) -> None:
        """The directory no longer has this node."""
        self.machine.lost_sight(node)

    def found_dialable(self, dialable: bool) -> None:
        """Whether others can connect to this node."""
        self._perform(self.machine.found_dialable(dialable, now_s=trio.current_time()))

    def moved(self) -> None:
        """This machine has a new address."""
        self._perform(self.machine.moved(now_s=trio.current_time()))

    def sighted(self, sighting: Sighting | Farewell) -> None:
        """Somebody may be at an address, or no longer is."""
        self._perform(self.machine.handle(sighting, now_s=trio.current_time()))

    # --- the carrier's events

    def take(self, event: NetworkEvent) -> bool:
        """See to what an event means for connections. True where it concerns nothing else."""
        now_s = trio.current_time()
        if isinstance(event, Received):
            if isinstance(event.message, Need):
                self.machine.needed(event.peer, event.message.needed, now_s=now_s)
                self._alarm.look()
                return True
            if not isinstance(event.message, Heartbeat):
                self.machine.used(event.peer, now_s=now_s)
            return False
        self._perform(self.machine.handle(event, now_s=now_s))
        if isinstance(event, PeerUp) and (up := self._ups.pop(event.peer, None)) is not None:
            up.set()
        return not isinstance(event, PeerUp | PeerDown)

    async def run(self) -> NoReturn:
        """See to connections in time, until cancelled."""
        await self._alarm.run()

    def _ring(self) -> None:
        self._perform(self.machine.handle(Tick(), now_s=trio.current_time()))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit():
                    self._carrier.send(effect.peer, effect.message)
                case Dial():
                    self._carrier.dial(effect.address, effect.expected)
                case Part():
                    if not self._carrier.streams(effect.peer):
                        self._carrier.part(effect.peer)
                case Undelivered():
                    self._undelivered(effect.node, effect.message)
                case CallFor():
                    self._call_for(effect.node, effect.turn)
                case Unreached():
                    self._unreached(effect.node)
                case TurnedAway():
                    self._turned_away(effect.node)
                case Notice():
                    log.warning(effect.text)
        self._alarm.look()
