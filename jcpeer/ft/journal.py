"""The journal of one node: the facts of every application that it coordinates or keeps a copy of, and where those are
to live that were handed to it.

`Journal` decides the order in which things become durable; a `Disk` keeps them. Whatever is written joins one queue,
and a child commits all that has gathered there as one group: one transaction serves every application that had
something to say while the previous one was written.

Invariants: an application's entries have consecutive indices; nothing is reported as committed before the disk has it;
nothing overtakes anything. What the facts mean is known to `coordinator.state`, but for one thing: the data of small
outputs goes into a table of its own, and entries come back without it, so that a state built from them stays small.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Protocol, assert_never

import trio
from attrs import define, evolve, field, frozen

from jcpeer.errors import LocalProtocolError, StorageError
from jcpeer.ids import AppId, Digest, Epoch, short
from jcpeer.wire.facts import Entry, Finished

Committed = Callable[[AppId, int], None]
"""Every entry of the application up to this index is on the disk."""

NO_BLOBS: Mapping[Digest, bytes] = MappingProxyType({})


@frozen
class Begin:
    """The application is new here; its journal has this random id for as long as the file lives."""

    app: AppId
    journal_id: str


@frozen
class Append:
    app: AppId
    entries: tuple[Entry, ...]
    blobs: Mapping[Digest, bytes]


@frozen
class Truncate:
    """Entries after this index are gone."""

    app: AppId
    after_index: int


@frozen
class Promise:
    """No entry and no vote of a lower epoch any more. Survives the machine: the group that has one is synced."""

    app: AppId
    epoch: Epoch


@frozen
class Forget:
    app: AppId


@frozen
class Place:
    """This node decided where an application is to live that may well be another node's."""

    app: AppId
    decision: bytes


@frozen
class Unplace:
    app: AppId


Write = Begin | Append | Truncate | Promise | Forget | Place | Unplace


@define
class Held:
    """What a journal has of one application. `last_index` is 0 where it has no entry."""

    journal_id: str
    promised: Epoch | None = None
    last_index: int = 0


class Disk(Protocol):
    """Where a journal is kept. Every method raises StorageError if the disk is full, damaged or not to be read."""

    def load(self) -> dict[AppId, Held]:
        """What earlier runs left."""

    def decisions(self) -> dict[AppId, bytes]:
        """Where earlier runs decided to place applications."""

    def new_journal_id(self) -> str:
        """Another one each time, on whatever machine."""

    async def commit(self, writes: Sequence[Write]) -> None:
        """All of these in order, or none; on return they are there. One call at a time."""

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        """Entries in order, without the data of small outputs."""

    def inline(self, app: AppId, digest: Digest) -> bytes | None: ...

    def close(self) -> None: ...


