"""What each task is to those around it, in PastryGrid's words, and the shape of the whole.

A task without parents is *initial*, one with a single parent *isolated*, one with several *shared*: who finishes the
parent of an isolated task may start it unasked, while a shared task has several who might. Tasks that share a child are
*friends*. A later batch may add friends to a task; it never changes its role, because its parents stay what they are.

Time and memory grow with the tasks and their edges only, so friends are told in groups: a thousand parents of one child
are one group, not a million pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from attrs import frozen

from jcpeer.application.graph import Graph
from jcpeer.application.task import Task, Timed
from jcpeer.ids import TaskId

Role = Literal["initial", "isolated", "shared"]


def role_of(task: Task) -> Role:
    """The role of one task, which its own description tells."""
    return _role_after(len(task.parents()))


def _role_after(parents: int) -> Role:
    return "initial" if parents == 0 else "isolated" if parents == 1 else "shared"


def isolated(graph: Graph, task: TaskId, tasks: Mapping[TaskId, Task]) -> tuple[TaskId, ...]:
    """The children that whoever finishes this task may start without asking anybody."""
    return tuple(child for child in graph.children.get(task, ()) if role_of(tasks[child]) == "isolated")


@frozen
class Friends:
    """All parents of one or more shared tasks."""

    tasks: tuple[TaskId, ...]
    share: tuple[TaskId, ...]
    """The tasks that have exactly these parents."""


@frozen
class Roles:
    """The roles of checked tasks, parents before children."""

    of: Mapping[TaskId, Role]
    friends: tuple[Friends, ...]
    layers: tuple[tuple[TaskId, ...], ...]
    """The tasks by depth: how many tasks the longest chain has that ends with them, from 1."""
    critical_path_s: float | None
    """The longest chain in seconds, below which no number of nodes can get; None where a task tells no time."""
    work_s: float | None
    """All tasks one after the other; None likewise."""

    @property
    def depth(self) -> int:
        """The tasks of the longest chain."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """The most tasks at one depth: so many slots could be busy at once, if all took equally long."""
        return max(map(len, self.layers), default=0)

    def count(self, role: Role) -> int:
        return sum(each == role for each in self.of.values())

    def friends_groups(self) -> dict[TaskId, list[int]]:
        """For each task that has friends: the places in `friends` of the groups that it is in."""
        groups: dict[TaskId, list[int]] = {}
        for place, group in enumerate(self.friends):
            for task in group.tasks:
                groups.setdefault(task, []).append(place)
        return groups


def classify(tasks: Iterable[Task], graph: Graph) -> Roles:
    """The roles of these tasks, whose graph this is. Parents from earlier batches count, but have no depth here."""
    tasks = tuple(tasks)
    parents_of = {task.id: task.parents() for task in tasks}
    of: dict[TaskId, Role] = {}
    depths: dict[TaskId, int] = {}
    layers: list[list[TaskId]] = []
    together: dict[frozenset[TaskId], tuple[Sequence[TaskId], list[TaskId]]] = {}
    for id in graph.order:
        parents = parents_of[id]
        of[id] = _role_after(len(parents))
        if of[id] == "shared":
            together.setdefault(frozenset(parents), (parents, []))[1].append(id)
        depth = depths[id] = 1 + max((depths.get(parent, 0) for parent in parents), default=0)
        if depth > len(layers):  # by one at most: a parent is one less deep
            layers.append([])
        layers[depth - 1].append(id)
    seconds = _seconds(tasks)
    return Roles(
        of=of,
        friends=tuple(Friends(tuple(parents), tuple(share)) for parents, share in together.values()),
        layers=tuple(map(tuple, layers)),
        critical_path_s=None if seconds is None else _longest_chain_s(parents_of, graph, seconds),
        work_s=None if seconds is None else sum(seconds.values()),
    )


def _seconds(tasks: Iterable[Task]) -> dict[TaskId, float] | None:
    seconds = {}
    for task in tasks:
        if not isinstance(task.work, Timed):
            return None
        seconds[task.id] = task.work.seconds
    return seconds


def _longest_chain_s(
    parents_of: Mapping[TaskId, Sequence[TaskId]], graph: Graph, seconds: Mapping[TaskId, float]
) -> float:
    ends_s: dict[TaskId, float] = {}
    for id in graph.order:
        ends_s[id] = seconds[id] + max((ends_s.get(parent, 0.0) for parent in parents_of[id]), default=0.0)
    return max(ends_s.values(), default=0.0)
