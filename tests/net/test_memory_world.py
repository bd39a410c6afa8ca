"""What a simulated world is told to be: latencies, firewalls, counts; and that it costs by what happens in it."""

from __future__ import annotations

import itertools
import random
from contextlib import AsyncExitStack
from typing import Literal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.config import Config
from jcpeer.ids import NodeId
from jcpeer.net.memory import MemoryNetwork, MemoryWorld
from jcpeer.net.memory.cuts import Cuts
from jcpeer.net.memory.schedule import Schedule
from jcpeer.net.network import DialFailed, PeerDown, PeerUp, Received
from tests.net.contract import assert_connected, connect, expect, is_heartbeat, message
from tests.net.test_memory import nothing_waits, start

CONFIG = Config()
HEARTBEATS: tuple[Literal["modelled", "messages"], ...] = ("modelled", "messages")


# --- latencies


async def test_latency_may_differ_by_pair_and_by_direction(nursery: trio.Nursery, autojump_clock: object) -> None:
    def latency_s(source: NodeId, target: NodeId) -> tuple[float, float]:
        return (0.5, 0.5) if "far" in (names[source], names[target]) else (0.001, 0.002)

    nodes = start(nursery, MemoryWorld(7, latency_s=latency_s))
    names = {nodes.identity(name).node: name for name in ("a", "b", "far")}
    async with nodes.connected("a", "b", "far") as (a, b, far):
        for target, least_s, most_s in ((b, 0.001, 0.003), (far, 0.5, 0.55)):
            before_s = trio.current_time()
            a.send(target.me, message(1))
            await expect(target, Received)
            assert least_s <= trio.current_time() - before_s <= most_s


