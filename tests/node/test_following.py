"""Whoever follows an application follows it to its next coordinator, here or elsewhere, and misses nothing.

How another node comes to coordinate is not tried here: it is given the journal, and goes on with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.client.header import new_header
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, Epoch, TaskId
from jcpeer.wire.facts import Tombstone
from jcpeer.wire.requests import AddTasks, Forgotten, Happened, Moved, NodeName, Progress
from simulations.grid import SimulatedNode
from tests.node.test_placement import Nodes, nodes

TASKS = LoadedApplication("app", (Task(TaskId("first"), Timed(0.5)), Task(TaskId("second"), Timed(60.0))))


@define
class Followed:
    """What a client was told, and when."""

    told: list[tuple[float, Happened | Progress]] = field(factory=list)

    async def follow(self, node: SimulatedNode, app: str) -> None:
        async with aclosing(node.client.session.events(app, progress=True)) as events:
            async for event in events:
                self.told.append((trio.current_time(), event))

    @property
    def events(self) -> list[Happened]:
        return [each for _, each in self.told if isinstance(each, Happened)]

    @property
    def kinds(self) -> list[str]:
        return [each.kind for each in self.events]

    @property
    def missing(self) -> set[str]:
        return {node.name for _, each in self.told if isinstance(each, Progress) for node in each.missing}

    def at_s(self, kind: str) -> float:
        return next(at_s for at_s, each in self.told if isinstance(each, Happened) and each.kind == kind)


async def journal(there: Nodes, app: AppId, name: str, *, of: str = "a", up_to: int | None = None) -> None:
    """Give that node what another has of the application's journal."""
    entries = list(there.grid.nodes[of].running.parts.journal.read(app, with_data=True))
    copy = there.grid.nodes[name].running.parts.journal
    copy.begin(app)
    copy.append(app, entries if up_to is None else entries[:up_to], {})
    await trio.sleep(0.1)


def say(there: Nodes, app: AppId, name: str, coordinator: str | None, *, missing: tuple[str, ...] = ()) -> None:
    """From now on that node says this of the application where it does not coordinate it."""

    def named(each: str) -> NodeName:
        return NodeName(there.grid.nodes[each].id, each)

    said = Moved(
        app,
        2,
        named(coordinator) if coordinator else None,
        tuple(each.id for each in there.grid.nodes.values()),
        tuple(named(each) for each in missing),
    )
    there.grid.nodes[name].running.elsewhere.known_of = lambda wanted, user: said if wanted == app else None


@asynccontextmanager
async def submitted() -> AsyncIterator[tuple[Nodes, AppId]]:
    """By node c to node a, whose first task has been done."""
    async with nodes("a", "b", "c") as there:
        session = there.grid.nodes["c"].client.session
        app = (await session.submit(TASKS, there.header("a"))).app
        await session.wait_task(app, "first")
        yield there, app


async def test_a_watch_goes_on_with_the_successor_and_says_meanwhile_for_whom_it_waits(
    autojump_clock: MockClock,
) -> None:
    async with submitted() as (there, app), trio.open_nursery() as nursery:
        seen = Followed()
        nursery.start_soon(seen.follow, there.grid.nodes["c"], app)
        await trio.sleep(1)
        await journal(there, app, "b")
        say(there, app, "b", None, missing=("a",))
        there.grid.crash("a")
        await trio.sleep(40)  # longer than anybody is waited for who does not answer
        assert seen.missing == {"a"}
        took_over_s = trio.current_time()
        there.grid.nodes["b"].running.applications.recover()
        await trio.sleep(2)
        assert seen.at_s("took_over") - took_over_s < 0.8
        await there.grid.nodes["c"].client.session.cancel(app)
        await trio.sleep(1)
        assert seen.kinds == ["accepted", "finished", "took_over", "cancelled", "ended"]
        indices = [each.index for each in seen.events]
        assert indices == sorted(set(indices))
        assert [each.epoch for each in seen.events] == [1, 1, 2, 2, 2]


