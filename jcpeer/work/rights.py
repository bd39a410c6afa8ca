"""The tasks below an attempt that its participant may start by itself, and the orders that it makes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from jcpeer.application.task import BlobRef
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.messages import AttemptOrder, OrderedInput, Outcome, Right


class Rights:
    """Valid in one epoch; shared by all attempts that come of them at one participant."""

    def __init__(
        self, rights: tuple[Right, ...] = (), absent: Mapping[AttemptName, tuple[OrderedInput, ...]] | None = None
    ) -> None:
        """`absent` are inputs, by attempt, which are not here yet."""
        self._absent = absent or {}
        self._after: dict[TaskId, list[Right]] = {}
        for each in rights:
            parents = each.task.parents()
            if len(parents) == 1:
                self._after.setdefault(parents[0], []).append(each)

    def after(self, task: TaskId) -> list[Right]:
        """The tasks that may be started when this one is done."""
        return self._after.get(task, [])

    def below(self, task: TaskId) -> tuple[Right, ...]:
        """All rights that somebody needs who goes on with this task, parents before children."""
        found: list[Right] = []
        waiting = deque([task])
        while waiting:
            children = self.after(waiting.popleft())
            found += children
            waiting += [each.task.id for each in children]
        return tuple(found)

    def absent(self, name: AttemptName) -> tuple[OrderedInput, ...]:
        return self._absent.get(name, ())


NO_RIGHTS = Rights()


def name_of_right(right: Right, epoch: Epoch) -> AttemptName:
    return AttemptName(right.task.id, epoch.counter, right.number)


def settled_inputs(right: Right, holders: tuple[NodeId, ...]) -> tuple[OrderedInput, ...]:
    """The inputs whose content is known before the parent has ended."""
    return tuple(
        OrderedInput(each.name, each.source, holders, each.executable)
        for each in right.task.inputs
        if isinstance(each.source, BlobRef)
    )


def order_after(outcome: Outcome, right: Right, *, coordinator: NodeId) -> AttemptOrder | None:
    """The order of a task whose only parent ended so; None where that did not leave what the task reads."""
    left = {each.name: each.blob for each in outcome.outputs}
    inputs = []
    for each in right.task.inputs:
        source = each.source
        blob = source if isinstance(source, BlobRef) else left.get(source.output)
        if blob is None:
            return None
        holders = (coordinator,) if isinstance(source, BlobRef) else ()
        inputs.append(OrderedInput(each.name, blob, holders, each.executable))
    task = right.task
    return AttemptOrder(
        task.id, right.number, task.work, tuple(inputs), task.outputs, task.needs, task.timeout_s, shared=right.shared
    )
