"""`jcpeer graph`: what an application looks like, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.cells import cell_len, set_cell_size

from jcpeer.application.graph import check_graph
from jcpeer.application.loading import load
from jcpeer.application.roles import Role, Roles, classify
from jcpeer.application.task import Task
from jcpeer.cli.drawing import Figure, abbreviated, draw_boxes, draw_dot, draw_svg, grouped, one_by_one
from jcpeer.cli.drawing.boxes import LEGEND
from jcpeer.cli.drawing.figure import shortened
from jcpeer.cli.options import AsJson, Variables, variables_from
from jcpeer.cli.terminal import Column, field_lines, say, show, show_json, table_lines, terminal_width
from jcpeer.cli.words import counted, duration, joined, plain
from jcpeer.errors import ConfigError, StorageError
from jcpeer.ids import TaskId

WIDTH = 80
"""Where stdout is no terminal."""
BOXES_MAX = 30
"""More boxes are no picture that a person takes in."""
LINES_MAX = 40
"""So many tasks have a line each; of more, those alike share one."""
ROWS_MAX = 200
SVG_TASKS_MAX = 500
SVG_EDGES_MAX = 5_000
_NAME_MAX = 36
_PARENT_MIN = 12
_ROLES: tuple[Role, ...] = get_args(Role)
_PARENTS_SHOWN = 4


def graph(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .toml or .py file, or a recorded run (WfFormat .json).", show_default=False
        ),
    ],
    dot: Annotated[bool, typer.Option("--dot", help="Print DOT, for Graphviz.", show_default=False)] = False,
    svg: Annotated[bool, typer.Option("--svg", help="Print SVG, for a browser.", show_default=False)] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there; .svg and .dot need no further option."),
    ] = None,
    set_: Variables = None,
    as_json: AsJson = False,
) -> None:
    """Show an application's tasks, their roles and edges. Nothing runs, and no node is needed.

    A task without parents is initial, one with a single parent isolated, one with several shared. Tasks that share a
    child are friends. A small graph is drawn, of a larger one each task has a line, and of one that is larger still,
    tasks at one depth whose names differ in their digits are shown as one.

    \b
    Examples:
      jcpeer graph corpus.toml
      jcpeer graph recorded.json -o recorded.svg
      jcpeer graph corpus.toml --set shards=20 --dot | dot -Tpdf -o corpus.pdf
    """
    form = _form(dot=dot, svg=svg, as_json=as_json, output=output)
    loaded = load(file, variables=variables_from(set_ or ()))
    tasks = {task.id: task for task in loaded.tasks}
    roles = classify(loaded.tasks, check_graph(loaded.tasks))
    name = plain(loaded.name)
    if form == "json":
        show_json({"name": loaded.name, **_as_json(tasks, roles)})
    elif form == "text":
        for line in _text_lines(name, tasks, roles, width=terminal_width() or WIDTH):
            show(line)
    elif form == "dot":
        _put(draw_dot(one_by_one(tasks, roles), name=name), output)
    else:
        figure = _drawable(name, tasks, roles)
        _put(draw_svg(figure, name=name, caption=_caption(figure, tasks, roles)), output)


def _form(*, dot: bool, svg: bool, as_json: bool, output: Path | None) -> str:
    asked = [name for name, wanted in (("dot", dot), ("svg", svg), ("json", as_json)) if wanted]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} contradict each other; leave one out")
    if output is None:
        if svg and sys.stdout.isatty():
            raise ConfigError("SVG is for a browser, not for a terminal: add -o FILE.svg")
        return asked[0] if asked else "text"
    if asked == ["json"]:
        raise ConfigError("--json is printed: leave --output out, and redirect it with > FILE")
    by_suffix = {".svg": "svg", ".dot": "dot", ".gv": "dot"}.get(output.suffix.lower())
    if not asked and by_suffix is None:
        raise ConfigError(f"--output {output}: say --svg or --dot, or call the file .svg or .dot")
    if asked and by_suffix not in (None, asked[0]):
        raise ConfigError(f"--output {output}: this name is not one for --{asked[0]}; leave that out, or rename it")
    return asked[0] if asked else str(by_suffix)


def _put(lines: Iterable[str], output: Path | None) -> None:
    text = "\n".join(lines)
    if output is None:
        show(text)
        return
    try:
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{output}: it cannot be written: {error.strerror or error}") from error


# --- text


def _text_lines(name: str, tasks: Mapping[TaskId, Task], roles: Roles, *, width: int) -> Iterator[str]:
    figure = abbreviated(one_by_one(tasks, roles))
    drawn = _drawn(figure, width=width)
    if drawn is None and len(tasks) > LINES_MAX:
        figure = abbreviated(grouped(tasks, roles))
        drawn = _drawn(figure, width=width)
    yield name
    yield from field_lines({**_summary(tasks, roles), **_left_out(figure)})
    yield ""
    yield from drawn or _vertex_lines(figure, width=width)


def _left_out(figure: Figure) -> dict[str, str]:
    return {"names": f"{shortened(figure.prefix, _NAME_MAX)}…, left out below"} if figure.prefix else {}


def _drawn(figure: Figure, *, width: int) -> list[str] | None:
    boxes = draw_boxes(figure, width=width) if len(figure.vertices) <= BOXES_MAX else None
    return boxes and [*boxes, "", LEGEND]


def _summary(tasks: Mapping[TaskId, Task], roles: Roles) -> dict[str, str]:
    friends = len(roles.friends_groups())
    summary = {
        "tasks": f"{len(tasks):,}: {', '.join(f'{roles.count(role):,} {role}' for role in _ROLES)}",
        "edges": f"{sum(len(task.parents()) for task in tasks.values()):,}",
        "friends": f"{counted(friends, 'task')} in {counted(len(roles.friends), 'group')}" if friends else "none",
        "depth": f"{roles.depth:,}, the tasks of the longest chain",
        "width": f"{roles.width:,}, the most tasks at one depth",
    }
    if roles.critical_path_s is not None and roles.work_s is not None:
        summary["critical path"] = f"{duration(roles.critical_path_s)} of {duration(roles.work_s)} of work"
    return summary


def _vertex_lines(figure: Figure, *, width: int) -> list[str]:
    several = any(each.count > 1 for each in figure.vertices)
    columns = [Column("DEPTH", right=True), Column("TASK"), Column("ROLE"), Column("AFTER")]
    if several:
        columns.insert(1, Column("TASKS", right=True))
    longest = max((len(shortened(each.name, _NAME_MAX)) for each in figure.vertices), default=0)
    room = max(_PARENT_MIN, width - longest - len("DEPTH  TASKS    isolated  ") - 1)
    rows = []
    for each, before in zip(figure.vertices[:ROWS_MAX], (None, *figure.vertices), strict=False):
        parents = [_end_of(figure.vertices[parent].name, room) for parent in sorted(each.parents)]
        rows.append(
            [
                "" if before and before.depth == each.depth else f"{each.depth:,}",
                *([f"{each.count:,}"] if several else []),
                shortened(each.name, _NAME_MAX),
                each.role,
                joined(parents, most=_PARENTS_SHOWN),
            ]
        )
    lines = [_cut(line, width) for line in table_lines(columns, rows, width=None)]
    if more := len(figure.vertices) - len(rows):
        lines.append(f"… and {counted(more, 'more line')}; --json has every task")
    return lines


def _end_of(name: str, length: int) -> str:
    """Enough to find it in the lines above, where there is little room."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _cut(line: str, width: int) -> str:
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"


