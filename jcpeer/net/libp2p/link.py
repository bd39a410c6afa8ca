"""A connection to a checked peer: its messages both ways, its heartbeats, and how it ended.

One child writes, joining what is queued; one reads and never waits for anybody above. Whatever goes wrong ends the
link, once, with a reason; what follows from that is the carrier's to decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import structlog
import trio
from attrs import frozen
from libp2p.stream_muxer.exceptions import MuxedStreamReset

from jcpeer.config import Config
from jcpeer.errors import ConfigError, RemoteProtocolError, UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.membership.certificates import Certificate
from jcpeer.net.events import PARTED
from jcpeer.net.libp2p.addresses import Endpoint, format_address, is_loopback, parse_address
from jcpeer.net.libp2p.secured import FRAME_BYTES, Stream, Streams
from jcpeer.net.libp2p.sockets import is_here
from jcpeer.wire.codec import FRAME_BYTES_MAX, PEER_KINDS, FrameReader, decode, encode
from jcpeer.wire.messages import Goodbye, Heartbeat, Hello
from jcpeer.wire.peer import PeerMessage

READ_BYTES = 128 * 1024
WRITE_S = 5.0
"""A frame that could not be sent for so long means that the connection is dead, whatever TCP believes."""
REDIAL_ENDPOINTS_MAX = 8
"""Of a peer's addresses, which are its own word; more than a machine has."""

MESSAGE_KINDS = {name: kind for name, kind in PEER_KINDS.items() if name not in ("Hello", "Turned")}
_HEARTBEAT = encode(Heartbeat())

EndedBy = Literal["broke", "silent", "refused", "left", "parted", "closed"]

log = structlog.get_logger()


@frozen
class End:
    """How a link ended: it broke, the peer was silent for too long, or its port refused while it was, it left or parted
    by its own word, or this node closed it."""

    how: EndedBy
    why: str
    silent_s: float = 0.0


