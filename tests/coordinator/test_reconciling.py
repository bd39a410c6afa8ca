"""Two coordinators went on without each other; one of them takes what fits of what the other did."""

from __future__ import annotations

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import Committed, Effect, Heard, Record, Send
from jcpeer.coordinator.history import happened
from jcpeer.ids import Epoch, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import Cancelled, Entry, Finished, Reconciled, TookOver
from jcpeer.wire.messages import Failure, Outcome, Output
from jcpeer.wire.replication import Diverged, DivergedTaken, RanThere
from tests.coordinator.little_world import APP
from tests.coordinator.test_disorder import ADA, BEN, EXIT, FIRST, LARGE, Application, digest, outcome, task

OTHER = NodeId("other")
FIRST_TASK, SECOND_TASK, LAST = task("first"), task("second", "first"), task("last", "second")


def there(each: Outcome) -> RanThere:
    return RanThere(evolve(each, epoch=Epoch(1, OTHER), number=7), BEN)


def diverged(*outcomes: RanThere, cancelled: tuple[TaskId | None, ...] = (), last: bool = True) -> Heard:
    return Heard(OTHER, Diverged(APP, FIRST, outcomes, cancelled, last))


def application() -> Application:
    """Its first task is finished."""
    made = Application(FIRST_TASK, SECOND_TASK, LAST)
    made.join(ADA)
    made.report(ADA, outcome(FIRST_TASK))
    return made


def committed(made: Application) -> list[Effect]:
    return made.hear(Committed(made.coordinator.state.last_index))


def test_foreign_outcomes_fill_gaps_parents_first() -> None:
    made = application()
    made.hear(diverged(there(outcome(FIRST_TASK)), there(outcome(SECOND_TASK)), there(outcome(LAST))))
    assert [each.outcome.task for each in made.facts if isinstance(each, Finished)] == ["first", "second", "last"]
    assert made.of_kind(Reconciled) == [Reconciled(OTHER, (FIRST_TASK.id,), ())]


def test_a_result_that_differs_is_named_and_so_is_what_was_made_from_it_which_is_not_taken() -> None:
    made = application()
    else_where = evolve(outcome(FIRST_TASK), outputs=(Output("out", BlobRef(digest("else"), LARGE)),))
    second = evolve(outcome(SECOND_TASK), consumed=(digest("else"),))
    failed: Failure = EXIT
    made.hear(diverged(there(else_where), there(second), there(outcome(FIRST_TASK, failure=failed))))
    assert made.of_kind(Reconciled) == [Reconciled(OTHER, (), (FIRST_TASK.id, SECOND_TASK.id))]
    assert made.coordinator.state.tasks[SECOND_TASK.id].result is None


def test_it_may_be_dropped_there_when_all_parts_are_recorded_here() -> None:
    """Not when they are committed: where a quorum is being formed, that waits for whoever is to drop it."""
    made = application()
    taken = Send(OTHER, DivergedTaken(APP, FIRST))
    assert taken not in made.hear(diverged(there(outcome(FIRST_TASK)), last=False))
    effects = made.hear(diverged(there(outcome(SECOND_TASK))))
    (reconciled,) = [
        at for at, each in enumerate(effects) if isinstance(each, Record) and isinstance(each.entry.fact, Reconciled)
    ]
    assert effects.index(taken) > reconciled


def test_what_is_said_again_counts_once() -> None:
    made = application()
    said = diverged(there(outcome(FIRST_TASK)), there(outcome(SECOND_TASK)))
    made.hear(said)
    committed(made)
    assert Send(OTHER, DivergedTaken(APP, FIRST)) in made.hear(said)
    assert len(made.of_kind(Reconciled)) == 1


def test_a_foreign_cancel_holds() -> None:
    made = application()
    made.hear(diverged(cancelled=(LAST.id,)))
    assert made.of_kind(Cancelled) == [Cancelled(LAST.id)]


def test_what_comes_for_another_epoch_is_not_for_us() -> None:
    made = application()
    before = len(made.facts)
    made.hear(Heard(OTHER, Diverged(APP, Epoch(2, OTHER), (), (None,))))
    assert len(made.facts) == before


def test_people_read_who_took_over_and_what_was_done_twice() -> None:
    def line(fact: TookOver | Reconciled) -> tuple[str, str, int]:
        event = happened(Entry(Epoch(2, BEN), 9, 0.0, fact), str.title)
        assert event is not None
        return event.kind, event.text, event.epoch

    took_over = TookOver(Epoch(2, BEN), None, ADA, 0.42)
    assert line(took_over) == ("took_over", "coordinator Ada lost, Ben took over at epoch 2 after 0.4 s", 2)
    assert line(TookOver(Epoch(2, BEN), None, BEN)) == ("took_over", "Ben goes on at epoch 2", 2)
    told = "Ben took over at epoch 2; its machines had gone down: what finished last may be lost, and run again"
    assert line(TookOver(Epoch(2, BEN), unsure=True)) == ("took_over", told, 2)
    many = tuple(TaskId(f"t{number}") for number in range(12))
    told = "Ada had coordinated, too; ran twice: t0; results that had been shown and are others now: "
    told += "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more"
    assert line(Reconciled(ADA, many[:1], many)) == ("reconciled", told, 2)
