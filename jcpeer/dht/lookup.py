"""One search for the nodes nearest to a key: whom to ask next, and when the nearest are found.

- `ALPHA` requests are under way and no rounds are waited for: each answer makes room for the next request.
- A request that is slow no longer counts, neither among those under way nor among the nearest, so that whoever comes
  next is asked beside it; and each that was slow makes room for one more, up to twice `ALPHA`. With many dead about, a
  search does not wait for them one after another.
- A node that was lost is dead for this lookup: named again by others it is not taken in again. Only its own answer,
  come late, proves that it lives.
- It ends when each of the nearest that remain has answered here: the result is of nodes that live now.

It knows no time: what is slow and who is lost it is told by `machine`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from kademlia.node import Node, NodeHeap

from jcpeer.dht.table import Entry
from jcpeer.ids import KEY_BITS, NodeId

ALPHA = 3
CANDIDATES_MAX = 512
"""Beyond those wanted; somebody may name nodes without end, and the farthest are of no use."""


class Nearest(NodeHeap):  # type: ignore[misc]  # the package ships no types
    """Entries by their distance to a key. The heap is kept sorted, so that none is searched for in all of it."""

    heap: list[tuple[int, Entry]]

    def __init__(self, key: int, maxsize: int) -> None:
        super().__init__(Node((key).to_bytes(KEY_BITS // 8, "big")), maxsize)
        self._distances: dict[NodeId, int] = {}

    def push(self, nodes: Any) -> None:
        for entry in nodes:
            if entry.id not in self._distances:
                self._distances[entry.id] = distance = self.node.distance_to(entry)
                insort(self.heap, (distance, entry))
        while len(self.heap) > self.maxsize + CANDIDATES_MAX:
            del self._distances[self.heap.pop()[1].id]

    def remove(self, peers: Iterable[NodeId]) -> None:
        gone = {peer for peer in peers if self._distances.pop(peer, None) is not None}
        if gone:
            self.heap = [(distance, entry) for distance, entry in self.heap if entry.id not in gone]

    def __iter__(self) -> Iterator[Entry]:
        return (entry for _, entry in self.heap[: self.maxsize])

    def __contains__(self, node: Any) -> bool:
        return node.id in self._distances

    def everybody(self) -> Iterator[Entry]:
        """Those beyond `maxsize` as well."""
        return (entry for _, entry in self.heap)


class Lookup:
    """The search for the `count` live nodes nearest to a key.

    Args:
        seeds: Where it begins.
        me: This node, where it may itself be among the nearest.
    """

    def __init__(self, key: int, *, count: int, seeds: Iterable[Entry], me: NodeId, myself: Entry | None) -> None:
        self.key = key
        self.asked = 0
        """Requests so far; who is slow is asked twice."""
        self._me = me
        self._nearest = Nearest(key, count)
        self._states: dict[NodeId, Literal["asked", "slow", "answered", "lost"]] = {}
        self._under_way = 0
        self._setbacks = 0
        if myself is not None:
            self._nearest.push([myself])
            self._states[me] = "answered"
        self.named(seeds)

    @property
    def found(self) -> tuple[Entry, ...]:
        """The nearest that are not lost, nearest first; final once `over`."""
        return tuple(self._nearest)

    @property
    def over(self) -> bool:
        return all(self._states.get(entry.id) == "answered" for entry in self._nearest)

    def ask(self) -> list[Entry]:
        """Whom to ask now; they count as asked."""
        chosen = []
        promising = 0
        at_once = ALPHA + min(self._setbacks, ALPHA)
        for entry in self._nearest.everybody():
            if self._under_way == at_once or promising == self._nearest.maxsize:
                break
            state = self._states.get(entry.id)
            if state is None:
                self._states[entry.id] = "asked"
                self._under_way += 1
                self.asked += 1
                chosen.append(entry)
            promising += state != "slow"
        return chosen

    def named(self, entries: Iterable[Entry]) -> None:
        """Somebody knows these."""
        states = self._states
        self._nearest.push([entry for entry in entries if entry.id != self._me and states.get(entry.id) != "lost"])

    def answered(self, entry: Entry) -> None:
        """One that was asked lives."""
        self._count_out(entry.id)
        self._states[entry.id] = "answered"
        self._nearest.push([entry])

    def slow(self, node: NodeId) -> None:
        """One that was asked takes its time."""
        if self._states.get(node) == "asked":
            self._count_out(node)
            self._states[node] = "slow"
            self.asked += 1
            self._setbacks += 1

    def lost(self, node: NodeId) -> None:
        """One that was asked did not answer, or not as it should have."""
        if self._states.get(node) in ("asked", "slow"):
            self._count_out(node)
            self._states[node] = "lost"
            self._nearest.remove([node])

    def check(self) -> None:
        """Asserts the invariants."""
        assert self._under_way == sum(state == "asked" for state in self._states.values()) <= 2 * ALPHA
        waits = self._under_way or any(state == "slow" for state in self._states.values())
        assert self.over or waits, "it stands still"
        distances = [distance for distance, _ in self._nearest.heap]
        assert distances == sorted(set(distances))
        assert not any(self._states.get(entry.id) == "lost" for entry in self._nearest.everybody())

    def _count_out(self, node: NodeId) -> None:
        self._under_way -= self._states.get(node) == "asked"
