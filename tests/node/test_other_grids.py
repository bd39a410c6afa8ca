"""What a node keeps from the time when it was in another grid."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.errors import RequestError
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.grid import Place, open_grid


async def test_results_of_the_grid_before_are_shown_to_the_own_clients_only(autojump_clock: MockClock) -> None:
    async with open_grid(MemoryWorld(seed=1)) as before:
        node = await before.start("moves", place=Place(user="ann"))
        loaded = LoadedApplication("old", (Task(TaskId("work"), Timed(0.1)),))
        app = (await node.client.session.submit(loaded, before.header("old"))).app
        await node.client.session.wait(app)
        disk = node.disk
    async with open_grid(MemoryWorld(seed=2)) as after:
        moved, other = await after.start("moves"), await after.start("other")
        after.crash("moves")
        moved.disk = disk
        await after.start("moves")
        await trio.sleep(3)
        for called in (app, "old"):
            assert (await moved.client.session.status(called)).summary.user == "ann"
        for called in (app, "old"):
            with pytest.raises(RequestError, match="no application"):
                await other.client.session.status(called)
