"""`jcpeer graph`: text that a person likes, SVG and DOT that programs take, JSON that has everything."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.graph import check_graph
from jcpeer.application.roles import classify
from jcpeer.application.task import Task, Timed
from jcpeer.cli import graph as command
from jcpeer.cli.drawing import Figure, draw_boxes, draw_dot, one_by_one
from jcpeer.cli.drawing.figure import pattern_of, shortened
from jcpeer.cli.drawing.layers import arrange, place
from jcpeer.ids import TaskId
from tests.cli.conftest import Command

FORK = str(Path(__file__).parents[1] / "application" / "fork.wfformat.json")
EXAMPLES = Path(__file__).parents[2] / "examples"

File = Callable[[str, str], str]


def figure_of_words(*edges: str) -> Figure:
    """Vertices and edges as words: "a", "b a" is b after a."""
    tasks = [
        Task(TaskId(id), Timed(1), after=tuple(map(TaskId, parents)))
        for id, *parents in (each.split() for each in edges)
    ]
    return one_by_one({task.id: task for task in tasks}, classify(tasks, check_graph(tasks)))


# --- text


def test_a_small_graph_is_drawn(jcpeer: Command) -> None:
    said = jcpeer("graph", FORK)
    assert (said.status, said.err) == (0, "")
    assert said.out == (
        """fork
  tasks          4: 1 initial, 2 isolated, 1 shared
  edges          4
  friends        2 tasks in 1 group
  depth          3, the tasks of the longest chain
  width          2, the most tasks at one depth
  critical path  22 s of 28 s of work

      ╭─────────╮
      │ split_1 │
      ╰────┬────╯
     ┌─────┴─────┐
┌────┴───┐  ┌────┴───┐
│ work_2 │  │ work_3 │
└────┬───┘  └────┬───┘
     └─────┬─────┘
      ┏━━━━┷━━━┓
      ┃ join_4 ┃
      ┗━━━━━━━━┛

