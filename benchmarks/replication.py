"""What copies of the journal cost: no-op functions with one journal and with three, in turn on the same nodes.

Run: python -m benchmarks.replication [--tasks N] [--repeats N] [--json]

Three real nodes with one slot each, connected by libp2p, so that with three journals each node keeps one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import jcpeer
from benchmarks.nodes import three_nodes
from jcpeer.client.grid import Grid

NODES = 3
REPLICAS = (1, 3)
SHARE_MIN = 0.5
"""Of the tasks a second with one journal, so many are to be reached with three."""


def identity(value: int) -> int:
    """As little as a task can do."""
    return value


def tasks_per_second(grid: Grid, tasks: int, *, replicas: int) -> float:
    """From submission to the end, by which all results are acknowledged."""
    application = jcpeer.Application(f"no-ops in {replicas}")
    for each in range(tasks):
        application.task(identity, each)
    began_s = time.perf_counter()
    handle = grid.run(application, replicas=replicas)
    status = handle.wait()
    seconds = time.perf_counter() - began_s
    assert status.summary.state == "ok"
    keep = sum(each.state in ("coordinator", "copy") for each in status.replicas)
    assert keep == replicas, f"{keep} nodes keep the journal, not {replicas}"
    return tasks / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replication", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    chosen = parser.parse_args()
    rates: dict[int, list[float]] = {each: [] for each in REPLICAS}
    with three_nodes(NODES) as grid:
        for replicas in REPLICAS:
            tasks_per_second(grid, NODES * 4, replicas=replicas)  # workers are warm
        for _ in range(chosen.repeats):
            for replicas in REPLICAS:
                rates[replicas].append(tasks_per_second(grid, chosen.tasks, replicas=replicas))
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    few, many = (statistics.median(rates[each]) for each in REPLICAS)
    if chosen.json:
        print(json.dumps({"tasks": chosen.tasks, "nodes": NODES, "tasks_per_second": rates, "share": many / few}))
        return
    print(f"{NODES} nodes with one slot each; {chosen.tasks:,} no-op functions")
    print(f"{'':12}{'median':>10}  range, tasks/s")
    for replicas, found in rates.items():
        name = f"{replicas} journal{'s' if replicas > 1 else ''}"
        print(f"{name:12}{statistics.median(found):10,.0f}  {min(found):,.0f} to {max(found):,.0f}")
    print(
        f"{many / few:.0%} with {REPLICAS[1]} of what there is with {REPLICAS[0]}; at least {SHARE_MIN:.0%} is the aim"
    )


if __name__ == "__main__":
    main()
