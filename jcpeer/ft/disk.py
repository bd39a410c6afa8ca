"""What a journal writes, and what it demands of the disk that keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from attrs import define, field, frozen

from jcpeer.ids import AppId, Digest, Epoch
from jcpeer.wire.facts import Brought, Entry

Durability = Literal["process", "disk"]
"""What a committed group survives: the end of the process, or that of the machine as well."""

Run = tuple[int, Epoch]
"""Entries of one epoch that follow each other: the index of the first, and the epoch. They end where the next begin."""

CAME_WITH_NONE = 2**62
"""The index of a blob whose entry was taken back."""


@frozen
class Begin:
    """The application is new here. `unsure`: there may have been a copy before that counted for something."""

    app: AppId
    unsure: bool = False


@frozen
class Append:
    """`blobs` come with the entries that they name, which may be there already or follow. `synced`: the group that has
    it is."""

    app: AppId
    entries: tuple[Entry, ...]
    blobs: tuple[Brought, ...]
    synced: bool = False


@frozen
class Truncate:
    """Entries after this index are gone. Blobs that came with them may stay, but came with none that stands."""

    app: AppId
    after_index: int


@frozen
class Promise:
    """No entry and no vote of a lower epoch any more. Survives the machine: the group that has one is synced."""

    app: AppId
    epoch: Epoch


@frozen
class NoteCommitted:
    """Up to this index, entries are on as many journals as the application demands, as far as this one was told."""

    app: AppId
    index: int


@frozen
class Sure:
    """The copy has caught up: what the disk may have lost is there again."""

    app: AppId


@frozen
class Forget:
    """Nothing of the application stays."""

    app: AppId


@frozen
class Bury:
    """Nothing of the application stays but this, since `at_s` (seconds since 1970)."""

    app: AppId
    tombstone: bytes
    at_s: float


@frozen
class ForgetTombstones:
    """Those of what was buried before."""

    before_s: float


@frozen
class Place:
    """This node decided where an application is to live that may well be another node's."""

    app: AppId
    decision: bytes


@frozen
class Unplace:
    app: AppId


Write = Begin | Append | Truncate | Promise | NoteCommitted | Sure | Forget | Bury | ForgetTombstones | Place | Unplace


@define
class Held:
    """What a journal has of one application; its entries are not in memory, only their shape."""

    promised: Epoch | None = None
    committed: int = 0
    unsure: bool = False
    new: bool = False
    """It was begun as unsure and has not caught up since: whatever an earlier copy was counted for is forgotten."""
    last_index: int = 0
    runs: list[Run] = field(factory=list)

    def add(self, index: int, epoch: Epoch) -> None:
        """An entry follows the last one."""
        self.last_index = index
        if not self.runs or self.runs[-1][1] != epoch:
            self.runs.append((index, epoch))

    def cut(self, after_index: int) -> None:
        """Entries after this index are gone."""
        self.last_index = min(self.last_index, after_index)
        self.committed = min(self.committed, after_index)
        while self.runs and self.runs[-1][0] > after_index:
            self.runs.pop()


def is_synced(write: Write) -> bool:
    """The group that has it must outlive the machine, and with it all that was written before."""
    return isinstance(write, Promise | Sure) or (isinstance(write, Append) and write.synced)


class Disk(Protocol):
    """Where a journal is kept. Every method raises StorageError if the disk is full, damaged or not to be read."""

    @property
    def journal_id(self) -> str:
        """The name of this very journal, by chance: an empty, copied or restored one has another."""

    def load(self) -> dict[AppId, Held]:
        """What earlier runs left."""

    def decisions(self) -> dict[AppId, bytes]:
        """Where earlier runs decided to place applications."""

    async def commit(self, writes: Sequence[Write]) -> None:
        """All of these in order, or none; on return they are there. One call at a time."""

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        """Entries in order, without the data of small outputs."""

    def inline(self, app: AppId, digest: Digest) -> bytes | None: ...

    async def note_places(self) -> None:
        """Learn where blobs are before the first is asked for: there may be millions, which `inline` would look over at
        once."""

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        """Those that came with the entries in between. One that came with several counts as come with the first, and
        where it is tiny perhaps with the others, too."""

    def tombstone(self, app: AppId) -> bytes | None: ...

    def close(self) -> None:
        """Everything is synced first, so that no later end of the machine can take anything."""
