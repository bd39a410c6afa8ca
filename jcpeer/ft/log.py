"""The shape of one copy of a journal: which epochs its entries have, which sets they brought, how far it is on the disk
and how far it is committed. Not what is in it: memory grows with takeovers and set changes, not with entries.

Two journals that have an entry of the same epoch at the same index are equal up to there (Ongaro 2014, section 3.5), so
the shape is all that is needed to compare them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from attrs import frozen

from jcpeer.application.manifest import ReplicaSet
from jcpeer.ft.events import LogShape, Run, SetChange
from jcpeer.ids import Epoch
from jcpeer.wire.facts import Ended, Entry, ReplicasChanged


@frozen
class QuorumSince:
    """In that epoch a journal came to need a quorum. `committed`: as far as its keeper knows."""

    epoch: Epoch
    committed: bool

    def binds(self, other: QuorumSince | None) -> bool:
        """Something may have been promised by this quorum that a journal with the other one lacks. Two that were each
        made without the other cannot both be kept: the later stands."""
        if not self.committed or (other is not None and other.epoch == self.epoch):
            return False
        return other is None or not other.committed or other.epoch < self.epoch


class Log:
    """Invariants: see `check`."""

    def __init__(self, first_set: ReplicaSet, shape: LogShape) -> None:
        self._runs = list(shape.runs)
        self._sets = [SetChange(0, first_set), *shape.sets]
        self.last_index = shape.last_index
        self.written = shape.last_index
        """Up to here it is on the disk."""
        self.committed = min(shape.committed, shape.last_index)
        """Up to here it is known to be on `ack` journals."""
        self.ended_index = shape.ended_index
        """Of the application's end; 0 where it has not come. Only a new reign may follow."""

    # --- entries

    @property
    def last_epoch(self) -> Epoch | None:
        return self._runs[-1].epoch if self._runs else None

    def epoch_at(self, index: int) -> Epoch | None:
        """The epoch of this entry; None for what is before the first, or after the last."""
        if not 0 < index <= self.last_index:
            return None
        return self._runs[self._run_of(index)].epoch

    def has(self, index: int, epoch: Epoch | None) -> bool:
        """This very entry is in it; the beginning (0, None) always is."""
        return index <= self.last_index and self.epoch_at(index) == epoch

    def before_run(self, index: int) -> int:
        """The index before the first entry of the same epoch as this one: where another journal that differs here may
        agree. Beyond the end, that is the last entry."""
        if index > self.last_index:
            return self.last_index
        return self._runs[self._run_of(index)].first_index - 1 if index else 0

    def conflict(self, entries: Sequence[Entry]) -> int | None:
        """The first index at which these entries and the journal differ."""
        for each in entries:
            if each.index > self.last_index:
                return None
            if self.epoch_at(each.index) != each.epoch:
                return each.index
        return None

    def append(self, entries: Sequence[Entry]) -> None:
        """These follow the last one."""
        for each in entries:
            assert each.index == self.last_index + 1, f"entry {each.index} after {self.last_index}"
            if each.epoch != self.last_epoch:
                assert self.last_epoch is None or each.epoch > self.last_epoch, "epochs never go down"
                self._runs.append(Run(each.index, each.epoch))
            self.last_index = each.index
            if isinstance(each.fact, Ended):
                self.ended_index = each.index
            if isinstance(each.fact, ReplicasChanged):
                self._sets.append(SetChange(each.index, each.fact.replica_set))

    def truncate(self, after_index: int) -> None:
        """What is after this index was taken back."""
        if after_index >= self.last_index:
            return
        self.last_index = after_index
        self.written = min(self.written, after_index)
        self.committed = min(self.committed, after_index)
        if self.ended_index > after_index:
            self.ended_index = 0
        while self._runs and self._runs[-1].first_index > after_index:
            self._runs.pop()
        while self._sets[-1].index > after_index:
            self._sets.pop()

    @property
    def over(self) -> bool:
        """The application has ended, and that is committed."""
        return 0 < self.ended_index <= self.committed

    # --- sets

    def sets(self) -> Iterator[ReplicaSet]:
        """All that ever were, the first first."""
        return (each.replica_set for each in self._sets)

    @property
    def latest(self) -> ReplicaSet:
        """The set that whoever has this journal goes by, committed or not (Ongaro 2014, section 4.1)."""
        return self._sets[-1].replica_set

    @property
    def changed_at(self) -> int:
        """Where the latest set came from; 0 for the one that the submitter signed."""
        return self._sets[-1].index

    @property
    def settled(self) -> ReplicaSet:
        """The latest set of which it is known that it was committed."""
        return next(each.replica_set for each in reversed(self._sets) if each.index <= self.committed)

    def set_for(self, index: int) -> ReplicaSet:
        """The set in which the entry at this index counts: a change counts in the set before it."""
        return next(each.replica_set for each in reversed(self._sets) if each.index < index or not each.index)

    def was_available(self) -> bool:
        """There was a time when nobody was needed for a promise but the coordinator."""
        return any(not each.replica_set.quorum for each in self._sets)

    def needed_no_quorum(self, index: int) -> bool:
        """What is committed at this index, one journal may have committed alone: in a set without a quorum, or along
        with a change to one, by which a user had this copy go on."""
        changes = [each for each in self._sets if index <= each.index <= self.committed]
        return not all(each.quorum for each in [self.set_for(index), *(change.replica_set for change in changes)])

    @property
    def quorum(self) -> QuorumSince | None:
        """When it came to need a quorum, where it had been going on without one; None where it needs none, or always
        did. A quorum that is committed is told rather than a later one that is not."""
        found: QuorumSince | None = None
        for before, change in pairwise(self._sets):
            committed = change.index <= self.committed
            if found is not None and found.committed and not committed:
                break
            if change.replica_set.quorum and not before.replica_set.quorum:
                epoch = self.epoch_at(change.index)
                assert epoch is not None
                found = QuorumSince(epoch, committed)
            elif not change.replica_set.quorum:
                found = None
        return found

    def sets_in_force(self) -> Iterator[tuple[int, int, ReplicaSet]]:
        """The uncommitted entries by the set in which they count: those after the first index, up to the second."""
        first = self.committed
        for change, before in self.uncommitted_changes():
            yield first, change.index, before
            first = change.index
        if first < self.last_index:
            yield first, self.last_index, self.latest

    def uncommitted_changes(self) -> Iterator[tuple[SetChange, ReplicaSet]]:
        """With the set before each."""
        first = bisect_right(self._sets, self.committed, key=lambda change: change.index)
        for change in self._sets[first:]:
            yield change, self.set_for(change.index)

    # --- all of it

    def shape(self, *, promised: Epoch | None, unsure: bool, new: bool) -> LogShape:
        runs, sets = tuple(self._runs), tuple(self._sets[1:])
        return LogShape(runs, self.last_index, self.committed, sets, promised, unsure, new, self.ended_index)

    def check(self) -> None:
        """Assert what holds after each event."""
        assert 0 <= self.written <= self.last_index
        assert 0 <= self.committed <= self.last_index
        assert bool(self._runs) == bool(self.last_index)
        assert not self._runs or self._runs[0].first_index == 1
        assert not self._runs or self._runs[-1].first_index <= self.last_index
        for run, next_run in pairwise(self._runs):
            assert run.first_index < next_run.first_index
            assert run.epoch < next_run.epoch, "epochs go up"
        assert self._sets[-1].index <= self.last_index
        assert 0 <= self.ended_index <= self.last_index
        for change, next_change in pairwise(self._sets):
            assert change.index < next_change.index
            assert change.replica_set.number < next_change.replica_set.number, "sets are counted upwards"

    def _run_of(self, index: int) -> int:
        return bisect_right(self._runs, index, key=lambda run: run.first_index) - 1
