"""A task marked `once` starts when it is journalled that it does, and not a second time."""

from __future__ import annotations

import random

import pytest

from jcpeer.application.manifest import POLICIES, Dispatch, Header
from jcpeer.application.task import BlobRef, Task
from jcpeer.coordinator.events import (
    CancelRequested,
    Collect,
    Committed,
    Effect,
    Heard,
    NodeLost,
    NodeSeen,
    Send,
    SendOrders,
    Tick,
)
from jcpeer.coordinator.inherited import SETTLE_S
from jcpeer.coordinator.losses import NOT_AGAIN
from jcpeer.coordinator.once import AWAITED_S
from jcpeer.coordinator.results import Results
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import AttemptLost, AttemptStarted, Failed, Finished, NotStarted, OutputLost
from jcpeer.wire.messages import CancelAttempts, Confirm, Decline, GivenBack, Offer, Recruit, Report, Withdraw
from tests.coordinator.little_world import APP, LittleWorld, record_of
from tests.coordinator.test_disorder import EXIT, FIRST, LARGE, STOP, Application, digest, outcome, task
from tests.coordinator.test_storm import Storm, branching, tangled
from tests.coordinator.test_takeover import SECOND, Successor, at

ADA, BEN, EVE = NodeId("ada"), NodeId("ben"), NodeId("eve")


def once(name: str, *parents: str) -> Task:
    return evolve(task(name, *parents), once=True)


ONLY = once("only")
NAME = AttemptName(ONLY.id, 1, 1)


def commit(application: Application) -> list[Effect]:
    """All that was recorded so far."""
    return application.hear(Committed(application.coordinator.state.last_index))


def started(application: Application, *, at: tuple[NodeId, ...] = (ADA,)) -> Application:
    """Its tasks are placed, and their orders have left."""
    for node in at:
        application.join(node)
        commit(application)
    return application


def ordered(effects: list[Effect]) -> list[tuple[NodeId, TaskId]]:
    return [(each.node, order.task) for each in effects if isinstance(each, SendOrders) for order in each.orders]


def lost(application: Application) -> AttemptLost:
    """The attempt with which its task failed."""
    (fact,) = [each for each in application.of_kind(AttemptLost) if isinstance(each, AttemptLost) and each.final]
    return fact


def assert_failed_for_good(application: Application, *, name: str = "only") -> None:
    state = application.coordinator.state
    assert state.tasks[TaskId(name)].standing == "failed"
    assert not application.under_way(name)
    assert NOT_AGAIN in lost(application).reason
    application.join(EVE)
    assert not ordered(commit(application))


# --- the order


def test_the_order_leaves_when_it_is_committed_that_the_attempt_starts_and_no_sooner() -> None:
    application = Application(ONLY, task("other"))
    application.join(ADA)
    assert application.of_kind(AttemptStarted) == [AttemptStarted(ADA, NAME)]
    assert ordered(application.effects) == [(ADA, TaskId("other"))]
    assert application.coordinator.start_held(NAME)
    assert not ordered(application.hear(Committed(application.coordinator.state.last_index - 1)))
    assert ordered(commit(application)) == [(ADA, ONLY.id)]
    assert not application.coordinator.start_held(NAME)
    assert not ordered(commit(application))


def test_a_held_order_has_its_place_at_the_participant() -> None:
    application = Application(ONLY, once("second"), once("third"))
    application.join(ADA, slots=1)
    assert application.coordinator.roster.participants[ADA].slots_free == -1, "one runs, one waits"
    assert len(application.of_kind(AttemptStarted)) == 2


@pytest.mark.parametrize("dispatch", POLICIES["dispatch"])
def test_whatever_the_policy_it_is_the_coordinator_that_starts_it(dispatch: Dispatch) -> None:
    parent, child = task("parent"), once("child", "parent")
    header = Header("app", 0.0, b"", user="user", dispatch=dispatch)
    application = Application(parent, ONLY, child, once("shared", "parent", "only"), header=header)
    application.join(ADA)
    effects = [*application.effects, *commit(application)]
    offers = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, Offer)]
    assert all(each.task != ONLY.id for offer in offers for each in offer.tasks)
    orders = [order for each in effects if isinstance(each, SendOrders) for order in each.orders]
    assert (ADA, ONLY.id) in ordered(effects)
    assert not any(order.rights or order.shared for order in orders)
    application.report(ADA, outcome(ONLY))
    claim = Report(APP, (outcome(parent),), claims=(child.id, TaskId("shared")))
    effects = application.hear(Heard(ADA, claim))
    assert dispatch == "grab" or not ordered(effects)


