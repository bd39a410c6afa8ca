"""What the dispatch policies cost and bring: no-op functions that follow each other, away from their coordinator.

Run: python -m benchmarks.dispatch [--chain N] [--layers N] [--width N] [--repeats N] [--json]

Of three real nodes with one slot each the first coordinates and the others run the tasks. The workloads: one chain; as
many chains side by side as a layer is wide; layers in which each task reads two of the layer before. All policies run
in turn on the same nodes; the table shows medians in tasks a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import get_args

import jcpeer
from benchmarks.nodes import three_nodes
from jcpeer.application.manifest import Dispatch
from jcpeer.client.grid import Grid

NODES = 3
LABEL = "runs"
"""Of the nodes that run tasks."""


@jcpeer.task(labels={LABEL: ""})
def step(*before: int) -> int:
    """As little as a task can do with what came before."""
    return len(before)


def chains(count: int, length: int) -> jcpeer.Application:
    application = jcpeer.Application("chains")
    for _ in range(count):
        last = application.task(step)
        for _ in range(length - 1):
            last = application.task(step, last)
    return application


def layers(count: int, width: int) -> jcpeer.Application:
    application = jcpeer.Application("layers")
    layer = [application.task(step) for _ in range(width)]
    for _ in range(count - 1):
        layer = [application.task(step, layer[at], layer[(at + 1) % width]) for at in range(width)]
    return application


def seconds_for(grid: Grid, application: jcpeer.Application, dispatch: Dispatch) -> float:
    """From submission to the end."""
    began_s = time.perf_counter()
    handle = grid.run(application, dispatch=dispatch)
    handle.wait()
    seconds = time.perf_counter() - began_s
    assert handle.status().summary.state == "ok"
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chain", type=int, default=1000, help="tasks in the one chain")
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--width", type=int, default=50, help="tasks in a layer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    chosen = parser.parse_args()
    many = chosen.layers * chosen.width
    workloads: list[tuple[str, int, Callable[[], jcpeer.Application]]] = [
        (f"1 chain of {chosen.chain}", chosen.chain, lambda: chains(1, chosen.chain)),
        (f"{chosen.width} chains of {chosen.layers}", many, lambda: chains(chosen.width, chosen.layers)),
        (f"{chosen.layers} layers of {chosen.width}, two parents", many, lambda: layers(chosen.layers, chosen.width)),
    ]
    rates: dict[str, dict[str, list[float]]] = {
        name: {policy: [] for policy in get_args(Dispatch)} for name, _, _ in workloads
    }
    with three_nodes(NODES, others=("--label", f"{LABEL}=tasks")) as grid:
        seconds_for(grid, chains(NODES * 4, 2), "assign")  # workers are warm
        for _ in range(chosen.repeats):
            for name, tasks, make in workloads:
                for policy in get_args(Dispatch):
                    rates[name][policy].append(tasks / seconds_for(grid, make(), policy))
                    print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    if chosen.json:
        print(json.dumps({"nodes": NODES, "tasks_per_second": rates}))
        return
    print(f"a coordinator and {NODES - 1} nodes with one slot each; tasks a second, median (range)")
    print(f"{'':32}" + "".join(f"{policy:>22}" for policy in get_args(Dispatch)))
    for name, by_policy in rates.items():
        cells = (
            f"{statistics.median(each):,.0f} ({min(each):,.0f} to {max(each):,.0f})" for each in by_policy.values()
        )
        print(f"{name:32}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
