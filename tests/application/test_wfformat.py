from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jcpeer.application.graph import check_graph
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.task import OutputOf, Task, Timed
from jcpeer.application.wfformat import load_wfformat
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId

FORK = Path(__file__).with_name("fork.wfformat.json")


def by_id(application: LoadedApplication) -> dict[str, Task]:
    return {task.id: task for task in application.tasks}


def test_a_recorded_run_becomes_timed_tasks_with_its_edges() -> None:
    application = load(FORK, scale=0.1)
    tasks = by_id(application)
    assert application.name == "fork"
    assert application.recorded_makespan_s == 30
    assert application.results == ("join_4",)
    assert not application.files
    assert tasks["split_1"].inputs == ()  # what no task made is not needed
    assert tasks["split_1"].work == Timed(1.0, output_bytes={"tmp/a": 5, "tmp/b": 1})
    assert [(each.name, each.source) for each in tasks["work_2"].inputs] == [
        ("tmp/a", OutputOf(tasks["split_1"].id, "tmp/a"))
    ]
    assert tasks["join_4"].after == ("work_3",)
    assert check_graph(application.tasks).children[TaskId("split_1")] == ["work_2", "work_3"]


def test_burning_and_cores_are_taken_over_within_bounds() -> None:
    tasks = by_id(load_wfformat(FORK, burn=True, cpus_max=4))
    assert {id: task.needs.cpus for id, task in tasks.items()} == {"split_1": 1, "work_2": 2, "work_3": 4, "join_4": 1}
    assert all(isinstance(task.work, Timed) and task.work.burn for task in tasks.values())
    with pytest.raises(GraphError, match="scale must be a number"):
        load_wfformat(FORK, scale=float("nan"))


def spec(document: Any, index: int) -> Any:
    return document["workflow"]["specification"]["tasks"][index]


def run(document: Any, index: int) -> Any:
    return document["workflow"]["execution"]["tasks"][index]


BROKEN: dict[str, Callable[[Any], object]] = {
    "workflow.specification.tasks[1]: id must be text, not 5": lambda d: spec(d, 1).update(id=5),
    "workflow.specification.tasks[1]: id 'split_1' is that of an earlier": lambda d: spec(d, 1).update(id="split_1"),
    "workflow.specification.tasks[2]: parents[0]: there is no task 'x'": lambda d: spec(d, 2).update(parents=["x"]),
    "workflow.specification.tasks[0]: children must be a list": lambda d: spec(d, 0).update(children={}),
    "workflow.specification.tasks[2]: outputFiles[0]: '/tmp/a' is made by": lambda d: spec(d, 2).update(
        outputFiles=["/tmp/a"]
    ),
    "workflow.execution.tasks[3]: runtimeInSeconds must be a number, 0 or more, not -1": lambda d: run(d, 3).update(
        runtimeInSeconds=-1
    ),
    "runtimeInSeconds is missing": lambda d: run(d, 3).pop("runtimeInSeconds"),
    "runtimeInSeconds must be a number, 0 or more, not nan": lambda d: run(d, 3).update(runtimeInSeconds=float("nan")),
    "workflow.execution: tasks has no runtime of 'join_4'": lambda d: d["workflow"]["execution"]["tasks"].pop(),
    "workflow.specification: tasks is empty": lambda d: d["workflow"]["specification"].update(tasks=[]),
    "workflow.specification.tasks[0]: this must be a table": lambda d: d["workflow"]["specification"].update(tasks=[1]),
    "sizeInBytes must be a number": lambda d: d["workflow"]["specification"]["files"][0].update(sizeInBytes="big"),
    "in a circle": lambda d: spec(d, 0).update(parents=["join_4"]),
    "after itself": lambda d: spec(d, 0).update(parents=["split_1"]),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_malformed_recording_names_its_place(tmp_path: Path, fault: str) -> None:
    document = json.loads(FORK.read_text())
    BROKEN[fault](document)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    with pytest.raises(GraphError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert fault in str(refused.value)


def test_ids_and_file_names_that_cannot_be_kept_are_replaced_by_distinct_ones(tmp_path: Path) -> None:
    document = json.loads(FORK.read_text().replace("split_1", "a b").replace("work_2", "a/b").replace("/tmp/b", "../x"))
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    application = load(path)
    assert [task.id for task in application.tasks] == ["a_b", "a_b_2", "work_3", "join_4"]
    assert application.tasks[0].outputs == ("tmp/a", "file_.._x")
