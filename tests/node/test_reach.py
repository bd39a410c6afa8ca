"""Whomever a part of the node speaks to is connected to on demand, over a carrier that only notes what it is told."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from jcpeer.discovery.connections import IDLE_S, WAITING_S
from jcpeer.errors import UnreachableError
from jcpeer.ids import NodeId
from jcpeer.net.events import DialFailed, Received
from jcpeer.net.network import Network
from jcpeer.node.reach import STREAM_S, Reach
from jcpeer.values import evolve
from jcpeer.wire.messages import Compare, Heartbeat, Need
from jcpeer.wire.peer import PeerMessage
from tests.discovery.people import address, node, record, up

HELLO = Compare("hello")
B = node("b")


class Noting:
    """A carrier whose events are made up by the test."""

    me = node("m")

    def __init__(self) -> None:
        self.did: list[tuple[Any, ...]] = []
        self.open_streams = 0

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        self.did.append(("send", peer, message))

    def dial(self, address: str, expected: NodeId | None = None) -> None:
        self.did.append(("dial", address, expected))

    def part(self, peer: NodeId) -> None:
        self.did.append(("part", peer))

    def streams(self, peer: NodeId) -> int:
        return self.open_streams

    async def open_stream(self, peer: NodeId) -> str:
        return f"stream to {peer}"

    def take_notes(self) -> list[tuple[Any, ...]]:
        did, self.did = self.did, []
        return did


def reach_over(carrier: Noting, **calls: Any) -> Reach:
    return Reach(cast(Network, carrier), **calls)


async def test_a_message_brings_its_connection_about(autojump_clock: MockClock) -> None:
    carrier = Noting()
    reach = reach_over(carrier)
    reach.met(record("b"))
    reach.send(B, HELLO)
    assert carrier.take_notes() == [("dial", address("b"), B)]
    assert not reach.take(up("b"))
    assert carrier.take_notes() == [("send", B, HELLO)]
    reach.send(reach.me, HELLO)
    assert carrier.take_notes() == [("send", reach.me, HELLO)]


async def test_what_could_not_be_sent_and_whom_nobody_found_is_told(autojump_clock: MockClock) -> None:
    told: list[tuple[Any, ...]] = []
    reach = reach_over(
        Noting(), undelivered=lambda *what: told.append(what), unreached=lambda node: told.append((node,))
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reach.run)
        reach.met(record("b"))
        reach.send(B, HELLO)
        await trio.sleep(WAITING_S + 0.1)
        assert told == [(B, HELLO)]
        with reach.holding(B):
            reach.take(DialFailed(address("b"), B, "refused"))
            assert told[1:] == [(B,)]
        nursery.cancel_scope.cancel()


async def test_heartbeats_keep_no_connection_and_open_streams_do(autojump_clock: MockClock) -> None:
    carrier = Noting()
    reach = reach_over(carrier)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reach.run)
        reach.take(up("b"))
        carrier.open_streams = 1
        for _ in range(int(2 * IDLE_S) - 5):
            await trio.sleep(1.0)
            assert not reach.take(Received(B, Heartbeat()))
        assert carrier.take_notes() == []
        carrier.open_streams = 0
        await trio.sleep(IDLE_S - 5.0)
        assert carrier.take_notes() == [("part", B)]
        nursery.cancel_scope.cancel()


async def test_within_a_block_a_connection_is_needed(autojump_clock: MockClock) -> None:
    carrier = Noting()
    reach = reach_over(carrier)
    reach.take(up("b"))
    with reach.holding(B, reach.me):
        assert carrier.take_notes() == [("send", B, Need(True))]
    assert carrier.take_notes() == [("send", B, Need(False))]
    assert reach.take(Received(B, Need(True))), "that concerns connections only"


async def test_a_stream_waits_for_its_connection_but_not_for_ever(autojump_clock: MockClock) -> None:
    carrier = Noting()
    reach = reach_over(carrier)
    reach.met(evolve(record("b"), addresses=(address("b"),)))
    began_s = trio.current_time()
    with pytest.raises(UnreachableError):
        await reach.open_stream(B)
    assert trio.current_time() - began_s == STREAM_S
    streams: list[object] = []

    async def open_one() -> None:
        streams.append(await reach.open_stream(B))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_one)
        await trio.sleep(1.0)
        reach.take(up("b"))
    assert streams == [f"stream to {B}"]
