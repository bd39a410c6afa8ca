"""The coordinator against real participant machines, in any order of events."""

from __future__ import annotations

import random

import pytest

from jcpeer.application.task import Command, Input, Needs, OutputOf, Task
from jcpeer.coordinator.events import CancelRequested, Committed, Heard, Quiet, Record, Send, SendOrders, Tick, Woke
from jcpeer.coordinator.machine import ACKNOWLEDGE_AFTER_S
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.facts import AttemptLost, Cancelled, Ended, Failed, Finished, OutputLost, TookOver
from jcpeer.wire.messages import Acknowledge, Assign, Fetched, Outcome, Report
from tests.coordinator.little_world import APP, ME, LittleWorld


def layered(*, layers: int, width: int, seed: int, retries: int = 0) -> list[Task]:
    """A random graph in which each task reads one or two outputs of the layer before."""
    draw = random.Random(seed)
    tasks: list[Task] = []
    before: list[TaskId] = []
    for layer in range(layers):
        ids = [TaskId(f"t{layer}.{index}") for index in range(width)]
        for task in ids:
            parents = draw.sample(before, k=min(len(before), draw.randint(1, 2))) if before else []
            inputs = tuple(Input(f"in{at}", OutputOf(parent, "out")) for at, parent in enumerate(parents))
            tasks.append(Task(task, Command(("true",)), inputs=inputs, outputs=("out",), retries=retries))
        before = ids
    return tasks


@pytest.mark.parametrize("seed", range(8))
def test_every_task_is_done_once_when_nothing_fails(seed: int) -> None:
    world = LittleWorld(layered(layers=4, width=6, seed=seed), seed=seed)
    assert world.run() == "ok"
    assert set(world.executions.values()) == {1}
    assert len(world.results()) == 24


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("large", [False, True])
def test_the_application_ends_whatever_participants_do(seed: int, large: bool) -> None:
    tasks = layered(layers=4, width=5, seed=seed)
    world = LittleWorld(tasks, seed=seed, large=large)
    for moment in range(40):
        for _ in range(15):
            world.step()
        match world.random.randrange(6):
            case 0 if len(world.nodes) > 1 and moment < 6:
                world.crash(world.random.choice(list(world.nodes)))
            case 1:
                world.disconnect(world.random.choice(list(world.nodes)))
            case 2 if len(world.nodes) < 4:
                world.join(NodeId(f"late{moment}"))
            case _:
                pass
    status = world.run()
    lost = [entry.fact for entry in world.journal if isinstance(entry.fact, AttemptLost)]
    assert status == "ok" or any(each.final for each in lost)
    if status == "ok":
        quiet = LittleWorld(tasks, seed=seed, large=large)
        quiet.run()
        assert world.results() == quiet.results()


@pytest.mark.parametrize("seed", range(15))
def test_a_restarted_coordinator_goes_on_from_its_journal(seed: int) -> None:
    tasks = layered(layers=4, width=5, seed=seed)
    world = LittleWorld(tasks, seed=seed, large=bool(seed % 2))
    for _ in range(20):
        world.step()
    while not (world.machine.state.sealed and not world.uncommitted):
        world.step()  # a submission that was never journalled is the client's to repeat
    for _ in range(3):
        for _ in range(world.random.randrange(60)):
            world.step()
        if world.over is None:
            told = [entry for entry in world.told if isinstance(entry.fact, Finished)]
            world.restart_coordinator()
            journalled = {entry.index for entry in world.journal}
            assert all(entry.index in journalled for entry in told), "what was told is never taken back"
    assert world.run() == "ok"
    epochs = [entry.fact.epoch.counter for entry in world.journal if isinstance(entry.fact, TookOver)]
    assert epochs == sorted(set(epochs))
    assert all(a.epoch <= b.epoch for a, b in zip(world.journal, world.journal[1:], strict=False))


def test_a_failed_task_is_tried_again_and_then_its_children_are_skipped() -> None:
    tasks = layered(layers=3, width=2, seed=1, retries=2)
    world = LittleWorld(tasks, seed=1)
    world.failing[TaskId("t0.0")] = 3
    assert world.run() == "failed"
    failures = [entry.fact for entry in world.journal if isinstance(entry.fact, Failed)]
    assert [each.final for each in failures] == [False, False, True]
    counts = world.machine.state.counts
    assert counts["failed"] == 1
    assert counts["skipped"] >= 1
    assert counts["pending"] == 0


