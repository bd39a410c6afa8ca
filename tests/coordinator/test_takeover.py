"""Another node goes on with an application: what ran goes on, what is finished stays, and all else waits for nobody."""

from __future__ import annotations

import random

import pytest

from jcpeer.application.manifest import POLICIES, Dispatch
from jcpeer.application.task import Command, Task
from jcpeer.coordinator.absences import EXCUSED_S
from jcpeer.coordinator.events import (
    Collected,
    Committed,
    Effect,
    Event,
    Heard,
    NodeLost,
    NodeSeen,
    Quiet,
    Send,
    SetChanged,
    TellReplicas,
    Tick,
)
from jcpeer.coordinator.inherited import SETTLE_S
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.coordinator.supervision import GRACE_S
from jcpeer.coordinator.underway import ENDS_ALONE_MIN, UnderwayMemory, UnderwayNews, whole
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.facts import AttemptLost, Failed, Finished, ReplicasChanged, TookOver
from jcpeer.wire.messages import Confirm, Decline, GivenBack, Recruit, Release, Report, Withdraw
from jcpeer.wire.replication import Underway, UnderwayAttempt
from tests.coordinator.little_world import APP, ME, LittleWorld, record_of, unsigned
from tests.coordinator.test_disorder import EXIT, FIRST, Application, outcome, task
from tests.coordinator.test_storm import branching, tangled

ADA, BEN, EVE = NodeId("ada"), NodeId("ben"), NodeId("eve")
NEXT = NodeId("next")
SECOND = Epoch(2, NEXT)


def at(name: str, node: NodeId, *, slots: int = 1) -> UnderwayAttempt:
    return UnderwayAttempt(AttemptName(TaskId(name), 1, 1), node, slots)


class Successor(Application):
    """A coordinator of the second epoch, which knows who is there; nobody has spoken yet."""

    def __init__(
        self,
        *tasks: Task,
        underway: tuple[UnderwayAttempt, ...] | None,
        there: tuple[NodeId, ...] = (ADA, BEN),
        predecessor: NodeId = ME,
    ) -> None:
        super().__init__(*tasks)
        self.now_s = 0.0
        self.coordinator = Coordinator(self.coordinator.state, me=NEXT, now_s=0.0, clock_s=0.0)
        self._note(
            self.coordinator.take_over(now_s=0.0, epoch=SECOND, predecessor=predecessor, after_s=0.4, underway=underway)
        )
        for node in there:
            self.coordinator.handle(NodeSeen(record_of(node)), now_s=0.0)
        self._note(self.coordinator.handle(Quiet(), now_s=0.0))

    def hear(self, event: Event) -> list[Effect]:
        now_s = getattr(self, "now_s", 0.0)
        effects = self.coordinator.handle(event, now_s=now_s) + self.coordinator.handle(Quiet(), now_s=now_s)
        self._note(effects)
        self.coordinator.check()
        return effects

    def confirm(self, node: NodeId, *known: AttemptName, slots: int = 4) -> list[Effect]:
        return self.hear(Heard(node, Confirm(APP, SECOND, slots, known)))

    def pass_to(self, now_s: float) -> list[Effect]:
        self.now_s = now_s
        return self.hear(Tick())

    def placed(self) -> set[str]:
        return {str(each) for each in self.coordinator.state.tasks if self.under_way(str(each))}


RAN, OTHER = task("ran"), task("other")


def test_what_is_not_known_to_be_under_way_goes_out_at_once_and_the_rest_when_its_participant_has_spoken() -> None:
    successor = Successor(RAN, OTHER, underway=(at("ran", BEN),))
    assert {
        each.node for each in successor.effects if isinstance(each, Send) and isinstance(each.message, Recruit)
    } == {
        ADA,
        BEN,
    }
    successor.confirm(ADA)
    assert successor.placed() == {"other"}
    successor.confirm(BEN)  # it has nothing of it
    assert successor.placed() == {"other", "ran"}


