"""Which blobs must be on how many nodes of the replica set, and who is told to keep what.

Large inputs, before a submission is accepted (small ones are journalled with their batch), and results that the journal
does not carry, before the application ends: each on as many seats as a promise needs, this node included. Asked are as
many as are needed, in rank order, and further ones when these refuse, are silent for long, or leave the set.

Soft knowledge: a successor begins anew, and whoever has a blob already says so at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from attrs import frozen

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import Collect, Effect, InputsKept, Send
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.recorder import Recorder
from jcpeer.ids import Digest, NodeId
from jcpeer.wire.replication import KeepBlobs

Purpose = Literal["input", "result"]

PATIENCE_S = 15.0
"""A node that was asked and has fetched nothing for so long is not waited for any more; what it fetches yet counts."""
REFUSED_FOR_S = 10.0
"""Who cannot keep something is asked again after this."""
GIVEN_UP_AFTER_S = 60.0
"""Where all others have refused for so long the application ends with fewer copies of its results, which is said."""
NO_ANSWER = "has not fetched it, nor said why"
BLOBS_PER_FRAME_MAX = 1000
HOLDERS_TOLD_MAX = 4


@frozen
class Refusal:
    """A node has no room: why, since when, and when it is asked again."""

    why: str
    since_s: float
    until_s: float


class Copies:
    """Blobs of one application that are to be on enough seats."""

    def __init__(self, recorder: Recorder, holdings: Holdings, *, me: NodeId) -> None:
        self._recorder = recorder
        self._state = recorder.state
        self._holdings = holdings
        self._me = me
        self._wanted: dict[Digest, tuple[BlobRef, Purpose]] = {}
        self._short: Counter[Purpose] = Counter()
        """How many are not on enough seats."""
        self._asked: dict[Digest, dict[NodeId, float]] = {}
        """Of those: who was asked to keep them, and when."""
        self._to_consider: dict[Digest, None] = {}
        self._fetched_s: dict[NodeId, float] = {}
        self._away: set[NodeId] = set()
        self._refusals: dict[NodeId, Refusal] = {}
        self._look_s = math.inf
        self._looked_s = -math.inf
        self._inputs_told = True

    # --- what is wanted

    def want(self, blob: BlobRef, purpose: Purpose) -> None:
        """A result is being brought here by others."""
        if blob.digest not in self._wanted:
            self._wanted[blob.digest] = blob, purpose
            self._short[purpose] += 1
            self._asked[blob.digest] = {self._me: math.inf} if purpose == "result" else {}
            self._to_consider[blob.digest] = None
            self._inputs_told &= purpose != "input"

    def forget(self, digest: Digest) -> None:
        """It is no result any more."""
        wanted = self._wanted.get(digest)
        if wanted is not None and wanted[1] == "result":
            del self._wanted[digest]
            self._to_consider.pop(digest, None)
            if self._asked.pop(digest, None) is not None:
                self._short["result"] -= 1

    # --- what happens

    def held(self, digests: Iterable[Digest]) -> None:
        """Somebody holds these now."""
        for digest in digests:
            if digest in self._asked:
                self._to_consider[digest] = None

    def fetched(self, node: NodeId, digests: Iterable[Digest], *, now_s: float) -> None:
        self._fetched_s[node] = now_s
        self._refusals.pop(node, None)
        self.held(digests)

    def refused(self, node: NodeId, digests: Iterable[Digest], why: str, *, now_s: float) -> None:
        known = self._refusals.get(node)
        self._refusals[node] = Refusal(why, known.since_s if known else now_s, now_s + REFUSED_FOR_S)
        self._look_s = min(self._look_s, now_s + REFUSED_FOR_S)
        for digest in digests:
            if digest in self._asked:
                self._asked[digest].pop(node, None)
                self._to_consider[digest] = None

    def not_collected(self, digest: Digest) -> None:
        """It could not be brought to this node."""
        if digest in self._asked and self._wanted[digest][1] == "input":
            self._asked[digest].pop(self._me, None)
            self._to_consider[digest] = None

    def lost(self, node: NodeId) -> None:
        """It is out of reach, and counts as having nothing."""
        if node in self._state.replica_set.nodes:
            self._away.add(node)
            for asked in self._asked.values():
                asked.pop(node, None)
            self.seats_changed()

    def seen(self, node: NodeId) -> None:
        self._away.discard(node)

    def seats_changed(self) -> None:
        """A seat has gone, or come. It is rare, so all is looked at."""
        for digest, (_, purpose) in self._wanted.items():
            if digest not in self._asked and not self._is_enough(digest):
                self._asked[digest] = {}
                self._short[purpose] += 1
                self._inputs_told &= purpose != "input"
        for digest, asked in self._asked.items():
            for node in asked.keys() - {*self._state.replica_set.nodes, self._me}:
                del asked[node]
            self._to_consider[digest] = None

    # --- what is to be done

    def look(self, *, now_s: float) -> list[Effect]:
        """Ask whoever is to be asked, many blobs at a time."""
        self._looked_s = now_s
        if now_s >= self._look_s:
            self._look_s = math.inf
            self._to_consider.update(dict.fromkeys(self._asked))
        orders: dict[tuple[NodeId, tuple[NodeId, ...]], list[BlobRef]] = {}
        effects: list[Effect] = []
        for digest in self._to_consider:
            blob, purpose = self._wanted[digest]
            if self._is_enough(digest):
                if self._asked.pop(digest, None) is not None:
                    self._short[purpose] -= 1
                continue
            holders = self._holders(digest)
            for node in self._to_ask(digest, now_s=now_s) if holders else ():
                self._asked[digest][node] = now_s
                if node == self._me:
                    effects.append(Collect(blob, holders))
                else:
                    orders.setdefault((node, holders), []).append(blob)
            self._look_s = min(self._look_s, now_s + PATIENCE_S)
        self._to_consider.clear()
        app, epoch = self._recorder.app, self._recorder.epoch
        for (node, holders), blobs in orders.items():
            for start in range(0, len(blobs), BLOBS_PER_FRAME_MAX):
                part = tuple(blobs[start : start + BLOBS_PER_FRAME_MAX])
                effects.append(Send(node, KeepBlobs(app, epoch, part, holders)))
        if self.inputs_kept and not self._inputs_told:
            self._inputs_told = True
            effects.append(InputsKept())
        return effects

    def wake_s(self) -> float:
        """When `look` may have something to do, or the results count as kept though nothing happened."""
        if not self._asked:
            return math.inf
        given_up_s = self._given_up_s
        return min(self._look_s, given_up_s if given_up_s > self._looked_s else math.inf)

    def _is_enough(self, digest: Digest) -> bool:
        seats = self._state.replica_set
        return sum(self._holdings.holds(node, digest) for node in seats.nodes) >= seats.enough

    def _to_ask(self, digest: Digest, *, now_s: float) -> list[NodeId]:
        seats = self._state.replica_set
        asked = self._asked[digest]
        awaited, idle = [], []
        for node in sorted(seats.nodes, key=lambda each: each != self._me):
            refusal = self._refusals.get(node)
            if self._holdings.holds(node, digest):
                awaited.append(node)  # it counts already
            elif refusal is not None and now_s < refusal.until_s:
                continue
            elif node in asked and now_s < max(asked[node], self._fetched_s.get(node, -math.inf)) + PATIENCE_S:
                awaited.append(node)
            else:
                if node in asked and node != self._me:
                    self._refusals.setdefault(node, Refusal(NO_ANSWER, asked[node], -math.inf))
                idle.append(((node in self._away, node in asked), node))
        idle.sort(key=lambda each: each[0])  # who is in reach and was not asked in vain comes first
        return [node for _, node in idle][: max(0, seats.enough - len(awaited))]

    def _holders(self, digest: Digest) -> tuple[NodeId, ...]:
        holders = sorted(self._holdings.of(digest), key=lambda each: (each != self._me, each))
        return tuple(holders[:HOLDERS_TOLD_MAX])

    # --- what can be promised

    @property
    def inputs(self) -> list[BlobRef]:
        return [blob for blob, purpose in self._wanted.values() if purpose == "input"]

    @property
    def inputs_kept(self) -> bool:
        return not self._short["input"]

    def results_kept(self, *, now_s: float) -> bool:
        """They are, or all who could keep more of them have refused for long."""
        return not self._short["result"] or now_s >= self._given_up_s

    @property
    def _given_up_s(self) -> float:
        """When nobody can be expected to keep more of them any longer."""
        others = [node for node in self._state.replica_set.nodes if node != self._me]
        if not all(node in self._refusals for node in others):
            return math.inf
        return max((self._refusals[node].since_s for node in others), default=-math.inf) + GIVEN_UP_AFTER_S

    def shortage(self) -> tuple[int, dict[NodeId, str]]:
        """How many blobs are on fewer nodes than promised, and which nodes cannot keep them, and why."""
        return self._short.total(), {node: each.why for node, each in self._refusals.items()}
