"""Whether a set of tasks is an application that can be run, and in which order.

What holds of tasks that passed `check_graph`: ids are unique; each parent is among them or known from earlier; each
input that another task makes is among that task's outputs; no names clash within a task and none leads out of its work
directory; nothing waits for itself, directly or in a circle; each number is one that a participant can use. Time and
memory grow with the tasks and their edges only.

Which file names make edges is for the loaders (`producers`): here an input names the task that makes it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import assert_never

from attrs import frozen

from jcpeer.application.names import file_name_fault, input_name_fault, nested, output_name_fault, remedy, task_id_fault
from jcpeer.application.task import Call, Command, OutputOf, Task, Timed
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId

_SHOWN_MAX = 12


@frozen
class Graph:
    """The edges among checked tasks; tasks known from earlier appear in `children` only."""

    order: tuple[TaskId, ...]
    """Parents before children; otherwise as the tasks were given."""
    children: Mapping[TaskId, Sequence[TaskId]]
    """The tasks that wait for each task; those for which nobody waits are left out."""
    roots: tuple[TaskId, ...]
    """The tasks that wait for none of the others."""
    sinks: tuple[TaskId, ...]
    """The tasks for which none of the others waits."""
    unread: tuple[TaskId, ...]
    """The tasks whose outputs none of the others reads: what they leave are the results."""


def check_graph(tasks: Iterable[Task], *, known: Callable[[TaskId], Task | None] = lambda _: None) -> Graph:
    """The graph of these tasks.

    Args:
        tasks: All tasks of an application, or those of one more batch.
        known: Tasks of earlier batches, on which these may depend; `{...}.get` will do.

    Raises:
        GraphError: the tasks are no application; the text names the task and the remedy.
    """
    by_id: dict[TaskId, Task] = {}
    for task in tasks:
        if fault := task_id_fault(task.id):
            raise GraphError(f"task {task.id!r:.80}: a task cannot be called that; {fault}")
        if task.id in by_id or known(task.id) is not None:
            raise GraphError(f"task {task.id}: there are two tasks of this name; rename one")
        by_id[task.id] = task
        _check_alone(task)
    children: dict[TaskId, list[TaskId]] = {}
    missing: dict[TaskId, int] = {}
    read: set[TaskId] = set()
    for task in by_id.values():
        missing[task.id] = 0
        if task.inputs or task.after:
            _check_sources(task, by_id, known)
            read.update(task.sources())
            for parent in task.parents():
                missing[task.id] += parent in by_id
                children.setdefault(parent, []).append(task.id)
    order = _order(missing, children)
    if len(order) < len(by_id):
        raise _cycle(by_id, set(by_id).difference(order))
    return Graph(
        order=order,
        children=children,
        roots=tuple(each for each, count in missing.items() if count == 0),
        sinks=tuple(each for each in by_id if each not in children),
        unread=tuple(each for each in by_id if each not in read),
    )


def producers(tasks: Iterable[Task]) -> dict[str, TaskId]:
    """The task that makes each file, for loaders whose users name files and not tasks.

    Raises:
        GraphError: two tasks make a file of one name, so that nobody could say which one is meant.
    """
    made: dict[str, TaskId] = {}
    for task in tasks:
        for name in task.outputs:
            if name.startswith("@"):
                continue
            other = made.setdefault(name, task.id)
            if other != task.id:
                raise GraphError(f"task {task.id}: {name!r} is made by task {other} too; give one of them another name")
    return made


def _check_alone(task: Task) -> None:
    """What can be said of one task without the others."""
    called = isinstance(task.work, Call)
    names = [each.name for each in task.inputs]
    _check_names(task, "input", names, input_name_fault if called else file_name_fault)
    _check_names(task, "output", task.outputs, output_name_fault if called else file_name_fault)
    names += task.outputs
    if len(names) > 1 and "/" in "".join(names) and (clash := nested(names)):
        raise GraphError(f"task {task.id}: {clash[0]!r} cannot be a file beside {clash[1]!r}; rename one")
    if fault := _needs_fault(task) or once_fault(task.once, task.retries) or _work_fault(task):
        raise GraphError(f"task {task.id}: {fault}")


def _check_names(task: Task, kind: str, names: Sequence[str], fault_of: Callable[[str], str | None]) -> None:
    for name in names:
        if fault := fault_of(name):
            raise GraphError(f"task {task.id}: {kind} {name!r:.80}: {fault}")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise GraphError(f"task {task.id}: two {kind}s are called {twice!r}; give one of them another name")


def _needs_fault(task: Task) -> str | None:
    if task.needs.cpus < 1:
        return f"cpus is {task.needs.cpus}; a task takes at least 1"
    if task.needs.memory_bytes < 0:
        return f"memory is {task.needs.memory_bytes} bytes; it cannot be negative"
    if task.needs.gpus < 0:
        return f"gpus is {task.needs.gpus}; it cannot be negative"
    if task.needs.disk_bytes < 0:
        return f"disk is {task.needs.disk_bytes} bytes; it cannot be negative"
    if task.needs.cost_max is not None and not 0 <= task.needs.cost_max < math.inf:
        return f"max_cost is {task.needs.cost_max}; leave it out where there is no limit"
    if task.retries < 0:
        return f"retries is {task.retries}; it cannot be negative"
    if task.timeout_s is not None and not 0 < task.timeout_s < math.inf:
        return f"timeout is {task.timeout_s} s; leave it out where there is none"
    return None


def once_fault(once: bool, retries: int) -> str | None:
    """Why a task cannot have both, or None."""
    if not once or not retries:
        return None
    return f"it is marked once, and has retries = {retries}; write retries = 0, or leave out once"


def _work_fault(task: Task) -> str | None:
    match task.work:
        case Command(argv, shell, env):
            if not argv or not argv[0].strip():
                return "the command is empty; name a program"
            if shell and len(argv) != 1:
                return "a shell command is one string; write a list to run a program without a shell"
            if "\0" in "".join([*argv, *env, *env.values()]):
                return "the command has a NUL character in it; no program can be given one"
            for each in env:
                if not each or "=" in each:
                    return f"{each!r:.40} cannot be the name of an environment variable; rename it"
            return None
        case Timed(seconds, _, output_bytes):
            if not 0 <= seconds < math.inf:
                return f"it takes {seconds} s; write a number of seconds that is not negative"
            if any(size < 0 or name not in task.outputs for name, size in output_bytes.items()):
                return "output_bytes has a name that is no output, or a negative size; correct it"
            return None
        case Call():
            return None
        case _:
            assert_never(task.work)


def _check_sources(task: Task, by_id: Mapping[TaskId, Task], known: Callable[[TaskId], Task | None]) -> None:
    for each in task.after:
        if each not in by_id and known(each) is None:
            raise GraphError(
                f"task {task.id}: it comes after {each!r:.80}, which is no task; "
                + remedy(each, by_id, "correct the name or leave it out")
            )
        if each == task.id:
            raise GraphError(f"task {task.id}: it comes after itself; leave that out", cycle=(task.id,))
    for item in task.inputs:
        source = item.source
        if not isinstance(source, OutputOf):
            continue
        maker = by_id.get(source.task) or known(source.task)
        if maker is None:
            raise GraphError(
                f"task {task.id}: input {item.name!r} comes from {source.task!r:.80}, which is no task; "
                + remedy(source.task, by_id, "correct the name or add the task")
            )
        if maker is task:
            raise GraphError(
                f"task {task.id}: it reads {source.output!r}, which it makes itself; give input or output another name",
                cycle=(task.id,),
            )
        if source.output not in maker.outputs:
            raise GraphError(
                f"task {task.id}: input {item.name!r} is output {source.output!r} of task {maker.id}, which does not"
                " make it; " + remedy(source.output, maker.outputs, f"add it to the outputs of {maker.id}")
            )


def _order(missing: Mapping[TaskId, int], children: Mapping[TaskId, Sequence[TaskId]]) -> tuple[TaskId, ...]:
    """As many tasks as can be reached without a cycle (Kahn 1962)."""
    left = dict(missing)
    ready = deque(each for each, count in missing.items() if count == 0)
    order = []
    while ready:
        task = ready.popleft()
        order.append(task)
        for child in children.get(task, ()):
            left[child] -= 1
            if left[child] == 0:
                ready.append(child)
    return tuple(order)


def _cycle(by_id: Mapping[TaskId, Task], stuck: set[TaskId]) -> GraphError:
    """Each stuck task has a stuck parent: whoever goes from parent to parent comes back to a task that he met."""
    met: dict[TaskId, None] = {}
    task = next(each for each in by_id if each in stuck)
    while task not in met:
        met[task] = None
        task = next(parent for parent in by_id[task].parents() if parent in stuck)
    path = list(met)
    cycle = path[path.index(task) :][::-1]
    shown = (
        cycle
        if len(cycle) <= _SHOWN_MAX
        else [*cycle[: _SHOWN_MAX - 1], f"({len(cycle) - _SHOWN_MAX} more)", cycle[-1]]
    )
    return GraphError(
        f"tasks wait for each other in a circle: {' → '.join([*shown, cycle[0]])}; take one of these edges away",
        cycle=cycle,
    )
