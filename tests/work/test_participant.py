"""The participant machine, one event at a time."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Command, Needs
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId, digest_of
from jcpeer.wire.messages import (
    Acknowledge,
    Assign,
    AttemptOrder,
    CancelAttempts,
    Confirm,
    Decline,
    GivenBack,
    OrderedInput,
    Outcome,
    Output,
    Recruit,
    Release,
    Report,
    Signed,
    Started,
    Stay,
    Withdraw,
)
from jcpeer.work import events as work
from jcpeer.work.claims import QUANTUM_S
from jcpeer.work.events import AttemptKey, Effect, Event, Fetch, Kill, Send, Start
from jcpeer.work.participant import TELL_STARTED_AFTER_S, ParticipantMachine
from jcpeer.work.reporting import BUSY_HOLD_S, BUSY_QUEUE, REPORT_HOLD_S

APP, OTHER = AppId("a" * 40), AppId("b" * 40)
COORDINATOR, SUCCESSOR = NodeId("coordinator"), NodeId("successor")
FIRST, SECOND = Epoch(1, COORDINATOR), Epoch(2, SUCCESSOR)
INPUT = OrderedInput("in", BlobRef(Digest("d" * 64), 10**6), (NodeId("holder"),))


class Driver:
    """Feeds events, and looks at the machine after each."""

    def __init__(
        self, *, slots: int = 2, memory_bytes: int = 2**30, trust_grid: bool = False, gpus: tuple[str, ...] = ()
    ) -> None:
        self.machine = ParticipantMachine(
            user="user", slots=slots, memory_bytes=memory_bytes, trust_grid=trust_grid, gpus=gpus
        )
        self.now_s = 0.0

    def __call__(self, *events: Event) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            effects += self.machine.handle(event, now_s=self.now_s)
            self.machine.check()
        return effects

    def settle(self, *events: Event) -> list[Effect]:
        return self(*events, work.Quiet())


def called(app: AppId = APP, epoch: Epoch = FIRST, *, user: str = "user", slots: int = 0) -> work.CalledUp:
    header = Header(f"app {app[:1]}", 0.0, b"", user=user)
    return work.CalledUp(epoch.node, Recruit(app, epoch, Signed(b"", b""), slots), header)


def order(task: str, *, cpus: int = 1, memory_bytes: int = 0, gpus: int = 0, disk_bytes: int = 0) -> AttemptOrder:
    needs = Needs(cpus, memory_bytes, gpus=gpus, disk_bytes=disk_bytes)
    return AttemptOrder(TaskId(task), 1, Command(("true",)), needs=needs)


def assigned(
    *orders: AttemptOrder, app: AppId = APP, epoch: Epoch = FIRST, absent: tuple[str, ...] = ()
) -> work.Assigned:
    missing = {name(task, epoch=epoch): (INPUT,) for task in absent}
    return work.Assigned(epoch.node, Assign(app, epoch, orders), missing)


def name(task: str, *, epoch: Epoch = FIRST) -> AttemptName:
    return AttemptName(TaskId(task), epoch.counter, 1)


def key(task: str, *, app: AppId = APP) -> AttemptKey:
    return AttemptKey(app, name(task))


def ran(task: str, *, app: AppId = APP) -> work.Ran:
    outcome = Outcome(TaskId(task), FIRST, 1, None, (), (), 0, 0.0, 0.0, 0.1)
    return work.Ran(key(task, app=app), outcome)


def started(effects: list[Effect]) -> list[str]:
    return [each.key.name.task for each in effects if isinstance(each, Start)]


def messages(effects: list[Effect]) -> list[object]:
    return [each.message for each in effects if isinstance(each, Send)]


def test_a_call_up_is_confirmed_with_the_slots() -> None:
    assert Driver(slots=3)(called()) == [Send(COORDINATOR, Confirm(APP, FIRST, 3))]


def test_a_call_up_of_another_user_is_declined_with_the_remedy() -> None:
    (message,) = messages(Driver()(called(user="somebody")))
    assert isinstance(message, Decline)
    assert "--trust-grid" in message.reason


def test_a_node_that_trusts_the_grid_works_for_everybody() -> None:
    (message,) = messages(Driver(trust_grid=True)(called(user="somebody")))
    assert isinstance(message, Confirm)


def test_no_more_attempts_start_than_there_are_slots() -> None:
    drive = Driver(slots=2)
    drive(called())
    assert started(drive.settle(assigned(order("a"), order("b"), order("c")))) == ["a", "b"]
    assert started(drive.settle(ran("a"))) == ["c"]


def test_memory_is_shared_out_as_slots_are() -> None:
    drive = Driver(slots=4, memory_bytes=10)
    drive(called())
    assert started(drive.settle(assigned(order("a", memory_bytes=6), order("b", memory_bytes=6)))) == ["a"]
    assert started(drive.settle(ran("a"))) == ["b"]


def test_each_attempt_has_gpus_that_no_other_has() -> None:
    drive = Driver(slots=4, gpus=("0", "1", "2"))
    drive(called())
    orders = (order("a", gpus=1), order("b", gpus=2), order("c", gpus=2))
    given = {each.order.task: each.gpus for each in drive.settle(assigned(*orders)) if isinstance(each, Start)}
    assert given == {"a": ("0",), "b": ("1", "2")}
    assert started(drive.settle(ran("a"))) == []
    (third,) = [each for each in drive.settle(ran("b")) if isinstance(each, Start)]
    assert len(set(third.gpus)) == 2


def test_an_order_that_wants_more_disk_than_is_free_is_given_back() -> None:
    drive = Driver()
    drive(called(), work.DiskMeasured(100))
    (message,) = messages(drive.settle(assigned(order("fits", disk_bytes=100), order("large", disk_bytes=101))))
    assert message == GivenBack(APP, (name("large"),), "needs more disk than is free on this node", unstarted=True)


def test_an_order_for_more_than_the_node_has_is_given_back() -> None:
    drive = Driver(slots=2)
    drive(called())
    (message,) = messages(drive.settle(assigned(order("wide", cpus=3))))
    assert message == GivenBack(APP, (name("wide"),), "needs more than this node has", unstarted=True)


def test_applications_take_turns() -> None:
    drive = Driver(slots=1)
    drive.settle(called())
    assert messages(drive.settle(called(OTHER))) == [
        Decline(OTHER, FIRST, "has no slot free: app a of user claimed them", idle=True)
    ]
    drive.settle(assigned(order("a1"), order("a2"), order("a3")))
    drive.now_s = QUANTUM_S
    why = "shares its slots: app b of user"
    assert messages(drive.settle(work.Tick()))[-1] == Confirm(APP, FIRST, 0, (name("a1"), name("a2"), name("a3")), why)
    effects = drive.settle(ran("a1"))
    assert started(effects) == []
    assert Send(COORDINATOR, Confirm(OTHER, FIRST, 1)) in effects
    assert started(drive.settle(assigned(order("b1"), app=OTHER))) == ["b1"]


def test_an_attempt_waits_for_its_inputs_and_lets_others_pass() -> None:
    drive = Driver(slots=1)
    drive(called())
    effects = drive.settle(assigned(order("slow"), order("quick"), absent=("slow",)))
    assert Fetch(key("slow"), (INPUT,)) in effects
    assert started(effects) == ["quick"]
    drive(work.InputsHere(key("slow")))
    assert started(drive.settle(ran("quick"))) == ["slow"]


def test_an_input_that_nobody_gives_is_told_by_name() -> None:
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("a"), absent=("a",)))
    lost = work.InputsMissing(key("a"), (INPUT.blob.digest,), "nobody has it")
    assert messages(drive.settle(lost)) == [
        GivenBack(APP, (name("a"),), "nobody has it", (INPUT.blob.digest,), unstarted=True)
    ]


def test_inputs_for_which_there_is_no_room_make_a_lost_attempt() -> None:
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("a"), absent=("a",)))
    refused = work.InputsMissing(key("a"), (), "the disk is full")
    assert messages(drive.settle(refused)) == [
        GivenBack(APP, (name("a"),), "the disk is full", lost=True, unstarted=True)
    ]


def test_an_outcome_is_kept_until_it_is_acknowledged() -> None:
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("a")))
    done = ran("a")
    assert messages(drive.settle(done)) == [Report(APP, (done.outcome,))]
    # The report was lost with the connection: the next call-up hears it again.
    assert messages(drive.settle(called())) == [
        Confirm(APP, FIRST, 2, (name("a"),)),
        Report(APP, (done.outcome,)),
    ]
    drive(work.Ordered(COORDINATOR, Acknowledge(APP, FIRST, (name("a"),))))
    assert messages(drive.settle(called())) == [Confirm(APP, FIRST, 2)]


def test_a_successor_hears_of_what_runs_and_of_what_was_not_acknowledged() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("done"), order("running"), order("queued")))
    done = ran("done")
    drive.settle(done)
    confirm, report = messages(drive.settle(called(APP, SECOND)))
    assert confirm == Confirm(APP, SECOND, 1, (name("running"), name("queued"), name("done")))
    assert report == Report(APP, (done.outcome,))


def test_outcomes_wait_for_company_only_while_others_run() -> None:
    drive = Driver(slots=2)
    drive(called())
    drive.settle(assigned(order("a"), order("b")))
    assert messages(drive.settle(ran("a"))) == []
    drive.now_s = drive.machine.wake_s()
    (report,) = messages(drive.settle())
    assert isinstance(report, Report)
    (report,) = messages(drive.settle(ran("b")))
    assert isinstance(report, Report)


def test_outcomes_wait_longer_for_company_where_more_are_ready_to_run() -> None:
    def waits_s(queued: int) -> float:
        drive = Driver(slots=1)
        drive(called())
        drive.settle(assigned(*[order(f"t{number}") for number in range(2 + queued)]))
        assert messages(drive.settle(ran("t0"))) == []
        return drive.machine.wake_s() - drive.now_s

    assert waits_s(BUSY_QUEUE - 1) == pytest.approx(REPORT_HOLD_S)
    assert waits_s(BUSY_QUEUE) == pytest.approx(BUSY_HOLD_S)


@pytest.mark.parametrize("kind", [Withdraw, CancelAttempts])
def test_an_order_of_a_lower_epoch_changes_nothing(kind: type[Withdraw] | type[CancelAttempts]) -> None:
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("a")))
    drive(called(APP, SECOND))
    assert drive(work.Ordered(COORDINATOR, kind(APP, FIRST, (name("a"),)))) == []
    assert drive(work.Ordered(COORDINATOR, Release(APP, FIRST, ended=True))) == []
    assert messages(drive(assigned(order("b")))) == [
        Decline(APP, FIRST, "not called up in this epoch", refused=(name("b"),))
    ]
    (declined,) = messages(drive(called(APP, FIRST)))
    assert isinstance(declined, Decline)
    assert drive.machine.attempt_of(APP, name("a")) is not None


def test_what_waits_is_withdrawn_and_what_runs_is_not() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("running"), order("queued")))
    withdraw = Withdraw(APP, FIRST, (name("running"), name("queued")))
    assert drive(work.Ordered(COORDINATOR, withdraw)) == [
        Send(COORDINATOR, GivenBack(APP, (name("queued"),), "withdrawn", unstarted=True))
    ]


def test_a_cancelled_attempt_is_given_back_when_nothing_of_it_runs() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("running"), order("queued")))
    cancel = CancelAttempts(APP, FIRST, (name("running"), name("queued")))
    assert drive(work.Ordered(COORDINATOR, cancel)) == [
        Kill(key("running")),
        Send(COORDINATOR, GivenBack(APP, (name("queued"),), "cancelled")),
    ]
    assert drive.machine.slots_used == 1
    assert messages(drive.settle(work.Killed(key("running")))) == [GivenBack(APP, (name("running"),), "cancelled")]
    assert drive.machine.slots_used == 0


def test_a_released_application_leaves_nothing_behind() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("running"), order("queued")))
    effects = drive(work.Ordered(COORDINATOR, Release(APP, FIRST, ended=True)))
    assert effects == [Kill(key("running")), work.DropBlobs(APP)]
    drive(work.Killed(key("running")))
    assert drive.machine.idle


def test_who_was_released_by_a_successor_does_not_follow_its_predecessor_again() -> None:
    drive = Driver()
    drive(called(), called(epoch=SECOND))
    drive(work.Ordered(SUCCESSOR, Release(APP, SECOND, ended=False)))
    (message,) = messages(drive(called()))
    assert isinstance(message, Decline)
    assert messages(drive(called(epoch=SECOND))) == [Confirm(APP, SECOND, 2)]


def test_only_what_lasts_is_announced_as_started() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("a")))
    assert drive(work.Tick()) == []
    drive.now_s = TELL_STARTED_AFTER_S
    assert messages(drive(work.Tick())) == [Started(APP, (name("a"),))]
    assert drive(work.Tick()) == []


def test_a_leaving_node_reports_what_is_done_hands_back_the_rest_and_wants_no_more() -> None:
    drive = Driver(slots=2)
    drive(called())
    drive.settle(assigned(order("done"), order("running"), order("queued")))
    done = ran("done")
    assert messages(drive(done)) == []
    effects = drive(work.Leave("the node is leaving"))
    assert Kill(key("running")) in effects
    assert messages(effects) == [
        Report(APP, (done.outcome,)),
        GivenBack(APP, (name("queued"),), "the node is leaving", unstarted=True),
        GivenBack(APP, (name("running"),), "the node is leaving"),
        Decline(APP, FIRST, "the node is leaving"),
    ]
    (declined,) = messages(drive(called(OTHER)))
    assert declined == Decline(OTHER, FIRST, "the node is leaving", idle=True)


def test_a_drained_node_hands_back_what_does_not_run_yet_and_lets_the_rest_end() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(assigned(order("running"), order("queued")))
    effects = drive(work.Drain("drains"))
    assert not [each for each in effects if isinstance(each, Kill)]
    assert messages(effects) == [GivenBack(APP, (name("queued"),), "drains", unstarted=True)]
    assert GivenBack(APP, (name("more"),), "drains", unstarted=True) in messages(drive.settle(assigned(order("more"))))
    (declined,) = messages(drive(called(OTHER)))
    assert declined == Decline(OTHER, FIRST, "drains", idle=True)
    done = ran("running")
    assert Report(APP, (done.outcome,)) in messages(drive.settle(done))
    assert drive.machine.slots_used == 0


def leaving_with(*outputs: str) -> Driver:
    """A node that has just been told to leave, with large outputs of one task."""
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("made")))
    left = tuple(Output(each, BlobRef(digest_of(each.encode()), 10**6)) for each in outputs)
    drive.settle(work.Ran(key("made"), Outcome(TaskId("made"), FIRST, 1, None, left, (), 0, 0.0, 0.0, 0.1)))
    assert messages(drive(work.Leave("the node is leaving")))[-1] == Decline(
        APP, FIRST, "the node is leaving", leaving=bool(outputs)
    )
    return drive


def told_to_stay(*blobs: str, fetched: tuple[str, ...] = (), epoch: Epoch = FIRST) -> work.Ordered:
    digests = tuple(digest_of(each.encode()) for each in blobs)
    return work.Ordered(epoch.node, Stay(APP, epoch, digests, tuple(digest_of(each.encode()) for each in fetched)))


def test_a_leaving_node_waits_for_who_may_need_its_outputs_and_names_what_was_not_fetched() -> None:
    drive = leaving_with("one", "two", "three")
    farewell = drive.machine.farewell
    assert farewell.awaited == {COORDINATOR}
    assert list(farewell.left_behind()) == [(APP, ())]
    drive(told_to_stay("one", "two"))
    assert list(farewell.left_behind()) == [(APP, ("one of made", "two of made"))]
    drive(told_to_stay(fetched=("one",)))
    assert list(farewell.left_behind()) == [(APP, ("two of made",))]
    drive(told_to_stay(fetched=("two",)))
    assert not farewell.awaited


def test_a_leaving_node_waits_for_nobody_without_outputs_or_once_none_is_needed() -> None:
    assert not leaving_with().machine.farewell.awaited
    drive = leaving_with("one")
    drive(told_to_stay())
    assert not drive.machine.farewell.awaited
    drive = leaving_with("one")
    drive(work.Ordered(COORDINATOR, Release(APP, FIRST, ended=True)))
    assert not drive.machine.farewell.awaited


def test_a_leaving_node_tells_a_successor_again_and_waits_for_that_one() -> None:
    drive = leaving_with("one")
    assert messages(drive(called(epoch=SECOND))) == [Decline(APP, SECOND, "the node is leaving", leaving=True)]
    drive(told_to_stay())
    assert drive.machine.farewell.awaited == {SUCCESSOR}, "an order of an epoch that is over changes nothing"
    drive(told_to_stay(epoch=SECOND))
    assert not drive.machine.farewell.awaited


def test_after_a_break_the_coordinator_is_told_again_what_runs_and_what_has_come_out() -> None:
    drive = Driver(slots=2)
    drive(called())
    drive.settle(assigned(order("done"), order("running")))
    drive.now_s = TELL_STARTED_AFTER_S
    drive(work.Tick())
    done = ran("done")
    drive.settle(done)
    drive.now_s = drive.machine.wake_s()
    drive.settle()
    assert drive.settle(work.Reunited(NodeId("somebody else"))) == []
    assert messages(drive.settle(work.Reunited(COORDINATOR), work.Tick())) == [
        Started(APP, (name("running"),)),
        Report(APP, (done.outcome,)),
    ]


def test_an_order_that_comes_twice_runs_once() -> None:
    drive = Driver()
    drive(called())
    assert started(drive.settle(assigned(order("a")))) == ["a"]
    assert started(drive.settle(assigned(order("a")))) == []
    drive.settle(ran("a"))
    assert started(drive.settle(assigned(order("a")))) == []


@pytest.mark.parametrize("needs", [{"cpus": -1}, {"memory_bytes": -(2**40)}, {"gpus": -1}, {"disk_bytes": -1}])
def test_an_order_that_needs_less_than_nothing_makes_no_room(needs: dict[str, int]) -> None:
    drive = Driver(slots=2, gpus=("0", "1", "2"))
    drive(called())
    effects = drive.settle(assigned(order("strange", **needs), order("good", gpus=3)))
    assert started(effects) == ["good"]
    assert [each.attempts for each in messages(effects) if isinstance(each, GivenBack)] == [(name("strange"),)]
