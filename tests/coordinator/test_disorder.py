"""The coordinator against answers that come twice, late, from the wrong node, or make no sense."""

from __future__ import annotations

import math

from jcpeer.application.manifest import Batch, Header, Placed, Seal, Seat
from jcpeer.application.task import BlobRef, Command, Input, OutputOf, Task
from jcpeer.coordinator.events import (
    BatchAdded,
    CancelRequested,
    Effect,
    Event,
    Heard,
    NodeLost,
    NodeSeen,
    Quiet,
    Record,
    SealReceived,
    SendOrders,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AttemptName, Digest, Epoch, NodeId, TaskId, digest_of
from jcpeer.values import evolve
from jcpeer.wire.facts import AttemptLost, Fact, Failed, Finished, OutputLost, Submitted
from jcpeer.wire.messages import Confirm, Failure, GivenBack, Outcome, Output, Report
from tests.coordinator.little_world import APP, ME, record_of, unsigned

ADA, BEN = NodeId("ada"), NodeId("ben")
FIRST = Epoch(1, ME)
LARGE = 10**6


def task(name: str, *parents: str, retries: int = 0) -> Task:
    inputs = tuple(Input(each, OutputOf(TaskId(each), "out")) for each in parents)
    return Task(TaskId(name), Command(("true",)), inputs, ("out",), retries=retries)


def digest(name: str) -> Digest:
    return digest_of(name.encode())


def outcome(of: Task, *, number: int = 1, epoch: Epoch = FIRST, failure: Failure | None = None) -> Outcome:
    return Outcome(
        of.id,
        epoch,
        number,
        failure,
        () if failure else (Output("out", BlobRef(digest(of.id), LARGE)),),
        tuple(digest(parent) for parent in of.parents()),
        0,
        0.0,
        0.0,
        1.0,
    )


class Application:
    """A coordinator without a world: what it recorded and sent is at hand, and each step is checked."""

    def __init__(self, *tasks: Task, header: Header | None = None, sealed: bool | None = True) -> None:
        """`sealed`: or it stays open for as long as it likes, or, if None, what is to come has not come yet."""
        self.facts: list[Fact] = []
        self.effects: list[Effect] = []
        self.coordinator = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0)
        header = evolve(header or Header("app", 0.0, b"", user="user"), open_ended=sealed is False)
        placed = unsigned(Placed(APP, header, (Seat(ME, ""),)))
        self._note(self.coordinator.open(Submitted(placed), now_s=0.0))
        self.add(0, *tasks)
        if sealed:
            self.hear(SealReceived(unsigned(Seal(APP, 1))))

    def add(self, number: int, *tasks: Task) -> None:
        batch = Batch(APP, number, tasks)
        self.hear(BatchAdded(batch, unsigned(batch)))

    def join(self, node: NodeId, *, slots: int = 4, known: tuple[AttemptName, ...] = ()) -> None:
        self.hear(NodeSeen(record_of(node, slots=slots)))
        self.hear(Heard(node, Confirm(APP, self.coordinator.epoch, slots, known)))

    def report(self, node: NodeId, *outcomes: Outcome) -> None:
        self.hear(Heard(node, Report(APP, outcomes)))

    def hear(self, event: Event) -> list[Effect]:
        effects = self.coordinator.handle(event, now_s=0.0) + self.coordinator.handle(Quiet(), now_s=0.0)
        self._note(effects)
        self.coordinator.check()
        return effects

    def _note(self, effects: list[Effect]) -> None:
        self.effects += effects
        self.facts += [each.entry.fact for each in effects if isinstance(each, Record)]

    def of_kind(self, kind: type[Fact]) -> list[Fact]:
        return [each for each in self.facts if isinstance(each, kind)]

    def under_way(self, name: str) -> list[AttemptName]:
        return list(self.coordinator.under_way(TaskId(name)))


STOP = Header("app", 0.0, b"", user="user", on_failure="stop")
EXIT = Failure("exit", "exit status 1")


