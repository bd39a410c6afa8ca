"""What a node answers about applications that another one coordinates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Task, Timed
from jcpeer.client.session import Session
from jcpeer.errors import RequestError
from jcpeer.ids import AppId, TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.requests import Happened
from simulations.grid import SimulatedGrid, SimulatedNode

SLEEP = Task(TaskId("sleep"), Timed(10.0))


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[SimulatedNode, SimulatedNode]]:
    world = MemoryWorld(seed=0, encode=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        home, other = await grid.start("home"), await grid.start("other")
        await trio.sleep(3)
        yield home, other
        nursery.cancel_scope.cancel()


async def submit(session: Session, *, at_s: float = 1.0) -> AppId:
    return (
        await session.submit(
            LoadedApplication("asleep", (SLEEP,)), Header("asleep", at_s, b"n" * 16, placement="local")
        )
    ).app


async def test_any_node_lists_and_knows_the_applications_of_all(autojump_clock: MockClock) -> None:
    async with two_nodes() as (home, other):
        app = await submit(home.client.session)
        session = other.client.session
        assert [(each.app, each.coordinator.name) for each in await session.applications()] == [(app, "home")]
        assert (await session.status("asleep")).summary.app == app
        with pytest.raises(RequestError, match="no task 'nosuch'"):
            await session.why(app, "nosuch")
        with pytest.raises(RequestError, match="no application 'nosuch'"):
            await session.status("nosuch")


async def test_a_name_means_the_application_that_runs_or_the_latest_wherever_they_live(
    autojump_clock: MockClock,
) -> None:
    async with two_nodes() as (home, other):
        first = await submit(home.client.session, at_s=1.0)
        await home.client.session.wait(first)
        second = await submit(other.client.session, at_s=2.0)
        for session in (home.client.session, other.client.session):
            assert (await session.status("asleep")).summary.app == second
            assert (await session.status(first[:8])).summary.app == first
        await other.client.session.wait(second)
        assert (await home.client.session.status("asleep")).summary.app == second
        third = await submit(home.client.session, at_s=3.0)
        fourth = await submit(other.client.session, at_s=4.0)
        with pytest.raises(RequestError, match=f"several applications: {third[:12]}, {fourth[:12]}"):
            await home.client.session.status("asleep")


async def test_a_list_does_not_wait_long_for_a_node_that_is_silent(autojump_clock: MockClock) -> None:
    async with two_nodes() as (home, other):
        app = await submit(other.client.session)
        home.scope.cancel()
        before_s = trio.current_time()
        assert [each.app for each in await other.client.session.applications()] == [app]
        assert trio.current_time() - before_s <= 1.001


async def test_a_watch_that_is_closed_is_no_longer_answered(autojump_clock: MockClock) -> None:
    async with two_nodes() as (home, other):
        app = await submit(home.client.session)
        async with aclosing(other.client.session.events(app, progress=True)) as events:
            assert isinstance(await anext(events), Happened)
            assert home.running.elsewhere.answering == 1
        await trio.sleep(1)
        assert home.running.elsewhere.answering == 0
