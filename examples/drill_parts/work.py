"""The application of a drill, what it is to compute, and what its tasks themselves have said of their running."""

from __future__ import annotations

from collections.abc import Mapping
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
    """That a task really ran, by its own word. Times in seconds since 1970; `ended_s` None: it was cut short.

    `spawner` is the process of its node that started it.
    """

    task: TaskId
    spawner: int
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
        began: dict[tuple[str, str, str], float] = {}
        found = []
        for line in self.witness.read_text().splitlines():
            number, process, spawner, what, at_s = line.split()
            if what == "began":
                began[number, process, spawner] = float(at_s)
            else:
                began_s = began.pop((number, process, spawner))
                found.append(Execution(self.tasks[int(number)], int(spawner), began_s, float(at_s)))
        for (number, _, spawner), began_s in began.items():
            found.append(Execution(self.tasks[int(number)], int(spawner), began_s, None))
        return found


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
