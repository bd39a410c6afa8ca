"""No-op Python tasks a second: three real nodes with one slot each, beside concurrent.futures in the same run.

Run: python -m benchmarks [--tasks N] [--repeats N] [--json]     (or: make bench)

jcpeer runs as a user would have it: three `jcpeer node` processes on loopback, found by themselves, connected by
libp2p with Noise, journal on disk. Each workload runs in turn, `repeats` times; the table shows median and range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor

import jcpeer
from benchmarks.nodes import three_nodes
from jcpeer.client.grid import Grid

NODES = 3


def identity(value: int) -> int:
    """As little as a task can do."""
    return value


def through_executor(executor: Executor, tasks: int) -> float:
    """Seconds for this many calls through `concurrent.futures`."""
    began_s = time.perf_counter()
    futures = [executor.submit(identity, each) for each in range(tasks)]
    assert [each.result() for each in futures] == list(range(tasks))
    return time.perf_counter() - began_s


def through_application(grid: Grid, tasks: int) -> float:
    """Seconds for an application of this many independent tasks, from submission to its end."""
    application = jcpeer.Application("no-ops")
    for each in range(tasks):
        application.task(identity, each)
    began_s = time.perf_counter()
    handle = grid.run(application)
    handle.wait()
    seconds = time.perf_counter() - began_s
    assert handle.status().summary.state == "ok"
    return seconds


def one_at_a_time(executor: Executor, tasks: int) -> float:
    """Seconds for calls each of which waits for the one before."""
    began_s = time.perf_counter()
    for each in range(tasks):
        assert executor.submit(identity, each).result() == each
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    chosen = parser.parse_args()
    few = max(1, chosen.tasks // 50)
    with three_nodes(NODES) as grid, grid.executor() as ours, ProcessPoolExecutor(NODES) as theirs:
        workloads: list[tuple[str, int, Callable[[], float]]] = [
            ("ProcessPoolExecutor, tasks at once", chosen.tasks, lambda: through_executor(theirs, chosen.tasks)),
            ("jcpeer executor, tasks at once", chosen.tasks, lambda: through_executor(ours, chosen.tasks)),
            ("jcpeer application", chosen.tasks, lambda: through_application(grid, chosen.tasks)),
            ("ProcessPoolExecutor, one by one", few, lambda: one_at_a_time(theirs, few)),
            ("jcpeer executor, one by one", few, lambda: one_at_a_time(ours, few)),
        ]
        through_executor(ours, NODES * 4)  # workers are warm, as theirs are after their first call
        through_executor(theirs, NODES * 4)
        seconds: dict[str, list[float]] = {name: [] for name, _, _ in workloads}
        for _ in range(chosen.repeats):
            for name, _, run in workloads:
                seconds[name].append(run())
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    rates = {name: sorted(count / each for each in seconds[name]) for name, count, _ in workloads}
    if chosen.json:
        print(json.dumps({"tasks": chosen.tasks, "nodes": NODES, "tasks_per_second": rates}))
        return
    print(f"{NODES} nodes with one slot each; {chosen.tasks} no-op functions at once, {few} one by one")
    print(f"{'':36}{'median':>10}  range, tasks/s")
    for name, found in rates.items():
        print(f"{name:36}{statistics.median(found):10,.0f}  {found[0]:,.0f} to {found[-1]:,.0f}")


if __name__ == "__main__":
    main()
