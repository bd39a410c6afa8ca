"""Whoever follows an application follows it to its next coordinator, here or elsewhere, and misses nothing."""

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
from jcpeer.errors import RequestError
from jcpeer.ids import AppId, Epoch, TaskId
from jcpeer.wire.facts import Tombstone
from jcpeer.wire.requests import AddTasks, Forgotten, Happened, Progress
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
        """Without what the loss of a node brings besides."""
        return [each.kind for each in self.events if each.kind not in ("lost", "replicas_changed")]

    def missing(self, *, since_s: float) -> set[str]:
        """For whom it was said to wait."""
        told = [each for at_s, each in self.told if isinstance(each, Progress) and at_s > since_s]
        return {node.name for each in told for node in each.missing}


@asynccontextmanager
async def submitted() -> AsyncIterator[tuple[Nodes, AppId, list[SimulatedNode]]]:
    """To node a, by one that keeps no copy. Its first task has been done. Given are the nodes, those with copies first,
    in rank order."""
    async with nodes("a", "b", "c", "d") as there:
        header = there.header("a")
        nearest = there.nearest(header)
        by_id = {each.id: each for each in there.grid.nodes.values()}
        ranked = [*(by_id[each] for each in nearest), *(each for id, each in by_id.items() if id not in nearest)]
        session = ranked[-1].client.session
        app = (await session.submit(TASKS, header)).app
        await session.wait_task(app, "first")
        yield there, app, ranked


@pytest.mark.parametrize("rank", [1, 2, 3])
async def test_a_watch_goes_on_with_the_successor_wherever_that_is(autojump_clock: MockClock, rank: int) -> None:
    async with submitted() as (there, app, ranked), trio.open_nursery() as nursery:
        seen, watching = Followed(), ranked[rank]
        nursery.start_soon(seen.follow, watching, app)
        await trio.sleep(1)
        crash_s = trio.current_time()
        there.grid.crash("a")
        await trio.sleep(5)
        assert seen.kinds == ["accepted", "finished", "took_over"]
        (took_over_s,) = (at_s for at_s, each in seen.told if isinstance(each, Happened) and each.kind == "took_over")
        assert took_over_s - crash_s < 2.5
        assert max(each.epoch for each in seen.events) == 2
        await watching.client.session.cancel(app)
        await trio.sleep(2)
        assert seen.kinds == ["accepted", "finished", "took_over", "cancelled", "ended"]
        indices = [each.index for each in seen.events]
        assert indices == sorted(set(indices))


async def test_a_watch_says_for_whom_it_waits_and_outlasts_any_wait(autojump_clock: MockClock) -> None:
    async with submitted() as (there, app, ranked), trio.open_nursery() as nursery:
        seen = Followed()
        nursery.start_soon(seen.follow, ranked[-1], app)
        await trio.sleep(1)
        there.grid.crash("a")
        there.grid.crash(ranked[1].name)
        await trio.sleep(60)  # longer than anybody is waited for who does not answer
        assert seen.missing(since_s=trio.current_time() - 10) >= {"a"}
        assert "took_over" not in seen.kinds
        await there.again("a")
        await trio.sleep(10)
        assert seen.kinds[2:] == ["took_over"]
        assert seen.missing(since_s=trio.current_time() - 2) == set()
        nursery.cancel_scope.cancel()


async def test_batches_and_the_seal_reach_whoever_coordinates_now(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        session = there.grid.nodes["c"].client.session
        header = there.header("a", open_ended=True)
        app = await session.open(header)
        await session.add(header, AddTasks(app, 0, (Task(TaskId("one"), Timed(60.0)),)), TASKS)
        there.grid.crash("a")
        with trio.fail_after(20):
            await session.add(header, AddTasks(app, 1, (Task(TaskId("two"), Timed(0.1)),)), TASKS)
            await session.seal(app, 2)
        status = await session.status(app)
        assert (status.coordinator.name in "bc", sum(status.summary.tasks.values())) == (True, 2)


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
