"""What grows with what: time and memory by tasks, applications, bytes and journals.

Run: python -m benchmarks.growth [SERIES…] [--full] [--small] [--json FILE]

Series: `tasks` of one application, to 100,000, or to 1,000,000 with --full; `takeovers` of one with so many tasks, half
of them done; `participants`, as many as a small machine bears; `crowd`, up to 200, for the machine that coordinates
alone (`benchmarks.crowd`); `applications` at once, of 20 tasks each; `bytes` of a result that a task on another node
reads; `replicas` that keep the journal. Real nodes but in `crowd`: three, or as many as there are journals, that run
nothing and coordinate, and two, or as many as take part, with a slot each that keep no journal. So the memory of the
first is the coordinator's (placement `local`), that of the next is a replica's, and neither is a participant's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jcpeer
from benchmarks.crowd import coordinator_us
from benchmarks.memory import cpu_s, resident_bytes
from benchmarks.nodes import IDLE, RealNode, real_nodes
from benchmarks.tables import Point, tell
from jcpeer.application.manifest import RunPolicies
from jcpeer.client.grid import Grid
from jcpeer.client.handle import Handle
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.wire.requests import Status

FUNCTIONS = Path(__file__).parent / "functions"
WORKS = ("--no-coordinate",)
TASKS_EACH = 20
"""Of each of many applications at once."""
TASKS_FULL = 1_000_000
REPLICAS = 3
POLL_S = 0.02


@contextmanager
def grid_of(keepers: int, *, participants: int = 2) -> Iterator[tuple[Grid, list[RealNode]]]:
    """A client of the first of so many nodes that keep journals; so many others run tasks, half of them `left`, half
    `right`."""
    workers = [(*WORKS, "--label", f"side={('left', 'right')[number % 2]}") for number in range(participants)]
    with real_nodes([*([IDLE] * keepers), *workers]) as nodes, jcpeer.connect(nodes[0].socket) as grid:
        finish(grid, noops(20), {})  # workers are warm
        yield grid, nodes


def noops(count: int, name: str = "no-ops") -> jcpeer.Application:
    import bench_calls  # found once `main` has put it on the path

    application = jcpeer.Application(name, directory=FUNCTIONS)
    for each in range(count):
        application.task(bench_calls.identity, each)
    return application


def finish(grid: Grid, application: jcpeer.Application, policies: RunPolicies) -> Status:
    status = grid.run(application, **({"placement": "local", "replicas": REPLICAS} | policies)).wait()
    assert status.summary.state == "ok", status.failures
    return status


def by_tasks(counts: Sequence[int]) -> Iterator[Point]:
    """Fresh nodes for each, so that memory that an earlier one left does not hide what this one takes."""
    for count in counts:
        application = noops(count)
        with grid_of(REPLICAS) as (grid, nodes):
            coordinator, copy = nodes[0].pid, nodes[1].pid
            before = resident_bytes(coordinator), resident_bytes(copy)
            cpu_before_s = cpu_s(coordinator)
            began_s = time.perf_counter()
            handle = grid.run(application, placement="local", replicas=REPLICAS)
            accepted_s = time.perf_counter() - began_s
            status = handle.wait()
            seconds = time.perf_counter() - began_s
            assert status.summary.state == "ok", status.failures
            grown = [resident_bytes(pid) - was for pid, was in zip((coordinator, copy), before, strict=True)]
            yield Point(
                {
                    "tasks": count,
                    "seconds": seconds,
                    "accepted after s": accepted_s,
                    "µs a task": seconds / count * 1e6,
                    "coordinator µs a task": (cpu_s(coordinator) - cpu_before_s) / count * 1e6,
                    "coordinator B a task": grown[0] / count,
                    "replica B a task": grown[1] / count,
                }
            )


def by_takeovers(counts: Sequence[int]) -> Iterator[Point]:
    """From the coordinator's SIGKILL until another node shows that more has been done."""
    for count in counts:
        application = noops(count)
        with grid_of(REPLICAS) as (grid, nodes), jcpeer.connect(nodes[1].socket) as other:
            there = other.handle(grid.run(application, placement="local", replicas=REPLICAS).id)
            while (before := done(there)) < count // 2:
                time.sleep(POLL_S)
            nodes[0].kill()
            killed_s = time.perf_counter()
            while done(there) <= before or not there.status().takeovers:
                time.sleep(POLL_S)
            seconds = time.perf_counter() - killed_s
            status = there.wait()
            assert status.summary.state == "ok", status.failures
            yield Point({"tasks": count, "seconds to go on": seconds, "run again": status.attempts - count})


