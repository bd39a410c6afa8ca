"""Everybody whom a node ever met: in its table, beside it for want of room, or missing.

Nobody is in here but checked members that showed themselves: they were seen by the directory, asked something, or
answered. Those that were lost are kept, for a network that was divided is put together again by asking them.
"""

from __future__ import annotations

import math
from typing import Literal

from attrs import frozen

from jcpeer.dht.hat import Hat
from jcpeer.dht.table import Entry, Table
from jcpeer.ids import NodeId
from jcpeer.wire.messages import Contact

KNOWN_MAX = 4096
"""Beyond the table; over this one that is missing is forgotten, or else any."""

Change = Literal["new", "back", "same"]


class Known(Entry):
    """A member that was met.

    Attributes:
        heard_s: When it last showed that it lives.
        watched: Somebody will say when it is gone, so it need not be asked whether it lives.
        missing: It was lost, and has not been heard since.
    """

    def __init__(self, contact: Contact) -> None:
        super().__init__(contact)
        self.heard_s = -math.inf
        self.watched = False
        self.missing = False


@frozen
class Met:
    """What came of a sign of life. `doubtful` heads a bucket that is full: were it dead, there would be room."""

    entry: Known
    change: Change
    doubtful: Known | None


class Book:
    """Who is known, and which of them are in the routing table. Invariants: see `check`."""

    def __init__(self, me: Entry, *, bucket_size: int, known_max: int = KNOWN_MAX) -> None:
        self.table = Table(me, bucket_size=bucket_size)
        self._me = me
        self._known_max = known_max
        self._known: dict[NodeId, Known] = {}
        self._beside: Hat[Known] = Hat()
        """Those that had no room in the table when they were last heard."""
        self._missing: Hat[Known] = Hat()
        self.last_loss_s = -math.inf

    def met(self, node: NodeId, addresses: tuple[str, ...], now_s: float) -> Met | None:
        """A member lives. Without addresses those that are known stay; one that has none cannot be asked anything."""
        entry = self._known.get(node)
        change: Change = "same"
        if entry is None:
            if not addresses or node == self._me.id:
                return None
            entry = self._known[node] = Known(Contact(node, addresses))
            change = "new"
        elif addresses and addresses != entry.contact.addresses:
            entry.contact = Contact(node, addresses)
        if entry.missing:
            entry.missing = False
            self._missing.discard(entry)
            change = "back"
        entry.heard_s = now_s
        doubtful = self.table.add_contact(entry)
        if doubtful is not None:
            self._beside.add(entry)
        if change == "new":
            self._make_room()
        return Met(entry, change, doubtful if isinstance(doubtful, Known) else None)

    def lost(self, node: NodeId, now_s: float) -> bool:
        """It seems to be dead. Returns whether that is new."""
        entry = self._known.get(node)
        if entry is None or entry.missing:
            return False
        entry.missing = True
        entry.watched = False
        self._beside.discard(entry)
        self._missing.add(entry)
        self.table.remove_contact(entry)
        self.last_loss_s = now_s
        return True

    def get(self, node: NodeId) -> Known | None:
        return self._known.get(node)

    def entry_of(self, contact: Contact) -> Entry:
        """Where to ask one whom somebody named: what it said of itself counts for more, as long as it is there."""
        entry = self._known.get(contact.node)
        if entry is None:
            return Entry(contact)
        if entry.missing:
            return Entry(Contact(contact.node, tuple(dict.fromkeys(contact.addresses + entry.contact.addresses))))
        return entry

    def stalest(self) -> Known | None:
        """Of those in the table for whom nobody watches, the one that was heard longest ago."""
        return min((each for each in self.table if not each.watched), key=lambda each: each.heard_s, default=None)

    @property
    def anybody_missing(self) -> bool:
        return len(self._missing) > 0

    def draw(self, fraction: float, *, missing: bool) -> Known | None:
        """One who is not in the table: missing if possible where that is asked for, else one without room, else any."""
        if missing and self._missing:
            return self._missing.draw(fraction)
        while self._beside:
            entry = self._beside.draw(fraction)
            if entry not in self.table:
                return entry
            self._beside.discard(entry)  # it moved up into the table, when somebody left it or a bucket was split
        if self._missing:
            return self._missing.draw(fraction)
        return next(iter(self.table.nearest(int(fraction * 2**160), 1)), None)

    def check(self) -> None:
        """Asserts the invariants."""
        self.table.check()
        assert self._me.id not in self._known
        assert len(self._known) <= self._known_max + len(self.table)
        in_table = {entry.id for entry in self.table}
        for node, entry in self._known.items():
            assert entry.id == node
            assert entry.contact.addresses, "nobody could dial it"
            assert entry.missing == (entry in self._missing)
            assert (node in in_table) + entry.missing <= 1, "in the table, and missing"
            assert node in in_table or entry.missing or entry in self._beside, "forgotten"
        assert in_table <= self._known.keys()

    def _make_room(self) -> None:
        while len(self._known) > self._known_max:
            dispensable = self._missing or self._beside
            if not dispensable:
                return
            entry = dispensable.draw(0.0)
            self._missing.discard(entry)
            self._beside.discard(entry)
            if entry not in self.table:
                self.table.remove_contact(entry)  # it may wait there to replace another
                del self._known[entry.id]
