"""The records that a node keeps up in the network: when to store each of them again, and where it was stored last.

A record is stored on the nodes nearest to its key, and again after a third of its lifetime, so that two losses in a row
do no harm; sooner when a good part of those nodes has changed, as far as this node hears of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from itertools import count

from attrs import define, field

from jcpeer.ids import NodeId
from jcpeer.wire.messages import Signed

SOON_S = 5.0
"""Changes come together: after the first that matters so long is waited for others, and up to twice so long."""


@define(eq=False)
class Publication:
    """One record, and the nodes that were asked to keep it."""

    key: int
    record: Signed
    lifetime_s: float
    due_s: float
    holders: set[NodeId] = field(factory=set)
    distance: int = 2**160
    """Of the farthest holder; of everybody, while there are fewer holders than there should be."""
    changes: int = 0


class Publications:
    """What this node publishes. Invariants: see `check`."""

    def __init__(self, *, bucket_size: int) -> None:
        self._bucket_size = bucket_size
        self._by_key: dict[int, Publication] = {}
        self._heap: list[tuple[float, int, Publication]] = []
        self._numbers = count()

    def keys(self) -> Collection[int]:
        """Under which keys records are published."""
        return self._by_key.keys()

    def publish(self, key: int, record: Signed, lifetime_s: float, now_s: float) -> None:
        """Have a record stored now and kept up, in place of an earlier one under that key."""
        publication = self._by_key[key] = Publication(key, record, lifetime_s, math.inf)
        self._schedule(publication, now_s)

    def withdraw(self, key: int) -> None:
        """Store it no more: where it is kept it ends with its lifetime."""
        self._by_key.pop(key, None)

    def current(self, publication: Publication) -> bool:
        return self._by_key.get(publication.key) is publication

    def due(self, now_s: float) -> list[Publication]:
        """Those to be stored now; each is due again in time, should nothing come of it."""
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            at_s, _, publication = heapq.heappop(self._heap)
            if self.current(publication) and publication.due_s == at_s:
                self._schedule(publication, now_s + publication.lifetime_s / 3)
                due.append(publication)
        return due

    def stored(self, publication: Publication, holders: dict[NodeId, int]) -> None:
        """It was sent to these, whose keys are given."""
        publication.holders = set(holders)
        publication.changes = 0
        full = len(holders) >= self._bucket_size
        publication.distance = max(key ^ publication.key for key in holders.values()) if full else 2**160

    def came(self, node: NodeId, node_key: int, now_s: float, drawn: float) -> None:
        """There is somebody new, who may belong to the nearest."""
        for publication in self._by_key.values():
            nearer = node_key ^ publication.key < publication.distance
            if nearer and publication.holders and node not in publication.holders:
                self._count(publication, now_s, drawn)

    def went(self, node: NodeId, now_s: float, drawn: float) -> None:
        """Somebody is gone, with what was kept there."""
        for publication in self._by_key.values():
            if node in publication.holders:
                self._count(publication, now_s, drawn)

    def wake_s(self) -> float:
        """When `due` may have something to do."""
        return self._heap[0][0] if self._heap else math.inf

    def check(self) -> None:
        """Asserts the invariants."""
        waiting = {(due_s, publication.key) for due_s, _, publication in self._heap}
        assert all((each.due_s, each.key) in waiting for each in self._by_key.values()), "never published again"

    def _count(self, publication: Publication, now_s: float, drawn: float) -> None:
        publication.changes += 1
        if publication.changes * 3 >= len(publication.holders):
            self._schedule(publication, min(publication.due_s, now_s + SOON_S * (1 + drawn)))

    def _schedule(self, publication: Publication, at_s: float) -> None:
        if at_s != publication.due_s:
            publication.due_s = at_s
            heapq.heappush(self._heap, (at_s, next(self._numbers), publication))