async def test_a_replica_that_has_not_noticed_sends_nobody_round_in_circles(autojump_clock: MockClock) -> None:
    async with submitted() as (there, app), trio.open_nursery() as nursery:
        seen = Followed()
        nursery.start_soon(seen.follow, there.grid.nodes["c"], app)
        await trio.sleep(1)
        await journal(there, app, "b")
        say(there, app, "b", "a")
        there.grid.crash("a")
        await trio.sleep(3)
        before = len(seen.told)
        await trio.sleep(5)
        assert len(seen.told) - before <= 11, "it asks every half a second"
        with pytest.raises(UnreachableError, match=f"nobody coordinates application {app[:12]} at present"):
            await there.grid.nodes["c"].client.session.status(app)
        nursery.cancel_scope.cancel()


async def test_an_application_may_move_to_the_node_that_follows_it_and_away_again(autojump_clock: MockClock) -> None:
    async with submitted() as (there, app), trio.open_nursery() as nursery:
        b, c = there.grid.nodes["b"], there.grid.nodes["c"]
        seen = Followed()
        nursery.start_soon(seen.follow, c, app)
        await trio.sleep(1)
        await journal(there, app, "c")
        there.grid.crash("a")
        await trio.sleep(1)
        c.running.applications.recover()
        await trio.sleep(1)
        assert seen.kinds == ["accepted", "finished", "took_over"]
        await journal(there, app, "b", of="c")
        b.running.applications.recover()
        say(there, app, "c", "b")
        host = c.running.applications._hosts.pop(app)
        host._tell_watchers()
        await trio.sleep(1)
        await b.client.session.cancel(app)
        await trio.sleep(1)
        assert seen.kinds == ["accepted", "finished", "took_over", "took_over", "cancelled", "ended"]
        assert [each.epoch for each in seen.events] == [1, 1, 2, 3, 3, 3]


async def test_what_came_instead_of_what_was_shown_is_shown_too(autojump_clock: MockClock) -> None:
    async with submitted() as (there, app), trio.open_nursery() as nursery:
        seen = Followed()
        nursery.start_soon(seen.follow, there.grid.nodes["c"], app)
        await trio.sleep(1)
        finished = seen.events[-1]
        await journal(there, app, "b", up_to=finished.index - 1)
        there.grid.crash("a")
        there.grid.nodes["b"].running.applications.recover()
        await trio.sleep(2)
        took_over = seen.events[-1]
        assert (took_over.kind, took_over.index, took_over.epoch) == ("took_over", finished.index, 2)
        nursery.cancel_scope.cancel()


async def test_batches_and_the_seal_reach_whoever_coordinates_now(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        session = there.grid.nodes["c"].client.session
        header = there.header("a", open_ended=True)
        app = await session.open(header)
        await session.add(header, AddTasks(app, 0, (Task(TaskId("one"), Timed(60.0)),)), TASKS)
        await journal(there, app, "b")
        say(there, app, "b", None)
        there.grid.crash("a")
        done: list[int] = []

        async def add() -> None:
            await session.add(header, AddTasks(app, 1, (Task(TaskId("two"), Timed(0.1)),)), TASKS)
            done.append((await session.seal(app, 2)).copies)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            await trio.sleep(30)
            assert done == []
            there.grid.nodes["b"].running.applications.recover()
            await trio.sleep(3)
            assert done == [1]
        status = await session.status(app)
        assert (status.coordinator.name, sum(status.summary.tasks.values())) == ("b", 2)


async def test_what_was_forgotten_says_how_it_ended_and_when(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        a, b = there.grid.nodes["a"], there.grid.nodes["b"]
        app = AppId(f"{7:040x}")
        buried = Forgotten(Tombstone(app, "old", "user", "ok", 1e9, 1e9 + 86400, Epoch(1, b.id)))
        b.running.elsewhere.known_of = lambda wanted, user: buried if wanted in (app, "old") else None
        for node in (a, b):
            for name in (app, "old"):
                with pytest.raises(
                    RequestError, match=r"^old .* ended well on 2001-09-.*, and was forgotten on 2001-09"
                ):
                    await node.client.session.status(name)
        header = new_header("old")
        again = (await a.client.session.submit(LoadedApplication("old", TASKS.tasks[:1]), header)).app
        assert (await b.client.session.status("old")).summary.app == again, "who has it counts for more"
