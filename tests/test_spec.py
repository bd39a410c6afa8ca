"""The protocol, sentence by sentence: each test quotes one and holds the machines to it."""

from __future__ import annotations

from jcpeer.application.manifest import Batch
from jcpeer.application.task import BlobRef, Command, Input, OutputOf, Task
from jcpeer.coordinator.events import BatchAdded, CancelRequested, Heard, NodeLost, NodeSeen, Quiet, Record, Send
from jcpeer.ids import Digest, Epoch, NodeId, TaskId
from jcpeer.wire.facts import AttemptLost, Ended, Finished, TasksAdded
from jcpeer.wire.messages import CancelAttempts, Confirm, Outcome, Output, Recruit, Report
from jcpeer.work import events as work
from jcpeer.work.reporting import OUTCOME_KEPT_S
from tests.coordinator.little_world import APP, ME, LittleWorld, record_of, unsigned
from tests.work.test_participant import Driver, assigned, called, order, ran

ONLY = TaskId("only")


def outcome(task: str, *, consumed: tuple[Digest, ...] = (), epoch: int = 1, number: int = 1) -> Outcome:
    outputs = (Output("out", BlobRef(Digest("e" * 64), 3), b"abc"),)
    return Outcome(TaskId(task), Epoch(epoch, ME), number, None, outputs, consumed, 0, 0.0, 0.0, 0.1)


def until_running(world: LittleWorld) -> NodeId:
    while True:
        for node in world.nodes.values():
            if node.running:
                return node.id
        world.step()


def test_a_batch_sent_twice_counts_once() -> None:
    """Task ids and batch numbers are the client's, so that whatever is sent twice counts once."""
    world = LittleWorld([Task(ONLY, Command(("true",)))], seed=0)
    batch = Batch(APP, 1, (Task(ONLY, Command(("true",))),))
    world.post(BatchAdded(batch, unsigned(batch)))
    added = [entry.fact.number for entry in world.journal if isinstance(entry.fact, TasksAdded)]
    assert added == [0, 1]


def test_only_confirmations_count() -> None:
    """It recruits participants from the directory, asks in parallel, counts confirmations only."""
    world = LittleWorld([Task(TaskId(f"t{each}"), Command(("true",))) for each in range(6)], seed=0, nodes=0)
    for each in ("a", "b", "c"):
        world.machine.handle(NodeSeen(record_of(NodeId(each))), now_s=0.0)
    asked = world.machine.handle(Quiet(), now_s=0.0)
    assert [each.node for each in asked if isinstance(each, Send) and isinstance(each.message, Recruit)] == [
        "a",
        "b",
        "c",
    ]
    assert not world.machine.roster.participants
    world.machine.handle(Heard(NodeId("b"), Confirm(APP, Epoch(1, ME), 2)), now_s=0.0)
    assert list(world.machine.roster.participants) == ["b"]


def test_a_call_up_without_an_answer_makes_room_for_another_try() -> None:
    """A call-up that is not answered within its lease is given up, and tried again later."""
    world = LittleWorld([Task(ONLY, Command(("true",)))], seed=0, nodes=0)
    world.machine.handle(NodeSeen(record_of(NodeId("mute"))), now_s=0.0)

    def recruits(now_s: float) -> int:
        effects = world.machine.handle(Quiet(), now_s=now_s)
        return sum(isinstance(each, Send) and isinstance(each.message, Recruit) for each in effects)

    assert [recruits(0.0), recruits(1.0), recruits(3.5), recruits(9.0)] == [1, 0, 0, 1]


def test_the_first_valid_outcome_stands_whichever_attempt_it_is_of() -> None:
    """An outcome is a fact: the first valid one of an unfinished task stands, whichever epoch or attempt ordered it,
    and the rest are cancelled."""
    world = LittleWorld([Task(ONLY, Command(("true",)), outputs=("out",))], seed=1, nodes=2)
    runner = until_running(world)
    late = Report(APP, (outcome("only", epoch=7, number=9),))
    stranger = next(each for each in world.nodes if each != runner)
    effects = world.machine.handle(Heard(stranger, late), now_s=world.now_s)
    facts = [each.entry.fact for each in effects if isinstance(each, Record)]
    assert [type(each) for each in facts] == [Finished]
    cancels = [each for each in effects if isinstance(each, Send) and isinstance(each.message, CancelAttempts)]
    assert [each.node for each in cancels] == [runner]
    assert not [
        each
        for each in world.machine.handle(Heard(runner, Report(APP, (outcome("only"),))), now_s=world.now_s)
        if isinstance(each, Record)
    ]


