"""Applications that outlive their coordinators, on whole simulated nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
from attrs import define

from jcpeer.application.manifest import Header
from jcpeer.ids import AppId
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.aside import ElsewhereError
from jcpeer.node.hosting import ApplicationHost
from jcpeer.wire.requests import Happened, Status
from simulations.faults import Crash, Cut, Heal, Injector, Pause, Resume, Start
from simulations.grid import SimulatedGrid, SimulatedNode, open_grid
from simulations.workloads import layered

pytestmark = pytest.mark.usefixtures("autojump_clock")


@define
class Run:
    """An application under way, and what its submitter, who never fails, is shown of it."""

    grid: SimulatedGrid
    client: SimulatedNode
    app: AppId
    events: list[Happened]

    @property
    def homes(self) -> list[SimulatedNode]:
        """Whoever coordinates, or thinks so; the latest first."""
        hosts = [(host.machine.epoch, node) for node in self.grid.running if (host := self.host_at(node)) is not None]
        return [node for _, node in sorted(hosts, key=lambda each: each[0], reverse=True)]

    @property
    def home(self) -> SimulatedNode:
        return self.homes[0]

    def host_at(self, node: SimulatedNode) -> ApplicationHost | None:
        return node.running.applications.get(self.app) if node.node is not None else None

    async def until(self, *, finished: int) -> None:
        while sum(each.kind == "finished" for each in self.events) < finished:
            await trio.sleep(0.05)

    async def ended(self, within_s: float = 600.0) -> Status:
        with trio.fail_after(within_s):
            while not self.events or self.events[-1].kind != "ended":
                await trio.sleep(0.1)
        return await self.client.client.session.status(self.app)

    def of(self, kind: str) -> list[Happened]:
        return [each for each in self.events if each.kind == kind]


@asynccontextmanager
async def running(
    *, nodes: int = 6, replicas: int = 3, tasks: int = 60, seed: int = 7
) -> AsyncIterator[tuple[Run, Injector]]:
    """A grid on which an application is under way, submitted at a node that keeps no copy."""
    world = MemoryWorld(seed)
    async with open_grid(world) as grid, trio.open_nursery() as nursery:
        for number in range(nodes):
            await grid.start(f"node{number}")
        await trio.sleep(1)
        client, header = away_from(grid, replicas)
        session = client.client.session
        app = (await session.submit(layered(seed, width=tasks // 10), header)).app
        run = Run(grid, client, app, [])

        async def watch() -> None:
            async with aclosing(session.events(app)) as events:
                async for event in events:
                    if isinstance(event, Happened):
                        run.events.append(event)

        nursery.start_soon(watch)
        yield run, Injector(grid)
        indices = [each.index for each in run.events]
        assert indices == sorted(set(indices)), "no event is shown twice, or out of order"
        nursery.cancel_scope.cancel()


def away_from(grid: SimulatedGrid, replicas: int) -> tuple[SimulatedNode, Header]:
    """A node, and a header that places the application on others."""
    from jcpeer.application.manifest import application_key
    from jcpeer.ids import app_key, closest_set
    from jcpeer.values import evolve
    from jcpeer.wire.codec import pack

    ids = {each.id: each for each in grid.nodes.values()}
    while True:
        header = evolve(grid.header("layered", placement="rdv"), user="user", replicas=replicas)
        near = closest_set(app_key(application_key(header, pack(header))), ids, k=replicas)
        for node, simulated in ids.items():
            if node not in near:
                return simulated, header


async def test_an_application_goes_on_when_its_coordinator_is_killed() -> None:
    async with running() as (run, injector):
        await run.until(finished=20)
        first = run.home
        died_s = trio.current_time()
        await injector.inject(Crash(first.name))
        status = await run.ended()
        assert status.summary.state == "ok"
        assert (status.epoch, status.takeovers) == (2, 1)
        assert status.coordinator.id != first.id
        (took_over,) = run.of("took_over")
        assert first.name in took_over.text
        assert trio.current_time() - died_s < 120
        assert len(run.of("finished")) == 60 + len(run.of("output_lost"))


async def test_two_coordinators_in_a_row_may_be_lost_of_five_replicas() -> None:
    async with running(nodes=8, replicas=5) as (run, injector):
        await run.until(finished=10)
        first = run.home
        await injector.inject(Crash(first.name))
        while not run.homes:
            await trio.sleep(0.01)
        await injector.inject(Crash(run.home.name))
        status = await run.ended()
        assert status.summary.state == "ok"
        assert status.epoch >= 3


async def test_everybody_is_killed_and_comes_back() -> None:
    async with running() as (run, injector):
        await run.until(finished=20)
        before = {each.task for each in run.of("finished")}
        for name in list(run.grid.nodes):
            await injector.inject(Crash(name))
        await trio.sleep(1)
        for name in list(run.grid.nodes):
            await injector.inject(Start(name))
        status = await run.ended()
        assert status.summary.state == "ok"
        again = [each for each in run.of("finished") if each.task in before]
        lost = {each.task for each in run.of("output_lost")}
        assert len(again) <= len(before) + len(lost)


async def test_a_coordinator_that_was_stopped_changes_nothing_when_it_wakes() -> None:
    async with running() as (run, injector):
        await run.until(finished=20)
        stopped = run.home
        await injector.inject(Pause(stopped.name))
        await trio.sleep(30)
        assert run.home is not stopped
        await injector.inject(Resume(stopped.name))
        await trio.sleep(2)
        assert run.host_at(stopped) is None or run.host_at(stopped).machine.over  # type: ignore[union-attr]
        assert (await run.ended()).summary.state == "ok"


async def test_after_a_partition_there_is_one_coordinator_within_seconds() -> None:
    async with running(tasks=400) as (run, injector):
        await run.until(finished=10)
        alone = run.home
        others = tuple(name for name in run.grid.nodes if name != alone.name)
        await injector.inject(Cut((alone.name,), others))
        await trio.sleep(30)
        host = run.host_at(alone)
        assert host is None or host.missing, "it says what it misses"
        await injector.inject(Heal())
        await trio.sleep(5)
        coordinators = [each.name for each in run.grid.running if (h := run.host_at(each)) and not h.machine.over]
        assert len(coordinators) <= 1
        assert (await run.ended()).summary.state == "ok"


async def test_a_replica_that_dies_is_replaced() -> None:
    async with running(tasks=400) as (run, injector):
        await run.until(finished=10)
        host = run.host_at(run.home)
        assert host is not None
        lost = host.copy.replica_set.nodes[1]
        name = next(each.name for each in run.grid.nodes.values() if each.id == lost)
        await injector.inject(Crash(name))
        await trio.sleep(30)
        now = host.copy.replica_set.nodes
        assert lost not in now
        assert len(now) == 3
        assert host.copy.committed >= host.copy.machine.last_index - 5
        assert (await run.ended()).summary.state == "ok"


async def test_who_lost_its_seat_while_it_was_away_counts_for_nothing_and_does_not_begin_it_anew() -> None:
    """It forgot what it was counted for, but not that it was: its submitter may name it as the first seat once more."""
    async with running(tasks=400) as (run, injector):
        await run.until(finished=10)
        away = run.home
        await injector.inject(Cut((away.name,), tuple(name for name in run.grid.nodes if name != away.name)))
        await trio.sleep(40)
        await injector.inject(Heal())
        with trio.fail_after(30):
            while away.running.copies.get(run.app) is not None:
                await trio.sleep(0.1)
        journal = away.running.parts.journal
        assert journal.last_index(run.app) == 0
        assert journal.new(run.app)
        with pytest.raises(ElsewhereError):
            away.running.applications.check_untouched(run.app)
        assert (await run.ended()).summary.state == "ok"


async def test_a_coordinator_that_leaves_hands_over_at_once() -> None:
    async with running() as (run, _):
        await run.until(finished=20)
        leaving = run.home
        left_s = trio.current_time()
        await run.grid.stop(leaving.name)
        assert trio.current_time() - left_s < 5
        await trio.sleep(0.5)
        assert run.home is not leaving
        status = await run.ended()
        assert status.summary.state == "ok"


async def test_a_participant_that_was_cut_off_learns_from_a_replica_that_all_is_over() -> None:
    async with running(nodes=8) as (run, injector):
        await run.until(finished=20)
        host = run.host_at(run.home)
        assert host is not None
        seats = host.copy.replica_set.nodes
        apart = next(
            each
            for each in run.grid.running
            if each.id not in seats and each is not run.client and each.running.participation.machine.engaged
        )
        others = tuple(name for name in run.grid.nodes if name != apart.name)
        await injector.inject(Cut((apart.name,), others))
        await injector.inject(Crash(run.home.name))  # whom it worked for never comes back
        assert (await run.ended()).summary.state == "ok"
        assert not apart.running.participation.machine.idle, "it keeps what it did for whoever may ask"
        await injector.inject(Heal())
        with trio.fail_after(60):
            while not apart.running.participation.machine.idle:
                await trio.sleep(0.5)