async def test_coarse_grains_put_many_arrivals_into_one_instant_and_none_too_early(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    nodes = start(nursery, MemoryWorld(7, latency_s=(0.01, 0.05), grains_per_s=20))
    async with nodes.connected("a", "b", "c") as (a, b, c):
        before_s, before = trio.current_time(), nodes.world.schedule.instants
        for target in (b, c):
            for number in range(50):
                a.send(target.me, message(number))
        for target in (b, c):
            for number in range(50):
                assert (await expect(target, Received)).message == message(number)
                assert trio.current_time() >= before_s + 0.01
        assert nodes.world.schedule.instants - before <= 2


# --- firewalls


async def test_nobody_can_dial_a_node_behind_a_firewall_which_dials_out(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    nodes = start(nursery, MemoryWorld(7))
    async with nodes.open("a") as a:
        nodes.world.firewall(nodes.identity("b").node)
        for _ in range(2):  # a restart changes nothing
            async with nodes.open("b", killed=True) as b:
                a.dial(b.addresses[0], b.me)
                assert "no answer" in (await expect(a, DialFailed)).why
                assert await a.probe(b.addresses[0], b.me) is False
                assert await b.probe(a.addresses[0], a.me) is True
                await connect(b, a)
                await assert_connected(a, b)
            assert (await expect(a, PeerDown)).proof == "silent", "a redial that is lost proves nothing"


async def test_connection_over_a_firewall_is_found_again_from_within(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    nodes = start(nursery, MemoryWorld(7))
    async with nodes.open("a") as a, nodes.open("b") as b:
        nodes.world.firewall(b.me)
        await connect(b, a)
        nodes.world.disconnect(a.me, b.me)
        for node in (a, b):
            await expect(node, PeerDown)
            await expect(node, PeerUp)
        await assert_connected(a, b)


# --- counts


async def test_messages_and_their_bytes_are_counted_by_class(nursery: trio.Nursery, autojump_clock: object) -> None:
    counted = []
    for encode in (False, True):
        nodes = start(nursery, MemoryWorld(7, encode=encode))
        async with nodes.connected("a", "b") as (a, b):
            for number in range(100):
                a.send(b.me, message(number))
            assert (nodes.world.degree(a.me), nodes.world.degree(b.me)) == (1, 1)
            a.part(b.me)
            await expect(a, PeerDown)
            assert nodes.world.degree(a.me) == 0
            await trio.sleep(1)
        traffic = nodes.world.traffic
        assert traffic.messages == {"Hello": 2, "Ask": 100, "Goodbye": 1}
        assert traffic.messages_in_all == 103
        assert traffic.connections == 1
        assert traffic.bytes_in_all == sum(traffic.bytes.values())
        counted.append(traffic.bytes)
    estimated, exact = counted
    assert estimated == pytest.approx(exact, rel=0.02)


# --- what a world costs


@pytest.mark.parametrize("heartbeats", HEARTBEATS)
async def test_idle_world_costs_nothing_by_its_number_of_nodes(
    nursery: trio.Nursery, autojump_clock: object, heartbeats: Literal["modelled", "messages"]
) -> None:
    for count in (2, 12):
        nodes = start(nursery, MemoryWorld(7, heartbeats=heartbeats))
        async with nodes.connected(*(f"n{number}" for number in range(count))):
            await trio.sleep(10)  # until the dials are forgotten
            before = nodes.world.schedule.instants
            await trio.sleep(60)
            instants = nodes.world.schedule.instants - before
        most_a_beat = 1 + 2  # of all nodes, and the bursts in which it arrives within the greatest latency
        beats = 60 / (CONFIG.heartbeat_s / 2)
        assert instants == 0 if heartbeats == "modelled" else instants <= most_a_beat * (beats + 1)


async def test_connections_that_were_closed_leave_nothing_behind(nursery: trio.Nursery, autojump_clock: object) -> None:
    nodes = start(nursery, MemoryWorld(7))
    async with nodes.open("a") as a, nodes.open("b") as b:
        for how in ("part", "disconnect", "reset"):
            await connect(a, b)
            match how:
                case "part":
                    a.part(b.me)
                case "disconnect":
                    b.disconnect(a.me, "a whim")
                case _:
                    nodes.world.disconnect(a.me, b.me)
                    await trio.sleep(1)
                    a.part(b.me)
            await trio.sleep(1)
            for node in (a, b):
                drain(node)
                assert not node.links
                assert not node.ends
        async with nodes.open("c") as c:
            await connect(c, a)
        await expect(a, PeerDown)
        assert not a.links


# --- modelled silence and real heartbeats, for many


@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_half_of_a_grid_falls_silent_to_the_other_half_either_way(
    nursery: trio.Nursery, autojump_clock: object, loss: float
) -> None:
    downs: dict[str, dict[tuple[NodeId, NodeId], float]] = {}
    for heartbeats in HEARTBEATS:
        nodes = start(nursery, MemoryWorld(7, heartbeats=heartbeats, latency_s=(0.01, 0.05), loss=loss))
        async with AsyncExitStack() as stack:
            grid = [await stack.enter_async_context(nodes.open(f"n{number}")) for number in range(40)]
            chance = random.Random(7)
            for node in grid:
                for other in chance.sample(grid, 5):
                    node.dial(other.addresses[0], other.me)
            await trio.sleep(20)
            for node in grid:
                drain(node)
            links = {(node.me, peer) for node in grid for peer in node.ends}
            half, rest = ({node.me for node in part} for part in (grid[::2], grid[1::2]))
            before_s = trio.current_time()
            nodes.world.cut(half, rest)
            found: dict[tuple[NodeId, NodeId], float] = {}
            async with trio.open_nursery() as watchers:
                for node in grid:
                    watchers.start_soon(note_downs, node, found, before_s)
                await trio.sleep(10)
                watchers.cancel_scope.cancel()
            assert found.keys() == {(one, other) for one, other in links if (one in half) != (other in half)}
            downs[heartbeats] = found
            nodes.world.heal()
    modelled, real = downs["modelled"], downs["messages"]
    assert modelled.keys() == real.keys()
    assert all(abs(modelled[pair] - real[pair]) <= CONFIG.heartbeat_s + loss * 10 for pair in real)


def drain(node: MemoryNetwork) -> None:
    while not nothing_waits(node):
        node.events.receive_nowait()


async def note_downs(node: MemoryNetwork, found: dict[tuple[NodeId, NodeId], float], since_s: float) -> None:
    async for event in node.events:
        if not is_heartbeat(event):
            assert isinstance(event, PeerDown), event
            assert event.proof == "silent"
            found[node.me, event.peer] = trio.current_time() - since_s


# --- its parts


@given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))), max_size=6))
def test_a_cut_is_between_those_it_names_and_no_others(drawn: list[tuple[set[int], set[int]]]) -> None:
    cuts = Cuts()
    for sources, targets in drawn:
        cuts.add([NodeId(str(each)) for each in sources], [NodeId(str(each)) for each in targets])
    for source, target in itertools.product(range(6), repeat=2):
        expected = any(source in sources and target in targets for sources, targets in drawn)
        assert cuts.between(NodeId(str(source)), NodeId(str(target))) == expected
    cuts.clear()
    assert not cuts.any


async def test_actions_are_done_by_time_then_in_the_order_in_which_they_came(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    schedule = Schedule()
    done: list[str] = []

    def at(when_s: float, what: str) -> None:
        schedule.at(when_s, lambda: done.append(f"{trio.current_time():g} {what}"))

    nursery.start_soon(schedule.run)
    at(2, "a")
    at(3, "b")
    at(2, "c")
    await trio.sleep(1)
    at(1.5, "before what it waited for")
    at(1, "at once")
    schedule.at(2, lambda: at(2, "from within"))
    schedule.about(2.999, lambda: done.append("about then"))
    await trio.sleep(3)
    assert done == ["1 at once", "1.5 before what it waited for", "2 a", "2 c", "2 from within", "3 b", "about then"]
    assert schedule.instants == 5