class Journal:
    """Made by `open_journal`. Reads see what is committed; writes never block."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._held = disk.load()
        self._decisions = disk.decisions()
        self._queue: list[Write] = []
        self._uncommitted: dict[tuple[AppId, Digest], bytes] = {}
        self._news = trio.Event()
        self._awaiting: list[trio.Event] = []
        self._committed: Committed = lambda app, index: None
        self._failure: StorageError | None = None

    def report_commits(self, committed: Committed) -> None:
        """Call this after each group, once for each application in it; set once, before the first append."""
        self._committed = committed

    # --- writing

    def append(self, app: AppId, entries: Sequence[Entry], blobs: Mapping[Digest, bytes] = NO_BLOBS) -> None:
        """Queue entries; they are committed together with these small blobs, which `inline` gives back.

        Raises:
            LocalProtocolError: they do not follow the last entry.
        """
        held = self._begun(app)
        last = held.last_index
        for entry in entries:
            if last and entry.index != last + 1:
                raise LocalProtocolError(f"entry {entry.index} of {short(app)} after entry {last}")
            last = entry.index
        held.last_index = last
        data = dict(blobs)
        kept = tuple([_without_data(entry, data) for entry in entries])
        for digest, each in data.items():
            self._uncommitted[app, digest] = each
        self._write(Append(app, kept, data))

    def truncate(self, app: AppId, *, after_index: int) -> None:
        """Take back the entries after this index."""
        held = self._begun(app)
        held.last_index = min(held.last_index, after_index)
        self._write(Truncate(app, after_index))

    async def promise(self, app: AppId, epoch: Epoch) -> None:
        """Returns when the promise, and all that was written before it, would survive a crash of the machine.

        Raises:
            LocalProtocolError: a higher epoch was promised.
        """
        held = self._begun(app)
        if held.promised is not None and epoch < held.promised:
            raise LocalProtocolError(f"epoch {epoch.counter} of {short(app)} after a promise of {held.promised}")
        held.promised = epoch
        kept = trio.Event()
        self._awaiting.append(kept)
        self._write(Promise(app, epoch))
        await kept.wait()

    def forget(self, app: AppId) -> None:
        """Everything about this application goes."""
        if self._held.pop(app, None) is not None:
            self._write(Forget(app))

    async def place(self, app: AppId, decision: bytes) -> None:
        """Keep where an application is to live; returns when that is on the disk."""
        self._decisions[app] = decision
        kept = trio.Event()
        self._awaiting.append(kept)
        self._write(Place(app, decision))
        await kept.wait()

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

    def read(self, app: AppId, *, after_index: int = 0) -> Iterator[Entry]:
        """The committed entries after an index, in order, without the data of small outputs.

        Raises:
            StorageError: the journal is damaged.
        """
        return self._disk.read(app, after_index=after_index)

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        """A small blob that an entry brought."""
        if app not in self._held:
            return None
        queued = self._uncommitted.get((app, digest))
        return queued if queued is not None else self._disk.inline(app, digest)

    def last_index(self, app: AppId) -> int:
        """The index that the next entry follows, committed or not; 0 at the beginning."""
        return self._held[app].last_index if app in self._held else 0

    def journal_id(self, app: AppId) -> str | None:
        """The name of this very copy; a lost, restored or foreign file has another or none."""
        return self._held[app].journal_id if app in self._held else None

    def promised(self, app: AppId) -> Epoch | None:
        """The highest epoch that was promised, or is about to be."""
        return self._held[app].promised if app in self._held else None

    # --- the child that commits

    def _begun(self, app: AppId) -> Held:
        if app not in self._held:
            self._held[app] = Held(self._disk.new_journal_id())
            self._write(Begin(app, self._held[app].journal_id))
        return self._held[app]

    def _write(self, write: Write) -> None:
        self._queue.append(write)
        self._news.set()

    async def _commit_in_groups(self, scope: trio.CancelScope) -> None:
        try:
            while True:
                await self._news.wait()
                for app, index in (await self._commit_group()).items():
                    self._committed(app, index)
        except StorageError as error:
            self._failure = error
            scope.cancel()

    async def _commit_group(self) -> dict[AppId, int]:
        """Commit all that is queued; the last index of each application that had entries in it."""
        group, self._queue = self._queue, []
        awaiting, self._awaiting = self._awaiting, []
        self._news = trio.Event()
        with trio.CancelScope(shield=True):  # half of a group cannot be, and a disk cannot be hurried
            await self._disk.commit(group)
        for each in awaiting:
            each.set()
        last: dict[AppId, int] = {}
        for write in group:
            match write:
                case Append(app, entries, blobs):
                    if entries:
                        last[app] = entries[-1].index
                    for digest in blobs:
                        self._uncommitted.pop((app, digest), None)
                case Truncate(app, after_index) if app in last:
                    last[app] = min(last[app], after_index)
                case Forget(app):
                    last.pop(app, None)
        return last

    async def _end(self) -> None:
        """Commit what is left; nobody is told any more."""
        if self._failure is None and self._queue:
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


def _without_data(entry: Entry, data: dict[Digest, bytes]) -> Entry:
    """The entry without the bytes of its small outputs, which go into `data`."""
    if not isinstance(entry.fact, Finished):
        return entry
    outcome = entry.fact.outcome
    found = {each.blob.digest: each.data for each in outcome.outputs if each.data is not None}
    if not found:
        return entry
    data.update(found)
    outputs = tuple([evolve(each, data=None) for each in outcome.outputs])
    return evolve(entry, fact=evolve(entry.fact, outcome=evolve(outcome, outputs=outputs)))


@define
class MemoryDisk:
    """A simulated disk: a group takes `delay_s` of virtual time, and what is there survives the node.

    `name` tells the journals of different nodes apart.
    """

    name: str = ""
    delay_s: float = 0.0
    _held: dict[AppId, Held] = field(factory=dict, init=False)
    _entries: dict[AppId, list[Entry]] = field(factory=dict, init=False)
    _blobs: dict[AppId, dict[Digest, bytes]] = field(factory=dict, init=False)
    _decisions: dict[AppId, bytes] = field(factory=dict, init=False)
    _ids_given: int = field(default=0, init=False)

    def after_crash(self) -> MemoryDisk:
        """This disk as a crash at this instant leaves it: without the group that is being written."""
        found = MemoryDisk(self.name, self.delay_s)
        found._held = copy.deepcopy(self._held)
        found._entries = {app: list(entries) for app, entries in self._entries.items()}
        found._blobs = {app: dict(blobs) for app, blobs in self._blobs.items()}
        found._decisions = dict(self._decisions)
        found._ids_given = self._ids_given
        return found

    def load(self) -> dict[AppId, Held]:
        return copy.deepcopy(self._held)

    def decisions(self) -> dict[AppId, bytes]:
        return dict(self._decisions)

    def new_journal_id(self) -> str:
        self._ids_given += 1
        return f"{self.name}.{self._ids_given}"

    async def commit(self, writes: Sequence[Write]) -> None:
        if self.delay_s:
            await trio.sleep(self.delay_s)
        for write in writes:
            self._apply(write)

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        return iter([each for each in self._entries.get(app, ()) if each.index > after_index])

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        return self._blobs.get(app, {}).get(digest)

    def close(self) -> None:
        pass

    def _apply(self, write: Write) -> None:
        match write:
            case Begin(app, journal_id):
                self._held[app], self._entries[app], self._blobs[app] = Held(journal_id), [], {}
            case Append(app, more, blobs):
                self._entries[app] += more
                self._blobs[app].update(blobs)
            case Truncate(app, after_index):
                self._entries[app] = [each for each in self._entries[app] if each.index <= after_index]
            case Promise(app, epoch):
                self._held[app].promised = epoch
            case Forget(app):
                del self._held[app], self._entries[app], self._blobs[app]
            case Place(app, decision):
                self._decisions[app] = decision
            case Unplace(app):
                del self._decisions[app]
            case _:
                assert_never(write)
        if write.app in self._held:
            entries = self._entries[write.app]
            self._held[write.app].last_index = entries[-1].index if entries else 0
