"""A node that is drained breaks nothing off, and takes nothing new."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.requests import Draining
from simulations.grid import Hardware, open_grid

TASKS = tuple(Task(TaskId(f"t{each}"), Timed(10.0)) for each in range(8))


async def test_what_runs_ends_what_waits_goes_elsewhere_and_then_the_node_is_done(autojump_clock: MockClock) -> None:
    world = MemoryWorld(seed=0, encode=True)
    async with open_grid(world) as grid:
        home = await grid.start("home", hardware=Hardware(cpus=1))
        worker = await grid.start("worker", hardware=Hardware(cpus=2))
        await trio.sleep(3)
        session = home.client.session
        header = Header("app", world.wall_s, b"n" * 16, placement="local")
        app = (await session.submit(LoadedApplication("app", TASKS), header)).app
        await trio.sleep(2)
        assert worker.running.participation.machine.slots_used == 2
        before_s = trio.current_time()
        steps = [each async for each in worker.client.session.drain()]
        assert steps[-1] == Draining(0, ())
        assert max(each.running for each in steps) == 2
        assert 7 < trio.current_time() - before_s < 9, "as long as its attempts take, and no longer"
        assert not (await session.nodes()).nodes[1].record.coordinates
        await grid.stop("worker")
        status = await session.wait(app)
        assert {each.node.name: each.finished for each in status.shares} == {"home": 6, "worker": 2}
        assert (status.attempts, status.failures) == (8, ())


async def test_a_drain_goes_on_without_whoever_asked_for_it(autojump_clock: MockClock) -> None:
    async with open_grid(MemoryWorld(seed=0, encode=True)) as grid:
        node = await grid.start("node")
        drain = node.running.drain
        assert not drain.begun
        with trio.move_on_after(0.01):
            async for _ in node.client.session.drain():
                pass
        await trio.sleep(1)
        assert [each async for each in node.client.session.drain()] == [Draining(0, ())]