def test_a_retry_goes_to_another_node() -> None:
    world = LittleWorld([Task(TaskId("only"), Command(("false",)), retries=2)], seed=3)
    world.failing[TaskId("only")] = 3
    assert world.run() == "failed"
    failed_at = [entry.fact.node for entry in world.journal if isinstance(entry.fact, Failed)]
    assert len(set(failed_at)) == 3


@pytest.mark.parametrize("seed", range(10))
def test_after_a_cancel_nothing_starts_and_nothing_runs_at_the_end(seed: int) -> None:
    world = LittleWorld(layered(layers=4, width=5, seed=seed), seed=seed)
    for _ in range(60):
        world.step()
    world.post(CancelRequested(None))
    assert world.run() == "cancelled"
    assert not any(node.running for node in world.nodes.values())
    cancelled_at = next(entry.index for entry in world.journal if isinstance(entry.fact, Cancelled))
    assert not [e for e in world.journal[cancelled_at:] if isinstance(e.fact, Finished)]


def test_a_result_is_acknowledged_only_when_it_is_committed() -> None:
    world = LittleWorld([Task(TaskId("only"), Command(("true",)))], seed=0)
    while not any(node.running for node in world.nodes.values()):
        world.step()
    node = next(each for each in world.nodes.values() if each.running)
    outcome = Outcome(TaskId("only"), Epoch(1, ME), 1, None, (), (), 0, 0.0, 0.0, 0.1)
    effects = world.machine.handle(Heard(node.id, Report(APP, (outcome,))), now_s=world.now_s)
    (record,) = effects
    assert isinstance(record, Record)
    acknowledge = Send(node.id, Acknowledge(APP, Epoch(1, ME), (AttemptName(TaskId("only"), 1, 1),)))
    world.machine.handle(Quiet(), now_s=world.now_s)
    assert acknowledge not in world.machine.handle(Tick(), now_s=world.now_s + 1.0)
    world.machine.handle(Committed(record.entry.index), now_s=world.now_s)
    world.machine.handle(Quiet(), now_s=world.now_s)
    due_s = world.now_s + ACKNOWLEDGE_AFTER_S
    assert world.machine.wake_s() == due_s
    assert acknowledge in world.machine.handle(Tick(), now_s=due_s)


def test_lost_outputs_are_made_again_only_while_somebody_needs_them() -> None:
    first = Task(TaskId("first"), Command(("true",)), outputs=("out",))
    second = Task(TaskId("second"), Command(("true",)), (Input("in", OutputOf(TaskId("first"), "out")),), ("out",))
    third = Task(TaskId("third"), Command(("true",)), (Input("in", OutputOf(TaskId("second"), "out")),), ("out",))
    world = LittleWorld([first, second, third], seed=4, nodes=1, large=True)
    while TaskId("second") not in world.results():
        world.step()
    world.crash(NodeId("node0"))
    world.join(NodeId("node1"))
    assert world.run() == "ok"
    again = [entry.fact.task for entry in world.journal if isinstance(entry.fact, OutputLost)]
    assert again == ["second", "first"]


@pytest.mark.parametrize("seed", range(10))
def test_what_a_leaving_node_hands_back_runs_elsewhere_and_counts_as_no_loss(seed: int) -> None:
    world = LittleWorld(layered(layers=3, width=12, seed=seed), seed=seed)
    while sum(len(node.running) for node in world.nodes.values()) < 3:
        world.step()
    world.leave(world.random.choice([each for each, node in world.nodes.items() if node.running]))
    assert world.run() == "ok"
    assert not [entry for entry in world.journal if isinstance(entry.fact, AttemptLost)]


