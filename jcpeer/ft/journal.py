"""The journal of one node: the facts of every application that it coordinates or keeps a copy of, what it promised
about them, what is left of those that were buried, and where those are to live that were handed to it.

`Journal` decides the order in which things become durable; a `Disk` keeps them. Whatever is written joins one queue,
and a child commits all that has gathered there as one group: one transaction serves every application that had
something to say while the previous one was written.

Invariants: an application's entries have consecutive indices from 1, and epochs that never go down; nothing is reported
as written before the disk has it, nor once it was taken back; nothing overtakes anything. What the facts mean is known
to `coordinator.state`, but for one thing: the data of small outputs goes into a table of its own, and entries come back
without it, so that a state built from them stays small.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from jcpeer.errors import LocalProtocolError, StorageError
from jcpeer.ft.disk import (
    Append,
    Begin,
    Bury,
    Disk,
    Forget,
    ForgetTombstones,
    Held,
    NoteCommitted,
    Place,
    Promise,
    Run,
    Sure,
    Truncate,
    Unplace,
    Write,
)
from jcpeer.ids import AppId, Digest, Epoch, short
from jcpeer.values import evolve
from jcpeer.wire.facts import Brought, Entry, Finished
from jcpeer.wire.messages import Output

NOTHING = Held()


@frozen
class Written:
    """What the disk has of an application and nobody has taken back: entries up to this index, and this promise."""

    index: int = 0
    promised: Epoch | None = None


Report = Callable[[AppId, Written], None]


class Journal:
    """Made by `open_journal`. Reads see what is on the disk; writes never block."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._held = disk.load()
        self._written = {app: Written(held.last_index, held.promised) for app, held in self._held.items()}
        self._decisions = disk.decisions()
        self._queue: list[Write] = []
        self._cuts: dict[AppId, int] = {}
        """After this index the queue takes entries back, should the group that is being written bring them."""
        self._notes: dict[AppId, int] = {}
        self._uncommitted: dict[tuple[AppId, Digest], bytes] = {}
        self._burying: dict[AppId, bytes] = {}
        self._news = trio.Event()
        self._awaiting: list[trio.Event] = []
        self._report: Report = lambda app, written: None
        self._failure: StorageError | None = None

    @property
    def id(self) -> str:
        """The name of this very journal, by chance; a lost, copied or restored file has another."""
        return self._disk.journal_id

    def report_commits(self, report: Report) -> None:
        """Call this after each group, once for each application that had entries, a truncation or a promise in it; set
        before the first write, and again by who no longer wants to know."""
        self._report = report

    # --- writing

    def begin(self, app: AppId, *, unsure: bool = False) -> None:
        """There is a copy of this application here, if still an empty one. The other writes begin it by themselves.

        Args:
            unsure: It counts for nothing until it has caught up, should it be new.

        Raises:
            LocalProtocolError: it is buried here.
        """
        self._begun(app, unsure=unsure)

    def append(
        self,
        app: AppId,
        entries: Sequence[Entry],
        blobs: Iterable[Brought] = (),
        *,
        synced: bool = False,
    ) -> None:
        """Queue entries; they are committed together with these small blobs, which `inline` gives back.

        Args:
            blobs: Each with the index of one of these, of one before, or of one that is to follow.
            synced: They, and all that was written before, are to survive a crash of the machine once they are reported.

        Raises:
            LocalProtocolError: they do not follow the last entry, in index or epoch, or the application is buried here.
        """
        held = self._begun(app)
        for entry in entries:
            if entry.index != held.last_index + 1:
                raise LocalProtocolError(f"entry {entry.index} of {short(app)} after entry {held.last_index}")
            if held.runs and entry.epoch < held.runs[-1][1]:
                raise LocalProtocolError(
                    f"entry {entry.index} of {short(app)} is of epoch {entry.epoch.counter}, "
                    f"the one before of epoch {held.runs[-1][1].counter}"
                )
            held.add(entry.index, entry.epoch)
        data = list(blobs)
        kept = tuple([_without_data(entry, data) for entry in entries])
        for each in data:
            self._uncommitted[app, each.digest] = each.data
        self._write(Append(app, kept, tuple(data), synced))

    def truncate(self, app: AppId, *, after_index: int, even_committed: bool = False) -> None:
        """Take back the entries after this index.

        Args:
            even_committed: Each side of a split has committed what it liked, and this one gives way.

        Raises:
            LocalProtocolError: an entry to be taken back is known to be committed.
        """
        held = self._begun(app)
        if after_index < (0 if even_committed else held.committed):
            raise LocalProtocolError(f"entries of {short(app)} after {after_index}, but {held.committed} are committed")
        held.cut(after_index)
        self._cut(app, after_index)
        if app in self._notes:
            self._notes[app] = min(self._notes[app], after_index)
        self._write(Truncate(app, after_index))

    def promise_soon(self, app: AppId, epoch: Epoch) -> None:
        """No entry and no vote of a lower epoch any more. It holds once it is reported: then it, and all that was
        written before it, survives a crash of the machine.

        Raises:
            LocalProtocolError: a higher epoch was promised, or the application is buried here.
        """
        held = self._begun(app)
        if held.promised is not None and epoch < held.promised:
            raise LocalProtocolError(f"epoch {epoch.counter} of {short(app)} after a promise of {held.promised}")
        held.promised = epoch
        self._write(Promise(app, epoch))

    async def promise(self, app: AppId, epoch: Epoch) -> None:
        """`promise_soon`, and wait until it holds."""
        self.promise_soon(app, epoch)
        await self._commit_of_queue()

    def note_committed(self, app: AppId, index: int) -> None:
        """Up to this index, entries are on as many journals as are demanded. Kept as a hint that goes along with the
        next group: after a crash it may be lower.

        Raises:
            LocalProtocolError: there are not so many entries here.
        """
        held = self._held.get(app, NOTHING)
        if index > held.last_index:
            raise LocalProtocolError(f"entry {index} of {short(app)} is committed, and {held.last_index} is the last")
        if index > held.committed:
            held.committed = self._notes[app] = index

    def sure(self, app: AppId) -> None:
        """The copy has caught up with a coordinator: it may count again."""
        held = self._held.get(app, NOTHING)
        if held.unsure:
            held.unsure = held.new = False
            self._write(Sure(app))

    def forget(self, app: AppId) -> None:
        """Everything about this application goes."""
        if app in self._held:
            self._drop(app)
            self._write(Forget(app))

    def bury(self, app: AppId, tombstone: bytes, *, at_s: float) -> None:
        """Everything about this application goes, whether it was here or not, and this stays; it does not begin anew.

        Args:
            tombstone: What is to be told of it.
            at_s: Seconds since 1970.
        """
        self._drop(app)
        self._burying[app] = tombstone
        self._write(Bury(app, tombstone, at_s))

    def forget_tombstones(self, *, before_s: float) -> None:
        """Nothing is known any more of what was buried before then (seconds since 1970)."""
        self._write(ForgetTombstones(before_s))

    async def place(self, app: AppId, decision: bytes) -> None:
        """Keep where an application is to live; returns when that is on the disk."""
        self._decisions[app] = decision
        self._write(Place(app, decision))
        await self._commit_of_queue()

    def unplace(self, app: AppId) -> None:
        """Forget where an application was to live."""
        if self._decisions.pop(app, None) is not None:
            self._write(Unplace(app))

    # --- reading

    def decisions(self) -> dict[AppId, bytes]:
        """Where applications are to live, as far as this node decided it."""
        return dict(self._decisions)

    def applications(self) -> list[AppId]:
        return list(self._held)

    def untouched(self, app: AppId) -> bool:
        """Nothing was ever recorded, promised or lost here: where this node is to begin it, it may."""
        held = self._held.get(app, NOTHING)
        return not held.last_index and held.promised is None and not held.unsure

    def read(self, app: AppId, *, after_index: int = 0, with_data: bool = False) -> Iterator[Entry]:
        """The entries on the disk after an index, in order. Beyond `written_index` some may be about to be taken back.

        Args:
            with_data: With the bytes of small outputs, as far as the journal has them.

        Raises:
            StorageError: the journal is damaged.
        """
        entries = self._disk.read(app, after_index=after_index)
        return (self._with_data(app, each) for each in entries) if with_data else entries

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        """The small blobs on the disk that came with the entries after one index and up to another, data of outputs
        included: whoever gets these with the entries has all that they brought, and needs no `with_data`."""
        return self._disk.blobs(app, after_index=after_index, up_to=up_to)

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        """A small blob that an entry brought."""
        if app not in self._held:
            return None
        queued = self._uncommitted.get((app, digest))
        return queued if queued is not None else self._disk.inline(app, digest)

    async def note_places(self) -> None:
        """Learn where blobs are before the first of them is asked for; others have their turns meanwhile."""
        await self._disk.note_places()

    def last_index(self, app: AppId) -> int:
        """The index that the next entry follows, on the disk or not; 0 at the beginning."""
        return self._held.get(app, NOTHING).last_index

    def written_index(self, app: AppId) -> int:
        """Up to here entries are on the disk, and have not been taken back."""
        return self._written.get(app, Written()).index

    def shape(self, app: AppId) -> tuple[Run, ...]:
        """Which epochs its entries have, on the disk or not: the first index of each, in order."""
        return tuple(self._held.get(app, NOTHING).runs)

    def committed(self, app: AppId) -> int:
        """The index that was noted last; a hint, since more may be committed."""
        return self._held.get(app, NOTHING).committed

    def unsure(self, app: AppId) -> bool:
        """The disk may have lost the end of this copy, or more: it counts for nothing until it has caught up."""
        return self._held.get(app, NOTHING).unsure

    def new(self, app: AppId) -> bool:
        """It was begun as unsure, and has not caught up since."""
        return self._held.get(app, NOTHING).new

    def promised(self, app: AppId) -> Epoch | None:
        """The highest epoch that was promised, or is about to be."""
        return self._held.get(app, NOTHING).promised

    def tombstone(self, app: AppId) -> bytes | None:
        """What is left of an application that was buried."""
        found = self._burying.get(app)
        return found if found is not None else self._disk.tombstone(app)

    # --- what is held

    def _begun(self, app: AppId, *, unsure: bool = False) -> Held:
        held = self._held.get(app)
        if held is None:
            if self.tombstone(app) is not None:
                raise LocalProtocolError(f"application {short(app)} is buried here")
            held = self._held[app] = Held(unsure=unsure, new=unsure)
            self._write(Begin(app, unsure))
        return held

    def _drop(self, app: AppId) -> None:
        self._held.pop(app, None)
        self._notes.pop(app, None)
        self._cut(app, 0)

    def _cut(self, app: AppId, after_index: int) -> None:
        """What is on the disk after this index stands no more: entries that take its place are not there yet."""
        self._cuts[app] = min(self._cuts.get(app, after_index), after_index)
        self._note_written(app)

    def _with_data(self, app: AppId, entry: Entry) -> Entry:
        def filled(output: Output) -> Output:
            return evolve(output, data=self.inline(app, output.blob.digest)) if output.blob.small else output

        return _with_outputs(entry, filled) if isinstance(entry.fact, Finished) else entry

    # --- the child that commits

    def _write(self, write: Write) -> None:
        self._queue.append(write)
        self._news.set()

    async def _commit_of_queue(self) -> None:
        kept = trio.Event()
        self._awaiting.append(kept)
        await kept.wait()

    async def _commit_in_groups(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                await self._news.wait()
                for app in await self._commit_group():
                    if app in self._held:
                        self._report(app, self._written[app])
        except StorageError as error:
            self._failure = error
            scope.cancel()

    async def _commit_group(self) -> Iterable[AppId]:
        """Commit all that is queued; the applications of which other things are on the disk then."""
        group = [*self._queue, *(NoteCommitted(app, index) for app, index in self._notes.items())]
        awaiting, self._awaiting = self._awaiting, []
        self._queue, self._cuts, self._notes = [], {}, {}
        self._news = trio.Event()
        with trio.CancelScope(shield=True):  # half of a group cannot be, and a disk cannot be hurried
            await self._disk.commit(group)
        for each in awaiting:
            each.set()
        changed: dict[AppId, None] = {}
        for write in group:
            match write:
                case Append(app, entries, blobs):
                    if entries:
                        self._note_written(app, index=entries[-1].index)
                        changed[app] = None
                    for blob in blobs:
                        self._uncommitted.pop((app, blob.digest), None)
                case Truncate(app, after_index):
                    self._note_written(app, index=min(after_index, self.written_index(app)))
                    changed[app] = None
                case Promise(app, epoch):
                    self._note_written(app, promised=epoch)
                    changed[app] = None
                case Forget(app) | Bury(app):
                    self._written.pop(app, None)
                    changed.pop(app, None)
                    if isinstance(write, Bury) and self._burying.get(app) is write.tombstone:
                        del self._burying[app]
        return changed

    def _note_written(self, app: AppId, *, index: int | None = None, promised: Epoch | None = None) -> None:
        before = self._written.get(app, Written())
        index = before.index if index is None else index
        self._written[app] = Written(min(index, self._cuts.get(app, index)), promised or before.promised)

    async def _end(self) -> None:
        """Commit what is left; nobody is told any more."""
        if self._failure is None and (self._queue or self._notes):
            await self._commit_group()
        if self._failure is not None:
            raise self._failure


@asynccontextmanager
async def open_journal(disk: Disk) -> AsyncIterator[Journal]:
    """A journal that commits until the block is left, and then once more.

    Raises:
        StorageError: the disk is full or damaged. The block is cancelled then: a node that cannot keep its word ends.
    """
    try:
        journal = Journal(disk)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal._commit_in_groups, nursery.cancel_scope)
                yield journal
                nursery.cancel_scope.cancel()
        finally:
            await journal._end()
    finally:
        disk.close()


def _without_data(entry: Entry, data: list[Brought]) -> Entry:
    """The entry without the bytes of its small outputs, which go into `data`."""
    if not isinstance(entry.fact, Finished):
        return entry
    outputs = entry.fact.outcome.outputs
    found = [Brought(entry.index, each.blob.digest, each.data) for each in outputs if each.data is not None]
    if not found:
        return entry
    data += found
    return _with_outputs(entry, lambda output: evolve(output, data=None))


def _with_outputs(entry: Entry, change: Callable[[Output], Output]) -> Entry:
    assert isinstance(entry.fact, Finished)
    outcome = entry.fact.outcome
    outputs = tuple([change(each) for each in outcome.outputs])
    return evolve(entry, fact=evolve(entry.fact, outcome=evolve(outcome, outputs=outputs)))
