"""Recorded runs in WfFormat 1.5 (WfCommons), run again as work that only takes its time: for trying and measuring.

The graph comes from `workflow.specification`: `parents`, `children` and files, of which one that another task made is
an input. Runtimes come from `workflow.execution`, times `scale`. Files that no task made are not needed, because
nothing reads what is in them; a made file has the recorded size times `bytes_scale`, at least one byte.

https://github.com/wfcommons/WfFormat
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from jcpeer.application.fields import Fields, shown
from jcpeer.application.graph import check_graph
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.names import file_name_fault, one_line, plain_name, task_id_fault, task_id_from
from jcpeer.application.reading import read_text
from jcpeer.application.task import Input, Needs, OutputOf, Task, Timed
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId

VERSION = "1.5"
BYTES_SCALE = 1e-6
"""A recorded gigabyte becomes a kilobyte: the edges stay, the network is not what is measured."""


def load_wfformat(
    path: Path, *, scale: float = 1.0, burn: bool = False, bytes_scale: float = BYTES_SCALE, cpus_max: int | None = None
) -> LoadedApplication:
    """The run that this file records.

    Args:
        scale: Factor on recorded seconds.
        burn: Burn a core instead of sleeping.
        bytes_scale: Factor on recorded file sizes.
        cpus_max: A task that used more cores asks for this many; None: as many as this machine has, so that one that
            needs a machine of the recorded kind still runs.

    Raises:
        GraphError: it records none; the text names the place in the JSON.
    """
    for name, factor in (("scale", scale), ("bytes_scale", bytes_scale)):
        if not 0 <= factor < math.inf:
            raise GraphError(f"{path}: {name} must be a number, 0 or more, not {factor}")
    top = Fields(str(path), _parse(path))
    version = top.values.get("schemaVersion")
    if version != VERSION:
        top.refuse(f"schemaVersion must be {VERSION!r}, not {shown(version)}; convert it with the tools of WfCommons")
    run = _Recording(str(path), top, scale, burn, bytes_scale, cpus_max or os.cpu_count() or 1)
    tasks = run.tasks()
    try:
        graph = check_graph(tasks)
    except GraphError as error:
        raise GraphError(f"{path}: {error}", cycle=error.cycle) from error
    return LoadedApplication(
        name=_application_name(top.values.get("name"), path),
        tasks=tasks,
        results=graph.sinks,
        recorded_makespan_s=run.makespan_s,
    )


def _parse(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphError(f"{path}: this is not JSON: {one_line(error)}") from error
    except RecursionError as error:
        raise GraphError(f"{path}: it is nested too deeply; no recorded run is") from error
    except ValueError as error:  # a number with too many digits
        raise GraphError(f"{path}: a value is out of range: {one_line(error)}") from error


def _application_name(recorded: object, path: Path) -> str:
    name = one_line(recorded, length=200) if isinstance(recorded, str) else ""
    return name if name.isprintable() and name else path.stem


@frozen
class _Execution:
    """What was measured of a task."""

    runtime_s: float
    cores: float


@frozen
class _Described:
    """A task of the specification, and the id under which it runs here."""

    fields: Fields
    id: TaskId
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    makes_as: tuple[str, ...]


@frozen
class _Recording:
    """One file, section by section."""

    _path: str
    _top: Fields
    _scale: float
    _burn: bool
    _bytes_scale: float
    _cpus_max: int
    _ids: dict[str, TaskId] = field(factory=dict, init=False)

    @property
    def makespan_s(self) -> float | None:
        execution = self._section("execution")
        return execution.number("makespanInSeconds") if "makespanInSeconds" in execution.values else None

    def tasks(self) -> tuple[Task, ...]:
        executions = self._executions()
        sizes = self._sizes()
        described = self._described()
        # A file is known by its recorded id, which may be a path on a machine of then; here it gets a name of its own.
        made = self._made(described)
        edges: dict[TaskId, dict[TaskId, None]] = {each.id: {} for each in described}
        for each in described:
            for index, parent in enumerate(each.fields.texts("parents", [])):
                edges[each.id][self._task(each.fields, f"parents[{index}]", parent)] = None
            for index, child in enumerate(each.fields.texts("children", [])):
                edges[self._task(each.fields, f"children[{index}]", child)][each.id] = None
        tasks = []
        for each in described:
            execution = executions.get(each.fields.text("id"))
            if execution is None:
                self._section("execution").refuse(f"tasks has no runtime of {each.fields.text('id')!r:.80}; add it")
            inputs = tuple(
                Input(made[name].output, made[name])
                for name in dict.fromkeys(each.reads)
                if name in made and made[name].task != each.id  # one that it changed in place
            )
            by_file = {each.source.task for each in inputs if isinstance(each.source, OutputOf)}
            tasks.append(
                Task(
                    id=each.id,
                    work=Timed(
                        seconds=execution.runtime_s * self._scale,
                        burn=self._burn,
                        output_bytes={
                            name: max(1, round(sizes.get(recorded, 0) * self._bytes_scale))
                            for recorded, name in zip(each.makes, each.makes_as, strict=True)
                        },
                    ),
                    inputs=inputs,
                    outputs=each.makes_as,
                    after=tuple(parent for parent in edges[each.id] if parent not in by_file),
                    needs=Needs(cpus=max(1, min(math.ceil(execution.cores), self._cpus_max))),
                )
            )
        return tuple(tasks)

    def _section(self, name: str) -> Fields:
        workflow = Fields(f"{self._path}: workflow", self._top.values.get("workflow"))
        return Fields(f"{workflow.where}.{name}", workflow.values.get(name))

    def _executions(self) -> dict[str, _Execution]:
        found: dict[str, _Execution] = {}
        for each in self._section("execution").each("tasks"):
            cores = each.number("coreCount", 1.0) if each.values.get("coreCount") is not None else 1.0
            found[each.text("id")] = _Execution(each.number("runtimeInSeconds"), cores)
        return found

    def _sizes(self) -> dict[str, float]:
        return {
            each.text("id"): each.number("sizeInBytes", 0.0) for each in self._section("specification").each("files")
        }

    def _described(self) -> list[_Described]:
        specification = self._section("specification")
        used: set[str] = set()
        file_names: set[str] = set()
        described = []
        for each in specification.each("tasks"):
            recorded = each.text("id")
            if recorded in self._ids:
                each.refuse(f"id {recorded!r:.80} is that of an earlier task too; ids must differ")
            self._ids[recorded] = TaskId(_distinct(_task_id(recorded), used))
            makes = tuple(dict.fromkeys(each.texts("outputFiles", [])))
            described.append(
                _Described(
                    fields=each,
                    id=self._ids[recorded],
                    reads=tuple(each.texts("inputFiles", [])),
                    makes=makes,
                    makes_as=tuple(_distinct(_file_name(name), file_names) for name in makes),
                )
            )
        if not described:
            specification.refuse("tasks is empty or missing; a recorded run has at least one")
        return described

    def _made(self, described: Iterable[_Described]) -> Mapping[str, OutputOf]:
        made: dict[str, OutputOf] = {}
        for each in described:
            for index, (recorded, name) in enumerate(zip(each.makes, each.makes_as, strict=True)):
                other = made.setdefault(recorded, OutputOf(each.id, name))
                if other.task != each.id:
                    each.fields.refuse(
                        f"outputFiles[{index}]: {recorded!r:.80} is made by {other.task} too; name one producer"
                    )
        return made

    def _task(self, fields: Fields, key: str, recorded: str) -> TaskId:
        task = self._ids.get(recorded)
        if task is None:
            fields.refuse(f"{key}: there is no task {recorded!r:.80}; correct the id or add the task")
        return task


def _task_id(recorded: str) -> str:
    if task_id_fault(recorded) is None:
        return recorded
    return task_id_from(recorded) or "task"


def _file_name(recorded: str) -> str:
    name = plain_name(recorded).strip("/")
    if file_name_fault(name) is None:
        return name
    return f"file_{name[-100:]}".replace("/", "_").replace("\0", "_").encode(errors="replace").decode()


def _distinct(name: str, used: set[str]) -> str:
    """The name, or with a number where another thing already has it."""
    distinct, count = name, 1
    while distinct in used:
        count += 1
        distinct = f"{name}_{count}"
    used.add(distinct)
    return distinct
