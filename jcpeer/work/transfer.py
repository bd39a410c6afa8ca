"""Blobs and logs between nodes, each on a byte stream of its own, so that bulk data never delays messages.

A blob is fetched from whoever holds it, checked against its digest, and resumed where it broke off, from the same
holder or the next. Who asks for one that is already on its way joins that transfer. Whether a holder is worth asking
is decided here alone: one that has not got it, that stalls, breaks off without a byte, or sends something else is left
for the next. Blobs that are not large can be had from one holder by the hundred, since a stream costs more than their
bytes do.
Who holds what, and what a blob is for, is known to others.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path

import trio
from attrs import define, field

from jcpeer.application.task import TOGETHER_BYTES_MAX, BlobRef
from jcpeer.errors import JcpeerError, NoWayError, RemoteProtocolError, RequestError, UnreachableError
from jcpeer.ids import Digest, NodeId, digest_of, short
from jcpeer.net.network import ByteStream, Network
from jcpeer.wire.codec import HEADER_BYTES, FrameReader, decode, encode
from jcpeer.wire.streams import (
    BLOBS_BYTES_MAX,
    BLOBS_KINDS,
    BLOBS_MAX,
    FIRST_FRAME_BYTES_MAX,
    OPENING_KINDS,
    REPLY_KINDS,
    Blobs,
    GetBlob,
    GetBlobs,
    Here,
    NotHere,
    Opening,
    ReadLog,
    Reply,
)
from jcpeer.work.blobs import BlobStore
from jcpeer.work.execution import Content
from jcpeer.work.partial import PartialBlob
from jcpeer.work.turns import Turns

STALL_S = 10.0
"""A holder that sends nothing for so long is left for the next one."""
SEND_STALL_S = 60.0
"""A receiver that takes no piece for so long is given up: even a link of 2 KB/s takes one in time."""
PIECE_BYTES = 65_000
"""Sent at once: a message that shares the connection waits for one piece at most. A little less than 64 KiB, so that it
is one frame of the carrier, and not one and a bit."""
RECEIVE_BYTES = 256 * 1024
READ_BYTES = 16 * PIECE_BYTES
"""Read from disk at once, in a thread: a slow disk must not silence the heartbeats."""
BLOBS_FRAME_BYTES_MAX = 2 * BLOBS_BYTES_MAX
"""A longer frame of blobs is not read."""
FETCHES_MAX = 8
"""Transfers at once: enough to fill a link, few enough that each ends soon and its task starts."""
FETCHES_A_PEER_MAX = 3
BREAKS_MAX = 3
"""A holder may break off so often, each time with bytes sent, before the next one is asked."""

FindContent = Callable[[Digest], Content | None]
"""What the node holds under a name."""
OpenLog = Callable[[ReadLog], AsyncGenerator[bytes, None] | None]
"""What an attempt printed, from the request's offset on; None where this node never ran it."""


@define
class _Underway:
    """One transfer and all who wait for it."""

    holders: dict[NodeId, None]
    """To be asked, best first; whoever joins adds those that it knows."""
    ended: trio.Event = field(factory=trio.Event)
    outcome: NodeId | JcpeerError | None = None
    """Who gave it, or why nobody did; None at the end: its child was cancelled, another has to go on."""


class _Left(Exception):
    """A holder is left for the next one, and why; with `no_way` for good."""

    def __init__(self, why: str, *, no_way: bool = False) -> None:
        super().__init__(why)
        self.no_way = no_way


