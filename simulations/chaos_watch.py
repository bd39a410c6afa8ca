"""What is looked at in every step of a world in which anything goes wrong, beside what each machine says of itself.

Steps are: a machine handled an event, a disk took a group, an attempt started, a client was shown an event. The letters
are those of the invariants:

- I1  an epoch has one node, and its entries are recorded by that one alone.
- I2  no journal takes an entry or a promise of a lower epoch than it has promised or seen.
- I3  what was told once as committed is what every later coordinator tells in that place.
- I4  a result that was told is that of its task until the output is lost.
- I5  an order of a lower epoch than a participant has seen changes nothing there.
- I7  two journals that have an entry of one epoch and place have the same there, and the same before it.
- I8  nothing of an application starts a while after its end was told, wherever the end can be known.
- I10 an attempt that was lost counts, and no task is tried more often than the limit; one marked `once` starts once.
- I14 no queue and no journal grows beyond what its application explains.

Of copies of journals see `chaos_copies`. I6 is looked for in what is left in the end (`chaos_play`), as are I11 to I13;
I15 is a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio
from attrs import define, field

from jcpeer.application.manifest import Placed
from jcpeer.application.task import Timed
from jcpeer.coordinator.events import Effect, Event, Quiet, Tell
from jcpeer.coordinator.losses import LOST_ATTEMPTS_MAX
from jcpeer.coordinator.machine import Coordinator
from jcpeer.ft.disk import Append, Forget, Promise, Truncate, Write
from jcpeer.ft.memory_disk import MemoryDisk
from jcpeer.ft.replica import Replica
from jcpeer.ids import AppId, Epoch, NodeId, TaskId
from jcpeer.node.hosting import ApplicationHost
from jcpeer.values import evolve
from jcpeer.wire.codec import unpack
from jcpeer.wire.facts import (
    AttemptLost,
    Ended,
    Entry,
    Finished,
    OutputLost,
    Reconciled,
    ReplicasChanged,
    Sealed,
    Submitted,
    TookOver,
)
from jcpeer.wire.messages import AttemptOrder, Failure
from jcpeer.wire.requests import Happened
from jcpeer.work import events as work
from jcpeer.work.execution import Content
from jcpeer.work.participant import ParticipantMachine
from jcpeer.work.simulated import SimulatedExecutor
from simulations.chaos_copies import CopiesWatch
from simulations.chaos_plot import Moment
from simulations.grid import SimulatedGrid, SimulatedNode
from simulations.taps import wrapped

ENTRIES_PER_TASK_MAX = 12
"""Of a journal, beside those of takeovers and of changes of the set."""
EVENTS_WAITING_MAX = 20_000
EVENTS_AT_ONCE_MAX = 20_000
"""Of all machines at one instant."""


class UnlikeExecutor(SimulatedExecutor):
    """Each execution leaves other bytes, as a task does that reads the clock: so it shows whose outcome was taken."""

    def __init__(self, watch: Watch, node: SimulatedNode, clock_s: Callable[[], float]) -> None:
        super().__init__(clock_s=clock_s, slowness=node.hardware.slowness)
        self._watch = watch
        self._node = node

    async def _work(self, order: AttemptOrder, inputs: Mapping[str, Content]) -> Mapping[str, bytes] | Failure:
        number = self._watch.started()
        left = await super()._work(order, inputs)
        if isinstance(left, Failure) or not isinstance(order.work, Timed):
            return left
        label = f"{order.task} by {self._node.name}, execution {number}; ".encode()
        return {name: (label * (len(data) // len(label) + 1))[: len(data)] for name, data in left.items()}


@define
class Record:
    """What is known of one application."""

    name: str
    tasks: int
    replicas: int
    once: frozenset[TaskId] = frozenset()
    """Tasks that must not start twice."""
    starts: Counter[TaskId] = field(factory=Counter)
    """How often each of these did."""
    agreed: bool = False
    """What was told must hold: it has a quorum, or one copy."""
    recovered: bool = False
    """Its user let one copy go on alone, whatever the others had."""
    accepted: bool = False
    excused: str = ""
    """Why nothing is expected of it any more."""
    told: dict[int, Entry] = field(factory=dict)
    told_index: int = 0
    results: dict[TaskId, Entry] = field(factory=dict)
    written: dict[tuple[Epoch, int], tuple[Entry, Epoch | None]] = field(factory=dict)
    """Each entry with the epoch of the one before it."""
    epochs: dict[Epoch, NodeId] = field(factory=dict)
    losses: Counter[TaskId] = field(factory=Counter)
    ends_s: dict[Epoch, float] = field(factory=dict)
    """When each reign recorded the end."""
    changes: int = 0
    """Of the set, and of who coordinates."""
    moments: Counter[Moment] = field(factory=Counter)
    reigns: dict[Epoch, str] = field(factory=dict)
    acknowledged: set[Epoch] = field(factory=set)
    """Reigns whose beginning was told, and so is on enough journals."""
    changing: bool = False
    """A change of the set was recorded, and is not known to be committed."""


class Watch:
    """Looks on while `looking`; what it objects to is in `problems`, the first first."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.wrong = trio.Event()
        self.counts: Counter[str] = Counter()
        self.states: set[int] = set()
        """Distinct states of the protocol that were entered, hashed."""
        self.records: dict[AppId, Record] = {}
        self.on_moment: Callable[[str, Moment, int], None] = lambda name, moment, count: None
        self._grid: SimulatedGrid
        self._seen: dict[tuple[int, AppId], Epoch] = {}
        """The highest epoch of a disk, and what is known of its last entries."""
        self._promised: dict[tuple[str, AppId], Epoch] = {}
        self._at_once, self._now_s = 0, 0.0
        self._known: dict[tuple[str, str], int] = {}
        """How far a journal was looked at as committed."""
        self._copies = CopiesWatch(self)

    def object(self, rule: str, text: str) -> None:
        """Something is wrong."""
        self.problems.append(f"{rule}: {text} (at {trio.current_time():.3f} s)")
        self.wrong.set()

    def came_to(self, record: Record, moment: Moment) -> None:
        record.moments[moment] += 1
        self.counts[moment] += 1
        self.on_moment(record.name, moment, record.moments[moment])

    def started(self) -> int:
        """The number of an attempt that starts to execute."""
        self.counts["attempts"] += 1
        return self.counts["attempts"]

    # --- taps

    @contextmanager
    def looking(self, grid: SimulatedGrid) -> Iterator[None]:
        """Machines and disks know nothing of being watched: for as long as this, their methods are wrapped."""
        self._grid = grid
        with (
            wrapped(Coordinator, "handle", self._coordinate),
            wrapped(Coordinator, "take_over", self._coordinate),
            wrapped(ParticipantMachine, "handle", self._participate),
            wrapped(Replica, "open", self._keep),
            wrapped(Replica, "start", self._keep),
            wrapped(Replica, "handle", self._keep),
            wrapped(MemoryDisk, "commit", self._commit),
        ):
            yield

    def _coordinate(
        self, machine: Coordinator, handle: Callable[..., list[Effect]], *event: Event, **at: Any
    ) -> list[Effect]:
        effects = handle(machine, *event, **at)
        host = self._host_of(machine)
        if host is None:  # its node crashed, and nobody hears it any more
            return effects
        if effects or not isinstance(event[0] if event else None, Quiet):
            self.check(f"the coordinator of {machine.state.header.name}", machine.check)
        record = self.records.get(machine.app)
        if record is not None:
            for effect in effects:
                if isinstance(effect, Tell):
                    self._told(record, effect.entry, host)
            waiting = host._events.statistics().current_buffer_used
            if waiting > EVENTS_WAITING_MAX:
                self.object("I14", f"{waiting} events wait for the coordinator of {record.name}")
        return effects

    def _keep(self, machine: Replica, handle: Callable[..., list[Any]], *event: Any, **at: Any) -> list[Any]:
        return self._copies.handled(self._grid, machine, handle, *event, **at)

    def _host_of(self, machine: Coordinator) -> ApplicationHost | None:
        for each in self._grid.running:
            if each.id == machine._me:
                host = each.running.applications.get(machine.app)
                return host if host is not None and host.machine is machine else None
        return None

    def check(self, what: str, check: Callable[[], None]) -> None:
        """A machine is to be sound."""
        self.counts["checks"] += 1
        now_s = trio.current_time()
        self._at_once = self._at_once + 1 if now_s == self._now_s else 0
        self._now_s = now_s
        if self._at_once > EVENTS_AT_ONCE_MAX:
            raise RuntimeError(f"{what} had {self._at_once} events at one instant, with others: it spins")
        try:
            check()
        except AssertionError as error:
            self.object("machine", f"{what} is unsound: {error or 'an invariant is broken'}")

    def _participate(
        self, machine: ParticipantMachine, handle: Callable[..., list[work.Effect]], event: work.Event, *, now_s: float
    ) -> list[work.Effect]:
        before = None
        if isinstance(event, work.Assigned | work.Ordered):
            message = event.assign if isinstance(event, work.Assigned) else event.message
            engagement = machine._engagements.get(message.app)
            seen = engagement.epoch if engagement else machine._fenced.get(message.app)
            if seen is not None and message.epoch < seen:
                before = _standing(machine, message.app)
        effects = handle(machine, event, now_s=now_s)
        if before is not None:
            self.counts["orders refused"] += 1
            if before != _standing(machine, message.app):
                self.object("I5", f"a {type(message).__name__} of a lower epoch changed what a participant does")
        for effect in effects:
            if isinstance(effect, work.Start):
                self._starts(effect.key)
        if effects or not isinstance(event, work.Quiet):
            self.check("a participant", machine.check)
        return effects

    def _starts(self, key: work.AttemptKey) -> None:
        record, task = self.records.get(key.app), key.name.task
        if record is None or task not in record.once:
            return
        record.starts[task] += 1
        self.counts["started once"] += 1
        if record.starts[task] > 1 and record.agreed and not record.excused:
            self.object("I10", f"task {task} of {record.name} is marked once, and starts {record.starts[task]} times")

    async def _commit(self, disk: MemoryDisk, commit: Callable[..., Any], writes: Sequence[Write]) -> None:
        await commit(disk, writes)
        if any(each.disk is disk for each in self._grid.nodes.values()):  # else its node crashed meanwhile
            for write in writes:
                self._wrote(disk, write)

    # --- what happens

    def _wrote(self, disk: MemoryDisk, write: Write) -> None:
        match write:
            case Append() if (record := self.records.get(write.app)) is not None:
                key = (id(disk), write.app)
                for entry in write.entries:
                    self._appended(disk, record, entry, after=self._seen.get(key))
                    self._seen[key] = entry.epoch
            case Promise(app, epoch):
                highest = self._promised.get((disk.name, app))
                if highest is not None and epoch < highest:
                    self.object("I2", f"{disk.name} promised epoch {told(epoch)} after {told(highest)}")
                self._promised[disk.name, app] = epoch
            case Truncate(app) | Forget(app):
                self._seen.pop((id(disk), app), None)
                if isinstance(
                    write, Forget
                ):  # what is made there again is unsure, so that its promise counts for nothing
                    self._promised.pop((disk.name, app), None)
            case _:
                pass

    def _appended(self, disk: MemoryDisk, record: Record, entry: Entry, *, after: Epoch | None) -> None:
        if after is not None and entry.epoch < after:
            self.object("I2", f"{disk.name} took entry {entry.index} of epoch {told(entry.epoch)} after {told(after)}")
        plain = without_data(entry)
        first_time = (entry.epoch, entry.index) not in record.written
        before = record.written.setdefault((entry.epoch, entry.index), (plain, after))
        if before[0] != plain:
            self.object(
                "I7", f"{record.name} has two entries {entry.index} of epoch {told(entry.epoch)}, one on {disk.name}"
            )
        if after is not None and before[1] is not None and before[1] != after:
            self.object("I7", f"{record.name} has two entries before entry {entry.index} of epoch {told(entry.epoch)}")
        author = record.epochs.setdefault(entry.epoch, entry.epoch.node)
        if author != entry.epoch.node:
            self.object("I1", f"epoch {told(entry.epoch)} of {record.name} has two coordinators")
        if first_time:
            self._recorded(record, entry)

    def _recorded(self, record: Record, entry: Entry) -> None:
        match entry.fact:
            case Submitted(placed):
                first = unpack(placed.payload, Placed).first_set
                record.agreed = first.quorum or len(first.seats) == 1 == record.replicas
            case TookOver():
                record.changes += 1
            case ReplicasChanged():
                record.changes += 1
                record.changing = True
            case Ended():
                record.ends_s[entry.epoch] = trio.current_time()
            case Reconciled(twice=twice, changed=changed):
                self.counts["reconciled"] += 1
                self.counts["named as run twice"] += len(twice)
                self.counts["named as changed"] += len(changed)
            case _:
                pass
        most = ENTRIES_PER_TASK_MAX * (record.tasks + 1) + 2 * record.changes
        if entry.index > most:
            self.object("I14", f"the journal of {record.name} has {entry.index} entries, for {record.tasks} tasks")

    def committed(self, record: Record, node: SimulatedNode, index: int) -> None:
        """A copy takes everything up to here for committed; what is not on its own disk yet is looked at later."""
        known, app = (node.disk.journal_id, record.name), self._app_of(record)
        if index <= self._known.get(known, 0):
            return
        written = node.running.parts.journal.written_index(app)
        for entry in node.disk.read(app, after_index=self._known.get(known, 0)):
            if entry.index > min(index, written):
                break
            self._known[known] = entry.index
            self._agree(record, without_data(entry), f"taken for committed by {node.name}")

    def _agree(self, record: Record, plain: Entry, how: str) -> bool:
        """Whether this is the first word of this place."""
        if not record.agreed or record.excused:
            return False
        before = record.told.setdefault(plain.index, plain)
        if before is plain:
            return True
        if before != plain:
            self.object(
                "I3", f"entry {plain.index} of {record.name} was {_fact(before)}, and is now {_fact(plain)}, {how}"
            )
        return False

    def _told(self, record: Record, entry: Entry, host: ApplicationHost) -> None:
        plain = without_data(entry)
        match entry.fact:
            case TookOver(epoch=epoch):
                record.acknowledged.add(epoch)
            case ReplicasChanged():
                record.changing = False
            case _:
                pass
        self._agree(record, plain, "told")
        if entry.index <= record.told_index or not record.agreed or record.excused:
            return
        if entry.index > record.told_index + 1:  # a successor does not tell what its predecessor may have told
            for each in host._parts.journal.read(host.app, after_index=record.told_index):
                if each.index < entry.index:
                    self._happened(record, without_data(each))
        self._happened(record, plain)

    def _happened(self, record: Record, plain: Entry) -> None:
        record.told_index = plain.index
        match plain.fact:
            case Sealed():
                self.came_to(record, "accepted")
            case TookOver():
                self.came_to(record, "taken over")
            case Finished(outcome=outcome):
                if outcome.task in record.results:
                    self.object("I4", f"task {outcome.task} of {record.name} has two results")
                record.results[outcome.task] = plain
                self.came_to(record, "finished")
            case OutputLost(task=task):
                record.results.pop(task, None)
                self.counts["outputs lost"] += 1
            case AttemptLost(attempt=attempt):
                record.losses[attempt.task] += 1
                self.counts["attempts lost"] += 1
                if record.losses[attempt.task] > LOST_ATTEMPTS_MAX:
                    self.object(
                        "I10", f"task {attempt.task} of {record.name} was lost {record.losses[attempt.task]} times"
                    )
            case _:
                pass

    def _app_of(self, record: Record) -> AppId:
        return next(app for app, each in self.records.items() if each is record)

    def shown(self, record: Record, seen: dict[int, Happened], event: Happened, who: str) -> None:
        """A client was shown this; `seen` is what it was shown before."""
        before = seen.setdefault(event.index, event)
        if record.excused or not record.agreed:
            return
        if essence(before) != essence(event):
            self.object(
                "shown",
                f"{who} was shown event {event.index} of {record.name} as {event.kind}, before as {before.kind}",
            )


