"""One connection: libp2p's Noise and Yamux over a TCP stream of ours.

libp2p is used from its layers up to the multiplexer, not from its host. The host dials by itself, waits 250 ms for each
connection, remembers failures, counts and trims connections, tells every stranger its protocols and addresses, and
dies of an exception in a handler; all of that would have to be switched off. What goes over the wire is libp2p all the
same: protocols are agreed by multistream-select, the peer id is proven by the Noise handshake.

The multiplexer is libp2p's too; `Streams` and `Stream` replace what a carrier cannot live with:

- a write that is cancelled half way leaves half a frame, after which the whole connection is lost: here a frame that
  was begun is finished;
- a reader that pauses for 5 s costs its stream: here the writer waits for as long as the connection lives;
- each read sends a window update, which makes five frames of one: here credit is returned by the half window;
- nothing stops a peer from sending beyond its window: here that ends the connection, for strangers at 256 KiB;
- data that had arrived is thrown away when the connection ends: here it can still be read;
- each frame takes two turns of the event loop: here data goes straight to its stream (`session`).
"""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Callable

import trio
from libp2p.abc import IRawConnection, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import IncompleteReadError
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux
from multiaddr import Multiaddr

from jcpeer.errors import UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.membership.identity import Identity
from jcpeer.net.libp2p.session import adopted
from jcpeer.net.libp2p.sockets import remote_of
from jcpeer.net.sending import send_at_once

MESSAGES = TProtocol("/jcpeer/1")
BULK = TProtocol("/jcpeer/bulk/1")
YAMUX = TProtocol(yamux.PROTOCOL_ID)

RECEIVE_BYTES = 128 * 1024
FRAME_BYTES = 65535 - 16 - yamux.HEADER_SIZE
"""Of data in one Yamux frame: the most that fits, with its header, into one Noise message of 65535 bytes."""
WINDOW_BYTES_MAX = 4 * 2**20
"""Unread bytes that one stream may hold. It starts at Yamux's 256 KiB and doubles while it is used, so that a link
with a long way round is filled (4 MiB are 80 MiB/s at 50 ms) and a short stream costs little."""
STRANGER_BYTES_MAX = 256 * 1024
"""Unread bytes of a peer that has not been let in; a `Hello` has a few hundred."""
MEMBER_BYTES_MAX = 256 * 2**20
"""The same over all streams of a member: more than its streams may hold in practice, less than would hurt."""

# What libp2p calls errors are ordinary ends of connections. What happened is said once, by the carrier.
logging.getLogger("libp2p").setLevel(logging.CRITICAL)


_FOR_READERS = frozenset(("recv_window", "recv_closed", "reset_received", "closed"))
_FOR_WRITERS = frozenset(("send_window", "send_closed", "closed"))


class Wire(IRawConnection):
    """The TCP stream below. `heard` is called whenever bytes arrive: any of them is a sign of life."""

    def __init__(self, tcp: trio.SocketStream, *, initiator: bool) -> None:
        self.is_initiator = initiator
        self.remote = remote_of(tcp)
        self.heard: Callable[[], None] = lambda: None
        self._tcp = tcp
        self._received = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Exactly n bytes. libp2p asks anew for what is missing, but gives up after a hundred pieces."""
        wanted = 1 if n is None else n
        if wanted > RECEIVE_BYTES:  # before Noise a stranger chooses it; Noise needs 64 KiB
            raise IncompleteReadError(f"a piece of {wanted} bytes", wanted, 0)
        while len(self._received) < wanted:
            data = await self._tcp.receive_some(RECEIVE_BYTES)
            if not data:
                raise IncompleteReadError("the connection ended", wanted, len(self._received))
            self.heard()
            self._received += data
        size = len(self._received) if n is None else n
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def write(self, data: bytes) -> None:
        await send_at_once(self._tcp, data)

    async def send_eof(self) -> None:
        await self._tcp.send_eof()

    async def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Close at once; whoever waits on the socket, even for a peer that never reads, is woken with an error."""
        self._tcp.socket.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.remote

    def get_transport_addresses(self) -> list[Multiaddr]:
        return []

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT


