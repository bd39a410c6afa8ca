"""What an event costs does not grow with the number of nodes that are known, or that take part: steps of the Python
interpreter are counted, which are the same each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jcpeer.application.manifest import Batch, Header, Placed, Seal, Seat
from jcpeer.application.task import Needs, Task, Timed
from jcpeer.coordinator.events import BatchAdded, Effect, Event, Heard, NodeSeen, Quiet, SealReceived, SendOrders, Tick
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import Submitted
from jcpeer.wire.messages import Confirm, Decline, Outcome, Report
from tests.coordinator.little_world import record_of, unsigned
from tests.steps import steps

ME = NodeId("coordinator")
APP = AppId("a" * 40)
FIRST = Epoch(1, ME)
FEW, MANY = 10, 400


class Grid:
    """A coordinator that knows so many nodes; each has two slots for it, or none."""

    def __init__(
        self, nodes: int, *, tasks: int, take_part: bool, needs: Needs | None = None, sealed: bool = True
    ) -> None:
        self.now_s = 0.0
        self.header = Header("application", 0.0, b"", user="user", open_ended=not sealed)
        self.machine = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0)
        self.machine.open(Submitted(unsigned(Placed(APP, self.header, (Seat(ME, ""),)))), now_s=0.0)
        self.nodes = [NodeId(f"node{number:03}") for number in range(nodes)]
        for node in self.nodes:
            self.machine.handle(NodeSeen(record_of(node)), now_s=0.0)
        batch = Batch(APP, 0, tuple(Task(TaskId(f"t{at}"), Timed(1.0), needs=needs or Needs()) for at in range(tasks)))
        self.ordered: list[tuple[NodeId, AttemptName]] = []
        self.tell(BatchAdded(batch, unsigned(batch)))
        if sealed:
            self.tell(SealReceived(unsigned(Seal(APP, 1))))
        for node in self.nodes:
            answer = Confirm(APP, FIRST, 2) if take_part else Decline(APP, FIRST, "has no slot free", 5.0)
            self.tell(Heard(node, answer))
        self.machine.check()

    def tell(self, *events: Event) -> list[Effect]:
        effects = [each for event in events for each in self.machine.handle(event, now_s=self.now_s)]
        effects += self.machine.handle(Quiet(), now_s=self.now_s)
        for effect in effects:
            if isinstance(effect, SendOrders):
                names = [AttemptName(order.task, FIRST.counter, order.number) for order in effect.orders]
                self.ordered += [(effect.node, name) for name in names]
        return effects

    def report(self) -> None:
        """Whoever was given the first attempt that is under way has done it."""
        node, name = self.ordered.pop(0)
        outcome = Outcome(name.task, FIRST, name.number, None, (), (), 0, 0.0, 0.0, 1.0)
        self.tell(Heard(node, Report(APP, (outcome,))))


def saturated(nodes: int) -> int:
    grid = Grid(nodes, tasks=5000, take_part=True)
    return steps(grid.report)


def idle_but_for_the_end(nodes: int) -> int:
    grid = Grid(nodes, tasks=2, take_part=True)
    return steps(grid.report)


def refused_by_all(nodes: int) -> int:
    grid = Grid(nodes, tasks=5000, take_part=False)
    return steps(lambda: grid.tell(Heard(grid.nodes[3], Decline(APP, FIRST, "has no slot free", 5.0))))


def a_record_that_changed(nodes: int) -> int:
    grid = Grid(nodes, tasks=5000, take_part=False)
    record = evolve(record_of(grid.nodes[3]), version=2, slots_used=1)
    return steps(lambda: grid.tell(NodeSeen(record)))


def nothing_suits(nodes: int) -> int:
    grid = Grid(nodes, tasks=5000, take_part=True, needs=Needs(gpus=1))
    return steps(lambda: grid.tell(Tick()))


def one_task_for_many_that_are_idle(nodes: int) -> int:
    grid = Grid(nodes, tasks=nodes, take_part=True, sealed=False)
    while grid.ordered:
        grid.report()
    batch = Batch(APP, 1, (Task(TaskId("another"), Timed(1.0)),))
    return steps(lambda: grid.tell(BatchAdded(batch, unsigned(batch))))


@pytest.mark.parametrize(
    "happening",
    [
        saturated,
        idle_but_for_the_end,
        one_task_for_many_that_are_idle,
        refused_by_all,
        a_record_that_changed,
        nothing_suits,
    ],
)
def test_the_cost_of_an_event_is_independent_of_the_number_of_nodes(happening: Callable[[int], int]) -> None:
    few, many = happening(FEW), happening(MANY)
    assert many < 1.3 * few, (few, many)  # a heap is a little deeper
