"""Nodes that cannot be dialled, in small grids of whole nodes: they take part over the connections that they open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Dispatch
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.config import Config
from jcpeer.errors import UnreachableError
from jcpeer.ids import AppId, TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.requests import Status
from simulations.grid import Hardware, Place, SimulatedGrid, SimulatedNode, open_grid

KNOWN_S = 20.0
"""Within this everybody knows who cannot be dialled: two nodes in turn are asked to try, and a lost knock takes 4 s."""
MAKE, USE = TaskId("make"), TaskId("use")
SMALL, LARGE = 2**30, 2**33


@asynccontextmanager
async def wide_grid() -> AsyncIterator[SimulatedGrid]:
    """Nobody is on anybody's local network: all are told of the node "first", which is there already."""
    async with open_grid(MemoryWorld(seed=1, keep_trace=True)) as grid:
        await start(grid, "first")
        yield grid


async def start(
    grid: SimulatedGrid,
    name: str,
    *,
    firewall: bool = False,
    coordinates: bool = True,
    hardware: Hardware | None = None,
) -> SimulatedNode:
    place = Place(site=None, bootstrap=() if name == "first" else ("first",))
    node = await grid.start(name, place=place, hardware=hardware, config=Config(coordinate=coordinates))
    if firewall:
        grid.world.firewall(node.id)
    return node


async def run(grid: SimulatedGrid, at: SimulatedNode, *tasks: Task, dispatch: Dispatch = "assign") -> Status:
    app = await submit(grid, at, *tasks, dispatch=dispatch)
    with trio.fail_after(120):
        return await at.client.session.wait_ok(app)


async def submit(grid: SimulatedGrid, at: SimulatedNode, *tasks: Task, dispatch: Dispatch = "assign") -> AppId:
    header = grid.header("app", dispatch=dispatch)
    return (await at.client.session.submit(LoadedApplication("app", tasks), header)).app


def naps(count: int) -> tuple[Task, ...]:
    return tuple(Task(TaskId(f"nap-{number}"), Timed(1.0)) for number in range(count))


def dialable(of: SimulatedNode) -> dict[str, bool]:
    """Whom it knows, and who of them can be dialled."""
    return {each.name: each.dialable for each in of.running.directory.records()}


def connected(one: SimulatedNode, other: SimulatedNode) -> bool:
    return other.id in one.running.reach.machine.up


async def test_all_know_who_cannot_be_dialled_and_are_connected_to_it(autojump_clock: MockClock) -> None:
    async with wide_grid() as grid:
        shy = await start(grid, "shy", firewall=True)
        await start(grid, "last")
        await trio.sleep(KNOWN_S)
        for node in grid.running:
            assert dialable(node) == {"first": True, "shy": False, "last": True}
            assert all(connected(node, other) for other in grid.running if other is not node)
        assert shy.running.record.addresses, "it says where it is all the same: it may be found there by its neighbours"
        status = await run(grid, grid.nodes["last"], *naps(12))
        assert {each.node.name for each in status.shares if each.finished} == {"first", "shy", "last"}


async def test_one_that_restarts_behind_its_firewall_is_found_out_again(autojump_clock: MockClock) -> None:
    async with wide_grid() as grid:
        shy = await start(grid, "shy", firewall=True)
        await start(grid, "last")
        await trio.sleep(KNOWN_S)
        grid.crash("shy")
        await grid.start("shy")
        await trio.sleep(KNOWN_S)
        assert not dialable(grid.nodes["last"])["shy"]
        assert connected(shy, grid.nodes["last"])


async def test_two_that_cannot_be_dialled_see_each_other_and_do_not_look_for_each_other(
    autojump_clock: MockClock,
) -> None:
    async with wide_grid() as grid:
        one, other = await start(grid, "one", firewall=True), await start(grid, "other", firewall=True)
        await start(grid, "last")
        await trio.sleep(KNOWN_S)
        for node in (one, other):
            assert dialable(node) == {"first": True, "one": False, "other": False, "last": True}
        assert not connected(one, other)
        lines = len(grid.world.trace.lines)
        await trio.sleep(600)
        assert not [line for line in grid.world.trace.lines[lines:] if "DialFailed" in line or "PeerDown" in line]
        assert dialable(one) == dialable(other) == {"first": True, "one": False, "other": False, "last": True}
        nodes = await one.client.session.nodes()
        assert {each.record.name for each in nodes.nodes if not each.connected and not each.myself} == {"other"}