╭─╮ initial   ┌─┐ isolated   ┏━┓ shared
"""
    )


def test_an_edge_past_other_tasks_goes_beside_them() -> None:
    assert draw_boxes(figure_of_words("a", "b a", "c a b"), width=80) == [
        "  ╭───╮",
        "  │ a │",
        "  ╰─┬─╯",
        "  ┌─┴─┐",
        "┌─┴─┐ │",
        "│ b │ │",
        "└─┬─┘ │",
        "  └─┬─┘",
        "  ┏━┷━┓",
        "  ┃ c ┃",
        "  ┗━━━┛",
    ]


def test_lines_that_cross_do_not_touch() -> None:
    assert draw_boxes(figure_of_words("a", "b", "c", "x a b", "y b c", "z c a"), width=80) == [
        "╭───╮  ╭───╮  ╭───╮",
        "│ a │  │ b │  │ c │",
        "╰─┬─╯  ╰─┬─╯  ╰─┬─╯",
        " ┌┴─────┐│┌─────┴┐",
        " │ ┌────│┴│────┐ │",
        "┏┷━┷┓  ┏┷━┷┓  ┏┷━┷┓",
        "┃ x ┃  ┃ z ┃  ┃ y ┃",
        "┗━━━┛  ┗━━━┛  ┗━━━┛",
    ]


def test_too_wide_for_boxes_means_a_line_a_task(jcpeer: Command) -> None:
    said = jcpeer("graph", str(EXAMPLES / "hello.toml"))
    lines = said.out.splitlines()
    assert lines[-10] == "DEPTH  TASK     ROLE     AFTER"
    assert lines[-9] == "    1  greet-1  initial"
    assert lines[-1] == "    2  letter   shared   greet-1, greet-2, greet-3, greet-4 and 4 more"
    assert "critical path" not in said.out


def test_of_many_tasks_those_alike_are_one_box(jcpeer: Command) -> None:
    said = jcpeer("graph", str(EXAMPLES / "squares.py"))
    assert "│ square-* × 100 │" in said.out
    assert "┃ sum-0001 ┃" in said.out


def test_what_fits_no_box_is_cut_to_the_width(jcpeer: Command, file: File) -> None:
    names = [f"{'long' * 12}-{first}{second}" for first in "abcdefghij" for second in "abcdefghijklmnopqrstuvwxyz"]
    tables = "".join(f"[task.{name}]\ncommand = 'true'\n" for name in names)
    said = jcpeer("graph", file("wide.toml", f"{tables}[task.last]\ncommand = 'true'\nafter = {names}\n"))
    assert said.status == 0, said.err
    assert max(map(len, said.out.splitlines())) <= command.WIDTH
    assert said.out.endswith("\n… and 61 more lines; --json has every task\n")


def test_a_chain_of_thousands_does_not_flood_the_terminal(jcpeer: Command, file: File) -> None:
    lines = (
        "import jcpeer",
        "app = jcpeer.Application('chain')",
        "last = app.command('true')",
        "for _ in range(3000):",
        "    last = app.command('true', after=[last])",
    )
    said = jcpeer("graph", file("chain.py", "\n".join(lines)))
    assert said.status == 0, said.err
    assert len(said.out.splitlines()) < command.ROWS_MAX + 12
    assert "depth    3,001, the tasks" in said.out


def test_modules_that_all_tasks_are_in_are_named_once(jcpeer: Command, file: File) -> None:
    text = "import jcpeer\napp = jcpeer.Application('a')\nx = app.command('true', name='lab.genome.align')\n"
    name = file("long.py", text + "app.command('true', name='lab.genome.merge', after=[x])\n")
    said = jcpeer("graph", name)
    assert "  names    lab.genome.…, left out below\n" in said.out
    assert "│ align │" in said.out
    assert "names begin with lab.genome.<" in (svg := jcpeer("graph", name, "--svg").out)
    assert "<title>lab.genome.align: initial</title>" in svg
    assert '[label="lab.genome.align"' in jcpeer("graph", name, "--dot").out


def test_names_are_cut_in_their_middle_and_numbers_make_no_pattern() -> None:
    assert shortened("abcdefghijkl", 9) == "abc…hijkl"
    assert [pattern_of(each) for each in ("throw-1000-3", "sort_2d.7", "all")] == ["throw-*", "sort_*d.*", "all"]


edge_lists = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=18)


def figure_of(pairs: list[tuple[int, int]]) -> Figure:
    edges = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
    return figure_of_words(
        *(" ".join([f"t{id}", *(f"t{parent}" for parent, child in sorted(edges) if child == id)]) for id in range(10))
    )


@given(edge_lists)
def test_spots_keep_their_distance_and_segments_join_neighbouring_layers(pairs: list[tuple[int, int]]) -> None:
    figure = figure_of(pairs)
    layered = arrange(figure)
    at = place(layered, distance=lambda *_: 3.0)
    depth = {spot: number for number, layer in enumerate(layered.layers) for spot in layer}
    for layer in layered.layers:
        assert all(at[after] - at[before] >= 3.0 - 1e-6 for before, after in itertools.pairwise(layer))
    for spot, below in enumerate(layered.below):
        assert all(depth[each] == depth[spot] + 1 and spot in layered.above[each] for each in below)

    def reached(spot: int) -> set[int]:
        ends = set()
        for each in layered.below[spot]:
            ends |= reached(each) if layered.is_waypoint(each) else {each}
        return ends

    for index in range(len(figure.vertices)):
        assert reached(index) == {child for child, each in enumerate(figure.vertices) if index in each.parents}


@given(edge_lists)
def test_following_the_lines_of_a_drawing_leads_along_the_edges(pairs: list[tuple[int, int]]) -> None:
    figure = figure_of(pairs)
    drawn = draw_boxes(figure, width=200)
    if drawn is not None:
        assert edges_in(drawn) == {
            (figure.vertices[parent].name, each.name) for each in figure.vertices for parent in each.parents
        }


def edges_in(drawn: list[str]) -> set[tuple[str, str]]:
    """The edges of a drawing as an eye finds them: down from a port, along whatever the line touches, never up."""
    cells = {(row, column): char for row, line in enumerate(drawn) for column, char in enumerate(line)}
    boxes: dict[tuple[int, int], str] = {}
    for row, line in enumerate(drawn):
        for match in re.finditer(r"[│┃] +(t\d+) +[│┃]", line):
            boxes.update({(row + side, column): match[1] for side in (-1, 0, 1) for column in range(*match.span())})
    ways = {"│": "ud", "─": "lr", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu"}
    ways |= {"├": "udr", "┤": "udl", "┬": "lrd", "┴": "lru", "┼": "udlr", "╵": "u", "╷": "d"}
    steps = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
    back = {"u": "d", "d": "u", "l": "r", "r": "l"}
    found = set()
    for start, char in cells.items():
        if char not in "┬┯" or start not in boxes:
            continue
        todo, seen = [(start, "d")], set()
        while todo:
            (row, column), way = todo.pop()
            step = (row + steps[way][0], column + steps[way][1])
            if (step, way) in seen:
                continue
            seen.add((step, way))
            if step in boxes and way in "ud":
                if way == "d":
                    found.add((boxes[start], boxes[step]))
                continue
            there = cells.get(step, " ")
            if there == "│" and way in "lr":  # another line passes over this one
                todo.append((step, way))
                continue
            assert back[way] in ways.get(there, ""), (step, there, way, drawn)
            # A level line is reached from above and left downwards; upwards lead only the lines of its other parents.
            todo += [(step, each) for each in ways[there] if each not in (back[way], "u")]
    return found


# --- pictures


def test_svg_is_well_formed_whatever_the_names(jcpeer: Command, file: File) -> None:
    text = "import jcpeer\napp = jcpeer.Application('<a> & \"b\"')\nx = app.command('true', name='größe')\n"
    said = jcpeer("graph", file("odd.py", text + "app.command('true', name='名前', after=[x])\n"), "--svg")
    root = ElementTree.fromstring(said.out)
    assert root.attrib["aria-label"] == '<a> & "b"'
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"größe", "名前", "isolated: one parent"} <= set(texts)


def test_dot_names_every_task_and_edge_and_escapes(jcpeer: Command) -> None:
    said = jcpeer("graph", FORK, "--dot")
    assert len(re.findall(r"^  t\d+ \[label=", said.out, re.MULTILINE)) == 4
    assert set(re.findall(r"t\d+ -> t\d+", said.out)) == {"t0 -> t1", "t0 -> t2", "t1 -> t3", "t2 -> t3"}
    lines = list(draw_dot(Figure(()), name='say "\\N"'))
    assert lines[0] == 'digraph "say \\"\\\\N\\"" {'


def test_a_file_is_written_by_its_suffix(jcpeer: Command, places: Path) -> None:
    for name, begin in (("a.svg", "<svg "), ("a.dot", "digraph "), ("a.gv", "digraph ")):
        said = jcpeer("graph", FORK, "-o", name)
        assert (said.status, said.out, said.err) == (0, "", "")
        assert (places / "work" / name).read_text().startswith(begin)
    said = jcpeer("graph", FORK, "--svg", "-o", "absent/a.svg")
    assert (said.status, said.err) == (74, "jcpeer: absent/a.svg: it cannot be written: No such file or directory\n")


def test_too_much_for_a_picture_is_said_and_drawn_by_names(jcpeer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SVG_TASKS_MAX", 3)
    said = jcpeer("graph", FORK, "--svg")
    assert said.err == (
        "fork is too large to draw: 4 tasks, 4 edges. Tasks of like names are one box; --dot gives them all to other"
        " programs.\n"
    )
    assert "work_* × 2" in said.out
    monkeypatch.setattr(command, "SVG_TASKS_MAX", 2)
    said = jcpeer("graph", FORK, "--svg")
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        "jcpeer: fork is too large to draw: 4 tasks, 4 edges; --dot and --json give them all to other programs\n"
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--dot", "--svg"], "--dot and --svg contradict each other; leave one out"),
        (["-o", "a.png"], "--output a.png: say --svg or --dot, or call the file .svg or .dot"),
        (["--dot", "-o", "a.svg"], "--output a.svg: this name is not one for --dot; leave that out, or rename it"),
        (["--json", "-o", "a.svg"], "--json is printed: leave --output out, and redirect it with > FILE"),
        (["--set", "x=1"], f"{FORK}: only a TOML file has variables to set; leave out --set x=…"),
    ],
)
def test_options_that_make_no_sense_are_refused(jcpeer: Command, options: list[str], line: str) -> None:
    said = jcpeer("graph", FORK, *options)
    assert (said.status, said.out, said.err) == (2, "", f"jcpeer: {line}\n")


def test_svg_is_not_poured_over_a_terminal(jcpeer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert jcpeer("graph", FORK, "--svg").err == "jcpeer: SVG is for a browser, not for a terminal: add -o FILE.svg\n"


@pytest.mark.parametrize("text", ["[task", "[task.a]\ncommand = 'true'\nafter = ['a']", "x = 1"])
def test_a_file_that_describes_nothing_is_refused_as_run_does(jcpeer: Command, file: File, text: str) -> None:
    name = file("bad.toml", text)
    graph, run = jcpeer("graph", name), jcpeer("run", name)
    assert graph == run
    assert (graph.status, graph.err.count("\n")) == (2, 1)


# --- for programs


def test_json_has_every_task_with_role_depth_parents_children_and_friends(jcpeer: Command) -> None:
    data = jcpeer("graph", FORK, "--json").json
    tasks = {each.pop("task"): each for each in data.pop("tasks")}
    assert data == {
        "name": "fork",
        "edges": 4,
        "roles": {"initial": 1, "isolated": 2, "shared": 1},
        "depth": 3,
        "width": 2,
        "critical_path_s": 22.0,
        "work_s": 27.5,
        "friends": [{"tasks": ["work_2", "work_3"], "share": ["join_4"]}],
    }
    assert tasks["split_1"] == {
        "role": "initial",
        "depth": 1,
        "parents": [],
        "children": ["work_2", "work_3"],
        "friends": [],
    }
    assert tasks["work_3"] == {
        "role": "isolated",
        "depth": 2,
        "parents": ["split_1"],
        "children": ["join_4"],
        "friends": [0],
    }


def test_variables_can_be_set(jcpeer: Command) -> None:
    data = jcpeer("graph", str(EXAMPLES / "matrix.toml"), "--set", "seeds=2", "--json").json
    assert data["roles"] == {"initial": 6, "isolated": 0, "shared": 1}
