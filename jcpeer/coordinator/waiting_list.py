"""The candidates that may be called up, in the order in which they are.

Whoever seems to have room comes first, then whoever has been known for longest. To find the next costs no look at the
others, nor at those that were found to be of no use: they wait aside until something else is wanted, or they offer
something else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Literal

from attrs import define, frozen

from jcpeer.ids import NodeId
from jcpeer.wire.messages import NodeRecord


@frozen
class Refused:
    """Why a candidate is not asked for now."""

    reason: str
    until_s: float


Place = Literal["", "waiting", "unsuited", "barred"]


@define(eq=False)
class Candidate:
    """A node in the directory. `asked_until_s` is the end of a call-up that waits for its answer.

    `place`: it may be asked; it was of no use for what was wanted; it is not asked whatever is wanted; or none of
    these.
    """

    record: NodeRecord
    order: int
    asked_until_s: float | None = None
    refused: Refused | None = None
    place: Place = ""
    rank: tuple[bool, int] | None = None
    counted: int = 0
    """Its slots among those on offer, while it is asked."""


class WaitingList:
    """Candidates by rank. Entries of those whose rank is another meanwhile are passed over when they are met."""

    def __init__(self, candidates: dict[NodeId, Candidate]) -> None:
        self._candidates = candidates
        self._heap: list[tuple[tuple[bool, int], NodeId]] = []
        self._unsuited: set[NodeId] = set()
        self._of_no_use_for: frozenset[Hashable] = frozenset()
        """What none of the unsuited is of use for."""
        self._arrivals: list[NodeId] = []
        self._forgotten = 0
        """How many arrivals came before those in the list."""

    def __len__(self) -> int:
        """At most so many may be asked, or might for something else."""
        return len(self._heap) + len(self._unsuited)

    def add(self, candidate: Candidate, *, anew: bool) -> None:
        """It may be asked. `anew`: it could not before, or offers something else."""
        busy = candidate.record.slots_used >= candidate.record.slots  # as far as it told
        rank = (busy, candidate.order)
        if not anew and candidate.place in ("unsuited", "barred"):
            return
        if anew or candidate.place == "":
            self._arrivals.append(candidate.record.node)
            self._trim()
        if candidate.place != "waiting" or candidate.rank != rank:
            self._unsuited.discard(candidate.record.node)
            candidate.place, candidate.rank = "waiting", rank
            heapq.heappush(self._heap, (rank, candidate.record.node))

    def remove(self, candidate: Candidate) -> None:
        """It is not to be asked now."""
        self._unsuited.discard(candidate.record.node)
        candidate.place, candidate.rank = "", None

    def want(self, wanted: frozenset[Hashable]) -> None:
        """Who was of no use for something else may be for this."""
        if self._unsuited and not wanted <= self._of_no_use_for:
            for node in sorted(self._unsuited):
                candidate = self._candidates[node]
                candidate.place = "waiting"
                assert candidate.rank is not None
                heapq.heappush(self._heap, (candidate.rank, node))
            self._unsuited.clear()

    def take(
        self, wanted: frozenset[Hashable], *, suits: Callable[[Candidate], bool], barred: Callable[[Candidate], bool]
    ) -> Candidate | None:
        """The next that suits what is wanted, which is then no longer here."""
        while self._heap:
            rank, node = heapq.heappop(self._heap)
            candidate = self._candidates.get(node)
            if candidate is None or candidate.place != "waiting" or candidate.rank != rank:
                continue
            if barred(candidate):
                candidate.place = "barred"
            elif suits(candidate):
                self.remove(candidate)
                return candidate
            else:
                candidate.place = "unsuited"
                self._of_no_use_for = self._of_no_use_for & wanted if self._unsuited else wanted
                self._unsuited.add(node)
        return None

    def arrived_since(self, mark: int) -> tuple[list[Candidate], int]:
        """Who came since, or all for the mark 0, as far as they may be asked; and the mark of now."""
        arrived = dict.fromkeys(self._arrivals[max(0, mark - self._forgotten) :])
        here = [self._candidates[node] for node in arrived if node in self._candidates]
        return [each for each in here if each.place in ("waiting", "unsuited")], self.arrivals

    @property
    def arrivals(self) -> int:
        """Another number whenever somebody arrived."""
        return self._forgotten + len(self._arrivals)

    def _trim(self) -> None:
        """Forget arrivals of those who are gone again; to the others every mark is an earlier one."""
        if len(self._arrivals) > 64 + 4 * len(self._candidates):
            self._forgotten += len(self._arrivals)
            self._arrivals = [each.record.node for each in self._candidates.values() if each.place != ""]
        if len(self._heap) > 64 + 4 * len(self._candidates):
            self._heap = [
                (each.rank, node) for node, each in self._candidates.items() if each.place == "waiting" and each.rank
            ]
            heapq.heapify(self._heap)
