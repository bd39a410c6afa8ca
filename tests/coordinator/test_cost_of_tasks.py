"""What an event costs a coordinator does not grow with the tasks of the application, be they done or to be done, nor
with their attempts: steps of the interpreter are counted, and whatever is gone through within one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.coordinator.events import (
    CancelRequested,
    Collected,
    CollectFailed,
    Event,
    FtcChanged,
    Heard,
    NodeLost,
    NodeSeen,
    Tick,
    Woke,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import Epoch, NodeId, TaskId
from jcpeer.node.views import Views
from jcpeer.values import evolve
from jcpeer.wire.messages import Confirm, Decline, Engaged, Fetched, GivenBack, InHand, Report, Started
from jcpeer.wire.replication import Alive, CannotKeep, Diverged, RanThere, Suspect
from tests.coordinator.little_world import record_of
from tests.coordinator.long_application import (
    APP,
    FIRST,
    LARGE,
    ME,
    NODES,
    REPLICAS,
    LongApplication,
    blob,
    evolved,
    family,
    half_done,
    pairs,
)
from tests.steps import steps, watched

pytestmark = pytest.mark.long

FEW, MANY = 200, 20_000
SOME, TEN_TIMES = 500, 5000
NODE, OTHER, THIRD = NODES[:3]
NEW = NodeId("new")

Happening = tuple[str, Callable[[], object]]


def happenings(long: LongApplication) -> Iterator[Happening]:
    """One after another; what prepares each is done before it is named."""

    def told(what: str, *events: Event) -> Happening:
        return what, lambda: long.tell(*events)

    def heard(what: str, node: NodeId, message: Any) -> Happening:
        return told(what, Heard(node, message))

    def is_tried_again(task: TaskId) -> bool:
        return bool(long.machine.state.tasks[task].spec.retries)

    yield told("a report of small results, or of large ones", long.next_report())
    yield told("another", long.next_report())
    yield told("a third", long.next_report())
    yield told("a report of a failure", long.next_report(fails=True))
    running = long.ordered[OTHER]
    yield heard("a start", OTHER, Started(APP, (running[0],)))
    yield heard("an attempt that is given back", OTHER, GivenBack(APP, (running.popleft(),), "no room"))
    yield heard("one that was lost", OTHER, GivenBack(APP, (running.popleft(),), "cut short", lost=True))
    yield heard("a refusal of all that was ordered", OTHER, Decline(APP, FIRST, "has no slot free", 5.0))
    running.clear()
    yield heard("a node that takes part again", OTHER, Confirm(APP, FIRST, 2))
    yield heard("fewer slots than before", OTHER, Confirm(APP, FIRST, 1, tuple(running)))
    yield heard("blobs that were fetched", NODE, Fetched(APP, (blob("given1", LARGE).digest,)))
    yield told("a moment that passes", Tick())
    long.now_s += 10.0
    yield told("some time that passes", Tick())
    yield told("nothing", *())
    yield told("a record that changed", evolved(THIRD, 2))
    yield told("a node that is new", NodeSeen(record_of(NEW)))
    yield heard("that takes part", NEW, Confirm(APP, FIRST, 2))
    yield told("that is not heard for a while", NodeLost(NEW, "silent", "silent"))
    yield told("and is again", NodeSeen(record_of(NEW)))
    yield heard("with what it had", NEW, Confirm(APP, FIRST, 2, tuple(long.ordered.get(NEW, ()))))
    yield told("that supervises", FtcChanged(REPLICAS[0]))
    yield told("and falls silent", NodeLost(NEW, "silent", "silent"))
    yield heard("of which the FTC hears", REPLICAS[0], Alive(APP, FIRST, NEW))
    yield heard("and no longer", REPLICAS[0], Suspect(APP, FIRST, NEW, "silent"))
    long.now_s += 5.0
    yield told("until it is lost", Tick())
    long.join(NEW)
    yield told("a node that dies with what it runs", NodeLost(NEW, "its process is gone", "refused"))
    long.join(NEW)
    yield heard("a node that leaves", NEW, Decline(APP, FIRST, "leaves", leaving=True))
    yield told("and is gone", NodeLost(NEW, "left", "left"))
    yield told("a break in which this node slept", Woke())
    yield heard(
        "a blob that a replica cannot keep", REPLICAS[0], CannotKeep(APP, (blob("given1", LARGE).digest,), "full")
    )
    yield told("a blob that came", Collected(blob("large of t0", LARGE).digest))
    yield told("one that did not", CollectFailed(blob("large of t0", LARGE).digest, (NODE,)))
    yield told("the cancel of a task", CancelRequested(TaskId(f"t{len(long.machine.state.tasks) // 2 - 1}")))
    name = long.ordered[THIRD].popleft()
    diverged = Diverged(APP, FIRST, (RanThere(long.outcome(name), THIRD),), (), last=True)
    yield heard("what another journal has", REPLICAS[0], diverged)
    name = long.ordered[THIRD].popleft()
    yield heard("an attempt that was handed on", NODE, Engaged(APP, FIRST, 2, (name,)))
    in_hand, left = (InHand(name, OTHER),), (long.ordered[NODE].pop(),)
    yield heard("whose hands attempts are in", NODE, Report(APP, (), in_hand=in_hand, left=left))
    task = Task(TaskId("late"), Timed(1.0), (Input("in", OutputOf(TaskId("t0"), "large")),), ("small",))
    yield "a task more", lambda: long.add([task])
    yield "when it is to wake", long.machine.wake_s
    yield "how many tasks are where", long.machine.counts
    yield "what runs where", long.machine.running_by_node
    yield "what is under way", long.machine.whole_underway
    host = SimpleNamespace(machine=long.machine, fault=None, ended=None, rate=lambda: 1.0)
    views = Views(cast(Any, host), me=ME, name_of=str, now_s=long.now_s)
    yield "how it goes on", views.progress
    yield "how a task stands", lambda: views.detail(TaskId("t0"))
    yield "why a task waits", lambda: views.why(TaskId("late"))


def shown(long: LongApplication) -> Iterator[Happening]:
    host = SimpleNamespace(machine=long.machine, fault=None, ended=None, told_index=0, told_epoch=0)
    views = Views(cast(Any, host), me=ME, name_of=str, now_s=long.now_s)
    yield "how it stands", lambda: views.status(clock_s=0.0)


def of_relay(long: LongApplication) -> Iterator[Happening]:
    yield "a report", lambda: long.tell(long.next_report())
    outcome = long.outcome(long.ordered[NODE].popleft())
    claim = Heard(NODE, Report(APP, (outcome,), claims=(TaskId("late"), TaskId("t0"))))
    yield "a claim", lambda: long.tell(claim)


def of_grab(long: LongApplication) -> Iterator[Happening]:
    yield "what is taken", lambda: long.tell(long.take(NODE))
    yield "a report", lambda: long.tell(long.next_report())
    yield "a moment that passes", lambda: long.tell(Tick())


def of_a_family(long: LongApplication) -> Iterator[Happening]:
    """One task has as many children as there are tasks, and an output for each."""
    yield "a report of a child", lambda: long.tell(long.next_report())
    yield "another", lambda: long.tell(long.next_report())
    yield (
        "a child that is given back",
        lambda: long.tell(Heard(OTHER, GivenBack(APP, (long.ordered[OTHER].popleft(),), "no room"))),
    )


def of_own_needs(long: LongApplication) -> Iterator[Happening]:
    """Each task needs what no other does, so that none waits behind another of its kind."""
    yield "a report", lambda: long.tell(long.next_report())
    yield "another", lambda: long.tell(long.next_report())
    yield "a report of a failure", lambda: long.tell(long.next_report(fails=True))
    yield (
        "a task that is given back",
        lambda: long.tell(Heard(OTHER, GivenBack(APP, (long.ordered[OTHER].popleft(),), "no room"))),
    )
    yield "a moment that passes", lambda: long.tell(Tick())
    yield "nothing", long.tell


def own_needs_half_done(tasks: int) -> LongApplication:
    each_its_own = [evolve(task, needs=Needs(memory_bytes=at)) for at, task in enumerate(pairs(tasks))]
    long = LongApplication(each_its_own)
    long.run(tasks // 4)
    return long


def parent_done(tasks: int) -> LongApplication:
    long = LongApplication(family(tasks))
    long.run(tasks // 4)
    return long


Begun = Callable[[int], LongApplication]
WORLDS: dict[str, tuple[Begun, Callable[[LongApplication], Iterator[Happening]], int, int]] = {
    "assign": (half_done, happenings, FEW, MANY),
    "relay": (lambda tasks: half_done(tasks, dispatch="relay"), of_relay, FEW, MANY),
    # So many that as much is on offer as ever is, or told of troubles.
    "grab": (lambda tasks: half_done(tasks, dispatch="grab"), of_grab, 3000, 12_000),
    "shown": (half_done, shown, 8000, 16_000),
    "own needs": (own_needs_half_done, of_own_needs, FEW, 5000),
    "family": (parent_done, of_a_family, FEW, MANY),
}


def costs(begun: Begun, happening: Callable[[LongApplication], Iterator[Happening]], tasks: int) -> dict[str, int]:
    long = begun(tasks)
    watched(long.machine)
    found = {what: steps(do) for what, do in happening(long)}
    if tasks == FEW:
        long.machine.check()
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_the_cost_of_an_event_is_independent_of_the_number_of_tasks(world: str) -> None:
    begun, happening, *sizes = WORLDS[world]
    few, many = (costs(begun, happening, tasks) for tasks in sizes)
    dearer = {what: (few[what], many[what]) for what in few if many[what] >= 1.3 * few[what]}
    assert not dearer


# --- what is done once, for all tasks


def add_all(long: LongApplication) -> Callable[[], object]:
    """As many tasks once more, in one batch."""
    count = len(long.machine.state.tasks)
    tasks = [Task(TaskId(f"more{at}"), Timed(1.0), (), ("small",)) for at in range(count)]
    return lambda: long.add(tasks)


def cancel_all(long: LongApplication) -> Callable[[], object]:
    return lambda: long.tell(CancelRequested(None))


def read_again(long: LongApplication) -> Callable[[], object]:
    """Its journal, as a replica does that takes over."""

    def read() -> None:
        state = ApplicationState()
        for entry in long.journal:
            state.apply(entry)

    return read


def take_over(long: LongApplication) -> Callable[[], object]:
    """And what follows until all have spoken; one node of those that held something is gone."""
    state = ApplicationState()
    for entry in long.journal:
        state.apply(entry)
    underway = [each for part in long.machine.whole_underway() for each in part.given]
    epoch = Epoch(2, REPLICAS[0])
    long.machine = Coordinator(state, me=REPLICAS[0], now_s=long.now_s, clock_s=0.0)

    def succeed() -> None:
        machine, now_s = long.machine, long.now_s
        machine.take_over(now_s=now_s, epoch=epoch, predecessor=ME, underway=underway)
        for node in NODES[1:]:
            long.tell(NodeSeen(record_of(node)))
        for node in NODES[1:]:
            known = tuple(each.attempt for each in underway if each.node == node)
            long.tell(Heard(node, Confirm(APP, epoch, 2, known)))
        long.now_s += 10.0
        long.tell(Tick())

    return succeed


def lose_holder(long: LongApplication) -> Callable[[], object]:
    """A node that alone held an eighth of all that is still to be read."""
    return lambda: long.tell(NodeLost(NODE, "its process is gone", "refused"))


@pytest.mark.parametrize("once", [add_all, cancel_all, read_again, take_over, lose_holder])
def test_what_is_done_for_all_tasks_at_once_costs_each_the_same(
    once: Callable[[LongApplication], Callable[[], object]],
) -> None:
    few, many = (steps(once(half_done(tasks))) / tasks for tasks in (SOME, TEN_TIMES))
    assert many < 1.3 * few, (few, many)