def _standing(machine: ParticipantMachine, app: AppId) -> object:
    engagement = machine._engagements.get(app)
    if engagement is None:
        return None
    states = {name: each.state for name, each in engagement.attempts.items()}
    return engagement.coordinator, engagement.epoch, states, tuple(engagement.kept)


def told(epoch: Epoch) -> str:
    """For a person."""
    return f"{epoch.counter} of …{epoch.node[-6:]}"


def _fact(entry: Entry) -> str:
    fact = entry.fact
    task = getattr(fact, "task", None) or getattr(getattr(fact, "outcome", None), "task", None)
    return f"{type(fact).__name__}{f' of {task}' if task else ''} in epoch {told(entry.epoch)}"


def without_data(entry: Entry) -> Entry:
    """Without the bytes of small outputs, which their digests stand for."""
    fact = entry.fact
    if not isinstance(fact, Finished) or all(each.data is None for each in fact.outcome.outputs):
        return entry
    outputs = tuple(evolve(each, data=None) for each in fact.outcome.outputs)
    return evolve(entry, fact=evolve(fact, outcome=evolve(fact.outcome, outputs=outputs)))


def essence(event: Happened) -> tuple[object, ...]:
    """What of an event must stay what it was: not the names that its node knew then."""
    node = event.node.id if event.node else None
    digests = tuple(each.blob.digest for each in event.outputs)
    return event.kind, event.task, event.attempt, node, event.final, digests
