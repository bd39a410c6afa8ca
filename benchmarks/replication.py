"""What copies of the journal cost: no-op functions with one journal and with three, in turn on the same nodes.

Run: python -m benchmarks.replication [--tasks N] [--repeats N] [--json]

Three real nodes with one slot each, connected by libp2p, so that with three journals each node keeps one. The table has
the time that the processors spent in the three nodes, too, without their workers: it says more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import psutil
from attrs import frozen

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


@frozen
class Run:
    """Tasks a second, and microseconds of processor for each."""

    rate: float
    cpu_us: float


def run(grid: Grid, tasks: int, *, replicas: int) -> Run:
    """From submission to the end, by which all results are acknowledged."""
    application = jcpeer.Application(f"no-ops in {replicas}")
    for each in range(tasks):
        application.task(identity, each)
    began_s, cpu_s = time.perf_counter(), nodes_cpu_s()
    handle = grid.run(application, replicas=replicas)
    status = handle.wait()
    seconds = time.perf_counter() - began_s
    assert status.summary.state == "ok"
    keep = sum(each.state in ("coordinator", "copy") for each in status.replicas)
    assert keep == replicas, f"{keep} nodes keep the journal, not {replicas}"
    return Run(tasks / seconds, (nodes_cpu_s() - cpu_s) / tasks * 1e6)


def nodes_cpu_s() -> float:
    """What they have taken so far; attempts run in processes of their own."""
    return sum(sum(each.cpu_times()[:2]) for each in psutil.Process().children())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replication", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    chosen = parser.parse_args()
    runs: dict[int, list[Run]] = {each: [] for each in REPLICAS}
    with three_nodes(NODES) as grid:
        for replicas in REPLICAS:
            run(grid, NODES * 4, replicas=replicas)  # workers are warm
        for _ in range(chosen.repeats):
            for replicas in REPLICAS:
                runs[replicas].append(run(grid, chosen.tasks, replicas=replicas))
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    few, many = (statistics.median(each.rate for each in runs[replicas]) for replicas in REPLICAS)
    if chosen.json:
        rates = {replicas: [each.rate for each in found] for replicas, found in runs.items()}
        cpu = {replicas: [each.cpu_us for each in found] for replicas, found in runs.items()}
        told = {"tasks": chosen.tasks, "nodes": NODES, "tasks_per_second": rates, "cpu_us": cpu, "share": many / few}
        print(json.dumps(told))
        return
    print(f"{NODES} nodes with one slot each; {chosen.tasks:,} no-op functions")
    print(f"{'':12}{'median':>8}{'least':>8}{'most':>8} tasks/s{'processor a task':>20}")
    for replicas, found in runs.items():
        name = f"{replicas} journal{'s' if replicas > 1 else ''}"
        some = sorted(each.rate for each in found)
        cpu_us = statistics.median(each.cpu_us for each in found)
        print(f"{name:12}{statistics.median(some):8,.0f}{some[0]:8,.0f}{some[-1]:8,.0f}{cpu_us:25,.0f} µs")
    print(
        f"{many / few:.0%} with {REPLICAS[1]} of what there is with {REPLICAS[0]}; at least {SHARE_MIN:.0%} is the aim"
    )


if __name__ == "__main__":
    main()