class Stream(yamux.YamuxStream):
    """A Yamux stream with patience, for one reader and one writer at a time."""

    conn: Streams

    def adopt(self) -> None:
        """Take over from libp2p, which makes the streams itself, before anybody reads or writes."""
        self._ended = self.recv_closed and not self.reset_received
        self._reader, self._writer = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()
        self._unread = self.conn.stream_buffers.get(self.stream_id, bytearray())
        self._consumed = 0
        self._take: Callable[[bytes], None] | None = None
        self._fault: Exception | None = None

    def __setattr__(self, name: str, value: object) -> None:
        # libp2p changes a stream's state from many places; some of it is what the reader or the writer waits for.
        if name == "recv_closed" and value and not self.closed and not self.conn.event_shutting_down.is_set():
            self._ended = True  # the peer's own word, unlike a reset or the connection's end
        super().__setattr__(name, value)
        if name in _FOR_READERS and (reader := self.__dict__.get("_reader")) is not None:
            reader.unpark_all()
        if name in _FOR_WRITERS and (writer := self.__dict__.get("_writer")) is not None:
            writer.unpark_all()

    async def read(self, n: int | None = -1) -> bytes:
        """Up to n bytes, at least one, or none when the peer has said that it sends no more."""
        while not self._unread:
            if self._ended:
                return b""
            if self.closed or self.reset_received:
                raise MuxedStreamReset("the stream was reset or its connection ended")
            await self._reader.park()
        data = bytes(self._unread if n is None or n < 0 else memoryview(self._unread)[:n])
        # Bytes leave the buffer only when nothing can be cancelled any more, so that a cancelled read loses none.
        await self._return_credit(len(data))
        del self._unread[: len(data)]
        return data

    async def read_into(self, take: Callable[[bytes], None]) -> None:
        """Have all that comes given to `take` as it arrives, with no turn of the event loop in between, until the peer
        has said that it sends no more.

        Raises:
            MuxedStreamReset: the stream was reset, or its connection ended.
            Exception: `take` raised it, which gets nothing any more.
        """
        self._take = take
        while True:
            self._give(b"")
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return
            if self.closed or self.reset_received:
                raise MuxedStreamReset("the stream was reset or its connection ended")
            if self._owes_credit(self._consumed):
                consumed, self._consumed = self._consumed, 0
                try:
                    await self._give_credit(consumed)
                except Exception as error:  # of libp2p, of trio, of the system
                    raise MuxedStreamReset("the connection broke") from error
            else:
                await self._reader.park()

    def feed(self, data: bytes) -> None:
        """The multiplexer got this."""
        self.__dict__["recv_window"] = max(self.recv_window - len(data), 0)  # and nobody is woken
        if self._take is None:
            self._unread += data
        else:
            self._give(data)
            if self._fault is None and not self._owes_credit(self._consumed):
                return
        self._reader.unpark_all()

    def _give(self, data: bytes) -> None:
        """To whom all is given, after what came with the first or the last frame, which libp2p reads."""
        assert self._take is not None
        if self._unread:
            data = bytes(self._unread) + data
            self._unread.clear()
        self._consumed += len(data)
        try:
            if data:
                self._take(data)
        except Exception as error:
            self._fault, self._take = error, lambda _: None

    async def _return_credit(self, size: int) -> None:
        consumed = self._consumed + size
        if self._owes_credit(consumed) and not (self.closed or self._ended):
            await self._give_credit(consumed)
            consumed = 0
        self._consumed = consumed

    def _owes_credit(self, consumed: int) -> bool:
        return consumed >= self.target_recv_window // 2

    async def _give_credit(self, consumed: int) -> None:
        window = self.target_recv_window
        wider = min(2 * window, WINDOW_BYTES_MAX)
        credit = consumed + wider - window
        await self.conn.write_frame(_header(yamux.TYPE_WINDOW_UPDATE, 0, self.stream_id, credit))
        self.target_recv_window = wider
        self.recv_window += credit

    async def write(self, data: bytes) -> None:
        """All of the data, when the peer has room for it."""
        left = memoryview(data)
        while left:
            while self.send_window <= 0 and not self.closed:
                await self._writer.park()
            if self.closed or self.send_closed:
                raise MuxedStreamClosed("the stream was closed")
            size = min(len(left), self.send_window, FRAME_BYTES)
            self.send_window -= size
            header = _header(yamux.TYPE_DATA, 0, self.stream_id, size)
            try:
                await self.conn.write_frame(header + left[:size])
            except BaseException:
                self.send_window += size  # cancelled while waiting for its turn: nothing was sent
                raise
            left = left[size:]

    async def end(self) -> None:
        """Close both ways: the peer reads what was sent and then the end; what it still sends is of no interest."""
        if not self.closed:
            await self.close()
            if not self.recv_closed:
                await self.reset()
        self._unread.clear()  # or libp2p would keep the stream for a minute
        await self.conn._finalize_stream(self, fully_closed=True)

    def lose(self) -> None:
        """The connection is gone."""
        self.reset_received = True
        self.closed = True


