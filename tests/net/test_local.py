from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from jcpeer.application.task import BlobRef
from jcpeer.errors import ConfigError, GraphError, NoNodeError, RequestError, UnreachableError
from jcpeer.ids import AppId, digest_of
from jcpeer.net import local
from jcpeer.net.local import serve_local
from jcpeer.net.local_client import LocalLink, connect
from jcpeer.wire.codec import CLIENT_KINDS, FrameReader, decode, encode
from jcpeer.wire.requests import (
    Abandon,
    Cancel,
    Done,
    GetBlob,
    GetStatus,
    ListApplications,
    ListNodes,
    Missing,
    Piece,
    Refusal,
    Reply,
    ReplyBody,
    Request,
    RequestBody,
    WhoAreYou,
)

BLOB = BlobRef(digest_of(b""), 0)
PIECE = Piece(b"x" * 100_000)


class FakeNode:
    """Answers each kind of request in the way that one test is about."""

    def __init__(self) -> None:
        self.abandoned = trio.Event()
        self.pieces_drawn = 0

    async def handle(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        match body:
            case WhoAreYou():
                yield Done()
            case ListApplications():
                await trio.sleep_forever()
            case ListNodes():
                try:
                    yield Missing(())
                    await trio.sleep_forever()
                finally:
                    self.abandoned.set()
            case GetBlob():
                for _ in range(1000):
                    self.pieces_drawn += 1
                    yield PIECE
            case GetStatus(app="nonsense"):
                raise RequestError("no application 'nonsense'")
            case GetStatus(app="a"):
                raise RequestError("two applications begin with 'a'", kind="ambiguous")
            case GetStatus(app="far"):
                raise UnreachableError("its coordinator does not answer")
            case GetStatus(app="odd"):
                async with trio.open_nursery():
                    raise GraphError("a cycle in \udcff")
            case Cancel():
                raise ZeroDivisionError("a bug")
            case _:
                return


@asynccontextmanager
async def serving(path: Path, node: FakeNode | None = None) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_local, path, (node or FakeNode()).handle)
        yield
        nursery.cancel_scope.cancel()