class Frames:
    """The frames that arrive on a stream: one by one at first, then each as it comes."""

    def __init__(self, stream: Stream, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._stream = stream
        self._reader = FrameReader(frame_bytes_max=frame_bytes_max)
        self._bodies: deque[bytes] = deque()

    async def next(self) -> bytes:
        """The body of the next frame.

        Raises:
            RemoteProtocolError: a frame is longer than allowed.
            UnreachableError: the stream ended.
        """
        while not self._bodies:
            try:
                data = await self._stream.read(READ_BYTES)
            except Exception as error:  # of libp2p, of trio, of the system: the stream is gone in every case
                raise UnreachableError("the connection broke") from error
            if not data:
                raise UnreachableError("the connection was closed")
            self._bodies.extend(self._reader.feed(data))
        return self._bodies.popleft()

    async def each(self, take: Callable[[bytes], None]) -> None:
        """Have `take` called for each further frame until the stream has ended, at once when its last byte arrives.

        Raises:
            RemoteProtocolError: a frame is longer than allowed.
            UnreachableError: the stream broke.
            Exception: `take` raised it.
        """

        def feed(data: bytes) -> None:
            for body in self._reader.feed(data):
                take(body)

        while self._bodies:
            take(self._bodies.popleft())
        try:
            await self._stream.read_into(feed)
        except MuxedStreamReset as error:
            raise UnreachableError("the connection broke") from error


@frozen(eq=False)
class Peer:
    """Who is at the other end, as it was proven, checked, and said. `address` is where it is, or can be, dialled."""

    node: NodeId
    certificate: Certificate
    hello: Hello
    remote: tuple[str, int]
    dialled: bool

    @property
    def address(self) -> str:
        if self.dialled:
            return format_address(*self.remote)
        listed = [*self._proven(), *self._listed()]
        return format_address(listed[0].host, listed[0].port) if listed else ""

    def endpoints(self) -> list[tuple[Endpoint, bool]]:
        """Where to look for it after the link broke, and whether a refusal there proves that its process is gone.

        It does where this very link led, and at the address of the link's other end if the peer said that it listens
        there. Elsewhere, behind some translation of addresses, another machine may have answered.
        """
        proven = [Endpoint(*self.remote)] if self.dialled else self._proven()
        others = [endpoint for endpoint in self._listed() if endpoint not in proven]
        if not is_here(self.remote[0]):
            others = [endpoint for endpoint in others if not is_loopback(endpoint.host)]
        found = [(endpoint, True) for endpoint in proven] + [(endpoint, False) for endpoint in others]
        return found[:REDIAL_ENDPOINTS_MAX]

    def _proven(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._listed() if endpoint.host == self.remote[0]]

    def _listed(self) -> list[Endpoint]:
        endpoints = []
        for address in self.hello.addresses[: 4 * REDIAL_ENDPOINTS_MAX]:
            try:
                endpoint = parse_address(address)
            except ConfigError:  # a later version may know more kinds
                log.debug("peer gave an unknown kind of address", peer=self.node, address=address[:120])
                continue
            endpoints.append(Endpoint(endpoint.host, endpoint.port))
        return endpoints


class Link:
    """A live connection to a peer, from the moment when both ends let the other in."""

    def __init__(
        self,
        peer: Peer,
        streams: Streams,
        stream: Stream,
        frames: Frames,
        *,
        config: Config,
        since_s: float,
        deliver: Callable[[Link, PeerMessage], None],
        accept: Callable[[Link, Stream], None],
    ) -> None:
        self.peer = peer
        self.node = peer.node
        self.streams = streams
        self.since_s = since_s
        self.end: End | None = None
        self.ended = trio.Event()
        self.search: trio.CancelScope | None = None
        """While the peer is looked for: this connection broke, or it stands and the peer is in doubt."""
        self.byte_streams = 0
        self._stream = stream
        self._frames = frames
        self._config = config
        self._deliver = deliver
        self._accept = accept
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._leaving = False
        self._wake = trio.Event()

    @property
    def alive(self) -> bool:
        return self.end is None and not self._leaving

    def send(self, message: PeerMessage) -> None:
        """Queue a message; a peer that lets too much pile up loses its link."""
        if not self.alive:
            return
        frame = encode(message)
        self._enqueue(frame)
        if self._queued_bytes > self._config.peer_queue_bytes_max:
            self.fail("broke", f"{self._queued_bytes} bytes wait to be sent, more than peer_queue_bytes_max")

    def leave(self, *, stays: bool = False) -> None:
        """Say goodbye after all that is queued, and close. `stays`: for want of use only."""
        if self.alive:
            self._leaving = True
            self._enqueue(encode(Goodbye(stays)))

    def fail(self, how: EndedBy, why: str, *, silent_s: float = 0.0) -> End:
        """End it now, whatever the socket does; the first reason stands, and is returned."""
        if self.end is None:
            self.end = End(how, why, silent_s)
        self.streams.wire.abort()
        self.streams.wire.heard = lambda: None
        return self.end

    async def run(self) -> None:
        """Serve both directions; returns when the link has ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._accept_streams)
            await self._read()
            nursery.cancel_scope.cancel()

    def _enqueue(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        self._wake.set()

    async def _read(self) -> None:
        try:
            await self._frames.each(self._take)
            self.fail("closed" if self._leaving else "broke", "the connection was closed")
        except RemoteProtocolError as error:
            log.warning("peer sent nonsense; connection closed", peer=self.node, why=str(error))
            self.fail("broke", f"it sent nonsense: {error}")
        except UnreachableError as error:
            self.fail("closed" if self._leaving else "broke", str(error))

    def _take(self, body: bytes) -> None:
        if self.end is not None:
            return
        match decode(body, MESSAGE_KINDS):
            case Goodbye(stays=True):
                self.fail("parted", PARTED)
            case Goodbye():
                self.fail("left", "it said goodbye")
            case message:
                self._deliver(self, message)

    async def _write(self) -> None:
        try:
            while self.end is None:
                if not self._queue:
                    if self._leaving:
                        await self._close_softly()
                        return
                    self._wake = trio.Event()
                    with trio.move_on_after(self._config.heartbeat_s):
                        await self._wake.wait()
                    if not self._queue:
                        self._enqueue(_HEARTBEAT)
                await self._send(self._joined())
        except Exception as error:  # of libp2p, of trio, of the system: see `Frames.next`
            self.fail("broke", f"cannot be written to: {str(error) or type(error).__name__}")

    def _joined(self) -> bytes:
        """What is queued, up to one Noise message full: a write costs the same whatever its size."""
        parts = []
        size = 0
        while self._queue and size < FRAME_BYTES:
            parts.append(self._queue.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), FRAME_BYTES):
            piece = data[start : start + FRAME_BYTES]
            with trio.move_on_after(WRITE_S) as scope:
                await self._stream.write(piece)
            if scope.cancelled_caught:
                self.fail("broke", f"took nothing for {WRITE_S:.0f} s")
                return
            self._queued_bytes -= len(piece)

    async def _close_softly(self) -> None:
        # Closing at once would reset the connection if anything of the peer's is unread, and a reset overtakes
        # the goodbye. The peer closes when it has read that.
        await self.streams.send_eof()
        await trio.sleep(self._config.goodbye_s)
        self.fail("closed", "this node closed the connection")

    async def _accept_streams(self) -> None:
        try:
            while True:
                self._accept(self, await self.streams.accept())
        except UnreachableError:
            pass  # the connection is gone, which `_read` notices too


class BulkStream:
    """A `ByteStream` over Yamux, counted by its link until it is closed here."""

    def __init__(self, link: Link, stream: Stream) -> None:
        self._link: Link | None = link
        self._peer = link.node
        self._stream = stream
        link.byte_streams += 1

    @property
    def peer(self) -> NodeId:
        return self._peer

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except Exception as error:
            raise UnreachableError(f"the stream to node …{short(self._peer)} broke") from error

    async def receive_some(self, bytes_max: int) -> bytes:
        try:
            return await self._stream.read(bytes_max)
        except Exception as error:
            raise UnreachableError(f"the stream from node …{short(self._peer)} broke") from error

    async def aclose(self) -> None:
        if self._link is not None:
            self._link.byte_streams -= 1
            self._link = None
        with trio.move_on_after(WRITE_S, shield=True):
            try:
                await self._stream.end()
            except Exception as error:
                log.debug("stream was gone when it was closed", peer=self._peer, why=repr(error))
