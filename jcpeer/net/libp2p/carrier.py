"""The libp2p carrier: who is connected, how a connection comes to be, and what its end means.

A connection is up when both ends let the other in:

    dialler   Hello →             Heartbeat →   up        (or Turned →, and closed)
    listener        judges, Hello →              up        (or Turned →, and closed)

so the listener tells nothing before it has judged, and neither end announces a peer that refuses it.

Of two nodes that dial each other at once, the connection dialled by the smaller id stays. The smaller end sees to it
alone, by going through all of its handshakes with one peer one after the other, whoever dialled; if its own dial came
up meanwhile, it turns that of the other away. So the matter is settled before either end announces anything. The larger
end answers at once, so that they never wait for each other.

A `Hello` from a peer that is up replaces the connection: the peer would not dial if it still had one.

When a link breaks, its peer is looked for where it was, for `redial_s`, before those above are told. Each end does so
by itself, since only the one that can reach the other's port gets proof of its death. A peer that is silent is looked
for while its link still stands, until it is heard, found anew, refused, or silent for too long.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import assert_never

import structlog
import trio

from jcpeer.config import Config
from jcpeer.errors import ConfigError, MembershipError, ProtocolError, RemoteProtocolError, UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.membership.certificates import check_period
from jcpeer.membership.handshake import judge_hello, make_hello
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.net.detector import CEILING, Detector, Doubt, Suspicion
from jcpeer.net.events import PARTED, Proof
from jcpeer.net.libp2p.addresses import Endpoint, parse_address
from jcpeer.net.libp2p.link import BulkStream, End, Frames, Link, Peer
from jcpeer.net.libp2p.secured import BULK, MESSAGES, Keys, Stream, Streams, Wire
from jcpeer.net.libp2p.sockets import RefusedError, connect, listen, reachable_addresses, remote_of
from jcpeer.net.libp2p.sparing import SparingLog
from jcpeer.net.network import (
    ByteStream,
    DialFailed,
    Network,
    NetworkEvent,
    PeerDown,
    PeerUp,
    Received,
    StreamHandler,
)
from jcpeer.wire.codec import decode, encode
from jcpeer.wire.messages import Heartbeat, Hello, Turned
from jcpeer.wire.peer import PeerMessage

HANDSHAKE_S = 4.0
"""From its acceptance to both `Hello`s; whoever has not said who it is by then is closed. In a flood acceptance and
closing take their time, too; all the same it is gone within 5 s."""
DIAL_S = 5.0
"""For the dialler, TCP included."""
HELLO_BYTES_MAX = 64 * 1024
STRANGERS_MAX = 256
"""Connections at once that have not said who they are; over this the one that came first is closed."""
BULK_STREAMS_MAX = 256
"""Streams at once that one peer may have open here."""
TICKS_A_HEARTBEAT = 4
"""Looks at who is silent: what a takeover waits for is not rounded up by more than an eighth of a second."""
REDIAL_STAGGER_S = 0.1
REDIAL_PAUSE_S = 0.05
TURNED_LINGER_S = 1.0

ALREADY_CONNECTED = "already connected: you dialled while this node did"
"""The one `Turned` that is no judgement; both ends know these words."""

_FIRST_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Hello, Turned)}
_CONFIRM_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Heartbeat, Turned)}

log = structlog.get_logger()


class _TurnedError(Exception):
    """A certificate was found wanting, here or there."""


@asynccontextmanager
async def open_libp2p(
    identity: Identity,
    membership_of: Callable[[], Membership],
    config: Config,
    *,
    name: str,
    incarnation: int,
) -> AsyncIterator[Network]:
    """A carrier that listens; leaving the block says goodbye to every peer, within `goodbye_s`.

    Args:
        identity: Proven in every handshake.
        membership_of: Asked in every handshake, so that a node can move to another grid while it runs; those who are
            connected stay until `disconnect`.
        config: `listen` and the times and limits of connections. With `goodbye_s` 0 the carrier leaves without a word.
        name: As others will see this node called.
        incarnation: The node's start, in milliseconds since 1970.

    Raises:
        ConfigError: the address to listen on is none, taken, or not this machine's.
    """
    listeners = await listen(config.listen)
    carrier = Carrier(identity, membership_of, config, name=name, incarnation=incarnation, listeners=listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(carrier.run)
        try:
            yield carrier
        finally:
            carrier.close()


class Carrier:
    """The `Network` that `open_libp2p` yields."""

    _nursery: trio.Nursery

    def __init__(
        self,
        identity: Identity,
        membership_of: Callable[[], Membership],
        config: Config,
        *,
        name: str,
        incarnation: int,
        listeners: list[trio.SocketListener],
    ) -> None:
        self._identity = identity
        self._membership_of = membership_of
        self._config = config
        self._name = name
        self._incarnation = incarnation
        self._listeners = listeners
        self._keys = Keys(identity)
        self._me = identity.node
        # Without bound: a reader never waits for those above, or one slow event would silence all peers at once. Above
        # is one child that hands events to machines, in microseconds each; what can pile up while it is held up is
        # what peers send in that time, and each of them stops at its own limit of unacknowledged work.
        self._tell, self._events = trio.open_memory_channel[NetworkEvent](math.inf)
        self._handler: StreamHandler | None = None
        self._links: dict[NodeId, Link] = {}  # up, or broken and being looked for
        self._open: set[Link] = set()  # every connection that was let in and still stands, those that leave included
        self._dials: dict[tuple[str, NodeId | None], object] = {}  # of which the end is still to be told
        self._in_handshake: dict[NodeId, trio.Event] = {}
        self._strangers: dict[trio.SocketStream, trio.CancelScope] = {}  # in the order in which they came
        self._strangers_log = SparingLog()
        self._bulk_streams: dict[NodeId, int] = {}
        self._changed = trio.Event()  # replaced whenever a peer comes up
        self._closing = trio.Event()
        self._tick_s = config.heartbeat_s / TICKS_A_HEARTBEAT
        self._detector = Detector(silence_s=config.silence_s, tick_s=self._tick_s)

    @property
    def me(self) -> NodeId:
        return self._me

    @property
    def addresses(self) -> tuple[str, ...]:
        return reachable_addresses(self._listeners)

    @property
    def events(self) -> trio.MemoryReceiveChannel[NetworkEvent]:
        return self._events

    def dial(self, address: str, expected: NodeId | None = None) -> None:
        """As in `Network`; a dial that finds its peer up, if only by the peer's own dial, has nothing to add."""
        if self._closing.is_set():
            return
        if (expected is None or not self._is_up(expected)) and (address, expected) not in self._dials:
            dial = self._dials[address, expected] = object()
            self._nursery.start_soon(self._dial, address, expected, dial)

    async def probe(self, address: str, expected: NodeId) -> bool:
        try:
            with trio.fail_after(DIAL_S):
                wire = Wire(await connect(parse_address(address)), initiator=True)
                try:
                    await self._keys.secure(wire, expected)
                finally:
                    wire.abort()
        except (ConfigError, UnreachableError, RemoteProtocolError, trio.TooSlowError):
            return False
        return True

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        if peer == self._me:
            self._emit(Received(peer, message))
        elif (link := self._links.get(peer)) is not None:
            link.send(message)

    def disconnect(self, peer: NodeId, why: str) -> None:
        """As in `Network`; the peer hears a goodbye, so that it does not look for us."""
        if (link := self._links.get(peer)) is not None:
            link.leave()
            self._drop(link, "silent", why)

    def part(self, peer: NodeId) -> None:
        if (link := self._links.get(peer)) is not None:
            link.leave(stays=True)
            self._drop(link, "parted", PARTED)

    def streams(self, peer: NodeId) -> int:
        link = self._links.get(peer)
        return 0 if link is None else link.byte_streams

    async def open_stream(self, peer: NodeId) -> ByteStream:
        link = self._links.get(peer)
        if link is None or not link.alive:
            raise UnreachableError(f"node …{short(peer)} is not connected")
        return BulkStream(link, await link.streams.open(BULK))

    def serve_streams(self, handler: StreamHandler) -> None:
        self._handler = handler

    # --- the carrier's own life

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen and serve until `close`, then say goodbye to all."""
        # Shielded, for whoever leaves is often cancelled, and a goodbye needs the children that write.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(trio.serve_listeners, self._welcome, self._listeners)
                self._nursery.start_soon(self._watch)
                task_status.started()
                await self._closing.wait()
                await self._say_goodbye()
                self._nursery.cancel_scope.cancel()
        self._tell.close()

    def close(self) -> None:
        """Have `run` end."""
        self._closing.set()

    async def _say_goodbye(self) -> None:
        if self._config.goodbye_s > 0:
            leaving = list(self._open)
            for link in leaving:
                link.leave()
            with trio.move_on_after(self._config.goodbye_s):
                for link in leaving:
                    await link.ended.wait()
        for link in list(self._open):
            link.fail("closed", "this node stopped")

    async def _watch(self) -> None:
        """Have the detector look at every peer, again and again."""
        while True:
            await trio.sleep(self._tick_s)
            self._strangers_log.catch_up()
            self._part_with_expired()
            for each in self._detector.tick(trio.current_time()):
                if (link := self._links.get(each.peer)) is None:
                    continue
                match each:
                    case Doubt():
                        link.search = trio.move_on_after(CEILING * self._config.silence_s)
                        self._nursery.start_soon(self._look_in_doubt, link, link.search)
                    case Suspicion(silent_s=silent_s):
                        link.fail("silent", f"it was silent for {silent_s:.1f} s", silent_s=silent_s)
                    case _:
                        assert_never(each)

    def _part_with_expired(self) -> None:
        """The end of an invitation is that of its nodes, of those that are connected too."""
        now_s = time.time()
        for link in list(self._links.values()):
            certificate = link.peer.certificate
            if certificate.expires_s is None or now_s <= certificate.expires_s:
                continue
            try:
                check_period(
                    f"the certificate of node …{short(link.node)} on {certificate.host!r}",
                    issued_s=certificate.issued_s,
                    expires_s=certificate.expires_s,
                    now_s=now_s,
                )
            except MembershipError as error:
                log.info("connection closed", peer=link.node, why=str(error))
                self.disconnect(link.node, str(error))

    # --- connections come

    async def _welcome(self, tcp: trio.SocketStream) -> None:
        """Serve one accepted connection until it ends."""
        remote = "{} port {}".format(*remote_of(tcp))
        if len(self._strangers) >= STRANGERS_MAX:
            # A member says who it is within milliseconds: who has not done so for longest is the least likely one.
            self._strangers.pop(next(iter(self._strangers))).cancel()
        scope = self._strangers[tcp] = trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_S)
        link = None
        try:
            with scope:
                link = await self._hold(tcp, None, dialled=False)
        except _TurnedError as error:
            self._strangers_log.info("connection turned away", remote=remote, why=str(error))
        except (UnreachableError, RemoteProtocolError) as error:
            self._strangers_log.info("connection closed before it was let in", remote=remote, why=str(error))
        finally:
            made_room = self._strangers.pop(tcp, None) is None
        if scope.cancelled_caught:
            why = "others wait" if made_room else f"within {HANDSHAKE_S:g} s"
            self._strangers_log.info("connection closed: it did not say who it is", remote=remote, why=why)
        if link is not None:
            await link.ended.wait()

    async def _dial(self, address: str, expected: NodeId | None, dial: object) -> None:
        why = None
        turned = False
        try:
            endpoint = parse_address(address)
            with trio.fail_after(DIAL_S):
                await self._reach(endpoint, expected or endpoint.node)
        except _TurnedError as error:
            why, turned = str(error), True
            log.info("dialled node is not connected", address=address, why=why)
        except (ConfigError, UnreachableError, RemoteProtocolError) as error:
            why = str(error)
        except trio.TooSlowError:
            why = f"no answer within {DIAL_S:.0f} s"
        if self._dials.get((address, expected)) is not dial:
            return  # whom it sought came up meanwhile, and that was told
        del self._dials[address, expected]
        if why is not None and not self._closing.is_set():
            self._emit(DialFailed(address, expected, why, turned))

    async def _reach(self, endpoint: Endpoint, expected: NodeId | None) -> None:
        """Returns when the node there is up. Raises: UnreachableError, RemoteProtocolError, _TurnedError."""
        await self._hold(await connect(endpoint), expected, dialled=True)

    async def _hold(self, tcp: trio.SocketStream, expected: NodeId | None, *, dialled: bool) -> Link | None:
        """A child that serves this connection; returns once it is up, with None where another one stands instead."""
        link: Link | None = await self._nursery.start(self._serve, tcp, expected, dialled)
        return link

    async def _serve(
        self,
        tcp: trio.SocketStream,
        expected: NodeId | None,
        dialled: bool,
        *,
        task_status: trio.TaskStatus[Link | None],
    ) -> None:
        wire = Wire(tcp, initiator=dialled)
        link = None
        try:
            link = await self._shake_hands(wire, expected)
            task_status.started(link)
            if link is not None:
                await link.run()
        finally:
            wire.abort()
            if link is not None:
                self._open.discard(link)
                link.ended.set()
        if link is not None:
            await self._settle(link)

    async def _shake_hands(self, wire: Wire, expected: NodeId | None) -> Link | None:
        """From the first byte to both Hellos; None where the peer turns out to be connected otherwise."""
        try:
            streams = await self._keys.secure(wire, expected)
            self._nursery.start_soon(streams.run)
            return await (self._greet(streams) if wire.is_initiator else self._answer(streams))
        except (UnreachableError, ProtocolError, _TurnedError):
            raise
        except Exception as error:  # else whoever finds bytes that we stumble over could end the node
            log.exception("a handshake failed by a fault of this node", remote=wire.remote)
            raise UnreachableError(f"a fault of this node: {error!r}") from error

    async def _greet(self, streams: Streams) -> Link | None:
        """The dialler's half of letting in."""
        node = streams.peer
        if node == self._me:
            raise UnreachableError("that is this node itself")
        async with self._alone_with(node):
            if self._is_sure(node):
                return None
            stream = await streams.open(MESSAGES)
            await _say(stream, self._hello())
            answer = decode(await Frames(stream, frame_bytes_max=HELLO_BYTES_MAX).next(), _FIRST_KINDS)
            if isinstance(answer, Turned):
                if answer.reason == ALREADY_CONNECTED:
                    while not self._is_sure(node):
                        await self._changed.wait()
                    return None
                raise _TurnedError(f"turned away: {answer.reason}")
            peer = await self._judged(answer, streams, stream, dialled=True)
            await _say(stream, Heartbeat())
            return self._take_up(peer, streams, stream, Frames(stream))

    async def _answer(self, streams: Streams) -> Link | None:
        """The listener's half."""
        node = streams.peer
        try:
            stream = await streams.accept_for(MESSAGES)
        except UnreachableError:
            if self._is_up(node):
                return None  # it dialled several addresses, and has seen by now that they are one node
            raise
        hello = decode(await Frames(stream, frame_bytes_max=HELLO_BYTES_MAX).next(), {"Hello": Hello})
        peer = await self._judged(hello, streams, stream, dialled=False)
        if node < self._me:
            return await self._let_in(peer, streams, stream)
        async with self._alone_with(node):
            if self._is_fresh(hello, node):
                await _turn(stream, ALREADY_CONNECTED)
                return None
            return await self._let_in(peer, streams, stream)

    async def _let_in(self, peer: Peer, streams: Streams, stream: Stream) -> Link:
        await _say(stream, self._hello())
        frames = Frames(stream)
        confirmed = decode(await frames.next(), _CONFIRM_KINDS)
        if isinstance(confirmed, Turned):
            raise _TurnedError(f"turned away: {confirmed.reason}")
        return self._take_up(peer, streams, stream, frames)

    @asynccontextmanager
    async def _alone_with(self, node: NodeId) -> AsyncIterator[None]:
        """In no other handshake with this node, as far as they go through here."""
        while (under_way := self._in_handshake.get(node)) is not None:
            await under_way.wait()
        done = self._in_handshake[node] = trio.Event()
        try:
            yield
        finally:
            del self._in_handshake[node]
            done.set()

    def _hello(self) -> Hello:
        return make_hello(
            self._identity,
            self._membership_of(),
            name=self._name,
            incarnation=self._incarnation,
            addresses=self.addresses,
        )

    async def _judged(self, hello: Hello, streams: Streams, stream: Stream, *, dialled: bool) -> Peer:
        try:
            certificate = judge_hello(hello, proven=streams.peer, root=self._membership_of().root, now_s=time.time())
        except MembershipError as error:
            await _turn(stream, str(error))
            raise _TurnedError(str(error)) from error
        return Peer(streams.peer, certificate, hello, streams.wire.remote, dialled)

    def _is_up(self, node: NodeId | None) -> bool:
        return node is not None and (link := self._links.get(node)) is not None and link.alive

    def _is_sure(self, node: NodeId) -> bool:
        """Whether it is up and not in doubt, so that a further connection would be one too many."""
        return self._is_up(node) and self._links[node].search is None

    def _is_fresh(self, hello: Hello, node: NodeId) -> bool:
        """Whether this node has just dialled that same one, which then had not heard of it when it sent its Hello."""
        link = self._links.get(node)
        return (
            link is not None
            and self._is_sure(node)
            and link.peer.dialled
            and link.peer.hello.incarnation == hello.incarnation
            and trio.current_time() - link.since_s < HANDSHAKE_S
        )

    def _take_up(self, peer: Peer, streams: Streams, stream: Stream, frames: Frames) -> Link:
        """Announce a peer that both ends let in. Never waits, so that nothing comes between."""
        if (old := self._links.get(peer.node)) is not None:
            old.search = None  # it may be what found the peer, and ends by itself
            end = old.fail("closed", "it connected anew")
            self._drop(old, _proof(end), end.why, end.silent_s)
        link = Link(
            peer,
            streams,
            stream,
            frames,
            config=self._config,
            since_s=trio.current_time(),
            deliver=self._deliver,
            accept=self._accept_bulk,
        )
        streams.admit()
        self._links[peer.node] = link
        self._open.add(link)
        self._detector.heard(peer.node, trio.current_time())
        streams.wire.heard = lambda: self._heard(link)
        for sought in [each for each in self._dials if each[1] == peer.node]:
            del self._dials[sought]
        self._emit(PeerUp(peer.node, peer.certificate, peer.hello, peer.address))
        self._changed.set()
        self._changed = trio.Event()
        return link

    def _heard(self, link: Link) -> None:
        if self._links.get(link.node) is link:
            _end_search(link)
            self._detector.heard(link.node, trio.current_time())

    def _deliver(self, link: Link, message: PeerMessage) -> None:
        if self._links.get(link.node) is link:  # nothing is heard of a peer between its PeerDown and its PeerUp
            self._emit(Received(link.node, message))

    # --- and go

    async def _settle(self, link: Link) -> None:
        """Decide what the end of a link means."""
        end = link.end
        if end is None or self._links.get(link.node) is not link or self._closing.is_set():
            return
        self._detector.forget(link.node)
        _end_search(link)
        if end.how in ("silent", "refused", "left", "parted"):
            self._drop(link, _proof(end), end.why, end.silent_s)
            return
        link.search = trio.move_on_after(self._config.redial_s)
        if await self._redial(link, link.search):
            self._drop(link, "refused", f"{end.why}, and its port refuses: its process is gone")
        else:
            self._drop(link, "silent", f"{end.why}, and it was not found again within {self._config.redial_s:g} s")

    async def _look_in_doubt(self, link: Link, search: trio.CancelScope) -> None:
        """A reboot, or a translation of addresses that forgot us, leaves a connection on which nothing is ever heard
        again."""
        if await self._redial(link, search):
            link.fail("refused", "it was silent, and its port refuses: its process is gone")

    async def _redial(self, link: Link, search: trio.CancelScope) -> bool:
        """Look for the peer of a broken link, or of one in doubt; True where a refusal proved that its process is gone.

        It ends with `search`, at the latest. A reunion replaces the link (`_take_up`), after which `_drop` of the old
        one does nothing.
        """
        refused = False

        async def look(endpoint: Endpoint, proves: bool, delay_s: float) -> None:
            nonlocal refused
            await trio.sleep(delay_s)
            while self._links.get(link.node) is link:
                try:
                    await self._reach(endpoint, link.node)
                except RefusedError:
                    if not proves:
                        return
                    refused = True
                except (UnreachableError, RemoteProtocolError, _TurnedError):
                    # Not least: a process that was just killed may take the connection and close its port only then.
                    await trio.sleep(REDIAL_PAUSE_S)
                    continue
                nursery.cancel_scope.cancel()
                return

        with search:
            async with trio.open_nursery() as nursery:
                for turn, (endpoint, proves) in enumerate(link.peer.endpoints()):
                    nursery.start_soon(look, endpoint, proves, turn * REDIAL_STAGGER_S)
        return refused

    def _drop(self, link: Link, proof: Proof, why: str, silent_s: float = 0.0) -> None:
        if self._links.get(link.node) is link:
            del self._links[link.node]
            _end_search(link)
            self._detector.forget(link.node)
            self._emit(PeerDown(link.node, proof, why, silent_s))

    def _emit(self, event: NetworkEvent) -> None:
        try:
            self._tell.send_nowait(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("nobody listens to the network any more", missed=type(event).__name__)

    # --- byte streams

    def _accept_bulk(self, link: Link, stream: Stream) -> None:
        self._nursery.start_soon(self._serve_bulk, link, stream)

    async def _serve_bulk(self, link: Link, stream: Stream) -> None:
        byte_stream = BulkStream(link, stream)
        open_before = self._bulk_streams.get(link.node, 0)
        self._bulk_streams[link.node] = open_before + 1
        try:
            if self._handler is not None and link.alive and open_before < BULK_STREAMS_MAX:
                with trio.fail_after(HANDSHAKE_S):
                    await link.streams.agree(stream, BULK)
                await self._handler(byte_stream)
        except (UnreachableError, trio.TooSlowError) as error:
            log.debug("byte stream ended early", peer=link.node, why=repr(error))
        except Exception:  # a fault stays in its room: one bad stream is no reason to lose the peer
            log.exception("a byte stream could not be served", peer=link.node)
        finally:
            await byte_stream.aclose()
            self._bulk_streams[link.node] -= 1
            if not self._bulk_streams[link.node]:
                del self._bulk_streams[link.node]


def _proof(end: End) -> Proof:
    """What the end of a link says of the peer before anything more is found out."""
    return end.how if end.how in ("refused", "left", "parted") else "silent"


def _end_search(link: Link) -> None:
    if link.search is not None:
        link.search.cancel()
        link.search = None


async def _say(stream: Stream, message: Hello | Turned | Heartbeat) -> None:
    try:
        await stream.write(encode(message))
    except Exception as error:  # see `Frames.next`
        raise UnreachableError("the connection broke") from error


async def _turn(stream: Stream, reason: str) -> None:
    """Turn the peer away and let it close first: closing at once could overtake the reason."""
    with trio.move_on_after(TURNED_LINGER_S):
        try:
            await _say(stream, Turned(reason))
            await stream.read(1)
        except Exception as error:
            log.debug("the peer that was turned away did not wait for the reason", why=repr(error))