def test_what_is_cancelled_before_the_commit_does_not_leave() -> None:
    application = Application(ONLY)
    application.join(ADA)
    effects = application.hear(CancelRequested(ONLY.id))
    assert [
        each.message.attempts for each in effects if isinstance(each, Send) and isinstance(each.message, CancelAttempts)
    ] == [(NAME,)]
    application.hear(Heard(ADA, GivenBack(APP, (NAME,), "cancelled")))
    assert not ordered(commit(application))
    assert application.coordinator.state.ended == "cancelled"


@pytest.mark.parametrize(
    "gone",
    [NodeLost(ADA, "gone", "refused"), NodeLost(ADA, "silent", "silent"), Heard(ADA, Decline(APP, FIRST, "no"))],
)
def test_who_is_gone_before_the_commit_has_not_started_it_for_certain(gone: NodeLost | Heard) -> None:
    application = Application(ONLY)
    application.join(ADA)
    application.hear(gone)
    assert len(application.of_kind(NotStarted)) == 1
    application.join(BEN)
    assert ordered(commit(application)) == [(BEN, ONLY.id)]
    assert not application.of_kind(AttemptLost)


def test_nobody_takes_it_from_a_participant_where_it_waits() -> None:
    application = Application(ONLY, once("second"))
    application.join(ADA, slots=1)
    commit(application)
    application.join(BEN)
    effects = application.coordinator.handle(Tick(), now_s=5.0)
    assert not [each for each in effects if isinstance(each, Send) and isinstance(each.message, Withdraw)]


# --- its attempt is lost


@pytest.mark.parametrize(
    "event",
    [
        NodeLost(ADA, "its process is gone", "refused"),
        Heard(ADA, GivenBack(APP, (NAME,), "cut short", lost=True)),
        Heard(ADA, GivenBack(APP, (NAME,), "the node is leaving")),
    ],
)
def test_a_lost_attempt_fails_the_task_and_it_does_not_run_again(event: NodeLost | Heard) -> None:
    application = started(Application(ONLY, task("after", "only")))
    application.hear(event)
    assert application.coordinator.state.tasks[TaskId("after")].standing == "skipped"
    assert application.coordinator.state.ended == "failed"
    assert_failed_for_good(application)


def test_with_a_lost_attempt_everything_stops_where_that_is_wanted() -> None:
    application = started(Application(ONLY, task("other"), header=STOP))
    (other,) = application.under_way("other")
    effects = application.hear(Heard(ADA, GivenBack(APP, (NAME,), "cut short", lost=True)))
    assert Send(ADA, CancelAttempts(APP, FIRST, (other,))) in effects


def test_of_a_node_that_is_silent_and_comes_back_the_attempt_goes_on() -> None:
    application = started(Application(ONLY))
    application.hear(NodeLost(ADA, "silent", "silent"))
    application.join(ADA, known=(NAME,))
    assert application.under_way("only") == [NAME]
    application.report(ADA, outcome(ONLY))
    assert application.of_kind(Finished)


def test_an_order_of_which_nothing_is_known_after_a_break_is_not_given_again() -> None:
    application = started(Application(ONLY))
    application.hear(NodeLost(ADA, "silent", "silent"))
    application.join(ADA)
    assert_failed_for_good(application)


def test_a_failed_attempt_is_the_last() -> None:
    application = started(Application(ONLY))
    application.report(ADA, outcome(ONLY, failure=EXIT))
    (fact,) = application.of_kind(Failed)
    assert isinstance(fact, Failed)
    assert fact.final


# --- it did not start, for certain


@pytest.mark.parametrize(
    "message",
    [
        GivenBack(APP, (NAME,), "its disk is full", unstarted=True),
        GivenBack(APP, (NAME,), "its disk is full", lost=True, unstarted=True),
        Decline(APP, FIRST, "not called up in this epoch", refused=(NAME,)),
    ],
)
def test_what_its_participant_never_started_goes_to_another(message: GivenBack | Decline) -> None:
    application = started(Application(ONLY), at=(ADA, BEN))
    application.hear(Heard(ADA, message))
    assert application.of_kind(NotStarted) == [NotStarted(ADA, NAME, message.reason)]
    assert application.under_way("only") == [AttemptName(ONLY.id, 1, 2)]
    assert ordered(commit(application)) == [(BEN, ONLY.id)]
    application.report(BEN, outcome(ONLY, number=2))
    assert application.of_kind(Finished)


