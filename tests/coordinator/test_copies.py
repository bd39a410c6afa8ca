"""Large inputs and results are on as many nodes of the replica set as a promise needs, or it is said why not."""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.application.manifest import Batch, Header, Placed, ReplicaSet, Seal, Seat
from jcpeer.application.task import BlobRef, Command, Input, Task
from jcpeer.coordinator.copies import GIVEN_UP_AFTER_S, PATIENCE_S, REFUSED_FOR_S
from jcpeer.coordinator.events import (
    BatchAdded,
    Collect,
    Collected,
    CollectFailed,
    Effect,
    Event,
    Heard,
    InputsKept,
    NodeLost,
    NodeSeen,
    Quiet,
    SealReceived,
    Send,
    SetChanged,
    Tick,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import Digest, Epoch, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import Ended, ReplicasChanged, Submitted
from jcpeer.wire.messages import Fetched, Report
from jcpeer.wire.replication import CannotKeep, KeepBlobs
from tests.coordinator.little_world import APP, ME, record_of, unsigned
from tests.coordinator.test_disorder import ADA, LARGE, Application, digest, outcome, task

SECOND_SEAT, THIRD_SEAT, NEWCOMER, HOME = (NodeId(each) for each in ("second", "third", "newcomer", "home"))
SEATS = tuple(Seat(each, "") for each in (ME, SECOND_SEAT, THIRD_SEAT))
INPUT = BlobRef(digest("input"), LARGE)
SMALL = BlobRef(digest("small"), 10)


class Kept(Application):
    """An application with three copies, whose tasks read what the submitter sent."""

    def __init__(self, *tasks: Task, blobs: tuple[BlobRef, ...] = (), inputs_stay: bool = False) -> None:
        self.now_s = 0.0
        self.facts, self.effects = [], []
        header = Header("app", 0.0, b"", user="user", inputs_stay=inputs_stay)
        self.coordinator = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0, submitter=HOME)
        self._note(self.coordinator.open(Submitted(unsigned(Placed(APP, header, SEATS))), now_s=0.0))
        batch = Batch(APP, 0, tasks, blobs)
        self.hear(BatchAdded(batch, unsigned(batch)))
        self.hear(SealReceived(unsigned(Seal(APP, 1))))

    def hear(self, event: Event, *, now_s: float | None = None) -> list[Effect]:
        self.now_s = now_s if now_s is not None else self.now_s
        effects = self.coordinator.handle(event, now_s=self.now_s)
        effects += self.coordinator.handle(Quiet(), now_s=self.now_s)
        self._note(effects)
        self.coordinator.check()
        return effects

    def finish(self, only: Task) -> None:
        self.join(ADA)
        self.report(ADA, outcome(only))
        self.hear(Collected(digest(str(only.id))))

    @property
    def ended(self) -> bool:
        return bool(self.of_kind(Ended))


def asked(effects: Iterable[Effect]) -> list[tuple[NodeId, Digest]]:
    return [
        (each.node, blob.digest)
        for each in effects
        if isinstance(each, Send) and isinstance(each.message, KeepBlobs)
        for blob in each.message.blobs
    ]


def fetched(node: NodeId, *names: str) -> Heard:
    return Heard(node, Fetched(APP, tuple(map(digest, names))))


def refused(node: NodeId, name: str) -> Heard:
    return Heard(node, CannotKeep(APP, (digest(name),), "its disk is full"))


READS = Task(TaskId("reads"), Command(("true",)), (Input("in", INPUT), Input("small", SMALL)))
ONLY = task("only")


def test_large_inputs_are_on_enough_seats_before_they_count_as_kept() -> None:
    kept = Kept(READS, blobs=(INPUT, SMALL))
    assert asked(kept.effects) == [(SECOND_SEAT, INPUT.digest)]
    assert not kept.coordinator.inputs_kept
    assert InputsKept() in kept.hear(fetched(SECOND_SEAT, "input"))
    assert kept.coordinator.inputs_kept


def test_inputs_that_stay_are_held_by_the_submitters_node() -> None:
    kept = Kept(READS, blobs=(INPUT, SMALL), inputs_stay=True)
    assert kept.coordinator.inputs_kept
    assert kept.coordinator.holders(INPUT.digest) == {HOME}
    assert not kept.coordinator.holders(SMALL.digest)  # the journal has it


def test_who_cannot_keep_something_is_replaced_by_the_next_and_asked_again_later() -> None:
    kept = Kept(READS, blobs=(INPUT,))
    assert asked(kept.hear(refused(SECOND_SEAT, "input"))) == [(THIRD_SEAT, INPUT.digest)]
    assert not asked(kept.hear(refused(THIRD_SEAT, "input"), now_s=1.0))
    assert kept.coordinator.shortage() == (1, {SECOND_SEAT: "its disk is full", THIRD_SEAT: "its disk is full"})
    assert kept.coordinator.wake_s() <= REFUSED_FOR_S
    assert asked(kept.hear(Tick(), now_s=REFUSED_FOR_S)) == [(SECOND_SEAT, INPUT.digest)]


