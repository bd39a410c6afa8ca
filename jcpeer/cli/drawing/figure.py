"""What is drawn: vertices by layers, each a task, or all tasks of one depth whose names differ in their digits only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile

from attrs import frozen

from jcpeer.application.roles import Role, Roles
from jcpeer.application.task import Task
from jcpeer.ids import TaskId
from jcpeer.values import evolve

_PREFIX_MIN = 8


@frozen
class Vertex:
    """One box. `parents` are places in the figure's `vertices`, all in earlier layers."""

    name: str
    count: int
    depth: int
    role: Role
    has_friends: bool
    parents: tuple[int, ...]

    @property
    def label(self) -> str:
        return self.name if self.count == 1 else f"{self.name} × {self.count:,}"


@frozen
class Figure:
    """Vertices, parents before children."""

    vertices: tuple[Vertex, ...]
    prefix: str = ""
    """What was left out of each name at its beginning."""

    @property
    def edge_count(self) -> int:
        return sum(len(each.parents) for each in self.vertices)


def one_by_one(tasks: Mapping[TaskId, Task], roles: Roles) -> Figure:
    """A vertex a task."""
    friends = roles.friends_groups()
    places: dict[TaskId, int] = {}
    vertices: list[Vertex] = []
    for depth, layer in enumerate(roles.layers, 1):
        for id in layer:
            parents = tuple(places[parent] for parent in tasks[id].parents())
            places[id] = len(vertices)
            vertices.append(Vertex(id, 1, depth, roles.of[id], id in friends, parents))
    return Figure(tuple(vertices))


def grouped(tasks: Mapping[TaskId, Task], roles: Roles) -> Figure:
    """A vertex for each depth, role and pattern of names; one whose pattern has one task bears that task's name."""
    friends = roles.friends_groups()
    place_of: dict[TaskId, int] = {}
    vertices: list[Vertex] = []
    for depth, layer in enumerate(roles.layers, 1):
        alike: dict[tuple[str, Role], list[TaskId]] = {}
        for id in layer:
            alike.setdefault((pattern_of(id), roles.of[id]), []).append(id)
        for (pattern, role), ids in alike.items():
            parents = dict.fromkeys(place_of[parent] for id in ids for parent in tasks[id].parents())
            place_of.update(dict.fromkeys(ids, len(vertices)))
            name = pattern if len(ids) > 1 else ids[0]
            has_friends = any(id in friends for id in ids)
            vertices.append(Vertex(name, len(ids), depth, role, has_friends, tuple(parents)))
    return Figure(tuple(vertices))


def abbreviated(figure: Figure) -> Figure:
    """The same without the names of modules (up to a dot or colon) in which all tasks are, where these are long."""
    if len(figure.vertices) < 2:
        return figure
    names = sorted(each.name for each in figure.vertices)
    alike = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(names[0], names[-1], strict=False))]
    while alike and alike[-1] not in ".:":
        alike.pop()
    prefix = "".join(alike)
    if len(prefix) < _PREFIX_MIN:
        return figure
    return Figure(tuple(evolve(each, name=each.name[len(prefix) :]) for each in figure.vertices), prefix)


def pattern_of(name: str) -> str:
    """What is left of a name whatever its numbers: "throw-1000-3" and "throw-20-17" are both "throw-*"."""
    return re.sub(r"\*(?:[._:-]\*)+", "*", re.sub(r"\d+", "*", name))


def shortened(text: str, length: int) -> str:
    """The text, cut in its middle: names differ at their ends, and begin alike."""
    if len(text) <= length:
        return text
    head = length // 3
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"
