"""What a node makes is to be had by the others as soon as it has come."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.grid import Hardware, SimulatedGrid

SMALL, LARGE = 2**30, 2**33


async def test_an_output_of_a_newcomer_is_not_given_up_by_those_who_meet_it_later(autojump_clock: MockClock) -> None:
    make, use = TaskId("make"), TaskId("use")
    tasks = (
        Task(make, Timed(0.01, output_bytes={"made": 100_000}), outputs=("made",), needs=Needs(4)),
        Task(use, Timed(0.01), inputs=(Input("made", OutputOf(make, "made")),), needs=Needs(memory_bytes=LARGE)),
    )
    world = MemoryWorld(seed=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        home = await grid.start("home", hardware=Hardware(cpus=1, memory_bytes=SMALL))
        user = await grid.start("user", hardware=Hardware(cpus=1, memory_bytes=LARGE))
        session = home.client.session
        app = (await session.submit(LoadedApplication("two", tasks), Header("two", world.wall_s, b"n" * 16))).app
        await trio.sleep(3)
        maker = await grid.start("maker", hardware=Hardware(cpus=4, memory_bytes=SMALL))
        world.cut([maker.running.id], [user.running.id])
        await trio.sleep(0.6)
        assert (await session.task(app, make)).state == "finished"
        world.heal()
        status = await session.wait_ok(app)
        assert (status.attempts, status.failures) == (2, ())
        nursery.cancel_scope.cancel()
