"""What is said of a task that no node runs: little, and what matters most first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from jcpeer.application.task import Call, Command, Needs, Task
from jcpeer.coordinator.matching import REASONS_MAX, Prospect, explain, needs_key, unmet_need
from jcpeer.ids import NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.messages import NodeRecord
from tests.coordinator.little_world import record_of

GIB = 2**30


def node(name: str, labels: Mapping[str, str] | None = None, **offers: Any) -> NodeRecord:
    return evolve(record_of(NodeId(name), slots=4), labels=labels or {}, **{"memory_bytes": 8 * GIB, **offers})


def a_task(**needs: Any) -> Task:
    return Task(TaskId("t"), Command(("true",)), needs=Needs(**needs))


SMALL = node("small", cost=2.0)
LARGE = node("gx3", {"gpu": "v100"}, memory_bytes=round(31.2 * GIB), disk_bytes=20 * GIB, gpus=1, cost=3.0)
NODES = [Prospect(SMALL), Prospect(LARGE), Prospect(node("other", cost=2.5))]


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"memory_bytes": 64 * GIB}, "no node has 64 GiB of memory; the largest is gx3 with 31.2 GiB"),
        ({"cpus": 8}, "no node has 8 slots; the largest is small with 4 slots"),
        ({"gpus": 2}, "no node has 2 GPUs; the largest is gx3 with 1 GPU"),
        ({"disk_bytes": 100 * GIB}, "no node has 100 GiB of free disk; the largest is gx3 with 20 GiB"),
        ({"labels": {"gpu": "a100"}}, "no node has the label gpu=a100; there are gpu=v100"),
        ({"labels": {"ssd": ""}}, "no node has the label ssd"),
        ({"cost_max": 1.0}, "max_cost 1: the cheapest of the 3 nodes asks 2"),
    ],
)
def test_what_no_node_has_is_said_with_how_near_the_nearest_comes(needs: dict[str, object], reason: str) -> None:
    assert explain(a_task(**needs), NODES) == [reason]
    assert all(unmet_need(a_task(**needs), each.record) for each in NODES)


def test_a_call_wants_its_own_python() -> None:
    call = Task(TaskId("t"), Call("3.12"))
    assert explain(call, NODES) == ["no node has Python 3.12; they have 3.11"]


def test_several_things_that_no_node_has_are_all_said() -> None:
    assert len(explain(a_task(memory_bytes=64 * GIB, gpus=2), NODES)) == 2


def test_needs_that_each_have_a_node_but_none_has_together_are_told_with_how_many_have_them() -> None:
    assert explain(a_task(gpus=1, cost_max=2.0), NODES) == [
        "no node has all that the task needs together",
        "1 of 3 nodes has 1 GPU",
        "1 of 3 nodes costs at most 2",
    ]


def test_those_that_could_and_all_say_no_for_one_reason_are_one_line() -> None:
    refusal = "refuses user ann"
    labelled = [Prospect(node(name, {"gpu": ""}), objection=refusal) for name in ("a", "b")]
    assert explain(a_task(labels={"gpu": ""}), [*NODES[:1], *labelled, NODES[2]]) == [
        "2 of 4 nodes have the label gpu; both refuse user ann"
    ]


def test_those_that_could_and_say_no_for_different_reasons_are_a_line_each() -> None:
    several = [Prospect(node(str(at)), objection=f"reason {at % 9}") for at in range(40)]
    lines = explain(a_task(), several)
    assert lines[:2] == ["40 nodes could run it", "0, 9, 18 and 2 more: reason 0"]
    assert len(lines) == REASONS_MAX


def test_what_is_said_of_several_nodes_is_said_in_the_plural() -> None:
    busy = [Prospect(node(name), busy=True) for name in ("a", "b")]
    assert explain(a_task(), [*busy, Prospect(node("c"), objection="refuses user ann")]) == [
        "3 nodes could run it",
        "a, b: are busy with this application",
        "c: refuses user ann",
    ]


def test_large_amounts_are_said_in_large_units() -> None:
    (line,) = explain(a_task(disk_bytes=900 * 2**40), [Prospect(node("a"))])
    assert line.startswith("no node has 900 TiB of free disk")


def test_slots_that_are_all_taken_are_the_reason_when_nothing_else_is() -> None:
    assert explain(a_task(), [Prospect(LARGE, busy=True)]) == [
        "1 node could run it; gx3: is busy with this application"
    ]


def test_without_nodes_the_remedy_is_named() -> None:
    (line,) = explain(a_task(), [])
    assert "jcpeer node" in line


def test_only_tasks_with_equal_needs_wait_in_one_queue() -> None:
    needs: list[dict[str, Any]] = [
        {},
        {"gpus": 1},
        {"disk_bytes": 1},
        {"cost_max": 1.0},
        {"labels": {"a": ""}},
        {"cpus": 2},
    ]
    assert len({needs_key(a_task(**each)) for each in needs}) == len(needs)
