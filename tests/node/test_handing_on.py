"""Two nodes coordinated an application without each other; the one that gives way alone had been given some of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import ReplicaSet, Takeover
from jcpeer.application.task import Task, Timed
from jcpeer.ids import AppId, TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from jcpeer.wire.requests import AddTasks
from simulations.faults import Cut, Heal, Injector
from simulations.grid import SimulatedNode, open_grid

pytestmark = pytest.mark.usefixtures("autojump_clock")

NOTHING = LoadedApplication("split", ())


def batch(app: AppId, number: int, name: str) -> AddTasks:
    return AddTasks(app, number, (Task(TaskId(name), Timed(0.1)),))


def latest_set(node: SimulatedNode, app: AppId) -> ReplicaSet | None:
    """As who coordinates sees it; None where this node does not."""
    host = node.running.applications.get(app)
    return None if host is None or host.deposed else host.machine.state.replica_set


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.05)


@pytest.mark.parametrize(("takeover", "replicas"), [("available", 2), ("default", 3)])
async def test_what_came_to_the_side_that_gives_way_is_run_by_the_other(takeover: Takeover, replicas: int) -> None:
    """With a third replica on the other side a quorum is being formed when they meet, which waits for the one that
    gives way; that has to hand on what it has first."""
    async with open_grid(MemoryWorld(11)) as grid:
        first, second = await grid.start("first"), await grid.start("second")
        await trio.sleep(1)
        header = evolve(grid.header("split", placement="local"), replicas=replicas, takeover=takeover)
        session, injector = first.client.session, Injector(grid)
        app = await session.open(header)
        await session.add(header, batch(app, 0, "before"), NOTHING)
        await until(lambda: len(latest_set(first, app).seats) == 2)  # type: ignore[union-attr]
        await trio.sleep(1)
        await injector.inject(Cut(("first",), ("second", "third")))
        await until(lambda: latest_set(second, app) is not None)
        await session.add(header, batch(app, 1, "meanwhile"), NOTHING)
        await session.seal(app, 2)
        if replicas == 3:
            await grid.start("third")
            await until(lambda: len(latest_set(second, app).seats) == 3)  # type: ignore[union-attr]
        await injector.inject(Heal())
        with trio.fail_after(60):
            status = await second.client.session.wait(app)
        assert status.summary.state == "ok"
        assert status.summary.tasks["finished"] == 2
        assert status.coordinator.id == second.id
