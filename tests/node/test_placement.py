"""Applications that live elsewhere than where they were handed over: whole nodes, in a simulated world."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header, Placed, Seat, application_key
from jcpeer.application.task import BlobRef, Input, Task, Timed
from jcpeer.config import Config
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, NodeId, TaskId, app_key, closest_set, digest_of, node_key
from jcpeer.membership.signed import sign
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.requests import Host
from simulations.grid import Place, SimulatedGrid, SimulatedNode, open_grid

INPUT = bytes(range(256)) * 1000
OUTPUT_BYTES = 200_000


def application(*, seconds: float = 1.0) -> LoadedApplication:
    """Reads a large blob, and leaves another one."""
    blob = BlobRef(digest_of(INPUT), len(INPUT))
    work = Timed(seconds, output_bytes={"out": OUTPUT_BYTES})
    task = Task(TaskId("work"), work, (Input("in", blob),), ("out",))
    return LoadedApplication("app", (task,), data={blob.digest: INPUT})


@define
class Nodes:
    """Nodes of one grid."""

    grid: SimulatedGrid

    async def start(self, name: str, **how: Any) -> SimulatedNode:
        return await self.grid.start(name, **how)

    async def once_chosen(self, header: Header, act: Callable[[], None]) -> None:
        """Do this when node a has chosen where the application is to live, and before anybody there has heard of it."""
        while self.grid.nodes["a"].running.decisions.signed(key_of(header)) is None:
            await trio.sleep(0.0001)
        act()

    def published(self, name: str) -> set[int]:
        """The keys under which a node keeps records up."""
        return set(self.grid.nodes[name].running.finding.machine.publications.keys())

    def lose_records(self) -> None:
        """Nobody keeps a location any more that it did not publish itself."""
        for node in self.grid.running:
            node.running.finding.machine.records.expire(math.inf)

    async def again(self, name: str) -> SimulatedNode:
        node = await self.start(name)
        await trio.sleep(3)
        return node

    def header(self, home: str = "", **fields: Any) -> Header:
        """Of an application whose key is closest to that node."""
        while True:
            header = evolve(self.grid.header("app", placement="rdv"), **fields)
            if not home or self.nearest(header)[0] == self.grid.nodes[home].id:
                return header

    def nearest(self, header: Header) -> tuple[NodeId, ...]:
        return closest_set(app_key(key_of(header)), (each.id for each in self.grid.nodes.values()), k=3)

    def homes(self) -> list[str]:
        """Who coordinates applications, or did to their ends, once for each."""
        return [node.name for node in self.grid.running for copy in node.running.copies if copy.reigns]

    def kept(self) -> list[str]:
        """Who has copies of applications, once for each."""
        return [node.name for node in self.grid.running for _ in node.running.copies]


def key_of(header: Header, user: str = "user") -> AppId:
    header = evolve(header, user=user)
    return application_key(header, pack(header))


@asynccontextmanager
async def nodes(*names: str, **configs: Config) -> AsyncIterator[Nodes]:
    async with open_grid(MemoryWorld(seed=0, encode=True)) as grid:
        found = Nodes(grid)
        for name in names:
            await found.start(name, config=configs.get(name))
        await trio.sleep(3)
        yield found


def seat(node: SimulatedNode) -> Seat:
    return Seat(node.id, node.running.parts.journal.id)


def names_of(grid: SimulatedGrid) -> Mapping[NodeId, str]:
    return {each.id: each.name for each in grid.nodes.values()}


async def test_an_application_is_handed_to_one_node_lives_on_another_and_is_fetched_from_a_third(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with nodes("a", "b", "c", "d") as there:
        a, c = there.grid.nodes["a"], there.grid.nodes["c"]
        header = there.header("b")
        accepted = await a.client.session.submit(application(), header)
        assert accepted.app == key_of(header)
        assert accepted.caveat == "", "any one of three may be lost"
        seated = [names_of(there.grid)[each] for each in there.nearest(header)]
        assert there.homes() == ["b"]
        assert sorted(there.kept()) == sorted(seated)
        for asked in (a, c):
            status = await asked.client.session.status(accepted.app)
            assert (status.coordinator.name, status.placement) == ("b", "rdv")
            assert tuple(each.id for each in status.replica_set) == there.nearest(header)
            states = [(each.node.name, each.state) for each in status.replicas]
            assert states == [("b", "coordinator"), (seated[1], "copy"), (seated[2], "copy")]
        assert (await a.client.session.wait("app")).summary.state == "ok"
        (path,) = await c.client.session.fetch(accepted.app, tmp_path)
        data = path.read_bytes()
        assert len(data) == OUTPUT_BYTES
        assert c.running.parts.store.has(digest_of(data))
        ran_on = {each.node.name for each in (await c.client.session.status(accepted.app)).shares}
        holders = {each.name for each in there.grid.running if each.running.parts.store.has(digest_of(data))}
        assert {"b", "c", *ran_on} <= holders <= {*seated, "c", *ran_on}, "it came straight from who had it"


async def test_whoever_waits_through_another_node_outlives_the_restart_of_the_only_home(
    autojump_clock: MockClock,
) -> None:
    async with nodes("a", "b", "c") as there:
        a = there.grid.nodes["a"]
        session = a.client.session
        accepted = await session.submit(application(seconds=20.0), there.header("b", replicas=1))
        assert "One copy, on node b: it waits while that node is down" in accepted.caveat
        assert there.kept() == ["b"]
        app = accepted.app
        states = []

        async def wait() -> None:
            states.append((await session.wait(app)).summary.state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(2)
            there.grid.crash("b")
            await trio.sleep(5)
            with pytest.raises(UnreachableError, match="lives on node b, which does not answer"):
                await session.status(app)
            await there.again("b")
        assert states == ["ok"]
        assert (await session.status(app)).takeovers == 1


async def test_the_node_that_it_was_handed_to_knows_it_after_a_restart(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        app = (await there.grid.nodes["a"].client.session.submit(application(), there.header("b"))).app
        there.grid.crash("a")
        there.lose_records()
        session = (await there.again("a")).client.session
        for called in (app, app[:8], "app"):
            assert (await session.status(called)).coordinator.name == "b"
        assert (await session.wait(app)).summary.state == "ok"
        await session.forget(app)
        await trio.sleep(1)
        assert there.kept() == []
        with pytest.raises(RequestError, match=r"app .* ended well on .*, and was forgotten on"):
            await session.status(app)


# --- the same application again


async def test_an_only_home_that_is_down_is_named_and_a_retry_goes_there(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        header = there.header("b", replicas=1)
        b = there.grid.nodes["b"].id
        session = there.grid.nodes["a"].client.session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.once_chosen, header, lambda: there.grid.world.pause(b))
            with pytest.raises(UnreachableError, match=r"is to live on node b, which does not answer.* that same node"):
                await session.submit(application(), header)
        there.grid.world.resume(there.grid.nodes["b"].id)
        there.grid.crash("b")
        there.grid.crash("a")
        await trio.sleep(5)
        session = (await there.again("a")).client.session
        with pytest.raises(UnreachableError, match="does not answer"):
            await session.submit(application(), header)
        assert there.homes() == []
        await there.again("b")
        assert (await session.submit(application(), header)).app == key_of(header)
        assert there.homes() == ["b"]


async def test_where_the_first_seat_is_down_another_begins_and_the_first_finds_that(autojump_clock: MockClock) -> None:
    """Nobody but the submitter's node has heard of the application then."""
    async with nodes("a", "b", "c", "d") as there:
        header = there.header("b")
        b = there.grid.nodes["b"].id
        session = there.grid.nodes["a"].client.session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.once_chosen, header, lambda: there.grid.world.pause(b))
            accepted = await session.submit(application(), header)
        assert accepted.app == key_of(header)
        assert (await session.wait(accepted.app)).summary.state == "ok"
        there.grid.world.resume(b)
        await trio.sleep(20)
        (home,) = there.homes()
        assert home != "b"
        again = await there.grid.nodes["b"].client.session.submit(application(), header)
        assert again.app == accepted.app
        assert there.homes() == [home]


