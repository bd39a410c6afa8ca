"""What a node keeps of an application that has ended."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.grid import SimulatedGrid

LARGE_BYTES = 100_000
"""Too large for the journal."""


async def test_results_made_by_the_coordinator_itself_outlive_the_end_and_what_led_to_them_does_not(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    make, use = TaskId("make"), TaskId("use")
    tasks = (
        Task(make, Timed(0.5, output_bytes={"made": LARGE_BYTES}), outputs=("made",)),
        Task(
            use,
            Timed(0.5, output_bytes={"used": LARGE_BYTES}),
            inputs=(Input("made", OutputOf(make, "made")),),
            outputs=("used",),
        ),
    )
    world = MemoryWorld(seed=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        alone = await SimulatedGrid(world, nursery).start("alone")
        session = alone.client.session
        app = (await session.submit(LoadedApplication("two", tasks), Header("two", world.wall_s, b"n" * 16))).app
        await session.wait_ok(app)
        await trio.testing.wait_all_tasks_blocked()
        (made,) = (await session.task(app, make)).outputs
        (fetched,) = await session.fetch(app, tmp_path)
        assert fetched.stat().st_size == LARGE_BYTES
        assert not alone.running.parts.store.has(made.blob.digest)
        nursery.cancel_scope.cancel()