def test_who_fetches_nothing_for_long_is_not_waited_for() -> None:
    kept = Kept(READS, blobs=(INPUT,))
    assert not asked(kept.hear(Tick(), now_s=PATIENCE_S - 1.0))
    kept.hear(fetched(SECOND_SEAT, "something else"))
    assert not asked(kept.hear(Tick(), now_s=PATIENCE_S))
    assert asked(kept.hear(Tick(), now_s=2 * PATIENCE_S)) == [(THIRD_SEAT, INPUT.digest)]


def test_a_result_is_on_enough_seats_before_the_end() -> None:
    kept = Kept(ONLY)
    kept.finish(ONLY)
    assert asked(kept.effects) == [(SECOND_SEAT, digest("only"))]
    assert not kept.ended
    kept.hear(fetched(SECOND_SEAT, "only"))
    assert kept.ended


def test_where_nobody_can_keep_a_result_the_application_ends_after_a_while_with_what_there_is() -> None:
    kept = Kept(ONLY)
    kept.finish(ONLY)
    kept.hear(refused(SECOND_SEAT, "only"))
    kept.hear(refused(THIRD_SEAT, "only"))
    refused_s = kept.now_s
    while not kept.ended:
        wake_s = kept.coordinator.wake_s()
        assert wake_s < kept.now_s + PATIENCE_S + 0.1
        for node, _ in asked(kept.hear(Tick(), now_s=wake_s)):
            kept.hear(refused(node, "only"), now_s=kept.now_s + 0.7)
    assert kept.now_s == refused_s + GIVEN_UP_AFTER_S, "no later than that"
    assert kept.coordinator.shortage()[0] == 1


def test_who_says_nothing_does_not_keep_an_application_from_its_end_for_ever() -> None:
    kept = Kept(ONLY)
    kept.finish(ONLY)
    while not kept.ended and kept.now_s < 200.0:
        kept.hear(Tick(), now_s=kept.coordinator.wake_s())
    assert GIVEN_UP_AFTER_S < kept.now_s < GIVEN_UP_AFTER_S + 3 * PATIENCE_S
    assert len(kept.coordinator.shortage()[1]) == 2


def test_what_a_lost_seat_held_is_kept_by_another() -> None:
    kept = Kept(READS, blobs=(INPUT,))
    kept.hear(NodeSeen(record_of(SECOND_SEAT)))
    kept.hear(fetched(SECOND_SEAT, "input"))
    assert asked(kept.hear(NodeLost(SECOND_SEAT, "gone", "refused"))) == [(THIRD_SEAT, INPUT.digest)]


def test_a_newcomer_is_told_to_keep_what_its_set_lacks() -> None:
    kept = Kept(READS, blobs=(INPUT,))
    kept.hear(fetched(SECOND_SEAT, "input"))
    four = ReplicaSet(1, (*SEATS, Seat(NEWCOMER, "")), quorum=True)
    assert asked(kept.hear(SetChanged(ReplicasChanged(four, unsigned("seated"))))) == [(THIRD_SEAT, INPUT.digest)]
    without = evolve(four, number=2, seats=(SEATS[0], SEATS[2], four.seats[3]))
    kept.hear(SetChanged(ReplicasChanged(without, unsigned("seated"))))
    assert not kept.coordinator.inputs_kept
    assert InputsKept() in kept.hear(fetched(NEWCOMER, "input"))


def test_a_successor_takes_inputs_to_be_with_the_others_and_brings_what_it_lacks() -> None:
    kept = Kept(READS, blobs=(INPUT,))
    successor = Coordinator(kept.coordinator.state, me=SECOND_SEAT, now_s=0.0, clock_s=0.0, submitter=HOME)
    successor.take_over(now_s=0.0, epoch=Epoch(2, SECOND_SEAT), predecessor=ME, underway=(), absent={INPUT.digest})
    assert successor.holders(INPUT.digest) == {ME, THIRD_SEAT, HOME}
    for node in (HOME, ME, THIRD_SEAT):
        successor.handle(NodeSeen(record_of(node)), now_s=0.0)
    successor.handle(Quiet(), now_s=0.0)
    effects = successor.handle(NodeLost(ME, "gone", "refused"), now_s=0.0) + successor.handle(Quiet(), now_s=0.0)
    assert Collect(INPUT, (HOME, THIRD_SEAT)) in effects
    successor.handle(CollectFailed(INPUT.digest, (HOME,)), now_s=0.0)
    assert Collect(INPUT, (THIRD_SEAT,)) in successor.handle(Quiet(), now_s=0.0)


def test_a_result_that_has_to_be_made_again_is_kept_as_it_comes_out_then() -> None:
    kept = Kept(ONLY)
    kept.join(ADA)
    kept.report(ADA, outcome(ONLY))
    kept.hear(NodeLost(ADA, "gone", "refused"))
    kept.join(NodeId("ben"))
    (again,) = kept.under_way("only")
    kept.hear(Heard(NodeId("ben"), Report(APP, (outcome(ONLY, number=again.number),))))
    kept.hear(Collected(digest("only")))
    kept.hear(fetched(THIRD_SEAT, "only"))
    assert kept.ended