class RawClient:
    """Frames without the client module, so that a test can send what that would not."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.reader = FrameReader()
        self.replies: list[Reply] = []

    async def send(self, *messages: object) -> None:
        await self.stream.send_all(b"".join(encode(each) for each in messages))

    async def receive(self) -> Reply:
        while not self.replies:
            data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError
            self.replies += [decode(body, CLIENT_KINDS) for body in self.reader.feed(bytes(data))]
        return self.replies.pop(0)

    async def ask(self, body: RequestBody) -> Reply:
        await self.send(Request(7, body))
        return await self.receive()


@asynccontextmanager
async def raw_client(path: Path) -> AsyncIterator[RawClient]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield RawClient(stream)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "node.sock"


async def test_socket_and_its_directory_are_for_the_owner_only_and_gone_at_the_end(path: Path) -> None:
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_socket_of_a_dead_node_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    async with serving(path), raw_client(path) as client:
        assert await client.ask(WhoAreYou()) == Reply(7, Done())


async def test_live_node_at_the_socket_is_named_and_left_alone(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ConfigError, match=f"another node listens at {path}.*--name"):
            await serve_local(path, FakeNode().handle)
        async with raw_client(path) as client:
            assert await client.ask(WhoAreYou()) == Reply(7, Done())


async def test_file_that_is_no_socket_is_not_removed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="in the way"):
        await serve_local(path, FakeNode().handle)
    assert path.read_text() == "precious"


async def test_path_too_long_for_a_socket_is_refused_with_the_remedy_by_both_ends(tmp_path: Path) -> None:
    long_path = tmp_path / ("x" * 107)
    with pytest.raises(ConfigError, match=r"the system allows 107.*--name"):
        await serve_local(long_path, FakeNode().handle)
    with pytest.raises(ConfigError, match="the system allows 107"):
        connect(long_path)


async def test_calls_of_one_connection_are_answered_at_once_each_by_its_number(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        await client.send(Request(1, ListApplications()), Request(2, ListNodes(watch=True)), Request(3, WhoAreYou()))
        replies = [await client.receive(), await client.receive()]
        assert sorted(replies, key=lambda reply: reply.call) == [Reply(2, Missing(()), last=False), Reply(3, Done())]


async def test_call_number_is_free_as_soon_as_the_last_reply_is_there(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        for _ in range(200):
            assert await client.ask(WhoAreYou()) == Reply(7, Done())


async def test_series_of_replies_ends_with_a_done_of_its_own(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        await client.send(Request(1, GetBlob(AppId("0"), BLOB)))
        for _ in range(1000):
            assert await client.receive() == Reply(1, PIECE, last=False)
        assert await client.receive() == Reply(1, Done())


async def test_abandoned_call_is_cancelled_and_others_go_on(path: Path) -> None:
    node = FakeNode()
    async with serving(path, node), raw_client(path) as client:
        await client.send(Request(1, ListNodes(watch=True)))
        await client.receive()
        await client.send(Abandon(1), Abandon(99))
        await node.abandoned.wait()
        assert await client.ask(WhoAreYou()) == Reply(7, Done())


async def test_client_that_dies_takes_its_calls_with_it(path: Path) -> None:
    node = FakeNode()
    async with serving(path, node):
        async with raw_client(path) as client:
            await client.send(Request(1, ListNodes(watch=True)))
            await client.receive()
        await node.abandoned.wait()


@pytest.mark.parametrize(
    ("request_body", "refusal"),
    [
        (GetStatus("nonsense"), Refusal("invalid", "no application 'nonsense'")),
        (GetStatus("a"), Refusal("ambiguous", "two applications begin with 'a'")),
        (GetStatus("far"), Refusal("unreachable", "its coordinator does not answer")),
        (GetStatus("odd"), Refusal("invalid", "a cycle in \\udcff")),
    ],
)
async def test_error_on_purpose_becomes_a_refusal(path: Path, request_body: RequestBody, refusal: Refusal) -> None:
    async with serving(path), raw_client(path) as client:
        assert await client.ask(request_body) == Reply(7, refusal)


async def test_bug_in_a_handler_is_logged_and_the_node_lives_on(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        with capture_logs() as logs:
            reply = await client.ask(Cancel("a"))
        assert reply == Reply(7, Refusal("invalid", "internal error: ZeroDivisionError: a bug"))
        assert [(each["log_level"], each["request"]) for each in logs] == [("error", "Cancel")]
        assert await client.ask(WhoAreYou()) == Reply(7, Done())


async def test_request_without_an_answer_is_our_bug_and_refused(path: Path) -> None:
    async with serving(path), raw_client(path) as client:
        with capture_logs() as logs:
            reply = await client.ask(GetStatus("anything else"))
        assert isinstance(reply.body, Refusal)
        assert len(logs) == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\1\xc1",
        encode(Reply(1, Done())),
        encode(Request(1, ListApplications())) * 2,
    ],
)
async def test_nonsense_closes_that_connection_with_one_log_line(path: Path, nonsense: bytes) -> None:
    async with serving(path), raw_client(path) as innocent, raw_client(path) as guilty:
        with capture_logs() as logs:
            await guilty.stream.send_all(nonsense)
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await guilty.receive()
        assert [each["log_level"] for each in logs] == ["warning"]
        assert await innocent.ask(WhoAreYou()) == Reply(7, Done())


async def test_client_that_does_not_read_stops_its_own_calls_and_nobody_elses(path: Path) -> None:
    node = FakeNode()
    async with serving(path, node), raw_client(path) as slow, raw_client(path) as quick:
        await slow.send(Request(1, GetBlob(AppId("0"), BLOB)))
        await trio.testing.wait_all_tasks_blocked(0.05)
        queued = node.pieces_drawn * len(PIECE.data)
        assert queued < 3 * local.OUTBOX_BYTES_MAX  # one in the outbox, one with the writer, and what the kernel takes
        assert await quick.ask(WhoAreYou()) == Reply(7, Done())


async def test_too_many_open_calls_are_refused_and_the_open_ones_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "CALLS_MAX", 2)
    async with serving(path), raw_client(path) as client:
        await client.send(Request(1, ListApplications()), Request(2, ListApplications()))
        assert isinstance((await client.ask(WhoAreYou())).body, Refusal)
        await client.send(Abandon(1))
        while await client.ask(WhoAreYou()) != Reply(7, Done()):
            pass  # until the abandoned call is gone


# --- the blocking client


async def in_thread(function: Callable[[LocalLink], object], link: LocalLink) -> object:
    return await trio.to_thread.run_sync(function, link)


async def test_blocking_client_is_answered(path: Path) -> None:
    async with serving(path):
        link = await trio.to_thread.run_sync(connect, path, 1.0)
        link.send(Request(1, WhoAreYou()))
        assert await in_thread(LocalLink.receive, link) == Reply(1, Done())
        link.close()
        link.close()


async def test_receive_can_give_up_waiting_and_the_link_is_used_on(path: Path) -> None:
    async with serving(path):
        link = await trio.to_thread.run_sync(connect, path, 1.0)
        link.send(Request(1, ListApplications()))
        with pytest.raises(TimeoutError, match="did not answer within"):
            await in_thread(lambda each: each.receive(timeout_s=0.01), link)
        link.send(Request(2, WhoAreYou()))
        assert await in_thread(lambda each: each.receive(timeout_s=5), link) == Reply(2, Done())
        link.close()


def test_no_node_is_one_line_with_the_remedy(path: Path) -> None:
    with pytest.raises(NoNodeError, match=f"no node listens at {path}: start one with `jcpeer node`"):
        connect(path)


async def test_node_that_goes_away_under_a_waiting_client_is_named(path: Path) -> None:
    async with serving(path):
        link = await trio.to_thread.run_sync(connect, path, 1.0)
        link.send(Request(1, WhoAreYou()))
        await in_thread(LocalLink.receive, link)
    with pytest.raises(NoNodeError, match="went away"):
        link.receive()
    with pytest.raises(NoNodeError, match="went away"):
        link.send(Request(2, WhoAreYou()))
    link.close()


async def test_close_wakes_the_thread_that_receives(path: Path) -> None:
    async with serving(path):
        link = await trio.to_thread.run_sync(connect, path, 1.0)
        outcome: list[BaseException] = []

        def receive() -> None:
            try:
                link.receive()
            except NoNodeError as error:
                outcome.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        link.close()
        await trio.to_thread.run_sync(thread.join)
        assert len(outcome) == 1


def test_blocking_client_loads_no_trio() -> None:
    code = "import sys, jcpeer.net.local_client; sys.exit('trio' in sys.modules or 'libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