def test_a_task_whose_inputs_no_node_can_take_ends_all_the_same() -> None:
    application = started(Application(ONLY), at=(ADA, BEN, EVE))
    for number, node in enumerate((ADA, BEN, EVE), start=1):
        commit(application)
        name = AttemptName(ONLY.id, 1, number)
        application.hear(Heard(node, GivenBack(APP, (name,), "its disk is full", lost=True, unstarted=True)))
    assert application.coordinator.state.ended == "failed"


def test_who_declines_without_a_word_about_it_is_asked_until_it_says_what_it_has() -> None:
    application = started(Application(ONLY))
    asked = application.hear(Heard(ADA, Decline(APP, FIRST, "has not seen the proof", 0.0)))
    assert application.coordinator.awaited_at(ONLY.id) == ADA
    assert [type(each.message) for each in asked if isinstance(each, Send) and each.node == ADA] == [Recruit]
    application.hear(Heard(ADA, Confirm(APP, FIRST, 1, (NAME,))))
    assert application.under_way("only") == [NAME]
    application.hear(Heard(ADA, Decline(APP, FIRST, "has not seen the proof", 0.0)))
    application.hear(Heard(ADA, Decline(APP, FIRST, "has no slot free", idle=True)))
    assert_failed_for_good(application)


# --- what it reads, and what it leaves


def parent_and_child() -> Application:
    """The child of both others runs at Ben, and what the parent left is with Ada, for the other child, too."""
    parent, child, other = task("parent"), once("child", "parent"), task("other", "parent")
    application = started(Application(parent, child, other))
    application.report(ADA, outcome(parent))
    commit(application)
    application.join(BEN)
    (held,) = application.under_way("child")
    application.hear(Heard(ADA, GivenBack(APP, (held,), "later", unstarted=True)))
    commit(application)
    application.hear(NodeLost(ADA, "its process is gone", "refused"))
    assert application.of_kind(OutputLost) == [OutputLost(parent.id, "its process is gone")]
    application.report(BEN, outcome(child, number=2))
    assert not application.of_kind(Finished)[1:]
    return application


def test_an_outcome_waits_for_an_input_that_is_made_again_and_stands_if_that_is_the_same() -> None:
    application = parent_and_child()
    application.report(BEN, outcome(task("parent"), number=2))
    assert application.coordinator.state.tasks[TaskId("child")].standing == "finished"


def test_an_outcome_from_an_input_that_is_another_now_is_not_taken_and_the_task_fails() -> None:
    application = parent_and_child()
    anew = outcome(task("parent"), number=2)
    blob = BlobRef(digest("anew"), LARGE)
    application.report(BEN, evolve(anew, outputs=(evolve(anew.outputs[0], blob=blob),)))
    assert_failed_for_good(application, name="child")


def test_what_it_left_is_brought_at_once_and_if_it_is_lost_nevertheless_it_has_failed() -> None:
    application = started(Application(ONLY, task("after", "only"), sealed=False))
    application.report(ADA, outcome(ONLY))
    assert [each.blob.digest for each in application.effects if isinstance(each, Collect)] == [digest("only")]
    application.hear(NodeLost(ADA, "its process is gone", "refused"))
    (fact,) = application.of_kind(OutputLost)
    assert isinstance(fact, OutputLost)
    assert fact.final
    assert NOT_AGAIN in fact.reason
    assert application.coordinator.state.tasks[ONLY.id].standing == "failed"
    assert application.coordinator.state.tasks[TaskId("after")].standing == "skipped"


def test_what_it_left_and_nobody_needs_any_more_is_not_waited_for() -> None:
    after = task("after", "only")
    application = started(Application(ONLY, after))
    application.report(ADA, outcome(ONLY))
    application.join(BEN)
    (name,) = application.under_way("after")
    application.report(ADA, outcome(after, number=name.number))
    results: Results = application.coordinator._results
    assert results.on_their_way
    application.hear(Heard(BEN, Confirm(APP, FIRST, 4)))
    results.holdings.add(BEN, digest("after"))
    application.hear(NodeLost(ADA, "its process is gone", "refused"))
    assert not application.of_kind(OutputLost)
    assert list(results._collecting) == [digest("after")]


# --- after a takeover


def successor_of(*, there: tuple[NodeId, ...] = (ADA, BEN), predecessor: NodeId = EVE) -> Successor:
    """Of a coordinator that had started the task at Ben; what else it told of what was under way does not matter."""

    class Began(Successor):
        def add(self, number: int, *tasks: Task) -> None:
            super().add(number, *tasks)
            self.coordinator.handle(NodeSeen(record_of(BEN)), now_s=0.0)
            self.hear(Heard(BEN, Confirm(APP, FIRST, 1)))

    return Began(ONLY, underway=(), there=there, predecessor=predecessor)


