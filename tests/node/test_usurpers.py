"""Who may order what: members that would have nodes of others run their commands, or stop what runs there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Batch, Dispatch, Placed, application_key
from jcpeer.application.task import BlobRef, Input, Needs, OutputOf, Task, Timed
from jcpeer.ids import AppId, Epoch, NodeId, TaskId, app_key, digest_of
from jcpeer.membership.signed import sign
from jcpeer.net.memory import MemoryWorld
from jcpeer.rdv.location import Location
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.mandates import Mandate, Vote
from jcpeer.wire.messages import (
    Assign,
    AttemptOrder,
    Hand,
    OrderedInput,
    Probe,
    Recruit,
    Release,
    Right,
    Signed,
    Vouched,
)
from jcpeer.wire.peer import PeerMessage
from jcpeer.wire.replication import Reign
from jcpeer.work.events import SendHand
from simulations.grid import Place, SimulatedGrid, SimulatedNode, open_grid
from tests.node.test_placement import Nodes

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
        header = grid.header("app", placement="local")
        accepted = await grid.nodes["a"].client.session.submit(LoadedApplication("app", tasks), header)
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


def mandated(there: Raided, of: Epoch, voters: str, placed: Placed) -> Mandate:
    """Votes by these nodes, each of the journal of its seat, if it has one."""
    votes = []
    for name in voters:
        node = there.node(name)
        seat = placed.first_set.seat_of(node.id)
        vote = Vote(placed.app, of, seat.journal if seat else "none")
        votes.append(sign(vote, node.identity, node.running.parts.standing.membership.chain))
    return Mandate(placed.app, of, (), tuple(votes))


async def test_a_mandate_makes_a_replica_the_coordinator_and_nothing_less_does(autojump_clock: MockClock) -> None:
    async with raided() as there:
        await there.grid.start("x", place=Place(user="mallory"))
        await trio.sleep(3)
        placed = unpack(there.placed.payload, Placed)
        header = evolve(placed.header, name="other", user="mallory")
        other = Placed(application_key(header, pack(header)), header, placed.seats)
        participation = there.node("b").running.participation

        async def claim(of: Epoch, mandate: Mandate | None) -> NodeId | None:
            """Who coordinates, as b sees it, after m has claimed to."""
            await there.say(Reign(there.app, of, there.placed, mandate), Recruit(there.app, of, there.placed))
            return participation.machine.coordinator_of(there.app)

        home, m = there.node("a").id, there.node("m").id
        second = Epoch(2, m)
        good = mandated(there, second, "bm", placed)
        of_other = mandated(there, second, "bm", other)
        assert await claim(second, None) == home
        assert await claim(second, of_other) == home
        assert await claim(second, evolve(of_other, app=there.app)) == home
        assert await claim(second, mandated(there, second, "m", placed)) == home
        assert await claim(second, mandated(there, second, "mx", placed)) == home
        assert await claim(Epoch(3, m), good) == home
        assert await claim(Epoch(3, m), evolve(good, epoch=Epoch(3, m))) == home
        assert await claim(second, good) == m
        third = Epoch(3, home)
        back = Reign(there.app, third, there.placed, mandated(there, third, "am", placed))
        await there.say(back, Recruit(there.app, third, there.placed), sender="a")
        assert await claim(second, good) == home, "an old one"


async def test_whoever_hands_something_over_shows_the_coordinator_s_mandate_with_it(autojump_clock: MockClock) -> None:
    async with raided(mallory="user") as there:
        await there.grid.start("x")
        await trio.sleep(3)
        second = Epoch(2, there.node("m").id)
        mandate = mandated(there, second, "bm", unpack(there.placed.payload, Placed))
        reign = Reign(there.app, second, there.placed, mandate)
        await there.say(reign)
        hand = Hand(there.app, second, 1, second.node, there.placed, there.orders())
        there.node("b").running.participation._send_hand(SendHand(there.node("x").id, hand))
        await trio.sleep(1)
        known = there.node("x").running.reigns.known(there.app)
        assert known is not None
        assert known.reign == reign


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


@asynccontextmanager
async def judged(tasks: Sequence[Task], dispatch: Dispatch = "assign") -> AsyncIterator[Raided]:
    """Node m, of another user, is where the key of the application lies; a and b do not trust the grid."""
    async with open_grid(MemoryWorld(seed=0, encode=True)) as grid:
        for name in "abm":
            await grid.start(name, place=Place(user="mallory" if name == "m" else "user"))
        await trio.sleep(3)
        header = evolve(Nodes(grid).header("m"), dispatch=dispatch)
        while Nodes(grid).nearest(header)[0] != grid.nodes["m"].id:
            header = evolve(header, nonce=grid.world.random.randbytes(16))
        accepted = await grid.nodes["a"].client.session.submit(LoadedApplication("app", tuple(tasks)), header)
        (host,) = grid.nodes["m"].running.applications
        assert host.app == accepted.app
        submitted = host.machine.state.placed
        assert submitted is not None
        yield Raided(grid, accepted.app, submitted.placed)


def family(seconds: float = 1.0) -> list[Task]:
    first = [Task(TaskId(f"first{each}"), Timed(seconds), outputs=("out",)) for each in range(3)]
    inputs = tuple(Input(each.id, OutputOf(each.id, "out")) for each in first)
    second = [Task(TaskId(f"second{each}"), Timed(seconds), (inputs[each],), ("out",)) for each in range(3)]
    return [*first, *second, Task(TaskId("last"), Timed(seconds), inputs)]


@pytest.mark.parametrize("dispatch", ["assign", "grab", "relay"])
async def test_a_coordinator_of_another_user_has_run_what_was_signed(
    autojump_clock: MockClock, dispatch: Dispatch
) -> None:
    async with judged(family(), dispatch) as there:
        status = await there.node("a").client.session.wait(there.app)
        assert status.summary.state == "ok"
        assert {each.node.name for each in status.shares} <= {"a", "b"}


async def test_a_coordinator_of_another_user_that_starts_anew_shows_again_what_was_signed(
    autojump_clock: MockClock,
) -> None:
    async with judged(family(20.0)) as there:
        await trio.sleep(3)
        there.grid.crash("m")
        await trio.sleep(3)
        await there.grid.start("m", place=Place(user="mallory"))
        await trio.sleep(3)
        there.grid.crash("b")
        await there.grid.start("b")
        assert (await there.node("a").client.session.wait(there.app)).summary.state == "ok"


async def test_a_coordinator_of_another_user_has_nothing_else_run(autojump_clock: MockClock) -> None:
    async with judged([Task(TaskId("long"), Timed(50.0)), *family(50.0)]) as there:
        await trio.sleep(3)
        (host,) = there.node("m").running.applications
        epoch = host.machine.epoch
        before = there.ran("b")
        good = host.machine.state.tasks[TaskId("long")].spec
        order = AttemptOrder(good.id, 9, good.work)
        await there.say(Assign(there.app, epoch, (order,)))
        assert there.ran("b") == [*before, "long"], "that much it may"
        child = evolve(good, id=TaskId("child"), work=Timed(1.0))
        for changed in (
            evolve(order, task=EVIL),
            evolve(order, work=Timed(1.0)),
            evolve(order, outputs=("more",)),
            evolve(order, inputs=(OrderedInput("in", BlobRef(digest_of(b""), 0), executable=True),)),
            evolve(order, needs=Needs(cpus=2)),
            evolve(order, timeout_s=1e9),
            evolve(order, rights=(Right(child, 1),)),
            evolve(order, rights=(Right(evolve(good, work=Timed(1.0)), 1),)),
        ):
            await there.say(Assign(there.app, epoch, (evolve(changed, number=10),)))
        assert set(there.ran("b")) <= {*before, "long"}


async def test_a_batch_of_another_application_vouches_for_nothing(autojump_clock: MockClock) -> None:
    async with judged(family(50.0)) as there:
        await trio.sleep(3)
        m = there.node("m")
        (host,) = m.running.applications
        forged = Batch(there.app, 7, (Task(EVIL, Timed(100.0)),))
        signed = sign(forged, m.identity, m.running.parts.standing.membership.chain)
        order = AttemptOrder(EVIL, 1, Timed(100.0))
        other = sign(
            evolve(forged, app=AppId("f" * 40)),
            there.node("a").identity,
            there.node("a").running.parts.standing.membership.chain,
        )
        for batch in (signed, other, evolve(other, payload=signed.payload)):
            await there.say(Vouched(there.app, batch), Assign(there.app, host.machine.epoch, (order,)))
            assert EVIL not in there.ran("b")


async def test_what_was_shown_and_lost_is_shown_again(autojump_clock: MockClock) -> None:
    async with judged(family(20.0)) as there:
        await trio.sleep(3)
        for name in "ab":
            there.node(name).running.participation._vouched.forget(there.app)
        with trio.fail_after(90):
            assert (await there.node("a").client.session.wait(there.app)).summary.state == "ok"
