"""How often a task lost an attempt with its node: that fells tasks which fell nodes, and those alone.

One outage counts once for each task: a cut that makes several participants seem gone, or that parts the coordinator
from all of them, says nothing about the tasks which they ran one after another meanwhile. Losses by silence are of one
outage when they come within `EXCUSED_S` of the first; one that is proven (a process is gone) always counts.
"""

from __future__ import annotations

from jcpeer.coordinator.absences import EXCUSED_S
from jcpeer.ids import TaskId
from jcpeer.net.events import Proof

LOST_ATTEMPTS_MAX = 3
"""A task whose attempts went with their nodes this often has probably felled them: it fails instead of going on."""
NOT_AGAIN = "it is marked once and may have started, so it does not run again without your word"


class Losses:
    """Soft knowledge: a successor may count one more."""

    def __init__(self) -> None:
        self._outage_s: dict[TaskId, float] = {}
        """When the outage began by which each task last lost an attempt in silence."""

    def counts(self, task: TaskId, proof: Proof, *, now_s: float) -> bool:
        """An attempt of this task is lost. Whether that is one of the three."""
        if proof != "silent":
            return True
        began_s = self._outage_s.get(task)
        if began_s is not None and now_s < began_s + EXCUSED_S:
            return False
        self._outage_s[task] = now_s
        return True
