from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.graph import check_graph, producers
from jcpeer.application.task import VALUE, Call, Command, Input, Needs, OutputOf, Task, Timed
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId


def a_task(id: str, *, reads: dict[str, str] | None = None, makes: tuple[str, ...] = (), after: str = "") -> Task:
    """`reads` gives the task that makes each input."""
    inputs = tuple(Input(name, OutputOf(TaskId(maker), name)) for name, maker in (reads or {}).items())
    return Task(TaskId(id), Command(("true",)), inputs, makes, tuple(map(TaskId, after.split())))


def test_a_graph_knows_order_children_roots_and_sinks() -> None:
    graph = check_graph(
        [
            a_task("all", reads={"l": "left", "r": "right"}),
            a_task("left", reads={"x": "make"}, makes=("l",)),
            a_task("right", after="make", makes=("r",)),
            a_task("make", makes=("x",)),
        ]
    )
    assert graph.order == ("make", "left", "right", "all")
    assert graph.children == {"make": ["left", "right"], "left": ["all"], "right": ["all"]}
    assert graph.roots == ("make",)
    assert graph.sinks == ("all",)


def test_a_cycle_is_named_in_order() -> None:
    with pytest.raises(GraphError, match="in a circle") as refused:
        check_graph(
            [
                a_task("a"),
                a_task("b", after="a d"),
                a_task("c", after="b"),
                a_task("d", after="c"),
                a_task("e", after="d"),
            ]
        )
    assert len(refused.value.cycle) == 3
    steps = list(refused.value.cycle)
    assert all(pair in {("b", "c"), ("c", "d"), ("d", "b")} for pair in zip(steps, [*steps[1:], steps[0]], strict=True))


def test_a_task_that_waits_for_itself_is_refused() -> None:
    with pytest.raises(GraphError, match="after itself") as by_name:
        check_graph([a_task("a", after="a")])
    assert by_name.value.cycle == ("a",)
    with pytest.raises(GraphError, match="makes itself"):
        check_graph([a_task("a", reads={"x": "a"}, makes=("x",))])


def test_a_later_batch_may_build_on_earlier_ones_only() -> None:
    earlier = {task.id: task for task in [a_task("make", makes=("x",))]}
    batch = [a_task("use", reads={"x": "make"}), a_task("end", after="use make")]
    graph = check_graph(batch, known=earlier.get)
    assert graph.roots == ("use",)
    assert graph.order == ("use", "end")
    assert graph.children == {"make": ["use", "end"], "use": ["end"]}
    with pytest.raises(GraphError, match="which is no task"):
        check_graph(batch)
    with pytest.raises(GraphError, match="two tasks of this name"):
        check_graph([a_task("make")], known=earlier.get)
    with pytest.raises(GraphError, match=re.escape("output 'y' of task make, which does not make it")):
        check_graph([a_task("use", reads={"y": "make"})], known=earlier.get)


CALL = Call("3.11")
WRONG = {
    "two tasks of this name": [a_task("a"), a_task("a")],
    "did you mean 'count'": [a_task("count"), a_task("b", after="cuont")],
    "which is no task; correct the name or add the task": [a_task("b", reads={"x": "nobody"})],
    "a task cannot be called that": [a_task("../a")],
    "a task cannot be called ": [a_task("")],
    "two outputs are called": [a_task("a", makes=("x", "x"))],
    "two inputs are called": [
        a_task("a", makes=("x",)),
        Task(TaskId("b"), CALL, (Input("x", OutputOf(TaskId("a"), "x")),) * 2),
    ],
    "'..' leads out": [a_task("a", makes=("x/../../y",))],
    "it is absolute": [a_task("a", makes=("/etc/passwd",))],
    "are taken by values": [a_task("a", makes=(VALUE,))],
    "input '@secret'": [a_task("a", makes=("@secret",)), a_task("b", reads={"@secret": "a"})][1:],
    "write a plain path": [a_task("a", makes=("dir/",))],
    "no file name has": [a_task("a", makes=("x\0y",))],
    "too long": [a_task("a", makes=("x" * 300,))],
    "cannot be a file beside 'a/b'": [a_task("t", makes=("a", "a/b"))],
    "the command is empty": [Task(TaskId("a"), Command(()))],
    "one string": [Task(TaskId("a"), Command(("a", "b"), shell=True))],
    "NUL character": [Task(TaskId("a"), Command(("a\0",)))],
    "environment variable": [Task(TaskId("a"), Command(("a",), env={"A=B": ""}))],
    "at least 1": [Task(TaskId("a"), CALL, needs=Needs(cpus=0))],
    "memory is -1": [Task(TaskId("a"), CALL, needs=Needs(memory_bytes=-1))],
    "gpus is -1": [Task(TaskId("a"), CALL, needs=Needs(gpus=-1))],
    "disk is -1": [Task(TaskId("a"), CALL, needs=Needs(disk_bytes=-1))],
    "max_cost is nan": [Task(TaskId("a"), CALL, needs=Needs(cost_max=float("nan")))],
    "retries is -1": [Task(TaskId("a"), CALL, retries=-1)],
    "marked once, and has retries = 1; write retries = 0": [Task(TaskId("a"), CALL, retries=1, once=True)],
    "timeout is 0": [Task(TaskId("a"), CALL, timeout_s=0)],
    "takes nan s": [Task(TaskId("a"), Timed(float("nan")))],
    "output_bytes": [Task(TaskId("a"), Timed(1, output_bytes={"x": 1}))],
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_no_participant_could_run_is_refused_in_one_line(fault: str) -> None:
    with pytest.raises(GraphError, match=re.escape(fault)) as refused:
        check_graph(WRONG[fault])
    assert "\n" not in str(refused.value)


def test_two_producers_of_one_file_are_both_named() -> None:
    assert producers([a_task("a", makes=("x", "y"))]) == {"x": "a", "y": "a"}
    with pytest.raises(GraphError, match="task b: 'x' is made by task a too"):
        producers([a_task("a", makes=("x",)), a_task("b", makes=("x",))])


def test_tens_of_thousands_of_tasks_in_one_chain_are_no_burden() -> None:
    count = 30_000
    tasks = [a_task(f"t{index}", after=f"t{index + 1}" if index + 1 < count else "") for index in range(count)]
    assert check_graph(tasks).order[0] == f"t{count - 1}"
    with pytest.raises(GraphError, match="more\\)") as refused:
        check_graph([*tasks[:-1], a_task(f"t{count - 1}", after="t0")])
    assert len(refused.value.cycle) == count
    assert len(str(refused.value)) < 500


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40), st.randoms(use_true_random=False))
def test_either_every_parent_comes_first_or_a_true_cycle_is_named(
    edges: list[tuple[int, int]], shuffle: object
) -> None:
    after: dict[int, list[str]] = {node: [] for node in range(13)}
    for parent, child in edges:
        after[child].append(f"t{parent}")
    tasks = [a_task(f"t{node}", after=" ".join(parents)) for node, parents in after.items()]
    try:
        graph = check_graph(tasks)
    except GraphError as error:
        steps = list(error.cycle)
        assert all(first in after[int(then[1:])] for first, then in zip(steps, [*steps[1:], steps[0]], strict=True))
        return
    place = {task: index for index, task in enumerate(graph.order)}
    assert len(place) == 13
    assert all(place[TaskId(f"t{parent}")] < place[TaskId(f"t{child}")] for parent, child in edges)
