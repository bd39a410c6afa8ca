"""Who is excused for being out of reach, because this node itself was held up, and what they still have when back.

A node that was stopped or suspended hears all others to be gone, though it was itself the one that was silent. So it
waits a while before it counts them as lost. Whoever comes back as the same process is called up anew, and its answer is
compared with what it had been given: what was sent last may not have arrived.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from attrs import frozen

from jcpeer.coordinator.room import Participant
from jcpeer.ids import AttemptName, NodeId
from jcpeer.net.events import Proof

EXCUSED_S = 10.0
"""After this node was held up it waits so long for others to be in reach again before it counts them as lost, with all
that they run and hold."""


@frozen
class Missed:
    """Why a node counts for lost if it does not come back, and by what proof."""

    why: str
    proof: Proof


class Absences:
    """Participants whose absence, or whose attempts, are in doubt."""

    def __init__(self) -> None:
        self.excused_until_s = -math.inf
        self.missed: dict[NodeId, Missed] = {}
        self._until_s: dict[NodeId, float] = {}
        """When each of those counts as lost."""
        self._to_compare: dict[NodeId, set[AttemptName]] = {}

    def woke(self, *, now_s: float) -> None:
        self.excused_until_s = now_s + EXCUSED_S

    def excuse(self, node: NodeId, missed: Missed, until_s: float) -> None:
        """It left the directory, and may yet be back."""
        self.missed[node], self._until_s[node] = missed, until_s

    def await_until(self, node: NodeId, until_s: float) -> None:
        """If it is missed: it is awaited for so long."""
        if node in self.missed:
            self._until_s[node] = until_s

    @property
    def vouched(self) -> list[NodeId]:
        """Those that are awaited for as long as somebody else hears them."""
        return [node for node, until_s in self._until_s.items() if until_s == math.inf]

    def end(self, node: NodeId) -> Missed | None:
        """The node is seen, or lost; returns why it had been missed, if it was."""
        self._until_s.pop(node, None)
        return self.missed.pop(node, None)

    def due(self, *, now_s: float) -> dict[NodeId, Missed]:
        """Who did not come back in time, and why it was missed; each once."""
        nodes = [node for node, until_s in self._until_s.items() if until_s <= now_s]
        for node in nodes:
            del self._until_s[node]
        return {node: self.missed.pop(node) for node in nodes}

    def wake_s(self) -> float:
        """When somebody is due."""
        return min(self._until_s.values(), default=math.inf)

    def doubt(self, participant: Participant, names: Collection[AttemptName]) -> None:
        """Its next confirmation shows whether it has these."""
        self._to_compare.setdefault(participant.record.node, set()).update(names)

    def compare(self, participant: Participant, known: Collection[AttemptName]) -> tuple[list[AttemptName], ...]:
        """Of the attempts in doubt those that it does not have, and those that it has and is still to cancel. The
        others are taken to run."""
        absent, to_cancel = [], []
        here = frozenset(known)
        for name in sorted(self._to_compare.pop(participant.record.node, set()) & participant.assigned.keys()):
            attempt = participant.assigned[name]
            if name not in here:
                absent.append(name)
            elif attempt.state == "cancelling":
                to_cancel.append(name)
            else:
                attempt.state = "running"
        return absent, to_cancel
