from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.graph import check_graph
from jcpeer.application.roles import Friends, Roles, classify, isolated, role_of
from jcpeer.application.task import Command, Task, Timed, Work
from jcpeer.ids import TaskId


def a_task(id: str, after: str = "", *, work: Work = Timed(1.0)) -> Task:
    return Task(TaskId(id), work, after=tuple(map(TaskId, after.split())))


def roles_of(*tasks: Task) -> Roles:
    return classify(tasks, check_graph(tasks))


DIAMOND = (
    a_task("make", work=Timed(2.0)),
    a_task("left", "make", work=Timed(3.0)),
    a_task("right", "make", work=Timed(5.0)),
    a_task("all", "left right", work=Timed(7.0)),
    a_task("end", "all"),
)


def test_the_words_are_those_of_pastrygrid() -> None:
    roles = roles_of(*DIAMOND)
    assert roles.of == {
        "make": "initial",
        "left": "isolated",
        "right": "isolated",
        "all": "shared",
        "end": "isolated",
    }
    assert roles.friends == (Friends((TaskId("left"), TaskId("right")), (TaskId("all"),)),)
    assert roles.friends_groups() == {"left": [0], "right": [0]}
    assert roles.layers == (("make",), ("left", "right"), ("all",), ("end",))
    assert (roles.depth, roles.width) == (4, 2)


def test_who_finishes_a_task_may_start_its_isolated_children_and_no_shared_one() -> None:
    tasks = {task.id: task for task in (*DIAMOND, a_task("tee", "left"))}
    graph = check_graph(tasks.values())
    assert isolated(graph, TaskId("make"), tasks) == ("left", "right")
    assert isolated(graph, TaskId("left"), tasks) == ("tee",)
    assert isolated(graph, TaskId("end"), tasks) == ()


def test_the_critical_path_is_the_longest_chain_in_seconds_and_only_where_all_tell_theirs() -> None:
    roles = roles_of(*DIAMOND)
    assert (roles.critical_path_s, roles.work_s) == (2 + 5 + 7 + 1, 18)
    told = roles_of(*DIAMOND, a_task("program", work=Command(("true",))))
    assert (told.critical_path_s, told.work_s) == (None, None)


def test_shared_tasks_with_the_same_parents_make_one_group_whatever_their_order() -> None:
    roles = roles_of(a_task("a"), a_task("b"), a_task("c"), a_task("x", "a b"), a_task("y", "b a"), a_task("z", "b c"))
    assert roles.friends == (
        Friends((TaskId("a"), TaskId("b")), (TaskId("x"), TaskId("y"))),
        Friends((TaskId("b"), TaskId("c")), (TaskId("z"),)),
    )
    assert roles.friends_groups() == {"a": [0], "b": [0, 1], "c": [1]}


def test_parents_of_earlier_batches_count_for_the_role() -> None:
    earlier = {task.id: task for task in DIAMOND}
    batch = [a_task("late", "left end"), a_task("later", "late")]
    roles = classify(batch, check_graph(batch, known=earlier.get))
    assert roles.of == {"late": "shared", "later": "isolated"}
    assert roles.layers == (("late",), ("later",))


def test_nothing_has_no_width() -> None:
    roles = roles_of()
    assert (roles.depth, roles.width, roles.critical_path_s) == (0, 0, 0)


def test_a_long_chain_and_a_wide_fan_are_no_burden() -> None:
    count = 20_000
    chain = [a_task(f"t{index}", f"t{index - 1}" if index else "") for index in range(count)]
    assert roles_of(*chain).depth == count
    fan = [*(a_task(f"t{index}") for index in range(count)), a_task("sum", " ".join(f"t{n}" for n in range(count)))]
    roles = roles_of(*fan)
    assert (roles.width, len(roles.friends), len(roles.friends_groups())) == (count, 1, count)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_classification_agrees_with_the_definitions(pairs: list[tuple[int, int]]) -> None:
    edges = {(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]}
    parents = {child: {parent for parent, other in edges if other == child} for child in range(10)}
    tasks = [a_task(str(id), " ".join(sorted(map(str, parents[id]))), work=Timed(id % 3)) for id in reversed(range(10))]
    roles = roles_of(*tasks)

    for task in tasks:
        count = len(parents[int(task.id)])
        assert (
            roles.of[task.id] == role_of(task) == ("initial" if count == 0 else "isolated" if count == 1 else "shared")
        )

    groups = roles.friends_groups()
    for one, other in itertools.combinations(range(10), 2):
        share_a_child = any({one, other} <= each for each in parents.values())
        in_a_group = bool(set(groups.get(TaskId(str(one)), ())) & set(groups.get(TaskId(str(other)), ())))
        assert share_a_child == in_a_group
    assert all(len(group.tasks) > 1 for group in roles.friends)
    assert sorted(task for group in roles.friends for task in group.share) == sorted(
        id for id, role in roles.of.items() if role == "shared"
    )

    def chains(end: int) -> list[list[int]]:
        return [[*chain, end] for parent in parents[end] for chain in chains(parent)] or [[end]]

    depth = {id: depth for depth, layer in enumerate(roles.layers, 1) for id in layer}
    assert depth == {str(id): max(map(len, chains(id))) for id in range(10)}
    assert roles.critical_path_s == max(sum(id % 3 for id in chain) for id in range(10) for chain in chains(id))
