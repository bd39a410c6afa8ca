"""What a journal has is not pinned in the store: where it was crowded out, it is had once more."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.grid import Hardware, SimulatedGrid

MAKE, OCCUPY, USE = TaskId("make"), TaskId("occupy"), TaskId("use")
LEFT = "left"


@pytest.mark.parametrize("user", ["home", "other"])
async def test_a_small_input_that_was_crowded_out_before_its_attempt_began_is_had_again(
    autojump_clock: MockClock, user: str
) -> None:
    there = Needs(labels={"node": user})
    tasks = (
        Task(MAKE, Timed(0.1, output_bytes={LEFT: 100}), outputs=(LEFT,), needs=there),
        Task(OCCUPY, Timed(10.0), after=(MAKE,), needs=there),
        Task(USE, Timed(0.1), inputs=(Input(LEFT, OutputOf(MAKE, LEFT)),), needs=there),
    )
    world = MemoryWorld(seed=0, encode=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        nodes = {}
        for name in ("home", "other"):
            config = evolve(world.config, labels={"node": name})
            nodes[name] = await grid.start(name, hardware=Hardware(cpus=1), config=config)
        session = nodes["home"].client.session
        loaded = LoadedApplication("crowded", tasks)
        app = (await session.submit(loaded, Header("crowded", world.wall_s, b"n" * 16, placement="local"))).app
        await session.wait_task(app, MAKE)
        await trio.sleep(2)
        blob = (await session.task(app, MAKE)).outputs[0].blob
        for each in nodes.values():
            store = each.running.parts.store
            store.drop([blob.digest])
            assert not store.has(blob.digest)
        assert (await session.task(app, OCCUPY)).state == "running"
        await session.wait_ok(app)
        for task in (OCCUPY, USE):
            assert len((await session.task(app, task)).attempts) == 1
        nursery.cancel_scope.cancel()
