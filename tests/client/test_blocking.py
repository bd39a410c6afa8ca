"""Requests of which several are under way on one connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from jcpeer.client.blocking import UNDER_WAY_MAX, SocketLink, iterate_blocking
from jcpeer.errors import NoNodeError
from jcpeer.ids import AppId, Digest
from jcpeer.wire.codec import CLIENT_KINDS, FrameReader, decode, encode
from jcpeer.wire.requests import Missing, MissingBlobs, Reply, Request

SOON_S = 10.0


@contextmanager
def serving(path: Path, serve: Callable[[Iterator[Request], Callable[[Reply], None]], None]) -> Iterator[None]:
    """Somebody at this socket who is given the requests of one connection as they come."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        connection, _ = listener.accept()
        connection.settimeout(SOON_S)

        def requests() -> Iterator[Request]:
            frames = FrameReader()
            while data := connection.recv(65536):
                for packed in frames.feed(data):
                    yield decode(packed, CLIENT_KINDS)

        with connection, suppress(ConnectionError):  # who asks may leave with replies unread
            serve(requests(), lambda reply: connection.sendall(encode(reply)))

    thread = threading.Thread(target=run)
    thread.start()
    with closing(listener):
        yield
        thread.join(SOON_S)
        assert not thread.is_alive()


def questions(count: int) -> Iterator[MissingBlobs]:
    return (MissingBlobs(AppId("app"), (Digest(str(number)),)) for number in range(count))


def answer_of(request: Request) -> Reply:
    assert isinstance(request.body, MissingBlobs)
    return Reply(request.call, Missing(request.body.digests))


def test_the_next_ones_are_sent_before_the_first_is_answered_and_replies_keep_their_order(tmp_path: Path) -> None:
    def serve(requests: Iterator[Request], reply: Callable[[Reply], None]) -> None:
        first = [next(requests) for _ in range(UNDER_WAY_MAX)]
        for each in reversed(first):
            reply(answer_of(each))
        for _ in range(3):
            reply(answer_of(next(requests)))

    with serving(tmp_path / "socket", serve), closing(SocketLink(tmp_path / "socket")) as link:
        replies = list(iterate_blocking(link.call_each(questions(UNDER_WAY_MAX + 3))))
    assert replies == [Missing((Digest(str(number)),)) for number in range(UNDER_WAY_MAX + 3)]


def test_the_connection_is_used_again_unless_replies_were_left_behind(tmp_path: Path) -> None:
    def serve(requests: Iterator[Request], reply: Callable[[Reply], None]) -> None:
        for each in requests:
            reply(answer_of(each))

    with serving(tmp_path / "socket", serve), closing(SocketLink(tmp_path / "socket")) as link:
        for _ in range(2):  # a second connection would find nobody
            assert len(list(iterate_blocking(link.call_each(questions(2))))) == 2
        left = iterate_blocking(link.call_each(questions(9)))
        next(left)
        left.close()


def test_a_node_that_goes_away_between_is_missed(tmp_path: Path) -> None:
    def serve(requests: Iterator[Request], reply: Callable[[Reply], None]) -> None:
        first, *_ = [next(requests) for _ in range(UNDER_WAY_MAX)]
        reply(answer_of(first))

    with serving(tmp_path / "socket", serve), closing(SocketLink(tmp_path / "socket")) as link:
        replies = iterate_blocking(link.call_each(questions(UNDER_WAY_MAX)))
        assert next(replies) == Missing((Digest("0"),))
        with pytest.raises(NoNodeError):
            list(replies)
