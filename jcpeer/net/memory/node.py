"""One node's view of the simulated carrier: the `Network` that it is given, and what the world does to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import structlog
import trio

from jcpeer.errors import UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.membership.handshake import make_hello
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.net.detector import CEILING
from jcpeer.net.events import PARTED, DialFailed, NetworkEvent, PeerDown, Received
from jcpeer.net.memory.dial import Dial
from jcpeer.net.memory.link import End, Link
from jcpeer.net.memory.path import Path
from jcpeer.net.memory.stream import MemoryStream
from jcpeer.net.network import ByteStream, StreamHandler
from jcpeer.wire.messages import Goodbye, Hello
from jcpeer.wire.peer import PeerMessage

if TYPE_CHECKING:
    from jcpeer.net.memory.world import MemoryWorld

_log = structlog.get_logger(__name__)


class MemoryNetwork:
    """Implements `Network`. Opened by `MemoryWorld.open_node`.

    Attributes:
        open: The node's process lives, paused or not.
        stopped: Nothing enters or leaves: it is paused, or its machine is gone, so that nobody can even refuse a dial.
        ends: Its end of the connection to each peer that is up.
        links: All its connections, those that come about and those that one end has closed included.
    """

    def __init__(
        self,
        world: MemoryWorld,
        identity: Identity,
        membership_of: Callable[[], Membership],
        *,
        name: str,
        incarnation: int,
        address: str,
        nursery: trio.Nursery,
    ) -> None:
        self.world = world
        self.name = name
        self.me = identity.node
        self.open = True
        self.stopped = False
        self.uplink_free_s = 0.0
        self.ends: dict[NodeId, End] = {}
        self.links: dict[Link, None] = {}
        self._identity = identity
        self._membership_of = membership_of
        self._incarnation = incarnation
        self._address = address
        self._nursery = nursery
        self._sender, self._receiver = trio.open_memory_channel[NetworkEvent](math.inf)
        self._held: list[NetworkEvent] = []
        self._broken: dict[NodeId, str] = {}
        """Peers that were up, with why they no longer are, while a redial finds out what to say of them."""
        self._dials: dict[NodeId | None, list[Dial]] = {}
        self._handler: StreamHandler | None = None
        self._shown: tuple[Membership, Hello] | None = None

    # --- the `Network` of the node above

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self._address,)

    @property
    def events(self) -> trio.MemoryReceiveChannel[NetworkEvent]:
        return self._receiver

    def dial(self, address: str, expected: NodeId | None = None) -> None:
        under_way = any(each.address == address and not each.redial for each in self._dials.get(expected, ()))
        if self.open and expected not in self.ends and not under_way:
            self._start(Dial(self, address, expected, timeout_s=self.world.dial_timeout_s))

    async def probe(self, address: str, expected: NodeId) -> bool:
        there = self.world.last_at(address)
        if there is None or there.me != expected or self.world.behind_firewall(expected):
            await trio.lowlevel.checkpoint()
            return False
        answered = trio.Event()
        to, back = Path(self.world, self, there), Path(self.world, there, self)

        def answer() -> None:
            if there.open:
                back.carry(answered.set)

        to.carry(answer)
        with trio.move_on_after(self.world.dial_timeout_s):
            await answered.wait()
        return answered.is_set()

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        if peer == self.me:
            self.receive(peer, message)
        elif end := self.ends.get(peer):
            end.send(message)

    def disconnect(self, peer: NodeId, why: str) -> None:
        if end := self.ends.get(peer):
            self._let_go(end, Goodbye())  # so that it does not look for us
            self._emit(PeerDown(peer, "silent", why))
        elif self._broken.pop(peer, None) is not None:
            self._end_search(peer)
            self._emit(PeerDown(peer, "silent", why))

    def part(self, peer: NodeId) -> None:
        if end := self.ends.get(peer):
            self._let_go(end, Goodbye(stays=True))
            self._emit(PeerDown(peer, "parted", PARTED))
        elif self._broken.pop(peer, None) is not None:
            self._end_search(peer)
            self._emit(PeerDown(peer, "parted", PARTED))

    def streams(self, peer: NodeId) -> int:
        end = self.ends.get(peer)
        return 0 if end is None else sum(stream.open for stream in end.streams)

    async def open_stream(self, peer: NodeId) -> ByteStream:
        await trio.lowlevel.checkpoint()
        if end := self.ends.get(peer):
            return end.open_stream()
        raise UnreachableError(f"no connection to node …{short(peer)}")

    def serve_streams(self, handler: StreamHandler) -> None:
        self._handler = handler

    # --- what its connections find out

    @property
    def membership(self) -> Membership:
        return self._membership_of()

    def hello(self) -> Hello:
        membership = self.membership
        if self._shown is None or self._shown[0] is not membership:
            hello = make_hello(
                self._identity, membership, name=self.name, incarnation=self._incarnation, addresses=self.addresses
            )
            self._shown = membership, hello
        return self._shown[1]

    def up(self, end: End) -> None:
        """Both certificates were found good."""
        end.state = "up"
        end.sent_s = self.world.schedule.now_s
        broken = self._broken.pop(end.peer, None)
        if broken is not None:
            self._emit(PeerDown(end.peer, "silent", broken))
        self.ends[end.peer] = end
        self.world.traffic.connections += end is end.link.dialler
        self._emit(end.introduction)
        for dial in [*self._dials.get(end.peer, ()), *end.link.waiting]:
            if dial.node is self:
                self.dial_ended(dial)
        self.world.heartbeats.heard(end)
        self.world.heartbeats.look(end)

    def receive(self, peer: NodeId, message: PeerMessage) -> None:
        self._emit(Received(peer, message))

    def pulse(self, end: End) -> None:
        """A heartbeat arrived. They are many, so the trace leaves them out."""
        self._sender.send_nowait(end.pulse)

    def lost(self, end: End, why: str) -> None:
        """The connection is no good any more: a redial finds out whether the peer is gone."""
        self._drop(end)
        self._broken[end.peer] = why
        self._redial(end, within_s=self.world.config.redial_s)

    def doubt(self, end: End) -> None:
        """The peer is looked for while the connection stands."""
        self._redial(end, within_s=CEILING * self.world.config.silence_s)

    def silent(self, end: End, silent_s: float) -> None:
        """The peer was silent for too long, and was looked for meanwhile."""
        self._end_search(end.peer)
        self._drop(end)
        self._emit(PeerDown(end.peer, "silent", f"it was silent for {silent_s:.1f} s", silent_s))

    def left(self, end: End, *, stays: bool) -> None:
        """The peer said goodbye."""
        self._drop(end)
        self._emit(PeerDown(end.peer, "parted", PARTED) if stays else PeerDown(end.peer, "left", "it said goodbye"))

    def dial_ended(self, dial: Dial) -> None:
        """The one whom it sought is up."""
        dial.end()
        self._forget(dial)

    def dial_failed(self, dial: Dial, why: str, *, refused: bool, turned: bool) -> None:
        self._forget(dial)
        if dial.redial:
            assert dial.expected is not None
            broken = self._broken.pop(dial.expected, None)
            end = self.ends.get(dial.expected)
            if broken is not None:
                proof: Literal["refused", "silent"] = "refused" if refused else "silent"
                self._emit(PeerDown(dial.expected, proof, f"{broken}; then {why}"))
            elif end is not None and refused:
                self._drop(end)
                self._emit(PeerDown(dial.expected, "refused", f"it was silent; then {why}"))
        elif dial.expected not in self.ends:
            self._emit(DialFailed(dial.address, dial.expected, why, turned))

    def dials_failed(self, link: Link, why: str) -> None:
        """Those that wait for a connection which does not come about."""
        for dial in [each for each in link.waiting if each.node is self]:
            dial.fail(why)

    def accept(self, stream: MemoryStream) -> None:
        """A peer opened a byte stream."""
        self._nursery.start_soon(self._serve, stream)

    # --- what the world does to it

    def leave(self) -> None:
        """Say goodbye."""
        for end in [*self.ends.values()]:
            self._let_go(end, Goodbye())

    def die(self) -> None:
        """From now on it neither hears nor says anything; its connections are left to the world."""
        self.open = False
        for dial in [each for dials in self._dials.values() for each in dials]:
            dial.cancel()
        self._dials.clear()
        self.ends.clear()
        self._broken.clear()

    def resume(self) -> None:
        """After a pause: what was held comes in."""
        self.stopped = False
        held, self._held = self._held, []
        for event in held:
            self._emit(event)

    # --- within

    def _redial(self, end: End, *, within_s: float) -> None:
        self._start(Dial(self, end.introduction.address, end.peer, timeout_s=within_s, redial=True))

    def _start(self, dial: Dial) -> None:
        self._dials.setdefault(dial.expected, []).append(dial)
        dial.start()

    def _forget(self, dial: Dial) -> None:
        dials = self._dials.get(dial.expected)
        if dials is not None and dial in dials:
            dials.remove(dial)
            if not dials:
                del self._dials[dial.expected]

    def _end_search(self, peer: NodeId) -> None:
        for dial in [each for each in self._dials.get(peer, ()) if each.redial]:
            self._forget(dial)
            dial.cancel()

    def _let_go(self, end: End, goodbye: Goodbye) -> None:
        self._end_search(end.peer)
        end.send(goodbye, last=True)
        self._drop(end)

    def _drop(self, end: End) -> None:
        if self.ends.get(end.peer) is end:
            del self.ends[end.peer]
            self.world.heartbeats.dropped(end)
        end.close()

    def _emit(self, event: NetworkEvent) -> None:
        if not self.open:
            return
        if self.stopped:
            self._held.append(event)
            return
        self.world.record(self, event)
        self._sender.send_nowait(event)

    async def _serve(self, stream: MemoryStream) -> None:
        try:
            if self._handler is not None:
                await self._handler(stream)
        except UnreachableError as error:
            _log.debug("byte stream ended early", node=self.name, peer=stream.peer, why=str(error))
        except Exception:  # a fault stays in its room, as over the real carrier
            _log.exception("a byte stream could not be served", node=self.name, peer=stream.peer)
        finally:
            await stream.aclose()
