"""Tasks that differ in little are made of the same parts: a million calls of one function differ in their arguments."""

from __future__ import annotations

from msgspec.structs import force_setattr

from jcpeer.application.task import Input, Task


def share_parts(task: Task, before: Task) -> None:
    """Where a part of this task equals one of the task before it, it is that very object afterwards. The task is the
    same as before, so that this may be done to a value, and to one that others have."""
    if task.work == before.work:
        force_setattr(task, "work", before.work)
    if task.needs == before.needs:
        force_setattr(task, "needs", before.needs)
    if task.outputs == before.outputs:
        force_setattr(task, "outputs", before.outputs)
    inputs = (*map(_alike, task.inputs, before.inputs), *task.inputs[len(before.inputs) :])
    force_setattr(task, "inputs", inputs)


def _alike(each: Input, other: Input) -> Input:
    if each == other:
        return other
    if each.name == other.name:
        force_setattr(each, "name", other.name)
    return each