@pytest.mark.parametrize("answer", [Decline(APP, SECOND, "no"), NodeLost(BEN, "gone", "refused"), None])
def test_a_participant_that_declines_is_lost_or_does_not_speak_holds_up_nothing_for_long(
    answer: Decline | NodeLost | None,
) -> None:
    successor = Successor(RAN, underway=(at("ran", BEN),))
    successor.confirm(ADA)
    match answer:
        case Decline():
            successor.hear(Heard(BEN, answer))
        case NodeLost():
            successor.hear(answer)
        case None:
            successor.pass_to(SETTLE_S - 0.1)
            assert not successor.placed()
            assert successor.coordinator.wake_s() == SETTLE_S
            successor.pass_to(SETTLE_S)
    assert successor.placed() == {"ran"}
    assert len(successor.of_kind(AttemptLost)) == isinstance(answer, NodeLost)


def test_what_a_participant_still_runs_goes_on_in_its_hands() -> None:
    successor = Successor(RAN, OTHER, underway=(at("ran", BEN),))
    known = at("ran", BEN).attempt
    successor.confirm(BEN, known, slots=1)
    assert successor.under_way("ran") == [known]
    successor.hear(Heard(BEN, Report(APP, (outcome(RAN),))))
    (finished,) = successor.of_kind(Finished)
    assert isinstance(finished, Finished)
    assert finished.outcome.epoch == FIRST


def test_an_outcome_ends_the_wait_for_its_attempt() -> None:
    successor = Successor(task("ran", retries=1), underway=(at("ran", BEN),))
    successor.confirm(ADA)
    successor.hear(Heard(BEN, Report(APP, (outcome(RAN, failure=EXIT),))))
    assert successor.of_kind(Failed)
    assert successor.placed() == {"ran"}


def test_what_is_given_back_as_lost_counts_although_its_participant_has_not_spoken() -> None:
    successor = Successor(RAN, underway=(at("ran", BEN),))
    successor.confirm(ADA)
    successor.hear(Heard(BEN, GivenBack(APP, (at("ran", BEN).attempt,), "cut short", lost=True)))
    assert len(successor.of_kind(AttemptLost)) == 1
    assert successor.placed() == {"ran"}


def test_an_attempt_that_nobody_knew_of_is_taken_over_and_what_has_not_begun_instead_is_taken_back() -> None:
    successor = Successor(RAN, underway=())
    successor.confirm(ADA)
    (instead,) = successor.under_way("ran")
    effects = successor.confirm(BEN, at("ran", BEN).attempt)
    assert Send(ADA, Withdraw(APP, SECOND, (instead,))) in effects
    successor.hear(Heard(ADA, GivenBack(APP, (instead,), "withdrawn")))
    assert successor.under_way("ran") == [at("ran", BEN).attempt]


def test_where_nothing_is_known_of_what_runs_nothing_is_given_to_anybody_for_a_while() -> None:
    successor = Successor(RAN, underway=None)
    successor.confirm(ADA)
    assert not successor.placed()
    successor.pass_to(SETTLE_S)
    assert successor.placed() == {"ran"}


def test_what_ran_on_the_node_of_a_coordinator_that_is_gone_is_lost_and_runs_elsewhere_at_once() -> None:
    queued = task("queued")
    successor = Successor(RAN, queued, underway=(at("ran", EVE), at("queued", EVE)), predecessor=EVE)
    assert successor.of_kind(TookOver) == [TookOver(SECOND, None, EVE, 0.4)]
    (lost,) = successor.of_kind(AttemptLost)
    assert isinstance(lost, AttemptLost)
    assert lost.attempt.task == RAN.id, "with one slot the other had not begun"
    successor.confirm(ADA)
    assert successor.placed() == {"ran", "queued"}


def test_a_predecessor_that_lives_is_asked_like_anybody() -> None:
    successor = Successor(RAN, underway=(at("ran", EVE),), there=(ADA, EVE), predecessor=EVE)
    assert not successor.of_kind(AttemptLost)
    successor.confirm(EVE, at("ran", EVE).attempt)
    assert successor.under_way("ran") == [at("ran", EVE).attempt]


def test_what_ran_on_the_only_coordinators_own_node_is_lost_with_its_process() -> None:
    application = Application(RAN)
    again = Coordinator(application.coordinator.state, me=ME, now_s=0.0, clock_s=0.0)
    again.take_over(now_s=0.0, epoch=Epoch(2, ME), predecessor=ME, fallen=[at("ran", ME).attempt])
    assert again.state.tasks[RAN.id].losses == 1
    again.check()


