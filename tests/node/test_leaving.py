"""A node that leaves of its own will gives away first what nobody else has."""

from __future__ import annotations

import trio
from attrs import evolve
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
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
        app = (await grid.nodes["ada"].client.session.submit(loaded, grid.header("three"))).app
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