def test_a_failure_told_again_after_a_break_costs_one_retry() -> None:
    only = task("only", retries=2)
    application = Application(only)
    application.join(ADA)
    failed = outcome(only, failure=EXIT)
    application.report(ADA, failed)
    application.hear(NodeLost(ADA, "silent", "refused"))
    application.join(ADA, known=(failed.attempt,))
    application.report(ADA, failed)
    assert len(application.of_kind(Failed)) == 1
    assert application.under_way("only")  # it is tried again


def test_one_attempt_is_lost_once_however_often_its_node_is_out_of_reach() -> None:
    application = Application(task("only"))
    application.join(ADA)
    (name,) = application.under_way("only")
    for _ in range(5):
        application.hear(NodeLost(ADA, "silent", "refused"))
        application.join(ADA, known=(name,))
    assert len(application.of_kind(AttemptLost)) == 1
    assert application.under_way("only") == [name]


def test_a_node_that_goes_with_many_attempts_may_be_what_stops_the_application() -> None:
    tasks = [task(f"t{number}") for number in range(4)]
    application = Application(*tasks, header=STOP)
    for node in ("ada", "ben", "cora"):
        application.join(NodeId(node))
        application.hear(NodeLost(NodeId(node), "its process is gone", "refused"))
    assert application.coordinator.state.ended == "failed"
    assert [each.final for each in application.of_kind(AttemptLost) if isinstance(each, AttemptLost)][-1]


def test_an_output_that_is_lost_after_a_cancel_is_not_made_again() -> None:
    first, second = task("first"), task("second")
    application = Application(first, second)
    application.join(ADA, slots=1)
    application.join(BEN, slots=1)
    owner = application.coordinator.under_way(first.id)[AttemptName(first.id, 1, 1)][0]
    application.report(owner, outcome(first))
    application.hear(CancelRequested(None))
    application.hear(NodeLost(owner, "its process is gone", "refused"))
    assert not application.of_kind(OutputLost)


def test_a_batch_that_comes_after_the_stop_is_cancelled() -> None:
    only = task("only")
    application = Application(only, header=STOP, sealed=False)
    application.join(ADA)
    application.report(ADA, outcome(only, failure=EXIT))
    application.add(1, task("late"))
    assert application.coordinator.state.tasks[TaskId("late")].standing == "cancelled"


def test_a_task_whose_parent_came_to_nothing_in_the_second_run_is_skipped_and_not_waited_for() -> None:
    """Parent, child and another child; both outputs are lost, one after the other, and the parent fails then."""
    parent, child, other = task("parent"), task("child", "parent"), task("other", "parent")
    application = Application(parent, child, other)
    application.join(ADA)
    application.report(ADA, outcome(parent))
    application.hear(Heard(ADA, GivenBack(APP, tuple(application.under_way("other")), "later")))
    application.join(BEN)
    holder = application.coordinator.under_way(child.id)
    (name,) = holder
    application.report(BEN, outcome(child, number=name.number))
    application.hear(NodeLost(ADA, "its process is gone", "refused"))  # with it parent's output, which other needs
    (again,) = application.under_way("parent")
    application.report(BEN, outcome(parent, number=again.number, failure=EXIT))
    application.hear(NodeLost(BEN, "its process is gone", "refused"))
    assert application.coordinator.state.counts["pending"] == 0
    assert application.coordinator.state.ended == "failed"


def test_a_chain_of_any_length_is_made_again() -> None:
    length = 3000
    tasks = [task("t0"), *(task(f"t{at}", f"t{at - 1}") for at in range(1, length))]
    application = Application(*tasks)
    application.hear(NodeSeen(record_of(ADA)))
    application.coordinator.handle(Heard(ADA, Confirm(APP, FIRST, 4)), now_s=0.0)
    for each in tasks[:-1]:
        application.coordinator.handle(Heard(ADA, Report(APP, (outcome(each),))), now_s=0.0)
    effects = application.hear(NodeLost(ADA, "its process is gone", "refused"))
    lost = [each for each in effects if isinstance(each, Record) and isinstance(each.entry.fact, OutputLost)]
    assert len(lost) == length - 1


def test_of_two_batches_with_the_same_task_the_first_stands() -> None:
    application = Application(task("one"), task("two"), sealed=False)
    application.add(1, task("two"), task("three"))
    assert set(application.coordinator.state.tasks) == {"one", "two"}
    assert list(application.coordinator.state.batches) == [0]


