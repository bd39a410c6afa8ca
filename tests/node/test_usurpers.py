"""Who may order what: members that would have nodes of others run their commands, or stop what runs there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Needs, Task, Timed
from jcpeer.ids import AppId, Epoch, NodeId, TaskId, app_key
from jcpeer.net.memory import MemoryWorld
from jcpeer.rdv.location import Location
from jcpeer.wire.codec import unpack
from jcpeer.wire.messages import Assign, AttemptOrder, Hand, PeerMessage, Probe, Recruit, Release, Signed
from simulations.grid import Place, SimulatedGrid, SimulatedNode, open_grid

EVIL = TaskId("evil")


@define
class Raided:
    """Node a coordinates an application of its user, which node b works for; m is a node of another user."""

    grid: SimulatedGrid
    app: AppId
    placed: Signed

    def node(self, name: str) -> SimulatedNode:
        return self.grid.nodes[name]

    async def say(self, *messages: PeerMessage, sender: str = "m", to: str = "b") -> None:
        """Whatever the sender's own code would never say."""
        for message in messages:
            self.node(sender).running.parts.network.send(self.node(to).id, message)
        await trio.sleep(1)

    def orders(self) -> tuple[AttemptOrder, ...]:
        return (AttemptOrder(EVIL, 1, Timed(100.0)),)

    def ran(self, name: str) -> list[str]:
        """What was given to a node and is not over."""
        engagements = self.node(name).running.participation.machine._engagements.values()
        return [attempt.task for each in engagements for attempt in each.attempts]


@asynccontextmanager
async def raided(*, mallory: str = "mallory") -> AsyncIterator[Raided]:
    async with open_grid(MemoryWorld(seed=0, encode=True)) as grid:
        for name in "abm":
            await grid.start(name, place=Place(user=mallory if name == "m" else "user"))
        await trio.sleep(3)
        tasks = tuple(Task(TaskId(f"good{each}"), Timed(50.0), needs=Needs(cpus=1)) for each in range(4))
        accepted = await grid.nodes["a"].client.session.submit(LoadedApplication("app", tasks), grid.header("app"))
        await trio.sleep(2)
        record = await grid.nodes["m"].running.finder.record(app_key(accepted.app))
        assert record is not None, "anybody finds it"
        yield Raided(grid, accepted.app, unpack(record.payload, Location).placed)


async def test_whoever_can_show_a_placement_is_no_coordinator_for_that(autojump_clock: MockClock) -> None:
    async with raided() as there:
        before = there.ran("b")
        epoch = Epoch(1000, there.node("m").id)
        await there.say(Recruit(there.app, epoch, there.placed), Assign(there.app, epoch, there.orders()))
        assert there.ran("b") == before
        assert there.node("b").running.participation.machine.coordinator_of(there.app) == there.node("a").id


async def test_a_member_of_another_user_hands_over_nothing(autojump_clock: MockClock) -> None:
    async with raided() as there:
        before = there.ran("b")
        home = there.node("a").id
        for coordinator in (home, there.node("m").id):
            hand = Hand(there.app, Epoch(1, coordinator), 1, coordinator, there.placed, there.orders())
            await there.say(Release(there.app, Epoch(1, home), ended=True), hand, hand)
            assert there.ran("b") == before


async def test_a_node_of_the_same_user_hands_over_for_the_coordinator_alone(autojump_clock: MockClock) -> None:
    async with raided(mallory="user") as there:
        stranger = there.node("m").id
        hand = Hand(there.app, Epoch(2, stranger), 1, stranger, there.placed, there.orders())
        await there.say(Release(there.app, Epoch(1, there.node("a").id), ended=True), sender="a")
        await there.say(hand)
        assert there.ran("b") == []


async def test_nobody_but_the_coordinator_sends_a_participant_home(autojump_clock: MockClock) -> None:
    async with raided() as there:
        before = there.ran("b")
        assert before
        for epoch in (Epoch(1, there.node("a").id), Epoch(2**60, NodeId("z"))):
            await there.say(Release(there.app, epoch, ended=True))
        assert there.ran("b") == before
        assert (await there.node("a").client.session.wait("app")).summary.state == "ok"


async def test_room_is_held_for_nobody_who_could_not_use_it(autojump_clock: MockClock) -> None:
    async with raided() as there:
        machine = there.node("b").running.participation.machine
        await there.node("a").client.session.wait("app")
        await trio.sleep(1)
        there.grid.world.cut([there.node("b").id], [there.node("m").id], one_way=True)  # it would say: not needed
        for search in range(3):
            probe = Probe(AppId("f" * 40), Epoch(1, there.node("m").id), search, 10**9)
            there.node("m").running.parts.network.send(there.node("b").id, probe)
        await trio.sleep(0.3)
        assert machine.slots_idle() == 2
