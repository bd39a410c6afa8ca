"""The application of a drill, what it is to compute, and what its tasks themselves have said of their running."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen

import jcpeer
from drill_parts.step import step
from jcpeer.application.manifest import Placement
from jcpeer.ids import TaskId

AT_ONCE_S = 0.1
"""What begins so soon after something else was not begun in its place."""
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
    seconds: float
    """How long each task takes."""

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

    def outrun(self, executions: Iterable[Execution]) -> list[Execution]:
        """Those that were stopped because another of the same task, which ran at the same time, was sooner."""
        ended: dict[TaskId, list[Execution]] = {}
        cut_short = []
        for each in executions:
            if each.ended_s is None:
                cut_short.append(each)
            else:
                ended.setdefault(each.task, []).append(each)

        def is_sooner(other: Execution, than: Execution) -> bool:
            # One that began only when the other had been stopped would have ended later than that one could have.
            would_end_s = than.began_s + self.seconds + AT_ONCE_S
            return other.began_s <= than.began_s or (other.ended_s or would_end_s) < would_end_s

        return [each for each in cut_short if any(is_sooner(other, each) for other in ended.get(each.task, ()))]


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
    return Work(application, witness, tuple(ids), expected, seconds)
