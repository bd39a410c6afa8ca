"""Blobs and logs between nodes: what a fetch survives, whom it asks, and what a server refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from jcpeer.application.task import TOGETHER_BYTES_MAX, BlobRef
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, Digest, NodeId, TaskId, digest_of
from jcpeer.net.network import ByteStream, NetworkEvent, StreamHandler
from jcpeer.wire.codec import decode, encode
from jcpeer.wire.peer import PeerMessage
from jcpeer.wire.streams import BLOBS_MAX, OPENING_KINDS, Blobs, GetBlob, Here, NotHere, ReadLog
from jcpeer.work.blobs import BlobStore
from jcpeer.work.transfer import Transfer

ME, ANNA, BERT, CARL = (NodeId(name) for name in ("me", "anna", "bert", "carl"))
CONTENT = bytes(range(256)) * 4096
BLOB = BlobRef(digest_of(CONTENT), len(CONTENT))
LOG = ReadLog(AppId("a" * 40), TaskId("count"), 1)

Handler = Callable[["FakeStream"], Awaitable[None]]


class FakeStream:
    """One end of a stream in memory, as the carriers give it."""

    def __init__(self, peer: NodeId, stream: trio.abc.Stream) -> None:
        self.peer = peer
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise UnreachableError("the stream broke") from error

    async def receive_some(self, bytes_max: int) -> bytes:
        try:
            return bytes(await self._stream.receive_some(bytes_max))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise UnreachableError("the stream broke") from error

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


class FakeNetwork:
    """Peers are handlers by name; every stream opened is written down, with what was asked on it."""

    def __init__(self, nursery: trio.Nursery, peers: dict[NodeId, Handler]) -> None:
        self._nursery = nursery
        self._peers = peers
        self.opened: list[NodeId] = []
        self.asked: list[tuple[NodeId, int]] = []

    me = ME
    addresses: tuple[str, ...] = ()

    @property
    def events(self) -> trio.MemoryReceiveChannel[NetworkEvent]:
        raise NotImplementedError

    def dial(self, address: str, expected: NodeId | None = None) -> None: ...

    async def probe(self, address: str, expected: NodeId) -> bool:
        return False

    def send(self, peer: NodeId, message: PeerMessage) -> None: ...

    def disconnect(self, peer: NodeId, why: str) -> None: ...

    def part(self, peer: NodeId) -> None: ...

    def streams(self, peer: NodeId) -> int:
        return 0

    def serve_streams(self, handler: StreamHandler) -> None: ...

    async def open_stream(self, peer: NodeId) -> ByteStream:
        await trio.lowlevel.checkpoint()
        self.opened.append(peer)
        if peer not in self._peers:
            raise UnreachableError("not connected")
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._peers[peer], FakeStream(ME, theirs))
        return FakeStream(peer, ours)

    def faulty(self, peer: NodeId, answer: Callable[[FakeStream, GetBlob], Awaitable[None]]) -> None:
        """A peer that reads the request and then does as `answer` does."""

        async def handle(stream: FakeStream) -> None:
            frame = await stream.receive_some(4096)
            request = decode(frame[4:], OPENING_KINDS)
            self.asked.append((peer, getattr(request, "offset", 0)))
            await answer(stream, request)

        self._peers[peer] = handle


def store_with(*contents: bytes) -> BlobStore:
    store = BlobStore(None, bytes_max=10**9)
    for content in contents:
        store.put(content)
    return store


def server(store: BlobStore) -> Handler:
    return Transfer(FakeNetwork.__new__(FakeNetwork), store).serve


async def breaks_off(stream: FakeStream, request: GetBlob, *, after: int) -> None:
    await stream.send_all(encode(Here(BLOB.size)) + CONTENT[request.offset : request.offset + after])
    await stream.aclose()


async def lies(stream: FakeStream, request: GetBlob) -> None:
    await stream.send_all(encode(Here(BLOB.size)) + bytes(BLOB.size - request.offset))


async def stalls(stream: FakeStream, request: GetBlob) -> None:
    await stream.send_all(encode(Here(BLOB.size)) + CONTENT[:1000])
    await trio.sleep_forever()


async def honest(stream: FakeStream, request: GetBlob) -> None:
    await stream.send_all(encode(Here(BLOB.size)) + CONTENT[request.offset :])
    await stream.aclose()


@pytest.fixture
def network(nursery: trio.Nursery) -> FakeNetwork:
    return FakeNetwork(nursery, {})


async def test_blob_is_fetched_from_the_first_who_holds_it(network: FakeNetwork, tmp_path: Path) -> None:
    holder = BlobStore(tmp_path, bytes_max=10**9)
    holder.put(CONTENT)
    network._peers |= {BERT: server(store_with()), CARL: server(holder)}
    store = store_with()
    transfer = Transfer(network, store)
    assert await transfer.fetch(BLOB, [ANNA, BERT, CARL]) == CARL
    assert store.content(BLOB.digest) == CONTENT
    assert await transfer.fetch(BLOB, [ANNA]) == ME
    assert network.opened == [ANNA, BERT, CARL]


async def test_a_name_that_is_no_digest_cannot_be_had(network: FakeNetwork) -> None:
    for name in ("", "zz", "../../key", "A" * 64):
        with pytest.raises(UnreachableError, match="not the name of a blob"):
            await Transfer(network, store_with()).fetch(BlobRef(Digest(name), 10**6), [ANNA])
    assert not network.opened


async def test_small_and_empty_blobs_come_the_same_way(network: FakeNetwork) -> None:
    network._peers[ANNA] = server(store_with(b"", b"small"))
    store = store_with()
    for content in (b"", b"small"):
        await Transfer(network, store).fetch(BlobRef(digest_of(content), len(content)), [ANNA])
        assert store.content(digest_of(content)) == content


async def test_hundreds_of_blobs_come_over_one_stream_and_the_large_one_does_not(
    network: FakeNetwork, tmp_path: Path
) -> None:
    holder = BlobStore(tmp_path, bytes_max=10**9)
    blobs = [holder.put(bytes([each]) * size) for each in range(20) for size in (10, 5_000, 100_000)]
    large = holder.put(bytes(TOGETHER_BYTES_MAX + 1))
    network._peers[ANNA] = server(holder)
    store = store_with()
    transfer = Transfer(network, store)
    await transfer.fetch_many([*blobs, large], ANNA)
    assert all(store.content(each.digest) for each in blobs)
    assert not store.has(large.digest)
    assert network.opened == [ANNA]
    await transfer.fetch_many(blobs, ANNA)
    assert network.opened == [ANNA]


async def test_more_than_a_first_frame_can_name_are_asked_for_in_parts(network: FakeNetwork) -> None:
    contents = [str(each).encode() for each in range(2 * BLOBS_MAX + 1)]
    network._peers[ANNA] = server(store_with(*contents))
    store = store_with()
    await Transfer(network, store).fetch_many([BlobRef(digest_of(each), len(each)) for each in contents], ANNA)
    assert all(store.has(digest_of(each)) for each in contents)
    assert network.opened == [ANNA] * 3


async def test_of_many_what_does_not_come_is_left_for_others(network: FakeNetwork) -> None:
    here, there = b"here", b"there"
    blobs = [BlobRef(digest_of(each), len(each)) for each in (here, there)]

    async def lies_in_part(stream: FakeStream, request: object) -> None:
        frames = encode(Here()) + encode(Blobs({digest_of(here): here})) + encode(Blobs({digest_of(there): b"else"}))
        await stream.send_all(frames)
        await stream.aclose()

    network.faulty(ANNA, lies_in_part)
    network._peers[BERT] = server(store_with(there))
    store = store_with()
    transfer = Transfer(network, store)
    await transfer.fetch_many(blobs, ANNA)
    assert (store.has(digest_of(here)), store.has(digest_of(there))) == (True, False)
    await transfer.fetch_many(blobs, CARL)  # nobody is there
    await transfer.fetch(blobs[1], [BERT])
    assert store.has(digest_of(there))


async def test_who_wants_one_of_many_that_are_on_their_way_waits_for_it(network: FakeNetwork) -> None:
    contents = [b"one", b"two"]
    blobs = [BlobRef(digest_of(each), len(each)) for each in contents]
    go_on = trio.Event()

    async def late(stream: FakeStream, request: object) -> None:
        await go_on.wait()
        await stream.send_all(encode(Here()) + encode(Blobs({digest_of(each): each for each in contents})))
        await stream.aclose()

    network.faulty(ANNA, late)
    store = store_with()
    transfer = Transfer(network, store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfer.fetch_many, blobs, ANNA)
        await wait_all_tasks_blocked()
        nursery.start_soon(transfer.fetch, blobs[0], [ANNA])
        nursery.start_soon(transfer.fetch_many, blobs, ANNA)
        await wait_all_tasks_blocked()
        go_on.set()
    assert network.opened == [ANNA]
    assert all(store.has(each.digest) for each in blobs)


async def test_what_nobody_gives_is_named_with_what_each_holder_said(network: FakeNetwork) -> None:
    network._peers[BERT] = server(store_with())
    with pytest.raises(UnreachableError) as caught:
        await Transfer(network, store_with()).fetch(BLOB, [ANNA, BERT])
    assert (
        str(caught.value)
        == f"blob {BLOB.digest[-8:]} (1048576 bytes) cannot be had: anna: not connected; bert: not here"
    )
    with pytest.raises(UnreachableError, match="nobody is known to hold it"):
        await Transfer(network, store_with()).fetch(BLOB, [ME])


async def test_broken_transfer_goes_on_where_it_was_with_the_same_holder_then_the_next(
    network: FakeNetwork, tmp_path: Path
) -> None:
    network.faulty(ANNA, partial(breaks_off, after=100_000))
    network.faulty(BERT, honest)
    store = BlobStore(tmp_path, bytes_max=10**9)
    assert await Transfer(network, store).fetch(BLOB, [ANNA, BERT]) == BERT
    assert network.asked == [(ANNA, 0), (ANNA, 100_000), (ANNA, 200_000), (BERT, 300_000)]
    path = store.content(BLOB.digest)
    assert isinstance(path, Path)
    assert path.read_bytes() == CONTENT


async def test_later_fetch_resumes_what_an_earlier_run_left(network: FakeNetwork, tmp_path: Path) -> None:
    network.faulty(ANNA, partial(breaks_off, after=100_000))
    with pytest.raises(UnreachableError, match="anna: breaks off"):
        await Transfer(network, BlobStore(tmp_path, bytes_max=10**9)).fetch(BLOB, [ANNA])
    network.faulty(BERT, honest)
    await Transfer(network, BlobStore(tmp_path, bytes_max=10**9)).fetch(BLOB, [BERT])
    assert network.asked[-1] == (BERT, 300_000)


async def test_holder_of_something_else_is_left_and_what_it_sent_thrown_away(network: FakeNetwork) -> None:
    network.faulty(ANNA, lies)
    network.faulty(BERT, honest)
    store = store_with()
    assert await Transfer(network, store).fetch(BLOB, [ANNA, BERT]) == BERT
    assert network.asked == [(ANNA, 0), (BERT, 0)]
    assert store.content(BLOB.digest) == CONTENT


async def test_honest_holder_is_asked_again_when_what_another_sent_before_was_wrong(network: FakeNetwork) -> None:
    async def lies_and_breaks_off(stream: FakeStream, request: GetBlob) -> None:
        await stream.send_all(encode(Here(BLOB.size)) + bytes(0 if request.offset else 500_000))
        await stream.aclose()

    network.faulty(ANNA, lies_and_breaks_off)
    network.faulty(BERT, honest)
    assert await Transfer(network, store_with()).fetch(BLOB, [ANNA, BERT]) == BERT
    assert network.asked == [(ANNA, 0), (ANNA, 500_000), (BERT, 500_000), (BERT, 0)]


async def test_holder_of_another_size_or_of_no_sense_is_left(network: FakeNetwork) -> None:
    async def other_size(stream: FakeStream, request: GetBlob) -> None:
        await stream.send_all(encode(Here(5)))

    async def nonsense(stream: FakeStream, request: GetBlob) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request")

    network.faulty(ANNA, other_size)
    network.faulty(BERT, nonsense)
    with pytest.raises(UnreachableError, match="anna: it has 5 bytes there, not 1048576; bert: a first frame of"):
        await Transfer(network, store_with()).fetch(BLOB, [ANNA, BERT])


async def test_stalled_holder_is_left_after_ten_seconds(network: FakeNetwork, autojump_clock: MockClock) -> None:
    network.faulty(ANNA, stalls)
    network.faulty(BERT, honest)
    assert await Transfer(network, store_with()).fetch(BLOB, [ANNA, BERT]) == BERT
    assert trio.current_time() == pytest.approx(10.0)
    assert network.asked == [(ANNA, 0), (BERT, 1000)]


async def test_two_fetches_of_one_blob_are_one_transfer(network: FakeNetwork) -> None:
    network._peers[BERT] = server(store_with(CONTENT))
    transfer = Transfer(network, store_with())
    givers = []

    async def fetch(*holders: NodeId) -> None:
        givers.append(await transfer.fetch(BLOB, holders))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, ANNA)  # whichever leads, ANNA fails it and BERT is known from the other
        nursery.start_soon(fetch, ANNA, BERT)
    assert givers == [BERT, BERT]
    assert network.opened == [ANNA, BERT]


async def test_fetch_goes_on_when_the_one_that_led_it_is_cancelled(
    network: FakeNetwork, autojump_clock: MockClock
) -> None:
    network.faulty(ANNA, stalls)
    network.faulty(BERT, honest)
    transfer = Transfer(network, store_with())
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as led:
            async with trio.open_nursery() as leading:
                leading.start_soon(transfer.fetch, BLOB, [ANNA])
                await wait_all_tasks_blocked()
                nursery.start_soon(transfer.fetch, BLOB, [BERT])
    assert led.cancelled_caught
    assert trio.current_time() == pytest.approx(1.0)
    assert network.opened == [ANNA, BERT]


async def test_transfers_are_bounded_a_peer_and_in_all(network: FakeNetwork, autojump_clock: MockClock) -> None:
    underway: list[NodeId] = []
    most = {ANNA: 0, BERT: 0}
    most_in_all = 0

    async def slow(peer: NodeId, stream: FakeStream, request: GetBlob) -> None:
        nonlocal most_in_all
        underway.append(peer)
        most[peer] = max(most[peer], underway.count(peer))
        most_in_all = max(most_in_all, len(underway))
        await trio.sleep(1)
        underway.remove(peer)
        await stream.send_all(encode(Here(1)) + contents[request.digest])

    contents = {digest_of(bytes([each])): bytes([each]) for each in range(20)}
    for peer in (ANNA, BERT):
        network.faulty(peer, partial(slow, peer))
    store = store_with()
    transfer = Transfer(network, store, fetches_max=5, fetches_a_peer_max=3)
    async with trio.open_nursery() as nursery:
        for digest in contents:
            nursery.start_soon(transfer.fetch, BlobRef(digest, 1), [ANNA, BERT])
    assert all(store.has(digest) for digest in contents)
    assert most[ANNA] == 3
    assert most[BERT] <= 3
    assert most_in_all == 5


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02hi",
        encode(NotHere("a reply, not a request")),
        encode(GetBlob(BLOB.digest, BLOB.size + 1)),
        encode(GetBlob(BLOB.digest, -1)),
    ],
)
async def test_nonsense_closes_the_stream_and_nothing_else(network: FakeNetwork, nonsense: bytes) -> None:
    network._peers[ANNA] = server(store_with(CONTENT))
    stream = await network.open_stream(ANNA)
    await stream.send_all(nonsense)
    assert await stream.receive_some(1) == b""


async def test_silent_opener_is_closed(network: FakeNetwork, autojump_clock: MockClock) -> None:
    network._peers[ANNA] = server(store_with())
    assert await (await network.open_stream(ANNA)).receive_some(1) == b""
    assert trio.current_time() == pytest.approx(10.0)


async def test_log_is_read_from_an_offset_and_followed_to_its_end(
    network: FakeNetwork, autojump_clock: MockClock
) -> None:
    async def log(offset: int) -> AsyncGenerator[bytes, None]:
        yield b"0123456789"[offset:]
        await trio.sleep(60)
        yield b"done"

    holder = Transfer(network, store_with(), open_log=lambda asked: log(asked.offset) if asked.follow else None)
    network._peers[ANNA] = holder.serve
    transfer = Transfer(network, store_with())
    request = ReadLog(LOG.app, LOG.task, 1, "stderr", offset=7, follow=True)
    assert [data async for data in transfer.read_log(ANNA, request)] == [b"789", b"done"]
    with pytest.raises(RequestError, match="no stdout of count: no such log here"):
        await anext(transfer.read_log(ANNA, LOG))
    with pytest.raises(UnreachableError, match="not connected"):
        await anext(transfer.read_log(BERT, LOG))


async def test_log_is_closed_when_its_reader_leaves(network: FakeNetwork) -> None:
    closed = trio.Event()

    async def log() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await trio.sleep_forever()
        finally:
            closed.set()

    network._peers[ANNA] = Transfer(network, store_with(), open_log=lambda _: log()).serve
    async with aclosing(Transfer(network, store_with()).read_log(ANNA, LOG)) as reading:
        assert await anext(reading) == b"first"
    await closed.wait()
