"""What a participant answers, event by event."""

from __future__ import annotations

from jcpeer.application.task import Command
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.messages import (
    Assign,
    AttemptOrder,
    Decline,
    GivenBack,
    Outcome,
    Recruit,
    Report,
    Signed,
    Started,
)
from jcpeer.work.participant import (
    Assigned,
    AttemptKey,
    CalledUp,
    Effect,
    Event,
    Kill,
    Leave,
    ParticipantMachine,
    Quiet,
    Ran,
    Reunited,
    Send,
    Start,
    Tick,
)

APP = AppId("a" * 40)
COORDINATOR = NodeId("coordinator")
EPOCH = Epoch(1, COORDINATOR)


class Participant:
    """Its machine, called up and with these tasks in its hands."""

    def __init__(self, *tasks: str, slots: int) -> None:
        self.machine = ParticipantMachine(user="user", slots=slots, memory_bytes=2**30, trust_grid=False)
        self.now_s = 0.0
        self.tell(CalledUp(COORDINATOR, Recruit(APP, EPOCH, Signed(b"", b"")), "user"))
        orders = tuple(AttemptOrder(TaskId(task), 1, Command(("true",))) for task in tasks)
        effects = self.tell(Assigned(COORDINATOR, Assign(APP, EPOCH, orders), {}))
        self.started = [each.key for each in effects if isinstance(each, Start)]

    def tell(self, event: Event) -> list[Effect]:
        effects = self.machine.handle(event, now_s=self.now_s)
        effects += self.machine.handle(Quiet(), now_s=self.now_s)
        self.machine.check()
        return effects


def attempt(task: str) -> AttemptName:
    return AttemptName(TaskId(task), 1, 1)


def outcome_of(task: str) -> Outcome:
    return Outcome(TaskId(task), EPOCH, 1, None, (), (), 0, 0.0, 0.0, 0.1)


def ran(task: str) -> Ran:
    return Ran(AttemptKey(APP, attempt(task)), outcome_of(task))


def to_coordinator(*messages: object) -> list[Effect]:
    return [Send(COORDINATOR, each) for each in messages]  # type: ignore[arg-type]


def test_who_leaves_reports_what_is_done_hands_the_rest_back_and_wants_no_more() -> None:
    participant = Participant("done", "runs", "waits", slots=2)
    participant.tell(ran("done"))  # its report waits for company
    assert participant.tell(Leave("the node is leaving")) == [
        *[Kill(AttemptKey(APP, attempt(each))) for each in ("runs", "waits")],
        *to_coordinator(
            Report(APP, (outcome_of("done"),)),
            GivenBack(APP, (attempt("runs"), attempt("waits")), "the node is leaving"),
            Decline(APP, EPOCH, "the node is leaving"),
        ),
    ]


def test_after_a_break_the_coordinator_is_told_again_what_runs_and_what_has_come_out() -> None:
    participant = Participant("done", "runs", slots=2)
    participant.now_s = 1.0
    started = to_coordinator(Started(APP, (attempt("done"), attempt("runs"))))
    assert participant.tell(Tick()) == started
    participant.tell(ran("done"))
    participant.now_s = 2.0
    report = to_coordinator(Report(APP, (outcome_of("done"),)))
    assert participant.tell(Tick()) == report
    assert participant.tell(Reunited(NodeId("somebody else"))) == []
    assert participant.tell(Reunited(COORDINATOR)) == report
    assert participant.tell(Tick()) == to_coordinator(Started(APP, (attempt("runs"),)))
