"""The crowd around one coordinator does all that is to be done, whatever its size."""

from __future__ import annotations

import pytest

from benchmarks.crowd import Crowd
from jcpeer.application.task import VALUE, Task, Timed
from jcpeer.ids import TaskId


@pytest.mark.parametrize("nodes", [1, 40])
def test_each_task_is_done_once(nodes: int) -> None:
    crowd = Crowd(nodes)
    crowd.submit([Task(TaskId(f"t{each}"), Timed(1.0), outputs=(VALUE,)) for each in range(100)])
    crowd.run()
    state = crowd.machine.state
    assert (state.ended, state.attempts, +state.counts) == ("ok", 100, {"finished": 100})
    assert crowd.handling_s > 0
    crowd.machine.check()