async def test_where_the_first_seat_has_lost_its_disk_another_begins(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c", "d") as there:
        header = there.header("b")
        session = there.grid.nodes["a"].client.session
        async with trio.open_nursery() as nursery:

            def lose_its_disk() -> None:
                there.grid.crash("b", disk="lost")
                nursery.start_soon(there.again, "b")

            nursery.start_soon(there.once_chosen, header, lose_its_disk)
            accepted = await session.submit(application(), header)
        assert (await session.wait(accepted.app)).summary.state == "ok"
        assert there.homes() in (["a"], ["c"], ["d"])


async def test_after_an_only_home_has_refused_another_one_is_chosen(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        header = there.header("b", replicas=1)
        session = there.grid.nodes["a"].client.session
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.once_chosen, header, lambda: there.grid.crash("b"))
            with pytest.raises(UnreachableError, match="is to live on node b"):
                await session.submit(application(), header)
        there.grid.nodes["b"].config = Config(coordinate=False)
        await there.again("b")
        with pytest.raises(RequestError, match="not taken: node b was started with --no-coordinate"):
            await session.submit(application(), header)
        assert (await session.submit(application(), header)).app == key_of(header)
        assert there.homes() in (["a"], ["c"])


@pytest.mark.parametrize("at", ["a", "c"])
async def test_a_retry_of_a_lost_submission_makes_no_second_application(at: str, autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c", "d") as there:
        header = there.header("b")
        a = there.grid.nodes["a"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.running.service._submissions.open, header)
            while not there.homes():
                await trio.sleep(0.0005)
            there.grid.crash("a")  # before it heard that it was taken
            nursery.cancel_scope.cancel()
        there.lose_records()
        await trio.sleep(3)
        await there.again("a")
        nearer = there.grid
        while True:  # a node has come since that is closer to the key
            late = await there.start(f"late {len(nearer.nodes)}")
            if there.nearest(header)[0] == late.id:
                break
        await trio.sleep(3)
        accepted = await there.grid.nodes[at].client.session.submit(application(), header)
        assert accepted.app == key_of(header)
        assert there.homes() == ["b"]


async def test_of_two_nodes_that_are_handed_it_at_once_one_home_comes(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c", "d") as there:
        header = there.header("b")
        apps = []

        async def submit(name: str) -> None:
            apps.append((await there.grid.nodes[name].client.session.submit(application(), header)).app)

        async with trio.open_nursery() as nursery:
            for name in ("a", "a", "c", "d"):
                nursery.start_soon(submit, name)
        assert apps == [key_of(header)] * 4
        assert there.homes() == ["b"]
        status = await there.grid.nodes["c"].client.session.wait(apps[0])
        assert (status.summary.state, status.attempts) == ("ok", 1)


async def test_two_submissions_in_one_clock_tick_are_two_applications(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        session = there.grid.nodes["a"].client.session
        one = there.header("b")
        two = evolve(one, nonce=bytes(16))
        assert (await session.submit(application(), one)).app != (await session.submit(application(), two)).app
        assert len(there.homes()) == 2


async def test_a_local_one_that_is_handed_to_another_node_again_stays_where_it_is(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        header = there.header(placement="local")
        accepted = await there.grid.nodes["a"].client.session.submit(application(), header)
        assert accepted.caveat == ""
        assert (await there.grid.nodes["b"].client.session.submit(application(), header)).app == accepted.app
        assert there.homes() == ["a"]
        there.grid.crash("a")
        await trio.sleep(5)
        assert (await there.grid.nodes["c"].client.session.submit(application(), header)).app == accepted.app
        assert there.homes() in (["b"], ["c"]), "it is the same that one of them took over"
        status = await there.grid.nodes["c"].client.session.wait(accepted.app)
        assert (status.summary.state, status.takeovers) == ("ok", 1)


# --- where it may not live


async def test_a_node_that_does_not_coordinate_hands_on_and_says_so(autojump_clock: MockClock) -> None:
    unwilling = Config(coordinate=False)
    async with nodes("a", "b", "c", a=unwilling) as there:
        session = there.grid.nodes["a"].client.session
        header = there.header(placement="local")
        accepted = await session.submit(application(), header)
        home = names_of(there.grid)[next(each for each in there.nearest(header) if names_of(there.grid)[each] != "a")]
        assert there.homes() == [home]
        assert "since node a was started with --no-coordinate. 2 copies" in accepted.caveat
        assert f"what finished last may be lost with {home}" in accepted.caveat
        assert (await session.wait(accepted.app)).summary.state == "ok"


async def test_where_nobody_can_coordinate_that_is_said(autojump_clock: MockClock) -> None:
    unwilling = Config(coordinate=False)
    async with nodes("a", "b", a=unwilling, b=unwilling) as there:
        for placement in ("local", "rdv"):
            with pytest.raises(RequestError, match=r"no node in reach can coordinate app: . was started with --no-co"):
                await there.grid.nodes["a"].client.session.submit(application(), there.header(placement=placement))


async def test_a_forged_placement_is_refused_by_its_home(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        await there.start("eve", place=Place(user="eve"))
        await trio.sleep(3)
        eve, a, b = (there.grid.nodes[each] for each in ("eve", "a", "b"))
        header = evolve(there.header("b"), user="user")
        good = Placed(key_of(header), header, (seat(b),))

        async def refusal(of: SimulatedNode, placed: Placed) -> str:
            parts = of.running.parts
            signed = sign(placed, parts.identity, parts.standing.membership.chain)
            with pytest.raises(RequestError) as refused:
                await of.running.elsewhere.request(b.id, Host(signed))
            return str(refused.value)

        assert "signed by a node of 'eve'" in await refusal(eve, good)
        assert "not that of the application's header" in await refusal(a, evolve(good, app=AppId("1" * 40)))
        assert "live on another node" in await refusal(a, evolve(good, seats=(seat(a), seat(b))))
        assert "no longer has the journal" in await refusal(a, evolve(good, seats=(Seat(b.id, "another"),)))
        further = sorted((a, there.grid.nodes["c"]), key=lambda each: node_key(each.id) ^ app_key(good.app))
        crooked = (b, *further[::-1])
        assert "order of distance" in await refusal(a, evolve(good, seats=tuple(map(seat, crooked))))
        early = evolve(header, submitted_s=-1e9)
        assert "cannot be submitted at" in await refusal(a, Placed(key_of(early), early, (seat(b),)))
        assert there.homes() == []


# --- finding


async def test_an_application_of_another_user_is_kept_but_not_shown(autojump_clock: MockClock) -> None:
    async with nodes("a", "c") as there:
        await there.start("b", place=Place(user="bob"))
        await trio.sleep(3)
        a, b = there.grid.nodes["a"], there.grid.nodes["b"]
        app = (await a.client.session.submit(application(), there.header("b"))).app
        assert there.homes() == ["b"]
        assert (await a.client.session.wait(app)).summary.state == "ok"
        assert await b.client.session.applications() == ()
        for called in (app, "app"):
            with pytest.raises(RequestError, match="application"):
                await b.client.session.status(called)


async def test_what_a_node_keeps_is_published_again_after_its_restart_and_not_all_at_once(
    autojump_clock: MockClock,
) -> None:
    async with nodes("a") as there:
        session = there.grid.nodes["a"].client.session
        for _ in range(36):
            last = (await session.submit(application(seconds=0.0), there.header(placement="local"))).app
            await session.wait(last)
        assert len(there.published("a")) == 36
        running = (await session.submit(application(seconds=60.0), there.header(placement="local"))).app
        there.grid.crash("a")
        await there.start("a")
        await trio.sleep(0.5)
        assert len(there.published("a")) == 16
        await trio.sleep(1)
        assert len(there.published("a")) == 32
        assert app_key(running) in there.published("a"), "it began once its journal had been read, and went first"
        await trio.sleep(1)
        assert len(there.published("a")) == 37
        await session.forget(last)
        assert app_key(last) not in there.published("a")


async def test_by_name_those_that_keep_applications_are_asked_and_a_bounded_number_of_others(
    autojump_clock: MockClock,
) -> None:
    async with nodes("a", "b") as there:
        a = there.grid.nodes["a"]
        await a.client.session.submit(application(), there.header("b"))
        here = a.running.record
        others = (
            evolve(here, user="eve", state="coordinator"),
            evolve(here, state="idle"),
            evolve(here, state="coordinator"),
        )
        many = [others[0]] * 200 + [others[1]] * 20 + [others[2]] * 40
        known = [evolve(each, node=NodeId(f"node {number}")) for number, each in enumerate(many)]
        whereabouts = a.running.service._whereabouts
        whereabouts._others = lambda: known
        asked = whereabouts.whom_to_ask()
        assert asked[0] == there.grid.nodes["b"].id, "it is known to keep one, though not in the directory just now"
        assert set(asked[1:41]) == {f"node {number}" for number in range(220, 260)}
        assert set(asked[41:61]) == {f"node {number}" for number in range(200, 220)}
        assert len(asked) == 1 + 40 + 32


async def test_many_small_blobs_that_one_task_reads_come_to_its_home(autojump_clock: MockClock) -> None:
    async with nodes("a", "b") as there:
        data = [number.to_bytes(4, "big") * 10_000 for number in range(100)]
        blobs = {digest_of(each): each for each in data}
        inputs = tuple(Input(f"in{at}", BlobRef(digest, len(each))) for at, (digest, each) in enumerate(blobs.items()))
        loaded = LoadedApplication("app", (Task(TaskId("work"), Timed(0.1), inputs),), data=blobs)
        a, b = there.grid.nodes["a"], there.grid.nodes["b"]
        app = (await a.client.session.submit(loaded, there.header("b"))).app
        assert all(b.running.parts.journal.inline(app, each) is not None for each in blobs)
        assert (await a.client.session.wait(app)).summary.state == "ok"


async def test_a_home_that_is_gone_is_named_to_who_never_met_it(autojump_clock: MockClock) -> None:
    async with nodes("a", "b", "c") as there:
        header = there.header("b", replicas=1)
        app = (await there.grid.nodes["a"].client.session.submit(application(), header)).app
        there.grid.crash("b")
        there.grid.crash("a")
        await trio.sleep(10)
        late = await there.again("late")
        with pytest.raises(UnreachableError, match="lives on node b, which does not answer"):
            await late.client.session.status(app)
        there.lose_records()
        with pytest.raises(RequestError, match="no application"):
            await late.client.session.status(app)
