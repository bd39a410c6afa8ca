"""A node that leaves of its own will gives away first what nobody else has."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from simulations.grid import Place, open_grid

LARGE_BYTES = 1_000_000
"""Too large for the journal."""
MAKE, SLOW, USE = TaskId("make"), TaskId("slow"), TaskId("use")


async def test_an_output_that_only_a_leaving_node_has_is_not_made_again(autojump_clock: MockClock) -> None:
    tasks = (
        Task(
            MAKE, Timed(1.0, output_bytes={"made": LARGE_BYTES}), outputs=("made",), needs=Needs(labels={"at": "bob"})
        ),
        Task(SLOW, Timed(20.0), needs=Needs(labels={"at": "ada"})),
        Task(USE, Timed(1.0), inputs=(Input("made", OutputOf(MAKE, "made")),), after=(SLOW,)),
    )
    world = MemoryWorld(seed=0)
    async with open_grid(world) as grid:
        place = Place(site="here")
        ada = await grid.start("ada", place=place, config=evolve(world.config, labels={"at": "ada"}))
        await grid.start("bob", place=place, config=evolve(world.config, labels={"at": "bob"}))
        session = ada.client.session
        app = (await session.submit(LoadedApplication("three", tasks), grid.header("three"))).app
        await session.wait_task(app, MAKE)
        began_s = trio.current_time()
        await grid.stop("bob")
        assert trio.current_time() - began_s < 1.0, "it stays no longer than it must"
        await session.wait_ok(app)
        assert [each.state for each in (await session.task(app, MAKE)).attempts] == ["finished"]


async def test_what_only_a_leaving_coordinator_has_goes_to_its_successor(autojump_clock: MockClock) -> None:
    tasks = (
        Task(
            MAKE, Timed(1.0, output_bytes={"made": LARGE_BYTES}), outputs=("made",), needs=Needs(labels={"at": "ada"})
        ),
        Task(SLOW, Timed(20.0), needs=Needs(labels={"at": "bob"})),
        Task(USE, Timed(1.0), inputs=(Input("made", OutputOf(MAKE, "made")),), after=(SLOW,)),
    )
    world = MemoryWorld(seed=0)
    async with open_grid(world) as grid:
        place = Place(site="here")
        for name in ("ada", "bob", "cora", "dan"):
            await grid.start(name, place=place, config=evolve(world.config, labels={"at": name}))
        await trio.sleep(2)
        loaded = LoadedApplication("three", tasks)
        app = (await grid.nodes["ada"].client.session.submit(loaded, grid.header("three", placement="local"))).app
        session = grid.nodes["dan"].client.session
        await session.wait_task(app, MAKE)
        assert (await session.status(app)).coordinator.name == "ada"
        began_s = trio.current_time()
        await grid.stop("ada")
        assert trio.current_time() - began_s < 2.0, "it stays no longer than it must"
        await session.wait_ok(app)
        status = await session.status(app)
        assert (status.takeovers, status.coordinator.name != "ada") == (1, True)
        for task in (MAKE, SLOW):
            assert [each.state for each in (await session.task(app, task)).attempts] == ["finished"]


async def test_a_coordinator_that_leaves_is_succeeded_at_once_and_what_it_ran_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    tasks = tuple(Task(TaskId(f"nap-{number}"), Timed(20.0)) for number in range(6))
    async with open_grid(MemoryWorld(seed=0)) as grid:
        for name in ("ada", "bob", "cora"):
            await grid.start(name)
        await trio.sleep(3)
        app = (
            await grid.nodes["ada"].client.session.submit(
                LoadedApplication("naps", tasks), grid.header("naps", placement="local")
            )
        ).app
        await trio.sleep(3)
        began_s = trio.current_time()
        await grid.stop("ada")
        assert trio.current_time() - began_s < 1.0
        status = await grid.nodes["bob"].client.session.wait_ok(app)
        assert (status.takeovers, status.attempts, status.failures) == (1, 6, ())
        assert {each.node.name for each in status.shares} == {"bob", "cora"}


async def test_all_may_leave_at_once_and_go_on_when_they_are_back(autojump_clock: MockClock) -> None:
    tasks = tuple(Task(TaskId(f"nap-{number}"), Timed(20.0)) for number in range(6))
    names = ("ada", "bob", "cora")
    async with open_grid(MemoryWorld(seed=0)) as grid:
        for name in names:
            await grid.start(name)
        await trio.sleep(3)
        app = (
            await grid.nodes["ada"].client.session.submit(
                LoadedApplication("naps", tasks), grid.header("naps", placement="local")
            )
        ).app
        await trio.sleep(3)
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(grid.stop, name)
        assert trio.current_time() - began_s < 4.0
        for name in names:
            await grid.start(name)
        assert (await grid.nodes["bob"].client.session.wait_ok(app)).failures == ()
