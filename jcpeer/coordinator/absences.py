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
        self._excused_until_s = -math.inf
        self._missed: dict[NodeId, Missed] = {}
        self._to_compare: dict[NodeId, set[AttemptName]] = {}

    def woke(self, *, now_s: float) -> None:
        self._excused_until_s = now_s + EXCUSED_S

    def excuse(self, node: NodeId, missed: Missed, *, now_s: float) -> bool:
        """Whether a node that left the directory may yet be back at once; then it is noted, and due later."""
        if now_s >= self._excused_until_s:
            return False
        self._missed[node] = missed
        return True

    def end(self, node: NodeId) -> Missed | None:
        """The node is seen; returns why it had been missed, if it was."""
        return self._missed.pop(node, None)

    def due(self, *, now_s: float) -> dict[NodeId, Missed]:
        """Who did not come back in time, and why it was missed; each once."""
        if not self._missed or now_s < self._excused_until_s:
            return {}
        missed, self._missed = self._missed, {}
        return missed

    def wake_s(self) -> float:
        """When somebody is due."""
        return self._excused_until_s if self._missed else math.inf

    def doubt(self, participant: Participant, names: Collection[AttemptName]) -> None:
        """Its next confirmation shows whether it has these."""
        self._to_compare.setdefault(participant.record.node, set()).update(names)

    def compare(self, participant: Participant, known: Collection[AttemptName]) -> tuple[list[AttemptName], ...]:
        """Of the attempts in doubt those that it does not have, and those that it has and is still to cancel. The
        others are taken to run."""
        absent, to_cancel = [], []
        for name in sorted(self._to_compare.pop(participant.record.node, set()) & participant.assigned.keys()):
            attempt = participant.assigned[name]
            if name not in known:
                absent.append(name)
            elif attempt.state == "cancelling":
                to_cancel.append(name)
            else:
                attempt.state = "running"
        return absent, to_cancel
