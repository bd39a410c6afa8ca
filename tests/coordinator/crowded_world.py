"""Many coordinators that share participants, machine to machine, in virtual time: each message takes a moment, each
task as long as its work says. Nothing is lost here; `little_world` is for that."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from jcpeer.application.manifest import Batch, Header, Placed, Seal, Seat
from jcpeer.application.task import Needs, Task, Timed
from jcpeer.coordinator import events as coordinator_events
from jcpeer.coordinator.events import BatchAdded, Collected, Committed, Heard, NodeSeen, Quiet, SealReceived, Tick
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import Submitted
from jcpeer.wire.messages import Assign, Outcome, Recruit
from jcpeer.wire.peer import PeerMessage
from jcpeer.work import events as work
from jcpeer.work.participant import ParticipantMachine
from tests.coordinator.little_world import record_of, unsigned

LATENCY_S = 0.02
COMMIT_S = 0.005
TICK_S = 0.2


def of_seconds(*seconds: float, cpus: int = 1) -> list[Task]:
    """Independent tasks that take so long."""
    return [Task(TaskId(f"t{at}"), Timed(each), needs=Needs(cpus)) for at, each in enumerate(seconds)]


class Running:
    """An application with its coordinator."""

    def __init__(self, app: AppId, header: Header, machine: Coordinator) -> None:
        self.app = app
        self.header = header
        self.machine = machine
        self.ended_s: float | None = None
        self.slot_s = 0.0


class CrowdedWorld:
    def __init__(self, *, nodes: int, slots: int) -> None:
        self.now_s = 0.0
        self.applications: dict[AppId, Running] = {}
        self.nodes: dict[NodeId, ParticipantMachine] = {}
        self.slots = slots
        self.busy: Counter[tuple[NodeId, AppId]] = Counter()
        self.sent: Counter[str] = Counter()
        """Messages to participants, by kind."""
        self._happenings: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for number in range(nodes):
            self.nodes[NodeId(f"node{number}")] = ParticipantMachine(
                user="user", slots=slots, memory_bytes=2**30, trust_grid=True
            )
        self._later(TICK_S, self._tick)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._happenings, (self.now_s + seconds, next(self._order), do))

    def submit(self, name: str, tasks: Sequence[Task], *, user: str, sealed: bool = True) -> Running:
        app = AppId(name.ljust(40, "0"))
        header = Header(name, 0.0, b"", user=user, open_ended=not sealed)
        machine = Coordinator(ApplicationState(), me=NodeId(name), now_s=self.now_s, clock_s=0.0)
        running = self.applications[app] = Running(app, header, machine)
        placed = unsigned(Placed(app, header, (Seat(NodeId(name), ""),)))
        self._perform(running, machine.open(Submitted(placed), now_s=self.now_s))
        known = list(self.nodes)
        first = len(self.applications) % len(known)  # nobody sees the grid in another's order
        for node in (*known[first:], *known[:first]):
            record = evolve(record_of(node, slots=self.slots), trusts_grid=True)
            self._post(running, NodeSeen(record), quiet=False)
        self.add(running, tasks)
        if sealed:
            self._post(running, SealReceived(unsigned(Seal(app, 1))))
        return running

    def add(self, running: Running, tasks: Sequence[Task]) -> None:
        batch = Batch(running.app, len(running.machine.state.batches), tuple(tasks))
        self._post(running, BatchAdded(batch, unsigned(batch)))

    # --- coordinators

    def _post(self, running: Running, event: coordinator_events.Event, *, quiet: bool = True) -> None:
        if running.ended_s is None:
            effects = running.machine.handle(event, now_s=self.now_s)
            effects += running.machine.handle(Quiet(), now_s=self.now_s) if quiet else []
            self._perform(running, effects)

    def _perform(self, running: Running, effects: list[coordinator_events.Effect]) -> None:
        recorded = 0
        for effect in effects:
            match effect:
                case coordinator_events.Record():
                    recorded = effect.entry.index
                case coordinator_events.Send():
                    self._to_node(running, effect.node, effect.message)
                case coordinator_events.SendOrders():
                    self._to_node(running, effect.node, Assign(running.app, running.machine.epoch, effect.orders))
                case coordinator_events.Collect():
                    digest = effect.blob.digest
                    self._later(LATENCY_S, partial(self._post, running, Collected(digest)))
                case coordinator_events.Over():
                    assert effect.status == "ok"
                    running.ended_s = self.now_s
                case _:
                    pass
        if recorded:
            self._later(COMMIT_S, lambda: self._post(running, Committed(recorded)))

    # --- participants

    def _to_node(self, running: Running, node: NodeId, message: PeerMessage) -> None:
        event: work.Event
        self.sent[type(message).__name__] += 1
        match message:
            case Recruit():
                event = work.CalledUp(NodeId(running.header.name), message, running.header)
            case Assign():
                event = work.Assigned(NodeId(running.header.name), message, {})
            case _:
                event = work.Ordered(NodeId(running.header.name), message)  # type: ignore[arg-type]
        self._later(LATENCY_S, lambda: self._tell(node, event))

    def _tell(self, node: NodeId, event: work.Event) -> None:
        machine = self.nodes[node]
        effects = machine.handle(event, now_s=self.now_s) + machine.handle(work.Quiet(), now_s=self.now_s)
        if effects:
            machine.check()
        for effect in effects:
            match effect:
                case work.Send():
                    to = self.applications[effect.message.app]  # type: ignore[union-attr]
                    heard = Heard(node, effect.message)  # type: ignore[arg-type]
                    self._later(LATENCY_S, partial(self._post, to, heard))
                case work.Start():
                    self._start(node, effect)
                case _:
                    pass

    def _start(self, node: NodeId, start: work.Start) -> None:
        order, app = start.order, start.key.app
        assert isinstance(order.work, Timed)
        seconds, slots = order.work.seconds, max(1, order.needs.cpus)
        self.busy[node, app] += slots
        assert sum(count for (each, _), count in self.busy.items() if each == node) <= self.slots
        outcome = Outcome(order.task, start.epoch, order.number, None, (), (), 0, 0.0, 0.0, seconds)

        def end() -> None:
            self.busy[node, app] -= slots
            self.busy = +self.busy  # who works nowhere is not counted at each moment
            self._tell(node, work.Ran(start.key, outcome))

        self._later(seconds, end)

    # --- time

    def _tick(self) -> None:
        for running in self.applications.values():
            if running.ended_s is None and running.machine.wake_s() <= self.now_s:
                self._post(running, Tick())
                assert running.machine.wake_s() > self.now_s, "it does not ring for ever"
        for node, machine in self.nodes.items():
            if machine.wake_s() <= self.now_s:
                self._tell(node, work.Tick())
        self._later(TICK_S, self._tick)

    def run(self, until_s: float) -> None:
        """Until that time, or until all have ended."""
        while self._happenings[0][0] <= until_s and any(each.ended_s is None for each in self.applications.values()):
            at_s, _, do = heapq.heappop(self._happenings)
            for (_, app), slots in self.busy.items():
                self.applications[app].slot_s += slots * (at_s - self.now_s)
            self.now_s = at_s
            do()
