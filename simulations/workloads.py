"""Applications for simulations: timed work of one shape or another, the same for the same seed."""

from __future__ import annotations

import math
import random

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import TaskId

LARGE_BYTES = 100_000
"""Too large for a report: such outputs go with their node."""


def layered(seed: int, *, layers: int = 10, width: int = 20, output_bytes: int = LARGE_BYTES) -> LoadedApplication:
    """A graph in which each task reads the outputs of two of the layer before, and takes 0.1 to 1 s."""
    draw = random.Random(seed)
    tasks: list[Task] = []
    for layer in range(layers):
        for index in range(width):
            parents = draw.sample(range(width), 2) if layer else []
            tasks.append(
                Task(
                    TaskId(f"t{layer}.{index}"),
                    Timed(draw.uniform(0.1, 1.0), output_bytes={"out": output_bytes}),
                    inputs=tuple(
                        Input(f"in{each}", OutputOf(TaskId(f"t{layer - 1}.{each}"), "out")) for each in parents
                    ),
                    outputs=("out",),
                )
            )
    return LoadedApplication("layered", tuple(tasks))


def bag(name: str, seconds: list[float]) -> LoadedApplication:
    """Tasks that do not depend on each other, of these durations."""
    return LoadedApplication(name, tuple(Task(TaskId(f"t{at}"), Timed(each)) for at, each in enumerate(seconds)))


def drawn_bag(draw: random.Random, name: str, *, tasks_max: int = 128, seconds_max: float = 500.0) -> LoadedApplication:
    """2 to 128 parallel tasks, a power of two, all of about one length of 1 to 500 s: as in the evaluations of
    BonjourGrid and PastryGrid, where most applications are small and most tasks short."""
    size, seconds = 2 ** draw.randint(1, round(math.log2(tasks_max))), seconds_max ** draw.random()
    return bag(name, [seconds * draw.uniform(0.9, 1.1) for _ in range(size)])