# --- pictures


def _drawable(name: str, tasks: Mapping[TaskId, Task], roles: Roles) -> Figure:
    """Every task where that can be read, or else tasks of like names as one, which is said."""
    edges = sum(len(task.parents()) for task in tasks.values())
    if len(tasks) <= SVG_TASKS_MAX and edges <= SVG_EDGES_MAX:
        return abbreviated(one_by_one(tasks, roles))
    much = f"{name} is too large to draw: {counted(len(tasks), 'task')}, {counted(edges, 'edge')}"
    figure = abbreviated(grouped(tasks, roles))
    if len(figure.vertices) > SVG_TASKS_MAX or figure.edge_count > SVG_EDGES_MAX:
        raise ConfigError(f"{much}; --dot and --json give them all to other programs")
    say(f"{much}. Tasks of like names are one box; --dot gives them all to other programs.")
    return figure


def _caption(figure: Figure, tasks: Mapping[TaskId, Task], roles: Roles) -> str:
    summary = _summary(tasks, roles)
    shape = f"{counted(len(tasks), 'task')}, {summary['edges']} edges, depth {roles.depth:,}, width {roles.width:,}"
    critical = f"; critical path {summary['critical path']}" if "critical path" in summary else ""
    names = f"; names begin with {figure.prefix}" if figure.prefix else ""
    return shape + critical + names


# --- for programs


def _as_json(tasks: Mapping[TaskId, Task], roles: Roles) -> dict[str, Any]:
    groups = roles.friends_groups()
    children: dict[TaskId, list[TaskId]] = {}
    for task in tasks.values():
        for parent in task.parents():
            children.setdefault(parent, []).append(task.id)
    return {
        "edges": sum(map(len, children.values())),
        "roles": {role: roles.count(role) for role in _ROLES},
        "depth": roles.depth,
        "width": roles.width,
        "critical_path_s": roles.critical_path_s,
        "work_s": roles.work_s,
        "friends": [{"tasks": list(each.tasks), "share": list(each.share)} for each in roles.friends],
        "tasks": [
            {
                "task": id,
                "role": roles.of[id],
                "depth": depth,
                "parents": list(tasks[id].parents()),
                "children": children.get(id, []),
                "friends": groups.get(id, []),
            }
            for depth, layer in enumerate(roles.layers, 1)
            for id in layer
        ],
    }