@pytest.mark.parametrize("seed", range(15))
def test_a_coordinator_that_was_stopped_loses_nothing_to_its_own_silence(seed: int) -> None:
    world = LittleWorld(layered(layers=4, width=8, seed=seed), seed=seed, large=True)
    for _ in range(4):
        for _ in range(world.random.randrange(20, 80)):
            world.step()
        if world.over is None:
            world.hold_up_coordinator()
    assert world.run() == "ok"
    assert not [entry for entry in world.journal if isinstance(entry.fact, (AttemptLost, OutputLost))]
    assert set(world.executions.values()) == {1}


def test_who_does_not_come_back_to_a_coordinator_that_was_stopped_is_lost_after_all() -> None:
    world = LittleWorld(layered(layers=1, width=6, seed=0), seed=0)
    while not (running := [each for each, node in world.nodes.items() if node.running]):
        world.step()
    world.post(Woke())
    world.crash(running[0])
    for other in list(world.nodes):
        world.disconnect(other)
    assert not [entry for entry in world.journal if isinstance(entry.fact, AttemptLost)]
    assert world.run() == "ok"
    assert {entry.fact.node for entry in world.journal if isinstance(entry.fact, AttemptLost)} == {running[0]}


def test_an_order_names_a_few_of_many_holders_and_others_to_each_node() -> None:
    make, gate = TaskId("make"), TaskId("gate")
    reads = (Input("in", OutputOf(make, "out")),)
    tasks = [Task(make, Command(("true",)), outputs=("out",)), Task(gate, Command(("true",)), after=(make,))]
    tasks += [Task(TaskId(f"use{number}"), Command(("true",)), reads, after=(gate,)) for number in range(12)]
    world = LittleWorld(tasks, seed=0, nodes=12, slots=1, large=True)
    while make not in world.results():
        world.step()
    (digest,) = world.results()[make]
    for node in world.nodes:
        world.post(Heard(node, Fetched(APP, (digest,))))
    told: dict[TaskId, tuple[NodeId, ...]] = {}
    while len(told) < 12:
        world.step()
        frames = [each for queue in world.to_node.values() for _, each in queue if isinstance(each, Assign)]
        told |= {order.task: order.inputs[0].holders for each in frames for order in each.orders if order.inputs}
    assert {len(each) for each in told.values()} == {4}
    assert len({holder for each in told.values() for holder in each}) >= 10


def test_a_task_that_no_node_can_run_holds_up_no_other() -> None:
    impossible = Task(TaskId("huge"), Command(("true",)), needs=Needs(memory_bytes=2**40))
    world = LittleWorld([impossible, *layered(layers=2, width=3, seed=0)], seed=0)
    for _ in range(3000):
        world.step()
    assert len(world.results()) == 6
    assert world.over is None


def test_a_task_goes_back_to_the_node_that_failed_it_if_no_other_can_run_it() -> None:
    wide, home = TaskId("wide"), NodeId("large")
    world = LittleWorld([Task(wide, Command(("true",)), needs=Needs(cpus=8))], seed=0)
    world.join(home, slots=8)
    while not world.nodes[home].running:
        world.step()
    world.crash(home)
    world.join(home, slots=8)
    assert world.run() == "ok"
    assert world.executions[wide] == 2


def test_orders_of_one_burst_share_a_frame() -> None:
    world = LittleWorld([Task(TaskId(f"t{at}"), Command(("true",))) for at in range(20)], seed=0, nodes=1, slots=4)
    frames: list[SendOrders] = []
    while not frames:
        if world.to_node[NodeId("node0")]:
            world._deliver(world.nodes[NodeId("node0")], *world.to_node[NodeId("node0")].popleft())
        while world.to_coordinator[NodeId("node0")]:
            _, answer = world.to_coordinator[NodeId("node0")].popleft()
            world.machine.handle(Heard(NodeId("node0"), answer), now_s=world.now_s)  # type: ignore[arg-type]
        effects = world.machine.handle(Quiet(), now_s=world.now_s)
        world._perform([each for each in effects if not isinstance(each, SendOrders)])
        frames = [each for each in effects if isinstance(each, SendOrders)]
    assert [len(each.orders) for each in frames] == [8]


def test_the_last_entry_is_the_end() -> None:
    world = LittleWorld(layered(layers=2, width=2, seed=0), seed=0)
    world.run()
    assert world.journal[-1].fact == Ended("ok")