class Transfer:
    """One node's side of all transfers, both ways."""

    def __init__(
        self,
        network: Network,
        store: BlobStore,
        *,
        find: FindContent | None = None,
        open_log: OpenLog = lambda request: None,
        fetches_max: int = FETCHES_MAX,
        fetches_a_peer_max: int = FETCHES_A_PEER_MAX,
    ) -> None:
        self._network = network
        self._store = store
        self._find = find or store.content
        self._open_log = open_log
        self._underway: dict[str, _Underway] = {}
        self._room = trio.Semaphore(fetches_max)
        self._turns = Turns(fetches_a_peer_max)

    # --- fetching

    async def fetch(self, blob: BlobRef, holders: Sequence[NodeId]) -> NodeId:
        """Bring a blob into the store.

        Args:
            blob: What to fetch.
            holders: Who may have it, best first.

        Returns:
            Who gave it: this node itself where it was here already.

        Raises:
            UnreachableError: no holder gave it; the text says what was wrong with each. NoWayError where all of them
                cannot be connected to.
            StorageError: it cannot be stored.
        """
        known = {holder: None for holder in holders if holder != self._network.me}
        while not self._store.has(blob.digest):
            underway = self._underway.get(blob.digest)
            if underway is None:
                return await self._lead(blob, _Underway(known))
            underway.holders.update(known)
            await underway.ended.wait()
            if isinstance(underway.outcome, JcpeerError):
                raise type(underway.outcome)(str(underway.outcome))
            if underway.outcome is not None:
                return underway.outcome
        return self._network.me

    async def fetch_many(self, blobs: Iterable[BlobRef], holder: NodeId) -> None:
        """Bring those of these blobs that are not large, are neither here nor on their way, and that this holder has.
        What does not come, for whatever reason, is left for `fetch`, which says why.

        Raises:
            StorageError: one cannot be stored.
        """
        wanted = [each.digest for each in blobs if each.travels_with_others and not self._store.has(each.digest)]
        wanted = [each for each in dict.fromkeys(wanted) if each not in self._underway]
        if len(wanted) < 2 or holder == self._network.me:
            return
        for start in range(0, len(wanted), BLOBS_MAX):
            part = wanted[start : start + BLOBS_MAX]
            underway = _Underway({holder: None})
            self._underway.update(dict.fromkeys(part, underway))
            try:
                async with self._turn([holder]):
                    await self._many_from(holder, part)
            except (UnreachableError, RemoteProtocolError, trio.TooSlowError):
                return
            finally:
                for digest in part:
                    del self._underway[digest]
                underway.ended.set()

    async def _many_from(self, holder: NodeId, digests: Sequence[Digest]) -> None:
        wanted = set(digests)
        async with self._opened(holder, GetBlobs(tuple(digests))) as (stream, reply):
            if isinstance(reply, NotHere):
                return
            frames = FrameReader(frame_bytes_max=BLOBS_FRAME_BYTES_MAX)
            while True:
                with trio.fail_after(STALL_S):
                    data = await stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                for body in frames.feed(data):
                    blobs: Blobs = decode(body, BLOBS_KINDS)
                    for digest, content in blobs.data.items():
                        if digest not in wanted or digest_of(content) != digest:
                            raise RemoteProtocolError(f"what came as blob {short(digest)} is not what was asked for")
                        self._store.put(content)

    async def _lead(self, blob: BlobRef, underway: _Underway) -> NodeId:
        self._underway[blob.digest] = underway
        try:
            underway.outcome = await self._fetch_from_any(blob, underway.holders)
        except JcpeerError as error:
            underway.outcome = error
            raise
        finally:
            del self._underway[blob.digest]
            underway.ended.set()
        return underway.outcome

    async def _fetch_from_any(self, blob: BlobRef, holders: dict[NodeId, None]) -> NodeId:
        faults: dict[NodeId, _Left] = {}
        try:
            receiving = await self._store.receiving(blob)
        except RemoteProtocolError as error:  # a peer made up the name; nobody can have such a blob
            raise UnreachableError(str(error)) from error
        with receiving as partial:
            while left := [holder for holder in holders if holder not in faults]:
                async with self._turn(left) as holder:
                    try:
                        await self._fetch_from(holder, partial)
                    except _Left as fault:
                        faults[holder] = fault
                    else:
                        return holder
        told = "; ".join(f"{short(holder)}: {why}" for holder, why in faults.items()) or "nobody is known to hold it"
        kind = NoWayError if faults and all(each.no_way for each in faults.values()) else UnreachableError
        raise kind(f"blob {short(blob.digest)} ({blob.size} bytes) cannot be had: {told}")

    @asynccontextmanager
    async def _turn(self, holders: Sequence[NodeId]) -> AsyncGenerator[NodeId, None]:
        """The best of these that is not busy with other transfers of ours, once one is free."""
        async with self._turns.one_of(holders) as holder, self._room:
            yield holder

    async def _fetch_from(self, holder: NodeId, partial: PartialBlob) -> None:
        """Raises: _Left: this holder does not give it."""
        for _ in range(BREAKS_MAX):
            start = partial.offset
            try:
                await self._continue_from(holder, partial)
            except trio.TooSlowError:
                raise _Left(f"no byte for {STALL_S:.0f} s") from None
            except UnreachableError as error:
                if partial.offset == start:
                    raise _Left(str(error), no_way=isinstance(error, NoWayError)) from error
                reason = f"breaks off time and again ({error})"
            except RemoteProtocolError as error:
                if start == 0 or partial.offset == start:
                    raise _Left(str(error)) from error
                # All was discarded; the wrong part may be what another holder sent before, so this one is asked again.
                reason = str(error)
            else:
                return
        raise _Left(reason)

    async def _continue_from(self, holder: NodeId, partial: PartialBlob) -> None:
        async with self._opened(holder, GetBlob(partial.blob.digest, partial.offset)) as (stream, reply):
            match reply:
                case NotHere(reason):
                    raise _Left(reason)
                case Here(size) if size != partial.blob.size:
                    raise RemoteProtocolError(f"it has {size} bytes there, not {partial.blob.size}")
            while not partial.complete:
                with trio.fail_after(STALL_S):
                    data = await stream.receive_some(min(RECEIVE_BYTES, partial.blob.size - partial.offset))
                if not data:
                    raise UnreachableError(f"broke off after {partial.offset} bytes")
                await partial.write(data)
            partial.finish()

    # --- logs

    async def read_log(self, peer: NodeId, request: ReadLog) -> AsyncGenerator[bytes, None]:
        """What an attempt printed on that node, as it comes. Close it (`contextlib.aclosing`) if left before its end.

        Raises:
            RequestError: that node has no such log.
            UnreachableError: the node cannot be reached, or broke off.
        """
        stall_s = math.inf if request.follow else STALL_S
        try:
            async with self._opened(peer, request) as (stream, reply):
                if isinstance(reply, NotHere):
                    raise RequestError(f"no {request.stream} of {request.task}: {reply.reason}")
                while True:
                    with trio.fail_after(stall_s):
                        data = await stream.receive_some(RECEIVE_BYTES)
                    if not data:
                        return
                    yield data
        except trio.TooSlowError:
            raise UnreachableError(f"node {short(peer)} sent nothing for {STALL_S:.0f} s") from None
        except RemoteProtocolError as error:
            raise UnreachableError(f"node {short(peer)} does not answer sensibly: {error}") from error

    # --- serving

    async def serve(self, stream: ByteStream) -> None:
        """Answer one incoming stream; nonsense closes it, as does whatever else is wrong with the other end."""
        try:
            with trio.fail_after(STALL_S):
                request: Opening = decode(await _receive_frame(stream), OPENING_KINDS)
            match request:
                case GetBlob():
                    await self._serve_blob(stream, request)
                case GetBlobs():
                    await self._serve_many(stream, request)
                case ReadLog():
                    await self._serve_log(stream, request)
        except (RemoteProtocolError, UnreachableError, trio.TooSlowError):
            pass
        finally:
            await stream.aclose()

    async def _serve_blob(self, stream: ByteStream, request: GetBlob) -> None:
        content = self._find(request.digest)
        with ExitStack() as files:
            if isinstance(content, Path):
                try:
                    file = files.enter_context(content.open("rb", buffering=0))
                except OSError:  # gone this moment, or too many files are open: another holder may do better
                    content = None
                else:
                    size = file.seek(0, 2)
            elif content is not None:
                size = len(content)
            if content is None:
                return await _send(stream, encode(NotHere("not here")))
            if not 0 <= request.offset <= size:
                raise RemoteProtocolError(f"offset {request.offset} is outside a blob of {size} bytes")
            await _send(stream, encode(Here(size)))
            if isinstance(content, bytes):
                return await _send(stream, memoryview(content)[request.offset :])
            file.seek(request.offset)
            while data := await trio.to_thread.run_sync(file.read, READ_BYTES):
                await _send(stream, data)
        return None

    async def _serve_many(self, stream: ByteStream, request: GetBlobs) -> None:
        await _send(stream, encode(Here()))
        data: dict[Digest, bytes] = {}
        size = 0
        for digest in request.digests:
            content = self._find(digest)
            if isinstance(content, Path):
                content = await trio.to_thread.run_sync(_read_unless_large, content)
            if content is None or len(content) > TOGETHER_BYTES_MAX:
                continue
            data[digest] = content
            size += len(content)
            if size >= BLOBS_BYTES_MAX:
                await _send(stream, encode(Blobs(data)))
                data, size = {}, 0
        if data:
            await _send(stream, encode(Blobs(data)))

    async def _serve_log(self, stream: ByteStream, request: ReadLog) -> None:
        log = self._open_log(request) if request.offset >= 0 else None
        if log is None:
            return await _send(stream, encode(NotHere("no such log here")))
        await _send(stream, encode(Here()))
        async with aclosing(log):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, stream, nursery.cancel_scope)
                with suppress(UnreachableError, trio.TooSlowError):
                    async for data in log:
                        await _send(stream, data)
                nursery.cancel_scope.cancel()
        return None

    # --- streams

    @asynccontextmanager
    async def _opened(self, peer: NodeId, request: Opening) -> AsyncGenerator[tuple[ByteStream, Reply], None]:
        """A stream on which the peer has answered this request."""
        with trio.fail_after(STALL_S):
            stream = await self._network.open_stream(peer)
        try:
            with trio.fail_after(STALL_S):
                await stream.send_all(encode(request))
                reply: Reply = decode(await _receive_frame(stream), REPLY_KINDS)
            yield stream, reply
        finally:
            await stream.aclose()


def _read_unless_large(path: Path) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(TOGETHER_BYTES_MAX + 1)
    except OSError:  # gone this moment: another holder may do better
        return None


async def _receive_frame(stream: ByteStream) -> bytes:
    length = int.from_bytes(await _receive_exactly(stream, HEADER_BYTES), "big")
    if length > FIRST_FRAME_BYTES_MAX:
        raise RemoteProtocolError(f"a first frame of {length} bytes is over the limit")
    return await _receive_exactly(stream, length)


async def _receive_exactly(stream: ByteStream, length: int) -> bytes:
    received = b""
    while len(received) < length:
        data = await stream.receive_some(length - len(received))
        if not data:
            raise UnreachableError("closed without an answer")
        received += data
    return received


async def _send(stream: ByteStream, data: bytes | memoryview) -> None:
    for start in range(0, len(data), PIECE_BYTES):
        with trio.fail_after(SEND_STALL_S):
            await stream.send_all(bytes(data[start : start + PIECE_BYTES]))


async def _cancel_when_gone(stream: ByteStream, scope: trio.CancelScope) -> None:
    """Who reads a log says nothing more, so whatever comes now is its end; a log that rests would not notice."""
    with suppress(UnreachableError):
        await stream.receive_some(1)
    scope.cancel()
