"""Inputs that are fetched here because a participant cannot reach those who hold them.

Of two nodes behind firewalls neither can dial the other, but this one is connected to both. So before a blob counts as
lost it is fetched here, and the tasks that could not have it wait so long: they then find it with this node. Soft
knowledge: after a takeover an attempt that fails the same way begins it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Collect, Effect
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import Digest, NodeId, TaskId


class Bringing:
    """Blobs on their way here for the sake of others, and who waits for them."""

    def __init__(self, state: ApplicationState, attempts: Attempts, holdings: Holdings, *, me: NodeId) -> None:
        self._state = state
        self._attempts = attempts
        self._holdings = holdings
        self._me = me
        self._waiting: dict[Digest, dict[TaskId, None]] = {}

    def helps(self, digest: Digest) -> bool:
        """Others have it, and we have not: with us it may be in reach of whoever missed it."""
        holders = self._holdings.of(digest)
        return bool(holders) and self._me not in holders

    def bring(self, digest: Digest, tasks: Iterable[TaskId]) -> list[Effect]:
        """These tasks wait until this blob is here, or cannot be had here either."""
        effects: list[Effect] = []
        for task in tasks:
            blob = self._input(task, digest)
            if blob is None:
                continue
            if digest not in self._waiting:
                self._waiting[digest] = {}
                effects.append(Collect(blob, tuple(sorted(self._holdings.of(digest)))))
            if task not in self._waiting[digest]:
                self._waiting[digest][task] = None
                self._attempts.hold_back(task)
        return effects

    def waits(self, task: TaskId) -> bool:
        """For a blob on its way here. For people: it looks through all that are on their way."""
        return any(task in tasks for tasks in self._waiting.values())

    def ended(self, digest: Digest) -> tuple[TaskId, ...]:
        """The blob is here, or cannot be had: nobody waits for it any longer. Returns who did."""
        tasks = tuple(self._waiting.pop(digest, ()))
        for task in tasks:
            self._attempts.let_go(task)
        return tasks

    def _input(self, task: TaskId, digest: Digest) -> BlobRef | None:
        record = self._state.tasks.get(task)
        for each in record.spec.inputs if record is not None else ():
            if isinstance(each.source, BlobRef):
                blob = each.source
            elif (output := self._state.output(each.source)) is not None:
                blob = output.blob
            else:
                continue
            if blob.digest == digest:
                return blob
        return None
