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
            parents = draw.sample(range(width), min(2, width)) if layer else []
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


def chains(count: int, length: int, *, seconds: float = 0.1, output_bytes: int = LARGE_BYTES) -> LoadedApplication:
    """So many chains side by side, each task of which reads what the one before left."""
    return LoadedApplication(
        "chains",
        tuple(
            _follower(f"c{chain}.{at}", [f"c{chain}.{at - 1}"] if at else [], seconds, output_bytes)
            for at in range(length)
            for chain in range(count)
        ),
    )


def tree(depth: int, fan_out: int, *, seconds: float = 0.1, output_bytes: int = LARGE_BYTES) -> LoadedApplication:
    """From one task so many follow, and from each of these again; at last one task reads what all leaves left."""
    tasks = [_follower("root", [], seconds, output_bytes)]
    layer = ["root"]
    for _ in range(depth):
        layer = [f"{parent}.{at}" for parent in layer for at in range(fan_out)]
        tasks += [_follower(each, [each.rpartition(".")[0]], seconds, output_bytes) for each in layer]
    return LoadedApplication("tree", (*tasks, _follower("all", layer, seconds, output_bytes)))


def _follower(name: str, parents: list[str], seconds: float, output_bytes: int) -> Task:
    inputs = tuple(Input(f"in{at}", OutputOf(TaskId(each), "out")) for at, each in enumerate(parents))
    return Task(TaskId(name), Timed(seconds, output_bytes={"out": output_bytes}), inputs, ("out",))
