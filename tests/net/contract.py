"""What every carrier owes to those above, as tests that a carrier's own test module inherits:

    class TestMemory(NetworkContract):
        @pytest.fixture
        def world(self) -> World: ...

A world opens nodes that can reach each other. `net.network` says the contract in words.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol, TypeVar

import pytest
import trio

from jcpeer.errors import UnreachableError
from jcpeer.ids import NodeId
from jcpeer.net.network import ByteStream, DialFailed, Network, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.wire.messages import Answer, Ask, Heartbeat
from jcpeer.wire.peer import PeerMessage

PATIENCE_S = 15.0
"""No test needs it: it makes a hang a failure."""

Event = TypeVar("Event", bound=NetworkEvent)


class World(Protocol):
    """Where the nodes of one test live."""

    def open(self, name: str, *, grid: str = "ours", killed: bool = False) -> AbstractAsyncContextManager[Network]:
        """A node, member of that grid. `killed`: leaving the block is the sudden end of its process, no goodbye."""


def message(number: int) -> PeerMessage:
    """Any message; they are told apart by their number."""
    return Ask(number, b"?")


async def expect(network: Network, kind: type[Event]) -> Event:
    """The next event but for heartbeats, which must be of this kind."""
    event = await expect_any(network)
    assert isinstance(event, kind), event
    return event


async def expect_any(network: Network) -> NetworkEvent:
    """The next event but for heartbeats."""
    with trio.fail_after(PATIENCE_S):
        event = await network.events.receive()
        while is_heartbeat(event):
            event = await network.events.receive()
    return event


def is_heartbeat(event: object) -> bool:
    return isinstance(event, Received) and isinstance(event.message, Heartbeat)


async def connect(dialler: Network, listener: Network) -> tuple[PeerUp, PeerUp]:
    """Have one dial the other; what each of them is told."""
    dialler.dial(listener.addresses[-1], listener.me)
    return await expect(dialler, PeerUp), await expect(listener, PeerUp)


async def assert_connected(a: Network, b: Network) -> None:
    """That messages pass both ways, and that nothing else was told."""
    for here, there in ((a, b), (b, a)):
        here.send(there.me, message(99))
        assert await expect(there, Received) == Received(here.me, message(99))


async def read_to_the_end(stream: ByteStream) -> bytes:
    pieces = []
    while piece := await stream.receive_some(65536):
        pieces.append(piece)
    return b"".join(pieces)


class NetworkContract:
    """Inherit, and give a `world`."""

    async def test_both_ends_are_told_who_the_other_is(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            seen_by_a, seen_by_b = await connect(a, b)
            assert (seen_by_a.peer, seen_by_a.hello.name, seen_by_a.certificate.node) == (b.me, "b", b.me)
            assert (seen_by_b.peer, seen_by_b.hello.name, seen_by_b.certificate.node) == (a.me, "a", a.me)
            assert seen_by_a.address in b.addresses
            assert seen_by_b.address in a.addresses
            await assert_connected(a, b)

    async def test_a_dial_without_a_name_finds_out_who_is_there(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            a.dial(b.addresses[-1])
            assert (await expect(a, PeerUp)).peer == b.me

    async def test_messages_arrive_in_order_and_once(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            await connect(a, b)
            for number in range(500):
                a.send(b.me, message(number))
                b.send(a.me, message(-number))
            assert [(await expect(b, Received)).message for _ in range(500)] == [message(n) for n in range(500)]
            assert [(await expect(a, Received)).message for _ in range(500)] == [message(-n) for n in range(500)]
            await assert_connected(a, b)

    async def test_a_large_message_arrives_whole(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            await connect(a, b)
            large = Answer(1, bytes(range(256)) * 4096, True)
            a.send(b.me, large)
            a.send(b.me, message(2))
            assert (await expect(b, Received)).message == large
            assert (await expect(b, Received)).message == message(2)

    async def test_a_message_to_oneself_comes_back_in_order(self, world: World) -> None:
        async with world.open("a") as a:
            for number in range(3):
                a.send(a.me, message(number))
            assert [await expect(a, Received) for _ in range(3)] == [Received(a.me, message(n)) for n in range(3)]

    async def test_nodes_that_dial_each_other_at_once_come_up_once(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            a.dial(b.addresses[-1], b.me)
            b.dial(a.addresses[-1], a.me)
            assert (await expect(a, PeerUp)).peer == b.me
            assert (await expect(b, PeerUp)).peer == a.me
            await assert_connected(a, b)

    async def test_dialling_a_peer_that_is_up_changes_nothing(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            await connect(a, b)
            a.dial(b.addresses[-1], b.me)
            b.dial(a.addresses[-1], a.me)
            await assert_connected(a, b)

    async def test_several_dials_to_one_peer_come_up_once(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            for address in b.addresses:
                a.dial(address, b.me)
                a.dial(address)
            await expect(a, PeerUp)
            await expect(b, PeerUp)
            await assert_connected(a, b)

    async def test_three_nodes_keep_their_messages_apart(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b, world.open("c") as c:
            await connect(a, b)
            await connect(a, c)
            await connect(b, c)
            a.send(c.me, message(1))
            assert await expect(c, Received) == Received(a.me, message(1))
            b.send(c.me, message(2))
            assert await expect(c, Received) == Received(b.me, message(2))

    async def test_a_peer_that_leaves_says_so_after_its_last_message(self, world: World) -> None:
        async with world.open("a") as a:
            async with world.open("b") as b:
                await connect(a, b)
                b.send(a.me, message(7))
            assert await expect(a, Received) == Received(b.me, message(7))
            down = await expect(a, PeerDown)
            assert (down.peer, down.proof) == (b.me, "left")

    async def test_a_node_that_is_cancelled_says_goodbye_all_the_same(self, world: World) -> None:
        async with world.open("a") as a:
            with trio.CancelScope() as scope:
                async with world.open("b") as b:
                    await connect(a, b)
                    scope.cancel()
                    await trio.sleep_forever()
            assert (await expect(a, PeerDown)).proof == "left"

    @pytest.mark.parametrize("dialler_dies", [True, False])
    async def test_a_killed_process_is_proven_dead_by_a_refused_redial(self, world: World, dialler_dies: bool) -> None:
        async with world.open("a") as a:
            async with world.open("b", killed=True) as b:
                await (connect(b, a) if dialler_dies else connect(a, b))
            down = await expect(a, PeerDown)
            assert (down.peer, down.proof) == (b.me, "refused")
            a.send(b.me, message(1))  # dropped, and no fault

    async def test_a_peer_comes_back_after_a_restart(self, world: World) -> None:
        async with world.open("a") as a:
            for _ in range(3):
                async with world.open("b", killed=True) as b:
                    await connect(b, a)
                    await assert_connected(a, b)
                await expect(a, PeerDown)

    async def test_disconnecting_ends_it_at_both_ends_until_somebody_dials(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            await connect(a, b)
            a.disconnect(b.me, "moved to another grid")
            down = await expect(a, PeerDown)
            assert (down.peer, down.why) == (b.me, "moved to another grid")
            assert (await expect(b, PeerDown)).peer == a.me
            await connect(b, a)
            await assert_connected(a, b)

    async def test_a_connection_that_is_parted_ends_after_what_was_sent_and_nobody_died(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            for here, there in ((a, b), (b, a)):
                await connect(a, b)
                for number in range(100):
                    here.send(there.me, message(number))
                here.part(there.me)
                here.send(there.me, message(100))
                assert (await expect(here, PeerDown)).proof == "parted"
                assert [(await expect(there, Received)).message for _ in range(100)] == [message(n) for n in range(100)]
                down = await expect(there, PeerDown)
                assert (down.peer, down.proof) == (here.me, "parted")
            await connect(b, a)
            await assert_connected(a, b)

    async def test_both_ends_may_part_at_once(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            for _ in range(3):
                await connect(a, b)
                a.part(b.me)
                b.part(a.me)
                assert (await expect(a, PeerDown)).proof == "parted"
                assert (await expect(b, PeerDown)).proof == "parted"

    async def test_who_parted_may_dial_again_at_once(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            await connect(a, b)
            a.part(b.me)
            await expect(a, PeerDown)
            a.dial(b.addresses[-1], b.me)
            await expect(a, PeerUp)
            await expect(b, PeerDown)
            await expect(b, PeerUp)
            await assert_connected(a, b)

    async def test_a_probe_finds_out_who_answers_and_nobody_is_told(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            async with world.open("c") as c:
                nobodys, absent = c.addresses[-1], c.me
            for up in (False, True):
                assert await a.probe(b.addresses[-1], b.me) is True
                assert await a.probe(b.addresses[-1], absent) is False
                assert await a.probe(nobodys, absent) is False
                assert await a.probe("not an address", b.me) is False
                if not up:
                    await connect(a, b)
            await assert_connected(a, b)

    async def test_each_dial_is_told_once_how_it_ended(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b, world.open("c") as c:
            async with world.open("d") as d:
                nobodys = d.addresses[-1]
            for from_there_too in (False, True):
                dials = {(b.addresses[-1], b.me), (c.addresses[-1], b.me), (nobodys, b.me), (nobodys, d.me)}
                for address, expected in dials:
                    a.dial(address, expected)
                    a.dial(address, expected)
                if from_there_too:
                    b.dial(a.addresses[-1], a.me)
                up = False
                while dials:
                    match await expect_any(a):
                        case PeerUp(peer):
                            assert not up
                            up = True
                            dials = {(address, expected) for address, expected in dials if expected != peer}
                        case DialFailed(address, sought):
                            assert sought is not None
                            dials.remove((address, sought))
                assert up
                await expect(b, PeerUp)
                await assert_connected(a, b)
                a.part(b.me)
                await expect(a, PeerDown)
                await expect(b, PeerDown)

    async def test_a_stranger_is_turned_away_and_told_nothing(self, world: World) -> None:
        async with world.open("a") as a, world.open("x", grid="another") as x:
            x.dial(a.addresses[-1], a.me)
            failed = await expect(x, DialFailed)
            assert failed.turned
            assert failed.why
            a.dial(x.addresses[-1], x.me)
            assert (await expect(a, DialFailed)).turned
            x.send(a.me, message(1))
            a.send(a.me, message(2))
            assert await expect(a, Received) == Received(a.me, message(2)), "and nothing of the stranger before it"

    async def test_dialling_nobody_fails(self, world: World) -> None:
        async with world.open("a") as a:
            async with world.open("b") as b:
                address, node = b.addresses[-1], b.me
            a.dial(address, node)
            failed = await expect(a, DialFailed)
            assert (failed.address, failed.expected, failed.turned) == (address, node, False)

    async def test_dialling_the_wrong_node_fails(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b, world.open("c") as c:
            a.dial(b.addresses[-1], c.me)
            failed = await expect(a, DialFailed)
            assert (failed.expected, failed.turned) == (c.me, False)

    async def test_dialling_oneself_fails(self, world: World) -> None:
        async with world.open("a") as a:
            a.dial(a.addresses[-1])
            await expect(a, DialFailed)

    async def test_dialling_something_that_is_no_address_fails(self, world: World) -> None:
        async with world.open("a") as a:
            a.dial("not an address")
            assert "not an address" in (await expect(a, DialFailed)).why

    async def test_what_is_sent_to_a_peer_that_is_not_up_is_dropped(self, world: World) -> None:
        async with world.open("a") as a:
            a.send(NodeId("nobody"), message(1))
            a.disconnect(NodeId("nobody"), "never mind")
            a.part(NodeId("nobody"))
            assert a.streams(NodeId("nobody")) == 0
            a.send(a.me, message(2))
            assert (await expect(a, Received)).message == message(2)

    async def test_byte_streams_carry_bytes_both_ways_and_end(self, world: World) -> None:
        async def echo(stream: ByteStream) -> None:
            assert stream.peer == a.me
            while data := await stream.receive_some(1000):
                await stream.send_all(data)
                if data.endswith(b"."):
                    break

        async with world.open("a") as a, world.open("b") as b:
            b.serve_streams(echo)
            await connect(a, b)
            with trio.fail_after(PATIENCE_S):
                for _ in range(3):
                    stream = await a.open_stream(b.me)
                    assert stream.peer == b.me
                    await stream.send_all(b"one two three.")
                    assert await read_to_the_end(stream) == b"one two three."
                    await stream.aclose()
                    await stream.aclose()
            await assert_connected(a, b)

    async def test_byte_streams_are_counted_at_each_end_until_they_are_closed_there(self, world: World) -> None:
        reads, read = trio.open_memory_channel[int](9)

        async def count(stream: ByteStream) -> None:
            await stream.receive_some(1)
            await reads.send(b.streams(a.me))
            await stream.receive_some(1)

        async with world.open("a") as a, world.open("b") as b:
            b.serve_streams(count)
            await connect(a, b)
            with trio.fail_after(PATIENCE_S):
                one, two = [await a.open_stream(b.me) for _ in range(2)]
                for opened, stream in enumerate((one, two), start=1):
                    await stream.send_all(b".")
                    assert await read.receive() >= opened
                assert (a.streams(b.me), b.streams(a.me)) == (2, 2)
                for stream in (one, two):
                    await stream.aclose()
                    await stream.aclose()
                assert a.streams(b.me) == 0
                while b.streams(a.me):
                    await trio.sleep(0.001)
                await a.open_stream(b.me)
                a.part(b.me)
                assert a.streams(b.me) == 0
                await expect(a, PeerDown)
                await expect(b, PeerDown)
                await connect(a, b)
                assert (a.streams(b.me), b.streams(a.me)) == (0, 0)

    async def test_a_byte_stream_carries_more_than_any_buffer_holds(self, world: World) -> None:
        payload = bytes(range(256)) * 16 * 1024 * 2

        async def give(stream: ByteStream) -> None:
            await stream.send_all(payload)

        async with world.open("a") as a, world.open("b") as b:
            b.serve_streams(give)
            await connect(a, b)
            with trio.fail_after(PATIENCE_S):
                stream = await a.open_stream(b.me)
                received = await read_to_the_end(stream)
                await stream.aclose()
            assert received == payload

    async def test_a_reader_that_closes_stops_the_writer(self, world: World) -> None:
        stopped = trio.Event()

        async def give_for_ever(stream: ByteStream) -> None:
            try:
                while True:
                    await stream.send_all(bytes(100_000))
            except UnreachableError:
                stopped.set()
                raise

        async with world.open("a") as a, world.open("b") as b:
            b.serve_streams(give_for_ever)
            await connect(a, b)
            with trio.fail_after(PATIENCE_S):
                stream = await a.open_stream(b.me)
                await stream.receive_some(10)
                await stream.aclose()
                await stopped.wait()
            await assert_connected(a, b)

    async def test_a_handler_that_fails_harms_only_its_stream(self, world: World) -> None:
        async def stumble(stream: ByteStream) -> None:
            raise ValueError("a bug in a handler")

        async with world.open("a") as a, world.open("b") as b:
            b.serve_streams(stumble)
            await connect(a, b)
            with trio.fail_after(PATIENCE_S):
                stream = await a.open_stream(b.me)
                assert await read_to_the_end(stream) == b""
            await assert_connected(a, b)

    async def test_a_byte_stream_ends_with_its_peer(self, world: World) -> None:
        opened = trio.Event()

        async def wait(stream: ByteStream) -> None:
            opened.set()
            await trio.sleep_forever()

        async with world.open("a") as a:
            async with AsyncExitStack() as stack:
                b = await stack.enter_async_context(world.open("b", killed=True))
                b.serve_streams(wait)
                await connect(a, b)
                stream = await a.open_stream(b.me)
                with trio.fail_after(PATIENCE_S):
                    await opened.wait()
            with trio.fail_after(PATIENCE_S):
                with pytest.raises(UnreachableError):
                    await stream.receive_some(10)
                with pytest.raises(UnreachableError):
                    await stream.send_all(b"?")
                await stream.aclose()
            await expect(a, PeerDown)

    async def test_there_are_no_byte_streams_to_a_peer_that_is_not_up(self, world: World) -> None:
        async with world.open("a") as a, world.open("b") as b:
            with pytest.raises(UnreachableError):
                await a.open_stream(b.me)