def test_a_successor_leaves_it_where_it_runs() -> None:
    successor = successor_of()
    successor.confirm(ADA)
    successor.pass_to(AWAITED_S + SETTLE_S)
    assert successor.coordinator.awaited_at(ONLY.id) == BEN
    successor.confirm(BEN, NAME)
    assert successor.under_way("only") == [NAME]
    successor.hear(Heard(BEN, Report(APP, (outcome(ONLY),))))
    assert successor.of_kind(Finished)


def test_a_successor_takes_the_outcome_of_a_node_that_has_not_confirmed() -> None:
    successor = successor_of()
    successor.hear(Heard(BEN, Report(APP, (outcome(ONLY),))))
    successor.confirm(BEN)
    assert successor.of_kind(Finished)


@pytest.mark.parametrize(
    "event",
    [
        Heard(BEN, Confirm(APP, SECOND, 4)),
        Heard(BEN, Decline(APP, SECOND, "has no slot free", idle=True)),
        NodeLost(BEN, "its process is gone", "refused"),
        Heard(BEN, GivenBack(APP, (NAME,), "cut short", lost=True)),
    ],
)
def test_a_successor_does_not_start_it_again(event: Heard | NodeLost) -> None:
    successor = successor_of()
    successor.confirm(ADA)
    successor.hear(event)
    assert not successor.placed()
    assert_failed_for_good(successor)


def test_a_successor_waits_for_who_is_not_to_be_seen_yet_but_not_for_ever() -> None:
    successor = successor_of(there=(ADA,), predecessor=BEN)
    successor.confirm(ADA)
    successor.pass_to(SETTLE_S + 1.0)
    assert not successor.of_kind(AttemptLost)
    assert successor.coordinator.wake_s() <= AWAITED_S
    successor.pass_to(AWAITED_S)
    assert_failed_for_good(successor)


def test_a_successor_gives_it_to_another_if_its_participant_never_started_it() -> None:
    successor = successor_of()
    successor.confirm(ADA)
    successor.hear(Heard(BEN, GivenBack(APP, (NAME,), "withdrawn", unstarted=True)))
    commit(successor)
    assert ordered(successor.effects)[-1] == (ADA, ONLY.id)


def test_an_order_that_waited_for_its_commit_and_is_not_in_the_journal_never_left() -> None:
    successor = Successor(ONLY, underway=(at("only", BEN),))
    successor.confirm(ADA)
    commit(successor)
    assert ordered(successor.effects) == [(ADA, ONLY.id)]


def test_an_attempt_that_the_journal_has_not_is_written_into_it_when_it_is_met() -> None:
    successor = Successor(ONLY, underway=())
    successor.confirm(BEN, NAME)
    assert successor.of_kind(AttemptStarted) == [AttemptStarted(BEN, NAME)]


# --- in any order


def some_once(draw: random.Random, tasks: list[Task]) -> list[Task]:
    return [evolve(each, once=True, retries=0) if draw.random() < 0.4 else each for each in tasks]


@pytest.mark.parametrize("dispatch", POLICIES["dispatch"])
@pytest.mark.parametrize("seed", range(8))
def test_without_faults_all_tasks_run_once(seed: int, dispatch: Dispatch) -> None:
    draw = random.Random(seed)
    tasks = some_once(draw, draw.choice([tangled, branching])(draw, size=30))
    world = LittleWorld(tasks, seed=seed, nodes=4, slots=4, large=True, dispatch=dispatch)
    assert world.run() == "ok"
    assert set(world.executions.values()) == {1}


@pytest.mark.parametrize("dispatch", POLICIES["dispatch"])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_goes_wrong_no_such_task_starts_twice_and_the_application_ends(seed: int, dispatch: Dispatch) -> None:
    endure(seed, dispatch)


def endure(seed: int, dispatch: Dispatch) -> None:
    draw = random.Random(f"once {seed}")
    tasks = some_once(draw, draw.choice([tangled, branching])(draw, size=draw.choice([3, 8, 20])))
    world = Storm(tasks, seed=seed, restarts=draw.random() < 0.6, cancels=draw.random() < 0.2, dispatch=dispatch)
    world.refusals = 0.1
    world.failing = {each.id: draw.randint(1, 3) for each in tasks if draw.random() < 0.1}
    world.endure(draw.choice([100, 400, 900]))
    world.check_journal(tasks)
    for each in tasks:
        assert not each.once or world.executions.get(each.id, 0) <= 1, each.id
