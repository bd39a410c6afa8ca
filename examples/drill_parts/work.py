"""The application of a drill, what it is to compute, and what its tasks themselves have said of their running."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from attrs import frozen

import jcpeer
from drill_parts.step import step
from jcpeer.application.manifest import Placement
from jcpeer.ids import TaskId

CHAINS = 50
"""More than there are slots, so that these are always full; and each link reads what the one before left."""


@frozen
class Execution:
    """That a task really ran, by its own word. Times in seconds since 1970; `ended_s` None: it was cut short."""

    task: TaskId
    process: int
    began_s: float
    ended_s: float | None


@frozen
class Work:
    """An application of chains of short tasks."""

    application: jcpeer.Application
    witness: Path
    tasks: tuple[TaskId, ...]
    expected: Mapping[TaskId, object]
    """What the last tasks are to return."""

    def executions(self) -> list[Execution]:
        """All that began so far."""
        began: dict[tuple[int, int], float] = {}
        found = []
        for line in self.witness.read_text().splitlines():
            number, process, what, at_s = line.split()
            key = (int(number), int(process))
            if what == "began":
                began[key] = float(at_s)
            else:
                found.append(Execution(self.tasks[key[0]], key[1], began.pop(key), float(at_s)))
        return found + [Execution(self.tasks[number], process, at_s, None) for (number, process), at_s in began.items()]

    def run_again(self, shown_at_s: Mapping[TaskId, float]) -> list[Execution]:
        """Executions that began after their task had been shown as finished."""
        return [each for each in self.executions() if each.began_s > shown_at_s.get(each.task, float("inf"))]

    def cut_short(self, *, but: Container[int]) -> list[Execution]:
        """Executions that began and never ended, though their process was none of these."""
        return [each for each in self.executions() if each.ended_s is None and each.process not in but]


def chains(
    name: str, directory: Path, *, tasks: int, seconds: float, replicas: int, placement: Placement = "rdv"
) -> Work:
    """So many tasks of so many seconds, in chains."""
    witness = directory / f"{name}.witness"
    witness.touch()
    application = jcpeer.Application(name, directory=Path(__file__).parents[1], replicas=replicas, placement=placement)
    ids: list[TaskId] = []
    expected: dict[TaskId, object] = {}
    count = min(CHAINS, tasks)
    for chain in range(count):
        last = None
        length = tasks // count + (chain < tasks % count)
        for _ in range(length):
            last = application.task(step, last, str(witness), len(ids), seconds)
            ids.append(last.id)
        if last is not None:
            expected[last.id] = length
    return Work(application, witness, tuple(ids), expected)
