"""What is known of the nodes of a grid: who is there by which record, who died, and a digest of it all.

One entry a node, which is there or dead, never both. Two nodes that know the same have the same digest.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from hashlib import sha256

from attrs import define

from jcpeer.ids import KEY_BITS, NodeId, node_key
from jcpeer.wire.messages import KnownNode, News, NodeRecord, Obituary

MEMBERS_MAX = 8192
"""More nodes than this are not taken in; they are found by key."""
REMEMBERED_S = 3600.0
"""How long a dead node is known to be dead: no older news is on its way then."""
REMEMBERED_MAX = 4096

Rank = tuple[int, int]
"""(incarnation, version) of a record."""


@define(eq=False)
class Member:
    """Somebody who is there. `suspected` is a death that was heard of and may still be refuted, until `buried_s`."""

    record: NodeRecord
    news: News
    heard_s: float
    suspected: Obituary | None = None
    buried_s: float = math.inf

    @property
    def rank(self) -> Rank:
        return (self.news.incarnation, self.news.version)


@define(eq=False)
class _Dead:
    obituary: Obituary
    since_s: float


class Members:
    """The others, as one node knows them, and its own record as it told it. Invariants: see `check`."""

    def __init__(self, me: NodeRecord) -> None:
        self.ring = [(node_key(me.node), me.node)]
        """Keys and ids of all, this node's among them, in ascending order."""
        self._me = me
        self._there: dict[NodeId, Member] = {}
        self._dead: dict[NodeId, _Dead] = {}
        self._digest = _mark(me)

    def __len__(self) -> int:
        """The others."""
        return len(self._there)

    def __contains__(self, node: NodeId) -> bool:
        return node in self._there

    def __iter__(self) -> Iterator[tuple[NodeId, Member]]:
        return iter(self._there.items())

    def get(self, node: NodeId) -> Member | None:
        return self._there.get(node)

    @property
    def digest(self) -> str:
        """The same for all who know the same."""
        return f"{self._digest:032x}"

    def tell_mine(self, record: NodeRecord) -> None:
        """This is what others are told of this node from now on."""
        self._digest ^= _mark(self._me) ^ _mark(record)
        self._me = record

    def put(self, news: News, record: NodeRecord, *, now_s: float) -> bool:
        """A record that is newer than what was known of its node. Returns whether the node is new."""
        node = record.node
        known = self._there.get(node)
        self._dead.pop(node, None)
        self._digest ^= _mark(record)
        if known is None:
            self._there[node] = Member(record, news, now_s)
            insort(self.ring, (node_key(node), node))
            return True
        self._digest ^= _mark(known.record)
        known.record, known.news, known.heard_s = record, news, now_s
        return False

    def drop(self, node: NodeId) -> Member:
        """It is there no longer; returns what was known of it."""
        member = self._there.pop(node)
        del self.ring[bisect_left(self.ring, (node_key(node), node))]
        self._digest ^= _mark(member.record)
        return member

    def near(self, key: int, count: int) -> list[NodeRecord]:
        """So many of the others, by ascending XOR distance from a key: the ring is halved bit by bit, and of two halves
        the one on the key's side comes first."""
        found: list[NodeRecord] = []
        parts = [(0, len(self.ring), KEY_BITS - 1, 0)]
        while parts and len(found) < count:
            first, end, bit, least = parts.pop()
            if end - first == 1:
                member = self._there.get(self.ring[first][1])
                found += [member.record] if member is not None else []
            elif end > first:
                half = least | 1 << bit
                middle = bisect_left(self.ring, (half, NodeId("")), first, end)
                low, high = (first, middle, bit - 1, least), (middle, end, bit - 1, half)
                parts += (low, high) if key >> bit & 1 else (high, low)
        return found

    # --- the dead

    def remember_dead(self, obituary: Obituary, *, now_s: float) -> None:
        """Of one that was dropped: older news of it is none."""
        self._dead.pop(obituary.node, None)
        self._dead[obituary.node] = _Dead(obituary, now_s)
        if len(self._dead) > REMEMBERED_MAX:
            del self._dead[next(iter(self._dead))]

    def obituary_of(self, node: NodeId) -> Obituary | None:
        dead = self._dead.get(node)
        return dead.obituary if dead is not None else None

    def is_dead(self, node: NodeId, rank: Rank) -> bool:
        """Whether a record of this rank is of before the node's death."""
        dead = self._dead.get(node)
        return dead is not None and rank <= rank_of(dead.obituary)

    def forget_old_dead(self, *, now_s: float) -> None:
        while self._dead and next(iter(self._dead.values())).since_s < now_s - REMEMBERED_S:
            del self._dead[next(iter(self._dead))]

    # --- invariants

    def check(self) -> None:
        """Asserts the invariants."""
        assert self._me.node not in self._there, "a member of its own view"
        assert not self._there.keys() & self._dead.keys(), "dead and alive"
        assert self.ring == sorted(self.ring), "the ring is in order"
        assert {node for _, node in self.ring} == {self._me.node, *self._there}, "the ring is of all members"
        assert len(self.ring) == len(self._there) + 1
        digest = _mark(self._me)
        for node, member in self._there.items():
            assert member.record.node == node, "record of somebody else"
            digest ^= _mark(member.record)
        assert digest == self._digest, "the digest is that of what is known"


def rank_of(what: Obituary | KnownNode) -> Rank:
    return (what.incarnation, what.version)


def _mark(record: NodeRecord) -> int:
    """128 bits that stand for a record in a digest, which is the exclusive or of them all."""
    return _mark_of(record.node, record.incarnation, record.version)


@functools.lru_cache(MEMBERS_MAX)
def _mark_of(node: NodeId, incarnation: int, version: int) -> int:
    return int.from_bytes(sha256(f"{node} {incarnation} {version}".encode()).digest()[:16], "big")
