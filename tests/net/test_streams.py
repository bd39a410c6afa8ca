"""Yamux streams between two ends in this process, without a carrier above them."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux

from jcpeer.membership.member import MemoryGrid
from jcpeer.net.libp2p.secured import MESSAGES, Keys, Stream, Streams, Wire
from jcpeer.net.libp2p.session import Session

pytestmark = pytest.mark.real

PATIENCE_S = 10


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[Stream, Stream]]:
    """One stream, as its opener and its acceptor see it."""
    grid = MemoryGrid("ours")
    listener = socket.create_server(("127.0.0.1", 0))
    near_tcp = await trio.open_tcp_stream(*listener.getsockname())
    far_tcp = trio.SocketStream(trio.socket.from_stdlib_socket(listener.accept()[0]))
    listener.close()
    ends: dict[str, Streams] = {}

    async def secure(name: str, tcp: trio.SocketStream) -> None:
        ends[name] = await Keys(grid.identity(name)).secure(Wire(tcp, initiator=name == "near"), None)
        ends[name].admit()

    async with trio.open_nursery() as handshakes:
        handshakes.start_soon(secure, "near", near_tcp)
        handshakes.start_soon(secure, "far", far_tcp)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for each in ends.values():
                nursery.start_soon(each.run)
            streams: dict[str, Stream] = {}

            async def accept() -> None:
                streams["far"] = await ends["far"].accept_for(MESSAGES)

            async with trio.open_nursery() as agreeing:
                agreeing.start_soon(accept)
                streams["near"] = await ends["near"].open(MESSAGES)
            yield streams["near"], streams["far"]
            nursery.cancel_scope.cancel()


async def test_what_is_read_into_a_function_is_whole_and_in_order_whatever_the_frames_look_like() -> None:
    chance = random.Random(1)
    pieces = [chance.randbytes(chance.randrange(1, 90_000)) for _ in range(200)]
    got = bytearray()
    async with two_ends() as (near, far):
        await near.write(b"before anybody reads, ")

        async def write() -> None:
            for piece in pieces:
                await near.write(piece)
            # The last data comes with the end, in a frame that libp2p reads.
            last = b"and the end"
            near.send_window -= len(last)
            header = struct.pack(
                yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, yamux.FLAG_FIN, near.stream_id, len(last)
            )
            await near.conn.write_frame(header + last)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await far.read_into(got.extend)
    assert got == b"before anybody reads, " + b"".join(pieces) + b"and the end"


async def test_a_fault_of_whoever_takes_it_is_raised_where_it_waits_and_ends_the_taking() -> None:
    got: list[bytes] = []

    def take(data: bytes) -> None:
        got.append(data)
        raise ValueError("a bug")

    async with two_ends() as (near, far):
        await near.write(b"once")
        with pytest.raises(ValueError, match="a bug"):
            await far.read_into(take)
        await near.write(b"and again")
        await near.end()
    assert got == [b"once"]


async def test_the_end_of_the_connection_ends_the_reading() -> None:
    async with two_ends() as (near, far):
        near.conn.wire.abort()
        with pytest.raises(MuxedStreamReset):
            await far.read_into(lambda data: None)


async def test_data_wakes_nobody_who_does_not_wait_for_it() -> None:
    """A turn of the event loop for each message would cost more than the message."""
    woken = 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal woken
            woken += task.name.endswith("read")

    got = bytearray()
    async with two_ends() as (near, far):

        async def read() -> None:
            await far.read_into(got.extend)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await near.write(b"first")
            while len(got) < 5:
                await trio.lowlevel.checkpoint()
            trio.lowlevel.add_instrument(steps := Steps())
            for _ in range(50):
                await near.write(b"a message")
                await far.write(b"an answer")
            while len(got) < 5 + 50 * 9:
                await trio.lowlevel.checkpoint()
            trio.lowlevel.remove_instrument(steps)
            nursery.cancel_scope.cancel()
    assert woken == 0


async def test_a_session_leaves_what_is_no_plain_data_to_libp2p() -> None:
    """Whatever the pieces in which it arrives."""
    plain = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, 7, 4) + b"ours"
    strange = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, 9, 6) + b"theirs"
    update = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_WINDOW_UPDATE, 0, 7, 1000)
    arrives = plain + strange + plain + update + plain + strange
    ours: list[bytes] = []

    class Ours:
        def feed(self, data: bytes) -> None:
            ours.append(data)

    class Pieces:
        def __init__(self, size: int) -> None:
            self._left = [arrives[at : at + size] for at in range(0, len(arrives), size)]

        async def read_msg(self) -> bytes:
            return self._left.pop(0)

    for size in (1, 5, 12, 16, 1000):
        ours.clear()
        session = object.__new__(Session)
        session.conn = Pieces(size)  # type: ignore[assignment]  # of which nothing else is used
        session._reset_internal_buffer()
        session.adopt(lambda stream, size: Ours() if stream == 7 else None)
        theirs = [await session.read(12), await session.read(2), await session.read(4)]
        theirs += [await session.read(12), await session.read(12), await session.read(100)]
        assert b"".join(theirs) == strange + update + strange
        assert ours == [b"ours"] * 3