def done(handle: Handle) -> int:
    """How many tasks have finished; 0 while nobody can say."""
    try:
        return handle.status().summary.tasks.get("finished", 0)
    except (RequestError, UnreachableError):
        return 0


def by_participants(counts: Sequence[int], tasks: int) -> Iterator[Point]:
    for count in counts:
        with grid_of(REPLICAS, participants=count) as (grid, nodes):
            finish(grid, noops(20 * count), {})
            coordinator = nodes[0].pid
            cpu_before_s, began_s = cpu_s(coordinator), time.perf_counter()
            finish(grid, noops(tasks), {})
            seconds = time.perf_counter() - began_s
            cpu_us = (cpu_s(coordinator) - cpu_before_s) / tasks * 1e6
            yield Point({"participants": count, "tasks/s": tasks / seconds, "coordinator µs a task": cpu_us})


def by_crowd(counts: Sequence[int], tasks: int) -> Iterator[Point]:
    for count in counts:
        yield Point({"participants": count, "its machine, µs a task": coordinator_us(count, tasks)})


def by_applications(counts: Sequence[int]) -> Iterator[Point]:
    with grid_of(REPLICAS) as (grid, _):
        for count in counts:
            applications = [noops(TASKS_EACH, f"one of {count}") for _ in range(count)]
            began_s = time.perf_counter()
            handles = [grid.run(each, replicas=REPLICAS) for each in applications]
            assert {each.wait().summary.state for each in handles} == {"ok"}
            seconds = time.perf_counter() - began_s
            tasks = count * TASKS_EACH
            yield Point({"applications": count, "seconds": seconds, "ms a task": seconds / tasks * 1e3})


def by_bytes(sizes: Sequence[int]) -> Iterator[Point]:
    import bench_calls

    with grid_of(REPLICAS) as (grid, _):
        for size in sizes:
            application = jcpeer.Application("bytes", directory=FUNCTIONS)
            made = application.options(labels={"side": "left"}).task(bench_calls.make, size)
            application.options(labels={"side": "right"}).task(bench_calls.measure, made)
            began_s = time.perf_counter()
            assert grid.run(application, replicas=REPLICAS).result() == size
            seconds = time.perf_counter() - began_s
            yield Point({"KiB": size // 1024, "seconds": seconds, "MiB/s": size / 2**20 / seconds})


def by_replicas(counts: Sequence[int], tasks: int) -> Iterator[Point]:
    with grid_of(max(counts)) as (grid, nodes):
        for count in counts:
            cpu_before_s = sum(cpu_s(each.pid) for each in nodes)
            began_s = time.perf_counter()
            status = finish(grid, noops(tasks), {"replicas": count})
            seconds = time.perf_counter() - began_s
            keep = sum(each.state in ("coordinator", "copy") for each in status.replicas)
            cpu_us = (sum(cpu_s(each.pid) for each in nodes) - cpu_before_s) / tasks * 1e6
            yield Point({"replicas": count, "keep it": keep, "tasks/s": tasks / seconds, "processor µs a task": cpu_us})


def series(*, full: bool, small: bool) -> dict[str, Callable[[], Iterator[Point]]]:
    if small:
        return {
            "tasks": lambda: by_tasks([50]),
            "takeovers": lambda: by_takeovers([200]),
            "participants": lambda: by_participants([1, 3], 50),
            "crowd": lambda: by_crowd([1, 10], 100),
            "applications": lambda: by_applications([1, 3]),
            "bytes": lambda: by_bytes([1024]),
            "replicas": lambda: by_replicas([1, 3], 50),
        }
    return {
        "tasks": lambda: by_tasks([1_000, 10_000, 100_000, *([TASKS_FULL] if full else [])]),
        "takeovers": lambda: by_takeovers([1_000, 10_000, 100_000, *([TASKS_FULL] if full else [])]),
        "participants": lambda: by_participants([1, 2, 5, 10, *([20, 30] if full else [])], 5_000),
        "crowd": lambda: by_crowd([1, 10, 50, 100, 200], 20_000),
        "applications": lambda: by_applications([1, 10, 30, 100, *([400] if full else [])]),
        "bytes": lambda: by_bytes([2**10, 2**16, 2**20, 2**24, 2**26, *([2**30] if full else [])]),
        "replicas": lambda: by_replicas([1, 2, 3, 5, 7], 2_000),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    names = ", ".join(series(full=False, small=False))
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"{names}; else all")
    parser.add_argument("--full", action="store_true", help="to 1,000,000 tasks, 400 applications and 1 GiB: an hour")
    parser.add_argument("--small", action="store_true", help="a trial in a moment")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    sys.path.insert(0, str(FUNCTIONS))
    tell(parser, chosen.series, series(full=chosen.full, small=chosen.small), chosen.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
