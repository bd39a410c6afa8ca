"""An application of any number of tasks, about a quarter of them done, on a handful of nodes: for counting what a step
of its coordinator costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from jcpeer.application.manifest import Batch, Dispatch, Header, Placed, Seal, Seat
from jcpeer.application.task import BlobRef, Input, OutputOf, Task, Timed
from jcpeer.coordinator.events import (
    BatchAdded,
    Committed,
    Effect,
    Event,
    Heard,
    NodeSeen,
    Quiet,
    Record,
    SealReceived,
    Send,
    SendOrders,
    Tick,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId, digest_of
from jcpeer.values import evolve
from jcpeer.wire.facts import Entry, Submitted
from jcpeer.wire.messages import Confirm, Failure, Fetched, Gone, Offer, Outcome, Output, Report, Take
from jcpeer.wire.replication import KeepBlobs
from tests.coordinator.little_world import record_of, unsigned

ME = NodeId("coordinator")
REPLICAS = (NodeId("replica1"), NodeId("replica2"))
NODES = tuple(NodeId(f"node{number}") for number in range(6))
APP = AppId("a" * 40)
FIRST = Epoch(1, ME)
SLOTS = 2
BATCH_TASKS = 1000
FAILS_EVERY = 10
SMALL, LARGE = 10, 10**6


def blob(name: str, size: int) -> BlobRef:
    return BlobRef(digest_of(name.encode()), size)


def pairs(count: int) -> list[Task]:
    """One reads what the other leaves, which is small or large in turn, and each second reads a large input, too."""
    first, second = [], []
    for at in range(count // 2):
        given = (Input("given", blob(f"given{at}", LARGE)),) if at % 2 else ()
        output = "large" if at % 4 < 2 else "small"
        parent = TaskId(f"t{at}")
        first.append(Task(parent, Timed(1.0), given, (output,), retries=1))
        second.append(Task(TaskId(f"u{at}"), Timed(1.0), (Input("in", OutputOf(parent, output)),), ("small",)))
    return [*first, *second]


def family(count: int) -> list[Task]:
    """One parent that leaves something for each of its children."""
    names = tuple(f"large{at}" for at in range(count - 1))
    parent = TaskId("parent")
    children = [Task(TaskId(f"c{each}"), Timed(1.0), (Input("in", OutputOf(parent, each)),)) for each in names]
    return [Task(parent, Timed(1.0), (), names), *children]


class LongApplication:
    """What it is told is committed at once. The `ordered` attempts of each node run until they are reported."""

    def __init__(self, tasks: Sequence[Task], *, dispatch: Dispatch = "assign") -> None:
        self.now_s = 0.0
        self.ordered: dict[NodeId, deque[AttemptName]] = {}
        self.offered: dict[NodeId, dict[TaskId, float]] = {}
        """And until when."""
        self.journal: list[Entry] = []
        self._batches = self._reported = 0
        self._failed: set[TaskId] = set()
        self.machine = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0)
        header = Header("application", 0.0, b"", user="user", dispatch=dispatch, open_ended=True)
        placed = Placed(APP, header, tuple(Seat(each, "") for each in (ME, *REPLICAS)))
        self._perform(self.machine.open(Submitted(unsigned(placed)), now_s=0.0))
        for at in range(0, len(tasks), BATCH_TASKS):
            self.add(tasks[at : at + BATCH_TASKS])
        for node in NODES:
            self.join(node)

    def tell(self, *events: Event) -> list[Effect]:
        effects = [each for event in (*events, Quiet()) for each in self.machine.handle(event, now_s=self.now_s)]
        self._perform(effects)
        return effects

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record(entry):
                    self.journal.append(entry)
                case SendOrders(node, orders):
                    names = [AttemptName(each.task, FIRST.counter, each.number) for each in orders]
                    self.ordered.setdefault(node, deque()).extend(names)
                case Send(node, KeepBlobs(blobs=blobs)) if node in REPLICAS:
                    kept = Fetched(APP, tuple(each.digest for each in blobs))
                    self._perform(self.machine.handle(Heard(node, kept), now_s=self.now_s))
                case Send(node, Offer(tasks=offered, lease_s=lease_s)):
                    until_s = self.now_s + lease_s
                    self.offered.setdefault(node, {}).update((each.task, until_s) for each in offered)
                case Send(node, Gone(tasks=gone)):
                    for task in gone:
                        self.offered[node].pop(task, None)
                case _:
                    pass
        self.machine.handle(Committed(len(self.journal)), now_s=self.now_s)

    def add(self, tasks: Sequence[Task]) -> None:
        inputs = (each.source for task in tasks for each in task.inputs)
        blobs = dict.fromkeys(each for each in inputs if isinstance(each, BlobRef))
        batch = Batch(APP, self._batches, tuple(tasks), tuple(blobs))
        self._batches += 1
        self.tell(BatchAdded(batch, unsigned(batch)))

    def seal(self) -> None:
        self.tell(SealReceived(unsigned(Seal(APP, self._batches))))

    def join(self, node: NodeId, *, slots: int = SLOTS) -> None:
        self.tell(NodeSeen(record_of(node, slots=slots)), Heard(node, Confirm(APP, FIRST, slots)))

    # --- what participants say

    def outcome(self, name: AttemptName, *, fails: bool = False) -> Outcome:
        spec, consumed = self.machine.state.tasks[name.task].spec, self.machine.state.consumed(name.task)
        failure = Failure("exit", "exit status 1") if fails else None
        outputs = tuple(
            Output(each, blob(f"{each} of {spec.id}", LARGE))
            if each.startswith("large")
            else Output(each, blob(f"{each} of {spec.id}", SMALL), b"0123456789")
            for each in (() if fails else spec.outputs)
        )
        assert consumed is not None
        return Outcome(name.task, FIRST, name.number, failure, outputs, consumed, 0, 0.0, 0.0, 1.0)

    def report(self, node: NodeId, *outcomes: Outcome) -> Heard:
        return Heard(node, Report(APP, outcomes))

    def next_report(self, node: NodeId = NODES[0], *, fails: bool = False) -> Heard:
        """Of the attempt that this node was given first."""
        return self.report(node, self.outcome(self.ordered[node].popleft(), fails=fails))

    def take(self, node: NodeId) -> Heard:
        """What it has room for of what it was offered."""
        standing = (task for task, until_s in self.offered.get(node, {}).items() if until_s > self.now_s)
        tasks = tuple(islice(standing, SLOTS))
        for task in tasks:
            del self.offered[node][task]
        return Heard(node, Take(APP, FIRST, tasks))

    def run(self, outcomes: int) -> None:
        """Until so many were reported, of which some are failures."""
        end = self._reported + outcomes
        while self._reported < end:
            for node in NODES:
                if self.offered:
                    self.tell(self.take(node), Tick())
                names, self.ordered[node] = self.ordered.get(node, deque()), deque()
                reported = []
                for name in names:
                    self._reported += 1
                    fails = self._reported % FAILS_EVERY == 0 and bool(self.machine.state.tasks[name.task].spec.retries)
                    fails = fails and name.task not in self._failed
                    self._failed |= {name.task} if fails else set()
                    reported.append(self.outcome(name, fails=fails))
                self.now_s += 0.1
                self.tell(self.report(node, *reported), Tick())


def half_done(tasks: int, *, dispatch: Dispatch = "assign") -> LongApplication:
    long = LongApplication(pairs(tasks), dispatch=dispatch)
    long.run(tasks // 4)
    return long


def evolved(node: NodeId, version: int) -> NodeSeen:
    """Its record changed."""
    return NodeSeen(evolve(record_of(node, slots=SLOTS), version=version, slots_used=1))
