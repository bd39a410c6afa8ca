"""What is shown of an application that ends: nothing before that is committed, and all that follows at once."""

from __future__ import annotations

from contextlib import aclosing

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.errors import RequestError
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.grid import open_grid

TASKS = LoadedApplication("app", tuple(Task(TaskId(f"t{each}"), Timed(0.1)) for each in range(4)))


async def test_who_was_told_of_the_end_may_forget_it_in_the_same_instant(autojump_clock: MockClock) -> None:
    async with open_grid(MemoryWorld(seed=0)) as grid:
        nodes = [await grid.start(name) for name in ("a", "b", "c")]
        await trio.sleep(2)
        for turn in range(12):
            session = nodes[turn % 3].client.session
            app = (await session.submit(TASKS, grid.header("app"))).app
            async with aclosing(session.events(app, only=())) as events:
                async for event in events:
                    assert event
            await session.forget(app)
            with pytest.raises(RequestError, match="was forgotten"):
                await session.status(app)
        await trio.sleep(1)
        assert all(not list(each.running.applications) for each in nodes)


async def test_an_end_that_is_not_committed_is_not_shown(autojump_clock: MockClock) -> None:
    async with open_grid(MemoryWorld(seed=0)) as grid:
        nodes = {name: await grid.start(name) for name in ("a", "b", "c")}
        await trio.sleep(2)
        session = nodes["a"].client.session
        app = (await session.submit(TASKS, grid.header("app", placement="local"))).app
        for name in ("b", "c"):  # nothing can be committed without one of these
            grid.crash(name)
        await trio.sleep(1)
        host = nodes["a"].running.applications.find(app, user="user", local=True)
        assert host is not None
        await trio.sleep(30)
        shown = (await session.status(app)).summary.state
        assert shown in ("running", "stalled")
        with pytest.raises(RequestError, match="has not ended"):
            await session.forget(app)
        for name in ("b", "c"):
            await grid.start(name)
        assert (await session.wait(app)).summary.state == "ok"
        await session.forget(app)


async def test_a_copy_that_was_away_when_its_application_was_forgotten_is_forgotten_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with open_grid(MemoryWorld(seed=0)) as grid:
        nodes = {name: await grid.start(name) for name in ("a", "b", "c")}
        await trio.sleep(2)
        session = nodes["a"].client.session
        for falls in ("b", "c", "b", "c"):
            app = (await session.submit(TASKS, grid.header("app", placement="local"))).app
            await session.wait_ok(app)
            grid.crash(falls)
            await session.forget(app)
            await grid.start(falls)
            await trio.sleep(30)
            for each in nodes.values():
                assert each.running.copies.get(app) is None
                with pytest.raises(RequestError, match="was forgotten"):
                    await each.client.session.status(app)
