"""What is looked at in every step of the copies of a journal, and which states their protocol was in.

- I1  an epoch is begun once, by one node.
- I2  what a copy says rests on its disk: a vote on the promise, an acknowledgement on the entries.
- I3  what one copy takes for committed in a place is what every other one ever does there.
- I9  a copy that may have lost something says so when it votes, and none speaks for a journal of another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from jcpeer.ft.events import (
    BeginReign,
    ChangeSet,
    Diverging,
    Effect,
    EndReign,
    Event,
    Send,
    SendReign,
    Ship,
    Stalled,
    Truncate,
)
from jcpeer.ft.replica import Replica
from jcpeer.ids import Epoch
from jcpeer.wire.replication import AskVote, Kept, VoteAnswer, WantEntries
from simulations.grid import SimulatedGrid, SimulatedNode

if TYPE_CHECKING:
    from simulations.chaos_watch import Record, Watch

Summary = tuple[object, ...]


class CopiesWatch:
    """Owned by a `Watch`, which it tells what it sees."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._grid: SimulatedGrid | None = None
        self._summaries: dict[str, Summary] = {}
        self._hashes: dict[Summary, int] = {}

    def handled(
        self, grid: SimulatedGrid, machine: Replica, handle: Callable[..., list[Effect]], *event: Event, **at: Any
    ) -> list[Effect]:
        """In place of a call of one of the machine's methods that take events."""
        self._grid = grid
        node = self._node_of(machine)
        record = self._watch.records.get(machine._state.app)
        if node is None or record is None:  # it crashed, or it is none of ours
            return handle(machine, *event, **at)
        self._watch.committed(record, node, machine.committed)  # all effects of earlier events have been performed
        effects = handle(machine, *event, **at)
        self._watch.check(f"the copy of {record.name} on {node.name}", machine.check)
        for effect in effects:
            self._look(record, node, machine, effect)
        self._enter(record, machine)
        return effects

    def _node_of(self, machine: Replica) -> SimulatedNode | None:
        assert self._grid is not None
        me = machine._state.me.node
        return next(
            (
                each
                for each in self._grid.running
                if each.id == me and each.disk.journal_id == machine._state.me.journal
            ),
            None,
        )

    # --- what they do

    def _look(self, record: Record, node: SimulatedNode, machine: Replica, effect: Effect) -> None:
        watch = self._watch
        match effect:
            case Send(_, message):
                self._said(record, node, machine, message)
            case BeginReign(epoch):
                self._begins(record, epoch)
            case EndReign():
                watch.counts["handed over" if machine._state.retired else "steps down"] += 1
            case ChangeSet():
                watch.came_to(record, "set change")
            case SendReign(_, invited):
                if machine.epoch is not None:
                    self._reigns(record, node, machine.epoch)
                if invited:
                    watch.came_to(record, "learner")
            case Stalled(missing) if missing:
                watch.came_to(record, "stalled")
            case Truncate():
                watch.counts["truncated"] += 1
            case Diverging():
                watch.counts["diverged"] += 1
            case Ship(_, epoch) if machine.role == "coordinator" and epoch != machine.epoch:
                watch.object("I5", f"{node.name} sent entries of {record.name} in an epoch that is not its own")
            case _:
                pass

    def _said(self, record: Record, node: SimulatedNode, machine: Replica, message: object) -> None:
        watch, app = self._watch, machine._state.app
        match message:
            case AskVote(pre=False):
                watch.came_to(record, "candidate")
            case WantEntries():
                watch.counts["adopted from another"] += 1
            case VoteAnswer(granted=True, pre=False, epoch=epoch, journal=journal, unsure=unsure):
                held = node.disk.load().get(app)
                if held is None or held.promised is None or held.promised < epoch:
                    watch.object("I2", f"{node.name} votes in {record.name} by a promise that is not on its disk")
                if held is None or (held.unsure and not unsure):
                    watch.object("I9", f"{node.name} votes in {record.name} as if it could have lost nothing")
                if held is None or held.new:
                    watch.object("I9", f"{node.name} votes in {record.name} with a copy that was made anew")
                if journal != node.disk.journal_id:
                    watch.object("I9", f"{node.name} votes in {record.name} with a journal that it does not have")
            case Kept(journal=journal, index=index):
                if node.running.parts.journal.written_index(app) < index:
                    watch.object("I2", f"{node.name} says to keep {index} of {record.name}, which are not on its disk")
                if journal != node.disk.journal_id:
                    watch.object("I9", f"{node.name} speaks for a journal that it does not have")
            case _:
                pass

    def _begins(self, record: Record, epoch: Epoch) -> None:
        before = max((each for each in record.reigns if each < epoch), default=None)
        if before is not None and before.counter > 1 and before not in record.acknowledged:
            self._watch.counts["takeovers in takeovers"] += 1
        if record.changing:
            record.changing = False
            self._watch.counts["takeovers in set changes"] += 1
        record.reigns.setdefault(epoch, "")
        self._watch.came_to(record, "elected")

    def _reigns(self, record: Record, node: SimulatedNode, epoch: Epoch) -> None:
        """It says so to others. Before that it may have begun in vain, and after a crash know nothing of it."""
        run = f"{node.name}, run {node.starts}"
        if record.reigns.get(epoch, "") not in ("", run):
            self._watch.object(
                "I1", f"epoch {epoch.counter} of {record.name} is that of two: {record.reigns[epoch]}; {run}"
            )
        record.reigns[epoch] = run

    # --- states

    def _enter(self, record: Record, machine: Replica) -> None:
        """Note in which state all copies are together, without names and numbers: only how they stand to each other."""
        app = machine._state.app
        copies = [(each, copy.machine) for each in self._running() if (copy := each.running.copies.get(app))]
        machines = [each for _, each in copies]
        epochs = _ranks(each.epoch for each in machines)
        promises = _ranks(each._state.promised for each in machines)
        indices = _ranks(each.last_index for each in machines)
        lasts = _ranks(each._state.log.last_epoch for each in machines)
        committed = _ranks(each.committed for each in machines)
        sets = _ranks(each.replica_set.number for each in machines)
        most = max(machines, key=lambda each: each.replica_set.number, default=machine)
        order = most.replica_set.nodes
        rows = []
        for at, (node, each) in enumerate(copies):
            rank = order.index(node.id) if node.id in order else len(order)
            up = len(each._state.reach.up & set(order))
            ranks = epochs[at], promises[at], lasts[at], indices[at], committed[at], sets[at]
            rows.append((rank, each.role, ranks, each.unsure, up, bool(each.stalled)))
        state = tuple(sorted(rows)), len(order), most.replica_set.quorum
        known = self._hashes.get(state)
        if known is None:
            known = int.from_bytes(blake2b(repr(state).encode(), digest_size=6).digest())
            self._hashes[state] = known
            self._watch.states.add(known)

    def _running(self) -> Iterator[SimulatedNode]:
        assert self._grid is not None
        return self._grid.running


def _ranks(values: Iterator[Any]) -> Sequence[int]:
    """In place of each value, how many lower ones there are; None is lowest."""
    found = list(values)
    ordered = sorted({each for each in found if each is not None})
    places = {each: at + 1 for at, each in enumerate(ordered)}
    return [places.get(each, 0) for each in found]
