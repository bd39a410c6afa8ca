"""What is measured: each workload with its size, its unit and what counts as better.

These modules, `workloads`, `contender` and `peers`, also run in the Python of another scheduler, which has nothing of
ours installed: the standard library is all that they use, so their classes are dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["tasks/s", "ms", "s", "s late"]

SLOTS = 2
NAP_S = 0.05
KILL_SHARE = 0.3
"""Of the ideal time of the naps; of 400 that is 3 s."""
WIDTH = 50
"""Of a layer."""


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    `size` is the number of tasks, of bytes for `bulk`; `small` is that of a trial; `unit` says how the seconds are
    shown; `alone` is one that has a contender start, or lose a part, so that nothing else is done with it.
    """

    name: str
    title: str
    unit: Unit
    size: int
    small: int
    alone: bool = False

    def figure(self, seconds: float, size: int) -> float:
        """What is shown of so many seconds."""
        match self.unit:
            case "tasks/s":
                return size / seconds
            case "ms":
                return seconds * 1e3
            case "s" | "s late":
                return seconds

    @property
    def more_is_better(self) -> bool:
        return self.unit == "tasks/s"

    def heading(self, size: int) -> str:
        return self.title.format(size=f"{size:,}", mib=size // 2**20, layers=size // WIDTH)


WORKLOADS = {
    each.name: each
    for each in (
        Workload("noops", "{size} independent no-op functions", "tasks/s", 10_000, 200),
        Workload("single", "one no-op function, submit to result, p50 of {size} in turn", "ms", 200, 10),
        Workload("layers", "{layers} layers of 50 no-op functions, each on 2 of the layer before", "s", 5_000, 100),
        Workload("chain", "chain of {size} no-op functions", "s", 1_000, 20),
        Workload("commands", "{size} × /bin/true", "tasks/s", 1_000, 20),
        Workload("naps", "{size} × sleep 0.05 s on 2 slots", "s", 400, 8),
        Workload("bulk", "{mib} MiB result to a task on another node", "s", 64 * 2**20, 2**20),
        Workload("kill_worker", "one of two workers killed in {size} × sleep 0.05 s", "s late", 400, 40, alone=True),
        Workload("kill_scheduler", "scheduler killed in {size} × sleep 0.05 s", "s late", 400, 40, alone=True),
        Workload("first_result", "first node or scheduler started to first result", "s", 1, 1, alone=True),
    )
}


def naps_ideal_s(size: int) -> float:
    return size * NAP_S / SLOTS


def late_s(seconds: float, size: int, *, killed_after_s: float, slots_left: int) -> float:
    """How much longer it took than it must with the slots that were left."""
    rest = size * NAP_S - killed_after_s * SLOTS
    return seconds - (killed_after_s + rest / slots_left)
