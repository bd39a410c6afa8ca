"""What a task costs the machine that coordinates, by the number of nodes that take part: it alone is real here.

Nodes, links and disks are a queue of what happens when. Each node has two slots, takes what it is ordered, and tells of
each outcome as it comes, so nothing is cheaper for coming together.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable

from jcpeer.application.manifest import Batch, Header, Placed, Seal, Seat
from jcpeer.application.task import VALUE, BlobRef, Task, Timed
from jcpeer.coordinator.events import (
    BatchAdded,
    Committed,
    Effect,
    Event,
    Heard,
    NodeSeen,
    Over,
    Quiet,
    Record,
    SealReceived,
    Send,
    SendOrders,
    Tick,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, Digest, NodeId, TaskId, digest_of
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import Submitted
from jcpeer.wire.messages import AttemptOrder, Confirm, NodeRecord, Outcome, Output, Recruit, Report, Signed

APP, ME = AppId("c" * 40), NodeId("coordinator")
SLOTS = 2
LINK_S, DISK_S = 0.0005, 0.002
RUN_S = (0.5, 1.5)
DATA = b"a small result"
BATCH_TASKS = 1000


def coordinator_us(nodes: int, tasks: int) -> float:
    """Microseconds of processor that each of so many tasks takes it."""
    crowd = Crowd(nodes)
    crowd.submit([Task(TaskId(f"t{each}"), Timed(1.0), outputs=(VALUE,)) for each in range(tasks)])
    crowd.run()
    return crowd.handling_s / tasks * 1e6


class Crowd:
    """A coordinator, and what answers it."""

    def __init__(self, nodes: int) -> None:
        self.handling_s = 0.0
        self._random = random.Random(nodes)
        self._now_s = 0.0
        self._happens: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._free_s: dict[NodeId, deque[float]] = {}
        """When each slot of a node is free again."""
        self._over = False
        self._output = Output(VALUE, BlobRef(digest_of(DATA), len(DATA)), DATA)
        self.machine = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0)
        placed = Placed(APP, Header("crowd", 0.0, b"crowd", user="user"), (Seat(ME, ""),))
        self._perform(self.machine.open(Submitted(_unsigned(placed)), now_s=0.0))
        for number in range(nodes):
            node = NodeId(f"node{number}")
            self._free_s[node] = deque([0.0] * SLOTS)
            self._later(0.0, NodeSeen(_record(node)))

    def submit(self, tasks: list[Task]) -> None:
        batches = [tuple(tasks[at : at + BATCH_TASKS]) for at in range(0, len(tasks), BATCH_TASKS)]
        for number, each in enumerate(batches):
            batch = Batch(APP, number, each)
            self._later(0.0, BatchAdded(batch, _unsigned(batch)))
        self._later(0.0, SealReceived(_unsigned(Seal(APP, len(batches)))))

    def run(self) -> None:
        """To the end of the application."""
        while not self._over:
            happens_s = self._happens[0][0] if self._happens else float("inf")
            self._now_s = max(self._now_s, min(happens_s, self.machine.wake_s()))
            events: list[Event] = []
            while self._happens and self._happens[0][0] <= self._now_s:
                events.append(heapq.heappop(self._happens)[2])
            if self.machine.wake_s() <= self._now_s:
                events.append(Tick())
            self._handle([*events, Quiet()])

    def _handle(self, events: Iterable[Event]) -> None:
        began_s = time.process_time()
        effects = [effect for each in events for effect in self.machine.handle(each, now_s=self._now_s)]
        self.handling_s += time.process_time() - began_s
        self._perform(effects)

    def _later(self, after_s: float, event: Event) -> None:
        heapq.heappush(self._happens, (self._now_s + after_s, next(self._order), event))

    def _perform(self, effects: Iterable[Effect]) -> None:
        recorded = 0
        for effect in effects:
            match effect:
                case Record():
                    recorded = effect.entry.index
                case Send(node, Recruit() as recruit):
                    self._later(2 * LINK_S, Heard(node, Confirm(APP, recruit.epoch, SLOTS)))
                case SendOrders():
                    for order in effect.orders:
                        self._run(effect.node, order)
                case Over():
                    self._over = True
                case _:
                    pass  # nothing comes of it here
        if recorded:
            self._later(DISK_S, Committed(recorded))

    def _run(self, node: NodeId, order: AttemptOrder) -> None:
        """In the slot that is free first; the outcome comes when it ends."""
        slots = self._free_s[node]
        ends_s = max(slots.popleft(), self._now_s + LINK_S) + self._random.uniform(*RUN_S)
        slots.append(ends_s)
        self._free_s[node] = deque(sorted(slots))
        consumed: tuple[Digest, ...] = tuple(each.blob.digest for each in order.inputs)
        outcome = Outcome(
            order.task, self.machine.epoch, order.number, None, (self._output,), consumed, None, 0.0, 0.0, 1.0
        )
        self._later(ends_s + LINK_S - self._now_s, Heard(node, Report(APP, (outcome,))))


def _unsigned(value: object) -> Signed:
    return Signed(pack(value), b"")


def _record(node: NodeId) -> NodeRecord:
    return NodeRecord(
        node=node,
        name=str(node),
        user="user",
        host=str(node),
        incarnation=1,
        version=0,
        state="idle",
        slots=SLOTS,
        slots_used=0,
        cpus=SLOTS,
        memory_bytes=2**30,
        load=0.0,
        python="3.11",
    )
