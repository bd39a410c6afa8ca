"""Signed records that a node keeps for others, under keys near to its own.

Who may sign what, and which of two records is the newer, is the *judge's* to say: this module only keeps the highest
under each key until its lifetime is over. No clocks are compared: a lifetime runs from the arrival.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

from attrs import frozen

from jcpeer.errors import RemoteProtocolError
from jcpeer.wire.messages import Signed

RECORDS_MAX = 20_000
RECORD_BYTES_MAX = 8 * 1024
"""Payload, signature and chain together."""


@frozen
class Rank:
    """What the judge says of a record: of two under one key the higher `order` stands, for so long since it came."""

    order: tuple[int | str, ...]
    lifetime_s: float


Judge = Callable[[str, Signed], Rank]
"""Given the key in 40 hexadecimal digits. Raises: RemoteProtocolError: forged, or no record of this key; says why."""


@frozen
class _Kept:
    record: Signed
    rank: Rank
    until_s: float


class Records:
    """The records that one node keeps. Full, it drops those farthest from the node: others are nearer to them."""

    def __init__(self, me: int, judge: Judge, *, records_max: int = RECORDS_MAX) -> None:
        self._me = me
        self._judge = judge
        self._records_max = records_max
        self._kept: dict[int, _Kept] = {}
        self._ends: list[tuple[float, int, int]] = []
        self._farthest: list[tuple[int, int]] = []
        self._numbers = count()

    def judge(self, key: int, record: Signed) -> Rank:
        """Raises: RemoteProtocolError: it is none that can be kept under this key."""
        if size_of(record) > RECORD_BYTES_MAX:
            raise RemoteProtocolError(f"a record of {size_of(record)} bytes; at most {RECORD_BYTES_MAX} are kept")
        return self._judge(spell(key), record)

    def keep(self, key: int, record: Signed, now_s: float) -> str:
        """Keep a record, unless a higher one is there.

        Returns:
            Why it is not kept, in words; empty where it is.
        """
        self.expire(now_s)
        try:
            rank = self.judge(key, record)
        except RemoteProtocolError as error:
            return str(error)
        there = self._kept.get(key)
        if there is not None and there.rank.order > rank.order:
            return "a newer record is kept here"
        if there is None:
            heapq.heappush(self._farthest, (-(key ^ self._me), key))
        self._kept[key] = _Kept(record, rank, now_s + rank.lifetime_s)
        heapq.heappush(self._ends, (now_s + rank.lifetime_s, next(self._numbers), key))
        self._tidy()
        if len(self._kept) > self._records_max and self._drop_farthest() == key:
            return "there is no room for a record from so far away"
        return ""

    def get(self, key: int, now_s: float) -> Signed | None:
        kept = self._kept.get(key)
        return kept.record if kept is not None and kept.until_s > now_s else None

    def expire(self, now_s: float) -> None:
        """Drop what has outlived its lifetime."""
        while self._ends and self._ends[0][0] <= now_s:
            until_s, _, key = heapq.heappop(self._ends)
            kept = self._kept.get(key)
            if kept is not None and kept.until_s == until_s:
                del self._kept[key]

    def wake_s(self) -> float:
        """When `expire` may have something to do."""
        return self._ends[0][0] if self._ends else math.inf

    def __len__(self) -> int:
        return len(self._kept)

    def check(self) -> None:
        """Asserts the invariants."""
        assert len(self._kept) <= self._records_max
        assert self._kept.keys() <= {key for _, key in self._farthest}
        ends = {(until_s, key) for until_s, _, key in self._ends}
        assert all((kept.until_s, key) in ends for key, kept in self._kept.items()), "kept for ever"

    def _tidy(self) -> None:
        """What was renewed or is gone leaves words behind in the heaps; they must not outgrow the records."""
        most = 4 * len(self._kept) + 64
        if len(self._ends) > most:
            self._ends = [(kept.until_s, next(self._numbers), key) for key, kept in self._kept.items()]
            heapq.heapify(self._ends)
        if len(self._farthest) > most:
            self._farthest = [(-(key ^ self._me), key) for key in self._kept]
            heapq.heapify(self._farthest)

    def _drop_farthest(self) -> int:
        while True:
            _, key = heapq.heappop(self._farthest)
            if self._kept.pop(key, None) is not None:
                return key


def size_of(record: Signed) -> int:
    return len(record.payload) + len(record.signature) + sum(map(len, record.chain))


def spell(key: int) -> str:
    """A key as it goes over the wire."""
    return f"{key:040x}"
