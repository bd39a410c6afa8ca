"""Which tasks' outputs are the application's results."""

from __future__ import annotations

from jcpeer.application.task import Command, Input, OutputOf, Task
from jcpeer.ids import TaskId
from tests.coordinator.little_world import LittleWorld


def test_outputs_that_others_only_wait_for_are_results_and_those_that_they_read_are_not() -> None:
    made = Task(TaskId("made"), Command(("true",)), outputs=("out",))
    read = Task(TaskId("read"), Command(("true",)), outputs=("out",))
    last = Task(
        TaskId("last"), Command(("true",)), (Input("in", OutputOf(TaskId("read"), "out")),), after=(TaskId("made"),)
    )
    world = LittleWorld([made, read, last], seed=0)
    assert world.run() == "ok"
    assert [each.spec.id for each in world.machine.state.final_tasks()] == ["made", "last"]