def test_an_outcome_whose_inputs_differ_is_refused() -> None:
    """`Finished(t)` enters the journal only after its parents', with equal input digests."""
    parent = Task(TaskId("parent"), Command(("true",)), outputs=("out",))
    child = Task(TaskId("child"), Command(("true",)), (Input("in", OutputOf(TaskId("parent"), "out")),), ("out",))
    world = LittleWorld([parent, child], seed=2)
    runner = until_running(world)

    def recorded(report: Outcome) -> list[type]:
        effects = world.machine.handle(Heard(runner, Report(APP, (report,))), now_s=world.now_s)
        world.machine.check()
        return [type(each.entry.fact) for each in effects if isinstance(each, Record)]

    assert recorded(outcome("child", consumed=(Digest("e" * 64),))) == []
    assert recorded(outcome("parent")) == [Finished]
    assert recorded(outcome("child", consumed=(Digest("f" * 64),))) == []
    assert recorded(outcome("child", consumed=(Digest("e" * 64),))) == [Finished]


def test_a_task_that_kills_nodes_ends() -> None:
    """Lost attempts are counted (limit 3), so a task that kills nodes ends."""
    world = LittleWorld([Task(ONLY, Command(("true",)))], seed=3, nodes=1)
    for each in range(3):
        world.crash(until_running(world))
        if each < 2:
            world.join(NodeId(f"victim{each}"))
    world.join(NodeId("last"))
    assert world.run() == "failed"
    lost = [entry.fact for entry in world.journal if isinstance(entry.fact, AttemptLost)]
    assert [each.final for each in lost] == [False, False, True]
    assert world.executions == {ONLY: 3}


def test_what_only_waited_at_a_lost_node_is_not_counted_against_it() -> None:
    """An attempt that had not started when its participant was lost is placed anew, and no more."""
    world = LittleWorld([Task(TaskId(f"t{each}"), Command(("true",))) for each in range(4)], seed=4, nodes=1, slots=1)
    world.crash(until_running(world))
    lost = [entry.fact for entry in world.journal if isinstance(entry.fact, AttemptLost)]
    assert len(lost) == 1
    world.join(NodeId("next"))
    assert world.run() == "ok"


def test_an_outcome_is_forgotten_after_a_day_without_its_coordinator() -> None:
    """It keeps the outcome until a committed acknowledgement, the end, or 24 h."""
    drive = Driver()
    drive(called())
    drive.settle(assigned(order("a")), ran("a"))
    drive.now_s = OUTCOME_KEPT_S + 1
    drive(work.Tick())
    assert drive(called()) == [work.Send(ME, Confirm(APP, Epoch(1, ME), 2))]


def test_a_participant_may_refuse_and_the_task_is_placed_elsewhere() -> None:
    """A participant may refuse: the task is placed elsewhere."""
    world = LittleWorld([Task(ONLY, Command(("true",)))], seed=5, nodes=2)
    refuser = until_running(world)
    world.refuse(refuser)
    assert world.run() == "ok"
    (finished,) = [entry.fact for entry in world.journal if isinstance(entry.fact, Finished)]
    assert finished.node != refuser


def test_a_cancelled_application_ends_when_nothing_of_it_runs() -> None:
    """Once a cancel is confirmed nothing of it runs: the holders confirmed, or are gone."""
    world = LittleWorld([Task(ONLY, Command(("true",)))], seed=6, nodes=1)
    runner = until_running(world)
    world.post(CancelRequested(None))
    world.post(Quiet())
    assert not any(isinstance(entry.fact, Ended) for entry in world.journal)
    world.post(NodeLost(runner, "power", "refused"))
    world.post(Quiet())
    assert world.journal[-1].fact == Ended("cancelled")
