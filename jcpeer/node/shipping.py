"""Entries on their way to other copies: what was recorded lately is at hand, the rest is read from the disk, and all of
it goes out in bounded frames, as fast as the other copy says that it has them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from attrs import define, field, frozen

from jcpeer.ft.events import Ship
from jcpeer.ft.journal import Journal
from jcpeer.ids import AppId, NodeId
from jcpeer.net.network import Network
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import AttemptLost, Brought, Entry, Finished
from jcpeer.wire.replication import AppendEntries

RECENT_ENTRIES_MAX = 4000
RECENT_BYTES_MAX = 8 * 2**20
"""Recorded lately, and so at hand for replicas that keep up; the others are sent what the disk has."""
FRAME_BYTES_MAX = 2**20
"""Of entries and blobs in one frame, about; far below the frame limit, so that nothing else waits long behind it. A
single entry may exceed it."""
FRAME_ENTRIES_MAX = 500
ON_THEIR_WAY_BYTES_MAX = 16 * 2**20
"""To one copy, before it has them: a batch may bring a mebibyte of small blobs, and a newcomer is to catch up with more
of them than its queue takes."""
ENTRY_BYTES = 300
NAMED_BLOB_BYTES = 150
"""What an outcome takes, roughly, beside the data of small outputs; and each blob that it names."""


@frozen
class _Recent:
    """An entry, and the small blobs without which nobody may have it; `size` is that of the entry alone."""

    entry: Entry
    blobs: Sequence[Brought]
    size: int

    @property
    def all_bytes(self) -> int:
        return self.size + sum(len(each.data) for each in self.blobs)


@define
class _Frame:
    """What goes out together."""

    entries: list[Entry] = field(factory=list)
    blobs: list[Brought] = field(factory=list)
    size: int = 0

    def has_room(self, more_bytes: int) -> bool:
        """An empty one has room for anything."""
        fits = len(self.entries) < FRAME_ENTRIES_MAX and self.size + more_bytes <= FRAME_BYTES_MAX
        return fits or not self.size


@define
class _Way:
    """To one copy: the entries on it, by index and size; and what waits for room there."""

    entries: deque[tuple[int, int]] = field(factory=deque)
    size: int = 0
    rest: Ship | None = None

    def sent(self, index: int, size: int) -> None:
        self.entries.append((index, size))
        self.size += size

    def kept(self, index: int) -> None:
        while self.entries and self.entries[0][0] <= index:
            self.size -= self.entries.popleft()[1]


class Shipping:
    """Of one application's entries."""

    def __init__(self, app: AppId, journal: Journal, network: Network) -> None:
        self._app = app
        self._journal = journal
        self._network = network
        self._recent: deque[_Recent] = deque()
        self._recent_bytes = 0
        self._ways: dict[NodeId, _Way] = {}
        self._loose: list[Brought] = []
        """Small blobs recorded since the last entry: the other copies get them along with the next one, without which
        nothing is promised on their strength."""

    def recorded(self, entries: tuple[Entry, ...], blobs: Iterable[Brought]) -> None:
        """The journal has these now, if not yet the disk; small blobs come with the first of them, if there is any."""
        self._loose += blobs
        for each in entries:
            self._remember(_Recent(each, self._loose, _size_of(each)))
            self._loose = []

    def forget(self) -> None:
        """What was at hand may not be in the journal any more."""
        self._ways.clear()
        self._recent.clear()
        self._recent_bytes = 0
        self._loose = []

    def begin_anew(self, node: NodeId) -> None:
        """What was on its way to this copy may be lost."""
        self._ways.pop(node, None)

    def kept(self, node: NodeId, index: int) -> None:
        """This copy has everything up to here."""
        if (way := self._ways.get(node)) is not None:
            way.kept(index)
            if way.rest is not None and way.size <= ON_THEIR_WAY_BYTES_MAX // 2:
                self._send(way, way.rest)

    def ship(self, effect: Ship) -> None:
        """Send what the effect says, at once or when there is room on the way."""
        way = self._ways.setdefault(effect.node, _Way())
        if way.rest is not None and effect.after_index == way.rest.last_index:
            way.rest = evolve(way.rest, last_index=effect.last_index, committed=effect.committed)
            return
        if way.rest is not None or (way.entries and effect.after_index < way.entries[-1][0]):
            way = self._ways[effect.node] = _Way()  # it is looked for where its journal agrees with ours
        self._send(way, effect)

    def _send(self, way: _Way, effect: Ship) -> None:
        way.rest = None
        after, epoch = effect.after_index, effect.after_epoch
        entries = self._with_room(way, effect)
        for frame in self._frames(entries):
            message = AppendEntries(
                self._app, effect.epoch, after, epoch, tuple(frame.entries), tuple(frame.blobs), effect.committed
            )
            self._network.send(effect.node, message)
            if frame.entries:
                after, epoch = frame.entries[-1].index, frame.entries[-1].epoch
        if after < effect.last_index:
            way.rest = evolve(effect, after_index=after, after_epoch=epoch)

    def _with_room(self, way: _Way, effect: Ship) -> list[_Recent]:
        """As many of these entries as there is room for, and one where nothing is on its way."""
        taken: list[_Recent] = []
        for each in self._entries(effect.after_index, effect.last_index):
            if way.entries and way.size + each.all_bytes > ON_THEIR_WAY_BYTES_MAX:
                break
            taken.append(each)
            way.sent(each.entry.index, each.all_bytes)
        return taken

    def _frames(self, entries: Sequence[_Recent]) -> Iterator[_Frame]:
        """Cut so that none is long; at least one. Blobs go before their entry or beside it: whoever has it has them."""
        frame = _Frame()
        for each in entries:
            for blob in each.blobs:
                if not frame.has_room(len(blob.data)):
                    yield frame
                    frame = _Frame()
                frame.blobs.append(blob)
                frame.size += len(blob.data)
            if not frame.has_room(each.size):
                yield frame
                frame = _Frame()
            frame.entries.append(each.entry)
            frame.size += each.size
        if frame.entries or not entries:
            yield frame

    def _entries(self, after: int, last: int) -> Iterator[_Recent]:
        if self._recent and self._recent[0].entry.index <= after + 1:
            first = self._recent[0].entry.index
            for at in range(after + 1 - first, min(last + 1 - first, len(self._recent))):
                yield self._recent[at]
            return
        begin = max(0, after - 1)  # blobs that came alone stand with the entry that was the last one then
        for entry in self._journal.read(self._app, after_index=after):
            if entry.index > last:
                return
            blobs = tuple(self._journal.blobs(self._app, after_index=begin, up_to=entry.index))
            yield _Recent(entry, blobs, _size_of(entry))
            begin = entry.index

    def _remember(self, recent: _Recent) -> None:
        self._recent.append(recent)
        self._recent_bytes += recent.all_bytes
        written = self._journal.written_index(self._app)
        while self._recent and self._recent[0].entry.index <= written and self._crowded:
            self._recent_bytes -= self._recent.popleft().all_bytes

    @property
    def _crowded(self) -> bool:
        return len(self._recent) > RECENT_ENTRIES_MAX or self._recent_bytes > RECENT_BYTES_MAX


def _size_of(entry: Entry) -> int:
    """Of the entry in a frame. Of what comes by the thousand it is estimated, since packing it twice would cost."""
    match entry.fact:
        case Finished(outcome=outcome):
            named = NAMED_BLOB_BYTES * (len(outcome.outputs) + len(outcome.consumed))
            return ENTRY_BYTES + named + sum(len(each.data) for each in outcome.outputs if each.data)
        case AttemptLost():
            return ENTRY_BYTES
        case fact:
            return len(pack(fact))