def test_whoever_worked_for_the_application_hears_of_its_end_from_the_successor() -> None:
    application = Application(RAN)
    application.join(ADA)
    application.report(ADA, outcome(RAN))
    state = application.coordinator.state
    assert state.complete
    successor = Coordinator(state, me=ME, now_s=0.0, clock_s=0.0)
    effects = successor.take_over(now_s=0.0, epoch=Epoch(2, ME), predecessor=ME, underway=())
    successor.handle(NodeSeen(record_of(ADA)), now_s=0.0)
    successor.handle(Collected(outcome(RAN).outputs[0].blob.digest), now_s=0.0)
    effects += successor.handle(Quiet(), now_s=0.0)
    effects += successor.handle(Committed(state.last_index), now_s=0.0)
    said = [each.message for each in effects if isinstance(each, Send) and each.node == ADA]
    assert [type(each) for each in (said[0], said[-1])] == [Recruit, Release]


def test_a_predecessor_that_comes_back_late_is_called_up_since_what_it_runs_may_be_done() -> None:
    successor = Successor(RAN, underway=(at("ran", BEN),), there=(BEN,), predecessor=ADA)
    successor.confirm(BEN, at("ran", BEN).attempt)
    successor.pass_to(30.0)  # there is nothing for anybody else to do
    said = [each for each in successor.hear(NodeSeen(record_of(ADA))) if isinstance(each, Send)]
    assert [each.node for each in said if isinstance(each.message, Recruit)] == [ADA]


# --- one outage counts once


def lose(application: Application, *, proof: str, every_s: float, times: int) -> AttemptLost:
    """An attempt of the one task is lost with its node, again and again."""
    now_s = 0.0
    for at in range(times):
        node = NodeId(f"node{at}")
        application.join(node)
        assert application.under_way("ran")
        lost = NodeLost(node, "gone", proof)  # type: ignore[arg-type]
        application._note(application.coordinator.handle(lost, now_s=now_s))
        application._note(application.coordinator.handle(Tick(), now_s=now_s + GRACE_S))
        application.coordinator.handle(Quiet(), now_s=now_s)
        application.coordinator.check()
        now_s += every_s
    *_, last = application.of_kind(AttemptLost)
    assert isinstance(last, AttemptLost)
    return last


def test_losses_of_one_outage_count_once() -> None:
    application = Application(RAN)
    last = lose(application, proof="silent", every_s=EXCUSED_S / 10, times=9)
    assert not last.counts
    assert application.coordinator.state.tasks[RAN.id].losses == 1


@pytest.mark.parametrize(("proof", "every_s"), [("refused", 0.1), ("left", 0.1), ("silent", EXCUSED_S)])
def test_proven_deaths_and_outages_apart_fell_a_task_that_fells_nodes(proof: str, every_s: float) -> None:
    last = lose(Application(RAN), proof=proof, every_s=every_s, times=3)
    assert last.final


# --- what replicas are told


def test_replicas_are_told_what_changed_and_nothing_where_nothing_did() -> None:
    world = LittleWorld([Task(TaskId(f"t{number}"), Command(("true",))) for number in range(40)], seed=1)
    memory, told = UnderwayMemory(), 0
    for each in world.stream:
        memory.heard(each)
    while world.over is None:
        world.stream.clear()
        world.step()
        told += len(world.stream)
        for each in world.stream:
            memory.heard(each)
        known = {each.attempt: each.node for each in memory.known() or ()}
        tasks = world.machine.state.tasks
        under_way = {name: node for task in tasks for name, (node, _) in world.machine.under_way(task).items()}
        assert known.items() >= under_way.items()
        assert {each.task for each in known.keys() - under_way.keys()} <= world.results().keys()
    assert told < 120
    assert not world.machine.handle(Quiet(), now_s=world.now_s)


