"""What submitters signed of their tasks, for a node that obeys a coordinator of another user in nothing else.

Such a coordinator is chosen by the key of an application, not by its user. So it shows the batches that the user signed
before it orders their tasks, and an order has to be that very task: its work, its needs, its outputs, and those of its
inputs that no task makes. What its parents left the coordinator alone knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import AppId, TaskId
from jcpeer.wire.messages import AttemptOrder

NOT_SHOWN = "has not shown what its submitter signed"


class Vouched:
    """Signed tasks, by application."""

    def __init__(self) -> None:
        self._tasks: dict[AppId, dict[TaskId, Task]] = {}

    def add(self, app: AppId, tasks: Iterable[Task], *, wanted: Callable[[AppId], bool]) -> None:
        """These were signed by the application's user. Of applications that are not `wanted` nothing is kept."""
        for other in [each for each in self._tasks if not wanted(each)]:
            del self._tasks[other]
        if wanted(app):
            self._tasks.setdefault(app, {}).update((each.id, each) for each in tasks)

    def forget(self, app: AppId) -> None:
        self._tasks.pop(app, None)

    def fault(self, app: AppId, order: AttemptOrder) -> str:
        """Why this order is not to be obeyed; empty where the submitter wants just that."""
        tasks = self._tasks.get(app, {})
        task = tasks.get(order.task)
        if task is None or any(each.task.id not in tasks for each in order.rights):
            return NOT_SHOWN
        if not _is_of(order, task) or any(each.task != tasks[each.task.id] for each in order.rights):
            return "orders something else than its submitter signed"
        return ""


def _is_of(order: AttemptOrder, task: Task) -> bool:
    if (order.work, order.outputs, order.needs, order.timeout_s) != (
        task.work,
        task.outputs,
        task.needs,
        task.timeout_s,
    ):
        return False
    return len(order.inputs) == len(task.inputs) and all(
        (given.name, given.executable) == (wanted.name, wanted.executable)
        and (not isinstance(wanted.source, BlobRef) or given.blob == wanted.source)
        for given, wanted in zip(order.inputs, task.inputs, strict=True)
    )