class Streams(yamux.Yamux):
    """The multiplexer of one connection, opened by `secure`."""

    def __init__(self, wire: Wire, secured: ISecureConn, peer: NodeId) -> None:
        session = adopted(secured, self._receiver_of)
        super().__init__(session, secured.get_remote_peer(), is_initiator=wire.is_initiator)
        self.wire = wire
        self.peer = peer
        self._member = False

    def admit(self) -> None:
        """The peer's certificate is good: it may send more, and a frame to it is finished once begun."""
        self._member = True

    async def run(self) -> None:
        """Carry the streams until the connection ends; never raises for what a peer did."""
        try:
            await self.start()
        except Exception as error:  # whatever escapes libp2p here was caused by bytes or by their absence
            logging.getLogger(__name__).debug("multiplexer ended: %r", error)
        finally:
            self.wire.abort()
            for stream in list(self.streams.values()):
                if isinstance(stream, Stream):
                    stream.lose()

    async def open(self, protocol: TProtocol) -> Stream:
        """A new stream on which the peer speaks this protocol. Raises: UnreachableError."""
        stream = None
        try:
            stream = _adopted(await self.open_stream())
            await MultiselectClient().select_one_of([protocol], MultiselectCommunicator(stream))
        except Exception as error:
            raise UnreachableError(f"node …{short(self.peer)} opened no stream: {_reason(error)}") from error
        except trio.Cancelled:
            if stream is not None:
                with contextlib.suppress(Exception), trio.move_on_after(1, shield=True):
                    await stream.reset()
            raise
        return stream

    async def accept(self) -> Stream:
        """The next stream that the peer opens; what it is for is then agreed by `agree`. Raises: UnreachableError."""
        try:
            return _adopted(await self.accept_stream())
        except Exception as error:
            raise UnreachableError(f"node …{short(self.peer)} is gone") from error

    async def accept_for(self, protocol: TProtocol) -> Stream:
        """The first stream on which the peer speaks this protocol; others, such as libp2p's own, it is refused.

        Raises: UnreachableError.
        """
        while True:
            stream = await self.accept()
            try:
                await self.agree(stream, protocol)
            except UnreachableError:
                with contextlib.suppress(Exception):  # then the next `accept` says that the connection is gone
                    await stream.end()
            else:
                return stream

    async def agree(self, stream: Stream, protocol: TProtocol) -> None:
        """Have the peer speak this protocol on a stream that it opened. Raises: UnreachableError."""
        try:
            await Multiselect({protocol: None}).negotiate(MultiselectCommunicator(stream))
        except Exception as error:
            raise UnreachableError(f"node …{short(self.peer)} spoke another protocol: {_reason(error)}") from error

    async def send_eof(self) -> None:
        """Say on TCP that nothing more follows. Raises: OSError and trio's errors of a broken stream."""
        async with self._write_lock:
            await self.wire.send_eof()

    async def write_frame(self, frame: bytes) -> None:
        """Send one frame, whole. Raises: OSError and trio's errors of a broken stream."""
        try:
            self._write_lock.acquire_nowait()  # which is free as a rule; `acquire` would let everybody else run first
        except trio.WouldBlock:
            await self._write_lock.acquire()
        try:
            # Noise numbers its messages: half of one, or one that was made and not sent, and the rest is unreadable.
            # The shield ends with the connection, which a silent peer loses.
            with trio.CancelScope(shield=self._member):
                await self.secured_conn.write(frame)
        finally:
            self._write_lock.release()

    async def _write_frame(self, data: bytes) -> None:
        await self.write_frame(data)

    def _receiver_of(self, stream_id: int, size: int) -> Stream | None:
        """Who takes so much data; nobody, for a stream that is libp2p's still, or is no more."""
        stream = self.streams.get(stream_id)
        if not isinstance(stream, Stream):
            return None
        self._find_room(size)
        return stream

    def _find_room(self, size: int) -> None:
        """Raises: TooSlowError: more waits to be read than a peer may send; then the connection is closed."""
        unread = size + sum(len(buffer) for buffer in self.stream_buffers.values())
        if unread > (MEMBER_BYTES_MAX if self._member else STRANGER_BYTES_MAX):
            self.wire.abort()
            raise trio.TooSlowError  # the one error here at which libp2p gives the connection up

    async def _read_data_body(self, length: int) -> bytes:
        self._find_room(length)
        return await super()._read_data_body(length)

    async def _measure_rtt_loop(self) -> None:
        """Nothing: the carrier has heartbeats of its own, and no use for the figure."""