def test_ends_go_with_what_is_given_next_or_many_at_a_time() -> None:
    news = UnderwayNews()

    def told(last_index: int) -> list[Underway]:
        return news.take(APP, FIRST, last_index=last_index, committed=last_index)

    news.given(at("first", ADA))
    told(1)
    news.ended(at("first", ADA))
    assert told(2) == []
    news.given(at("second", ADA))
    assert told(3) == [Underway(APP, FIRST, (at("second", ADA),), (at("first", ADA).attempt,))]
    many = [at(f"of many {number}", ADA) for number in range(ENDS_ALONE_MIN)]
    for each in many:
        news.ended(each)
    assert told(4) == [Underway(APP, FIRST, (), tuple(each.attempt for each in many))]


def test_a_replica_that_was_not_told_all_knows_nothing_and_what_is_past_does_not_count() -> None:
    memory = UnderwayMemory()
    memory.heard(Underway(APP, FIRST, (at("ran", ADA),)))
    assert memory.known() is None
    for each in whole(APP, FIRST, [at("ran", ADA), at("other", BEN)]):
        memory.heard(each)
    memory.heard(Underway(APP, SECOND, (at("late", ADA),)))
    memory.heard(Underway(APP, FIRST, ended=(at("ran", ADA).attempt,)))
    assert memory.known() == (at("other", BEN),)
    for each in whole(APP, SECOND, []):
        memory.heard(each)
    assert memory.known() == ()


def test_who_coordinates_alone_tells_nobody() -> None:
    application = Application(RAN)
    application.join(ADA)
    assert application.under_way("ran")
    assert not [each for each in application.effects if isinstance(each, TellReplicas)]


def test_a_new_set_is_recorded_and_counts() -> None:
    application = Application(RAN)
    placed = application.coordinator.state.replica_set
    fact = ReplicasChanged(placed.__class__(1, (*placed.seats, *placed.seats), quorum=False), unsigned("Seated"))
    application.hear(SetChanged(fact))
    assert application.of_kind(ReplicasChanged) == [fact]
    assert application.coordinator.state.replica_set.number == 1


# --- in any order


@pytest.mark.parametrize("dispatch", POLICIES["dispatch"])
@pytest.mark.parametrize("seed", range(8))
def test_after_takeovers_nothing_finished_runs_again_and_nothing_that_runs_is_stopped(
    seed: int, dispatch: Dispatch
) -> None:
    draw = random.Random(seed)
    tasks = draw.choice([tangled, branching])(draw, size=30)
    world = LittleWorld(tasks, seed=seed, nodes=4, slots=4, large=True, dispatch=dispatch)
    world.step_s = 0.001
    while world.machine.state.last_index < 5 or (world.uncommitted and world.uncommitted[0] < 5):
        world.step()
    takeovers = 0
    while world.over is None and world.now_s < 60.0:
        world.step()
        if world.over is None and takeovers < 8 and world.random.random() < 0.02:
            while world.stream:
                world.memory.heard(world.stream.popleft())
            world.take_over(lost=world.random.choice([0, 1, 3]), underway=world.memory.known())
            takeovers += 1
    assert takeovers
    assert world.over == "ok"
    assert not world.killed
    assert set(world.executions.values()) == {1}


@pytest.mark.parametrize("seed", range(4))
def test_tasks_that_are_looked_over_a_few_at_a_time_are_known_as_well(seed: int) -> None:
    draw = random.Random(seed)
    world = LittleWorld(branching(draw, size=40), seed=seed, nodes=3, slots=2, large=True)
    while world.machine.state.counts["finished"] < 15:
        world.step()

    def begun(*, few: int) -> tuple[list[Effect], list[Effect]]:
        state = ApplicationState()
        for entry in world.journal:
            state.apply(entry)
        successor = Coordinator(state, me=NEXT, now_s=0.0, clock_s=0.0)
        for _ in range(few):
            assert successor.look_over(3)
        first = successor.take_over(now_s=0.0, epoch=SECOND, predecessor=ME, underway=())
        for node in world.nodes.values():
            successor.handle(NodeSeen(record_of(node.id, slots=node.slots)), now_s=0.0)
        then = successor.handle(Quiet(), now_s=0.0)
        successor.check()
        return first, then

    at_once = begun(few=0)
    assert any(isinstance(each, Send) for each in at_once[1])
    assert begun(few=1) == begun(few=12) == at_once