async def test_a_coordinator_that_cannot_be_dialled_works_with_those_it_can_dial_and_says_why_not_with_others(
    autojump_clock: MockClock,
) -> None:
    async with open_grid(MemoryWorld(seed=1)) as grid:
        await start(grid, "first", coordinates=False)
        home = await start(grid, "home", firewall=True)
        shy = await start(grid, "shy", firewall=True, coordinates=False, hardware=Hardware(memory_bytes=LARGE * 2))
        await start(grid, "last", coordinates=False)
        await trio.sleep(KNOWN_S)
        status = await run(grid, home, *naps(12))
        assert status.coordinator.name == "home"
        assert {each.node.name for each in status.shares if each.finished} == {"first", "home", "last"}

        app = await submit(grid, home, Task(USE, Timed(1.0), needs=Needs(memory_bytes=LARGE * 2)))
        await trio.sleep(30)
        session = home.client.session
        assert (await session.why(app, USE)).reasons == (
            "1 of 4 nodes has 16 GiB of memory; "
            "shy: cannot be dialled, and neither can the coordinator: so they are not connected",
        )
        assert not shy.running.participation.machine.engaged


@pytest.mark.parametrize("dispatch", ["assign", "relay", "grab"])
@pytest.mark.parametrize(("maker_shy", "user_shy"), [(True, False), (False, True), (True, True)])
async def test_data_reach_whoever_needs_them_whichever_side_cannot_be_dialled(
    autojump_clock: MockClock, maker_shy: bool, user_shy: bool, dispatch: Dispatch
) -> None:
    async with wide_grid() as grid:
        maker = await start(grid, "maker", firewall=maker_shy, hardware=Hardware(cpus=4, memory_bytes=SMALL))
        user = await start(grid, "user", firewall=user_shy, hardware=Hardware(cpus=1, memory_bytes=LARGE * 2))
        await trio.sleep(KNOWN_S)
        made = Task(MAKE, Timed(0.1, output_bytes={"made": 1_000_000}), outputs=("made",), needs=Needs(4))
        used = Task(
            USE, Timed(0.1), inputs=(Input("made", OutputOf(MAKE, "made")),), needs=Needs(memory_bytes=LARGE * 2)
        )
        before_s = trio.current_time()
        status = await run(grid, grid.nodes["first"], made, used, dispatch=dispatch)
        assert trio.current_time() - before_s < 1
        assert {each.node.name: each.finished for each in status.shares} == {"maker": 1, "user": 1}
        assert (status.attempts, status.failures) == (2, ()), "nothing ran twice"
        assert connected(maker, user) == (not (maker_shy and user_shy))


async def test_in_a_large_grid_whoever_is_not_a_neighbour_is_called(autojump_clock: MockClock) -> None:
    async with wide_grid() as grid:
        shy = await start(grid, "shy", firewall=True)
        stranger = await start(grid, "stranger", firewall=True)
        for number in range(28):
            await start(grid, f"node {number}")
        await trio.sleep(120)
        assert all(len(dialable(each)) == 31 for each in grid.running)
        assert not any(dialable(each)["shy"] or dialable(each)["stranger"] for each in grid.running)
        others = [each for each in grid.running if not connected(each, shy) and each not in (shy, stranger)]
        assert others, "not everybody is connected to everybody"
        for each in others:
            before_s = trio.current_time()
            stream = await each.running.reach.open_stream(shy.id)
            await stream.aclose()
            assert trio.current_time() - before_s < 0.5
        with pytest.raises(UnreachableError, match=r"neither node ….* nor this one can be dialled by the other"):
            await stranger.running.reach.open_stream(shy.id)