class Keys:
    """What proves this node's id in a Noise handshake."""

    def __init__(self, identity: Identity) -> None:
        self._noise = NoiseTransport(create_new_key_pair(identity.seed), create_noise_key_pair().private_key)

    async def secure(self, wire: Wire, expected: NodeId | None) -> Streams:
        """Both handshakes on a fresh connection; whoever calls then has `Streams.run` running.

        Args:
            wire: The connection, dialled or accepted.
            expected: Who was dialled, where that is known.

        Raises:
            UnreachableError: somebody else than expected, no node at all, or the connection ended.
        """
        try:
            await _select(wire, MultiselectCommunicator(wire), NOISE)
            pattern = self._noise.get_pattern()
            if wire.is_initiator:
                secured = await pattern.handshake_outbound(wire, ID.from_base58(expected) if expected else None)
            else:
                secured = await pattern.handshake_inbound(wire)
            await _select(wire, MultiselectCommunicator(secured), YAMUX)
        except PeerIDMismatchesPubkey as error:
            raise UnreachableError(f"another node than …{short(expected or '')} answers there") from error
        except Exception as error:  # libp2p's layers raise some twenty types for bytes that they did not expect
            raise UnreachableError(f"no libp2p handshake: {_reason(error)}") from error
        return Streams(wire, secured, NodeId(secured.get_remote_peer().to_base58()))


async def _select(wire: Wire, communicator: MultiselectCommunicator, protocol: TProtocol) -> None:
    if wire.is_initiator:
        await MultiselectClient().select_one_of([protocol], communicator)
    else:
        await Multiselect({protocol: None}).negotiate(communicator)


def _adopted(stream: object) -> Stream:
    # libp2p names the class of its streams inside long functions; a stream changes class as it comes out of them.
    assert isinstance(stream, yamux.YamuxStream)
    stream.__class__ = Stream
    assert isinstance(stream, Stream)
    stream.adopt()
    return stream


def _header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream_id, length)


def _reason(error: BaseException) -> str:
    """What lies under libp2p's layers of errors, which often have no text."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
