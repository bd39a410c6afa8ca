"""What a client that watches an application is told: all of it however long that is, or no more than it wants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.client.session import Session
from jcpeer.ids import AppId, TaskId
from jcpeer.node.news import READ_AT_ONCE_MAX
from jcpeer.wire.requests import Happened
from tests.node.test_placement import Nodes, nodes

MANY = 2 * READ_AT_ONCE_MAX + 100


def of(count: int, *, seconds: float) -> LoadedApplication:
    return LoadedApplication("app", tuple(Task(TaskId(f"t{each}"), Timed(seconds)) for each in range(count)))


@asynccontextmanager
async def submitted(application: LoadedApplication) -> AsyncIterator[tuple[Nodes, Session, AppId]]:
    """Of a client at node c, to node a."""
    async with nodes("a", "b", "c") as there:
        session = there.grid.nodes["c"].client.session
        yield there, session, (await session.submit(application, there.header("a"))).app


async def told(session: Session, app: AppId, *, only: tuple[str, ...] | None = None, after: int = 0) -> list[Happened]:
    async with aclosing(session.events(app, after, only=only)) as events:
        return [each async for each in events if isinstance(each, Happened)]


async def test_a_long_past_is_told_of_in_parts_and_none_is_left_out(autojump_clock: MockClock) -> None:
    async with submitted(of(MANY, seconds=0.0)) as (there, session, app):
        await session.wait_ok(app)
        for name in "abc":  # what happened lately is in no memory then
            there.grid.crash(name)
        for name in "abc":
            await there.again(name)
        session = there.grid.nodes["c"].client.session
        events = await told(session, app)
        assert sorted(each.task for each in events if each.kind == "finished" and each.task) == sorted(
            each.id for each in of(MANY, seconds=0.0).tasks
        )
        indices = [each.index for each in events]
        assert indices == sorted(set(indices))
        assert events[-1].kind == "ended"
        middle = events[MANY // 2].index
        assert await told(session, app, after=middle) == [each for each in events if each.index > middle]


@pytest.mark.parametrize("over", [False, True])
async def test_who_wants_some_tasks_alone_is_told_of_these_and_of_the_end(
    autojump_clock: MockClock, over: bool
) -> None:
    async with submitted(of(20, seconds=0.5)) as (_, session, app):
        if over:
            await session.wait_ok(app)
        some = await told(session, app, only=("t3", "t12"))
        assert sorted((each.kind, each.task or "") for each in some) == [
            ("ended", ""),
            ("finished", "t12"),
            ("finished", "t3"),
        ]
        assert [each.kind for each in await told(session, app, only=())] == ["ended"]


async def test_who_waits_for_a_task_hears_of_it_from_the_next_coordinator(autojump_clock: MockClock) -> None:
    async with submitted(of(40, seconds=1.0)) as (there, session, app):
        await session.wait_task(app, "t0")
        detail = await session.task(app, "t39")
        assert detail.state != "finished"
        waited: list[float] = []

        async def wait() -> None:
            await session.wait_task(app, "t39")
            waited.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(session.wait, app)
            await trio.sleep(0.1)
            there.grid.crash("a")
        (finished,) = (each for each in await told(session, app) if each.task == "t39" and each.kind == "finished")
        assert finished.epoch == 2
        assert waited
