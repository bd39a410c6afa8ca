"""A simulated disk: what survives the process, what survives the machine, and what a copy of it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

import trio
from attrs import define, field

from jcpeer.errors import StorageError
from jcpeer.ft.disk import (
    CAME_WITH_NONE,
    Append,
    Begin,
    Bury,
    Durability,
    Forget,
    ForgetTombstones,
    Held,
    NoteCommitted,
    Place,
    Promise,
    Sure,
    Truncate,
    Unplace,
    Write,
    is_synced,
)
from jcpeer.ids import AppId, Digest, Epoch
from jcpeer.values import evolve
from jcpeer.wire.facts import Brought, Entry


@define
class _Copy:
    """What there is of one application, or of its grave."""

    begun: bool = False
    promised: Epoch | None = None
    committed: int = 0
    unsure: bool = False
    new: bool = False
    entries: list[Entry] = field(factory=list)
    blobs: dict[Digest, Brought] = field(factory=dict)
    tombstone: tuple[float, bytes] | None = None
    decision: bytes | None = None

    def cloned(self) -> _Copy:
        return evolve(self, entries=list(self.entries), blobs=dict(self.blobs))

    def held(self) -> Held:
        held = Held(self.promised, self.committed, self.unsure, self.new)
        for entry in self.entries:
            held.add(entry.index, entry.epoch)
        return held

    def emptied(self) -> _Copy:
        """Without what was kept of the application itself."""
        return _Copy(tombstone=self.tombstone, decision=self.decision)


@define
class MemoryDisk:
    """A group takes `delay_s` of virtual time, and what is there survives the node. One that is `full` takes nothing.

    `name` tells the journals of different nodes apart. Nodes that start again do so with the disk itself, or with what
    one of the methods `after_crash`, `after_reboot` and `copied` makes of it.
    """

    name: str = ""
    delay_s: float = 0.0
    durability: Durability = "process"
    full: bool = False
    _copies: dict[AppId, _Copy] = field(factory=dict, init=False)
    _synced: dict[AppId, _Copy] = field(factory=dict, init=False)
    """What was written since the last synced group, as it was then."""
    _at_risk: bool = field(default=False, init=False)
    """An end of the machine may take something."""
    _times_copied: int = field(default=0, init=False)

    # --- what becomes of it

    def after_crash(self) -> MemoryDisk:
        """This disk as the end of the process at this instant leaves it: without the group that is being written."""
        found = MemoryDisk(self.name, self.delay_s, self.durability, self.full)
        found._copies = {app: copy.cloned() for app, copy in self._copies.items()}
        found._synced = {app: copy.cloned() for app, copy in self._synced.items()}
        found._at_risk = self._at_risk
        found._times_copied = self._times_copied
        return found

    def after_reboot(self) -> MemoryDisk:
        """This disk as the end of the machine leaves it, at worst: without what was written after the last synced
        group."""
        found = self.after_crash()
        found._copies |= found._synced
        found._synced = {}
        found._make_unsure(found._at_risk)
        return found

    def copied(self) -> MemoryDisk:
        """What a node finds that starts with a copy of this disk, as from a backup."""
        found = self.after_crash()
        self._times_copied += 1
        found.name, found._times_copied = f"{self.name}'{self._times_copied}", 0
        found._synced = {}
        found._make_unsure(True)
        return found

    def _make_unsure(self, unsure: bool) -> None:
        self._at_risk = False
        for copy in self._copies.values():
            copy.unsure |= copy.begun and unsure

    # --- reading

    @property
    def journal_id(self) -> str:
        return f"journal of {self.name}"

    def load(self) -> dict[AppId, Held]:
        return {app: copy.held() for app, copy in self._copies.items() if copy.begun}

    def decisions(self) -> dict[AppId, bytes]:
        return {app: copy.decision for app, copy in self._copies.items() if copy.decision is not None}

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        entries = self._of(app).entries
        while after_index < len(entries):
            yield entries[after_index]
            after_index += 1

    def inline(self, app: AppId, digest: Digest) -> bytes | None:
        found = self._of(app).blobs.get(digest)
        return found.data if found is not None else None

    async def note_places(self) -> None:
        pass  # it knows

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        for each in list(self._of(app).blobs.values()):
            if after_index < each.index <= up_to:
                yield each

    def tombstone(self, app: AppId) -> bytes | None:
        found = self._of(app).tombstone
        return found[1] if found is not None else None

    def _of(self, app: AppId) -> _Copy:
        return self._copies.get(app) or _Copy()

    # --- writing

    async def commit(self, writes: Sequence[Write]) -> None:
        if self.delay_s:
            await trio.sleep(self.delay_s)
        if self.full:
            raise StorageError(f"no space left for the {self.journal_id}: free some and start again")
        at_risk = self.durability == "process"
        # The first group of a run is synced, too: with it the file says that an end of the machine may take something.
        synced = not at_risk or not self._at_risk or any(is_synced(write) for write in writes)
        self._at_risk = at_risk
        for write in writes:
            self._apply(write, synced=synced)
        if synced:
            self._synced.clear()

    def close(self) -> None:
        self._synced.clear()
        self._at_risk = False

    def _apply(self, write: Write, *, synced: bool) -> None:
        if isinstance(write, ForgetTombstones):
            for app, copy in self._copies.items():
                if copy.tombstone is not None and copy.tombstone[0] < write.before_s:
                    if not synced:
                        self._synced.setdefault(app, copy.cloned())
                    copy.tombstone = None
            return
        app = write.app
        if app not in self._copies:
            self._copies[app] = _Copy()
        copy = self._copies[app]
        if not synced and app not in self._synced:
            self._synced[app] = copy.cloned()
        match write:
            case Begin(_, unsure):
                copy.begun, copy.unsure, copy.new = True, unsure, unsure
            case Append(_, more, blobs):
                copy.entries += more
                for each in blobs:
                    copy.blobs[each.digest] = min(each, copy.blobs.get(each.digest, each), key=lambda one: one.index)
            case Truncate(_, after_index):
                del copy.entries[after_index:]
                for each in [each for each in copy.blobs.values() if each.index > after_index]:
                    copy.blobs[each.digest] = evolve(each, index=CAME_WITH_NONE)
                copy.committed = min(copy.committed, after_index)
            case Promise(_, epoch):
                copy.promised = epoch
            case NoteCommitted(_, index):
                copy.committed = index
            case Sure():
                copy.unsure = copy.new = False
            case Forget():
                self._copies[app] = copy.emptied()
            case Bury(_, tombstone, at_s):
                self._copies[app] = evolve(copy.emptied(), tombstone=(at_s, tombstone))
            case Place(_, decision):
                copy.decision = decision
            case Unplace():
                copy.decision = None
            case _:
                assert_never(write)
