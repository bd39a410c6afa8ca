"""The participants by the room that they have for more, so that the best one is found without a look at all."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from typing import Literal

from attrs import define, field

from jcpeer.ids import AttemptName, NodeId
from jcpeer.wire.messages import NodeRecord


@define
class Assigned:
    """One attempt that a participant has been given and has not ended."""

    name: AttemptName
    slots: int
    given_s: float
    state: Literal["assigned", "running", "withdrawing", "cancelling"] = "assigned"
    once: bool = False
    """Its task must not start twice: it is not taken back because somebody else is idle."""


@define(eq=False)
class Participant:
    """A node that confirmed, with what it was given. `assigned` is in the order of assignment, as is its queue.

    It changes by methods of the roster only, which counts.
    """

    record: NodeRecord
    slots: int
    order: int
    assigned: dict[AttemptName, Assigned] = field(factory=dict)
    slots_given: int = 0
    load: float = math.inf
    """What it was given, by slot."""
    counted: int = 0
    """Its slots among those on offer."""

    @property
    def slots_free(self) -> int:
        """Negative while attempts wait behind others."""
        return self.slots - self.slots_given

    @property
    def known_running(self) -> int:
        """How many attempts run as far as it was told; of short ones it never is."""
        return sum(each.state == "running" for each in self.assigned.values())

    def may_have_started(self) -> set[AttemptName]:
        """Attempts that are known to run, or were next in line: those that may have felled the participant."""
        running = {each.name for each in self.assigned.values() if each.state == "running"}
        return running | set(list(self.assigned)[: self.slots])


class Room:
    """Those with slots for us, the least loaded first, then whoever has taken part for longest. Entries with a load
    that has changed are passed over when they are met."""

    def __init__(self, participants: Mapping[NodeId, Participant]) -> None:
        self._participants = participants
        self._heap: list[tuple[float, int, NodeId]] = []

    def note(self, participant: Participant) -> None:
        """Its slots, or what it was given, may be others."""
        load = participant.slots_given / participant.slots if participant.slots else math.inf
        if load == participant.load:
            return
        participant.load = load
        if participant.slots:
            heapq.heappush(self._heap, (load, participant.order, participant.record.node))
            if len(self._heap) > 64 + 4 * len(self._participants):
                everybody = self._participants.values()
                self._heap = [(each.load, each.order, each.record.node) for each in everybody if each.slots]
                heapq.heapify(self._heap)

    def least_loaded(self, suits: Callable[[Participant], bool], *, below: float = math.inf) -> Participant | None:
        """The first that suits, of those with less than such a load."""
        passed_over: set[tuple[float, int, NodeId]] = set()
        found = None
        while self._heap and self._heap[0][0] < below:
            entry = self._heap[0]
            participant = self._participants.get(entry[2])
            if participant is not None and entry[:2] == (participant.load, participant.order) and suits(participant):
                found = participant
                break
            heapq.heappop(self._heap)
            if participant is not None and entry[:2] == (participant.load, participant.order):
                passed_over.add(entry)
        for entry in passed_over:
            heapq.heappush(self._heap, entry)
        return found
