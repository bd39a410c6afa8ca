"""Many small blobs at once are more than one frame bears: of outputs, and of inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Input, Needs, OutputOf, Task, Timed
from jcpeer.config import Config
from jcpeer.ids import TaskId, digest_of
from jcpeer.net.memory import MemoryWorld
from simulations.grid import Hardware, SimulatedGrid, open_grid

pytestmark = pytest.mark.long

MANY = 300
SMALL_BYTES = 60_000


async def test_more_small_outputs_than_a_frame_bears_are_read_elsewhere_and_outlive_the_node(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    make, merge = TaskId("make"), TaskId("merge")
    names = tuple(f"part-{number}" for number in range(MANY))
    tasks = (
        Task(
            make, Timed(0.1, output_bytes=dict.fromkeys(names, SMALL_BYTES)), outputs=names, needs=Needs(2), keep=True
        ),
        Task(
            merge,
            Timed(0.1, output_bytes={"all": 10}),
            inputs=tuple(Input(each, OutputOf(make, each)) for each in names),
            outputs=("all",),
            needs=Needs(4),
        ),
    )
    world = MemoryWorld(seed=0, encode=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        home = await grid.start("home", hardware=Hardware(cpus=1))
        await grid.start("maker", hardware=Hardware(cpus=2))
        session = home.client.session
        loaded = LoadedApplication("many", tasks)
        app = (await session.submit(loaded, Header("many", world.wall_s, b"n" * 16))).app
        await session.wait_task(app, make)
        await grid.start("merger", hardware=Hardware(cpus=4))
        await session.wait_ok(app)
        grid.crash("home")
        grid.crash("maker")
        await trio.testing.wait_all_tasks_blocked()
        home = await grid.start("home")
        *made, merged = await home.client.session.fetch(app, tmp_path)
        assert [each.stat().st_size for each in made] == [SMALL_BYTES] * MANY
        assert merged.stat().st_size == 10
        nursery.cancel_scope.cancel()


async def test_a_task_may_read_more_small_files_than_a_frame_bears(autojump_clock: MockClock) -> None:
    data = [bytes([number % 256, number // 256]) * (SMALL_BYTES // 2) for number in range(MANY)]
    blobs = [BlobRef(digest_of(each), len(each)) for each in data]
    merge = Task(
        TaskId("merge"),
        Timed(0.1),
        inputs=tuple(Input(f"part-{number}", each) for number, each in enumerate(blobs)),
        needs=Needs(4),
    )
    world = MemoryWorld(seed=0, encode=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        home = await grid.start("home", hardware=Hardware(cpus=1))
        loaded = LoadedApplication("many", (merge,), data={digest_of(each): each for each in data})
        app = (await home.client.session.submit(loaded, Header("many", world.wall_s, b"n" * 16))).app
        grid.crash("home")
        await trio.testing.wait_all_tasks_blocked()
        home = await grid.start("home")
        await grid.start("merger", hardware=Hardware(cpus=4))
        await home.client.session.wait_ok(app)
        nursery.cancel_scope.cancel()


async def test_more_small_files_than_a_frame_bears_are_with_every_copy_before_anything_is_promised(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    data = [bytes([number % 256, number // 256]) * (SMALL_BYTES // 2) for number in range(MANY)]
    blobs = [BlobRef(digest_of(each), len(each)) for each in data]
    names = tuple(f"part-{number}" for number in range(MANY))
    inputs = tuple(map(Input, names, blobs))
    make = Task(
        TaskId("make"),
        Timed(0.1, output_bytes=dict.fromkeys(names, SMALL_BYTES)),
        inputs,
        names,
        needs=Needs(4),
        keep=True,
    )
    async with open_grid(MemoryWorld(seed=0, encode=True)) as grid:
        home, other, _ = [await grid.start(name, hardware=Hardware(cpus=1)) for name in ("home", "other", "third")]
        await trio.sleep(3)
        loaded = LoadedApplication("many", (make,), data={digest_of(each): each for each in data})
        header = Header("many", grid.world.wall_s, b"n" * 16, placement="local")
        app = (await home.client.session.submit(loaded, header)).app
        grid.crash("home", machine=True, disk="lost")
        await grid.start("maker", hardware=Hardware(cpus=4), config=Config(coordinate=False))
        status = await other.client.session.wait_ok(app)
        assert status.takeovers == 1
        await trio.sleep(1)  # now the other copy has heard that the end stands
        grid.crash("maker", machine=True, disk="lost")
        grid.crash(status.coordinator.name, machine=True, disk="lost")
        (survivor,) = grid.running
        made = await survivor.client.session.fetch(app, tmp_path)
        assert [each.stat().st_size for each in made] == [SMALL_BYTES] * MANY