def test_nothing_begins_before_all_of_the_application_has_come() -> None:
    application = Application(task("one"), sealed=None)
    application.join(ADA)
    assert not any(isinstance(each, SendOrders) for each in application.effects)
    effects = application.hear(SealReceived(unsigned(Seal(APP, 1))))
    assert [each.node for each in effects if isinstance(each, SendOrders)] == [ADA]


def test_answers_about_what_nobody_asked_change_nothing() -> None:
    first, second = task("first"), task("second", "first")
    application = Application(first, second)
    application.join(ADA)
    (name,) = application.under_way("first")
    nowhere, strange = AttemptName(TaskId("nowhere"), 1, 1), Digest("no digest at all")
    application.join(BEN, known=(name, name, nowhere, nowhere))
    for _ in range(3):
        application.hear(Heard(BEN, GivenBack(APP, (name, nowhere), "no", missing=(strange,), lost=True)))
    application.report(BEN, evolve(outcome(first), task=TaskId("nowhere")))
    application.report(BEN, evolve(outcome(second), consumed=()))
    assert application.under_way("first") == [name]
    assert not application.of_kind(AttemptLost)
    assert not application.of_kind(Finished)


def test_an_outcome_with_other_outputs_than_the_task_declares_is_a_failure() -> None:
    only = task("only", retries=1)
    application = Application(only)
    application.join(ADA)
    application.report(ADA, evolve(outcome(only), outputs=(), ran_s=math.nan))
    (fact,) = application.of_kind(Failed)
    assert isinstance(fact, Failed)
    assert fact.outcome.failure is not None
    assert fact.outcome.failure.kind == "missing_output"
    assert application.under_way("only")


def test_an_output_that_its_own_node_lost_with_its_memory_is_made_again_after_a_restart() -> None:
    first, second = task("first"), task("second", "first")
    application = Application(first, second)
    application.hear(NodeSeen(record_of(ME)))
    application.hear(Heard(ME, Confirm(APP, FIRST, 1)))
    apart = Output("out", BlobRef(digest("first"), 10), apart=True)
    application.report(ME, evolve(outcome(first), outputs=(apart,)))
    restarted = Coordinator(application.coordinator.state, me=ME, now_s=0.0, clock_s=0.0)
    facts = [
        each.entry.fact
        for each in restarted.take_over(now_s=0.0, epoch=Epoch(2, ME), absent={digest("first")})
        if isinstance(each, Record)
    ]
    assert [each.task for each in facts if isinstance(each, OutputLost)] == ["first"]
    restarted.check()


def test_an_outcome_from_another_result_of_its_parent_than_stands_is_not_taken() -> None:
    """The parent's output was lost and made anew, and is other bytes; somebody still has the child of the old ones."""
    parent, child = task("parent"), task("child", "parent")
    application = Application(parent, child)
    application.join(ADA)
    application.report(ADA, outcome(parent))
    old = outcome(child)
    application.hear(NodeLost(ADA, "its process is gone", "refused"))
    application.join(BEN)
    application.report(BEN, old)
    assert application.coordinator.state.tasks[child.id].standing == "pending"
    (name,) = application.under_way("parent")
    anew = outcome(parent, number=name.number)
    application.report(BEN, evolve(anew, outputs=(evolve(anew.outputs[0], blob=BlobRef(digest("anew"), LARGE)),)))
    application.join(ADA)
    application.report(ADA, old)
    assert application.coordinator.state.tasks[child.id].standing == "pending"
    (name,) = application.under_way("child")
    application.report(BEN, evolve(outcome(child, number=name.number), consumed=(digest("anew"),)))
    assert application.coordinator.state.tasks[child.id].standing == "finished"


def test_who_confirms_for_another_epoch_gets_no_work() -> None:
    application = Application(task("only"))
    application.hear(NodeSeen(record_of(ADA)))
    application.hear(Heard(ADA, Confirm(APP, Epoch(2, BEN), 4)))
    assert not application.under_way("only")
    application.hear(Heard(ADA, Confirm(APP, FIRST, 4)))
    assert application.under_way("only")
