"""What a node takes that does nothing, and how long its commands take.

Run: python -m benchmarks.footprint [--peers 0,2,5] [--seconds N] [--repeats N] [--json FILE]

For each number of peers so many real nodes and one more: resident memory of the one and its share of a processor, over
so many seconds in which nothing happens. Then the commands, each in a process of its own, with a node that runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

import jcpeer
from benchmarks.memory import MIB, cpu_s, resident_bytes, tree_bytes
from benchmarks.nodes import RealNode, real_nodes

SETTLED_S = 10.0
"""After that, news of the beginning have gone round."""
PYTHON = sys.executable
FUNCTIONS = Path(__file__).parent / "functions"
FIRST_RESULT = (
    "import jcpeer, sys; from bench_calls import identity; grid = jcpeer.connect(sys.argv[1]); "
    "executor = grid.executor(directory=sys.argv[2]); assert executor.submit(identity, 7).result() == 7; grid.close()"
)


@frozen
class Idle:
    """One node with so many others: its process alone, and with all that it started."""

    peers: int
    resident_mib: float
    with_children_mib: float
    processor_percent: float


@frozen
class Command:
    """Median and range of a command's seconds."""

    name: str
    median_s: float
    least_s: float
    most_s: float


def idle(peers: int, seconds: float) -> Idle:
    with real_nodes([()] * (peers + 1)) as nodes:
        time.sleep(min(SETTLED_S, seconds))
        pid = nodes[0].pid
        before_s, began_s = cpu_s(pid), time.perf_counter()
        time.sleep(seconds)
        share = (cpu_s(pid) - before_s) / (time.perf_counter() - began_s)
        return Idle(peers, resident_bytes(pid) / MIB, tree_bytes(pid) / MIB, share * 100)


def commands(repeats: int) -> Iterator[Command]:
    with one_node() as node:
        yield timed("python -c pass", [PYTHON, "-c", "pass"], repeats)
        yield timed("import jcpeer", [PYTHON, "-c", "import jcpeer"], repeats)
        yield timed("jcpeer --help", [PYTHON, "-m", "jcpeer", "--help"], repeats)
        yield timed("jcpeer status", [PYTHON, "-m", "jcpeer", "status", "--node", node.socket], repeats)
        first = [PYTHON, "-c", FIRST_RESULT, node.socket, str(FUNCTIONS)]
        yield timed("connect, one call", first, repeats)


@contextmanager
def one_node() -> Iterator[RealNode]:
    with real_nodes([()]) as (node,), jcpeer.connect(node.socket):
        yield node


def timed(name: str, command: Sequence[str], repeats: int) -> Command:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", "."), str(FUNCTIONS)])}
    seconds = []
    for _ in range(repeats + 1):
        began_s = time.perf_counter()
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds.append(time.perf_counter() - began_s)
        assert ran.returncode == 0, f"{name}: {ran.stderr}"
    found = seconds[1:]  # the first one may have to read from the disk
    return Command(name, statistics.median(found), min(found), max(found))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default="0,2,5", metavar="N,…", help="how many other nodes; `none` leaves this out")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="N", help="how long to look on")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    counts = [] if chosen.peers == "none" else [int(each) for each in chosen.peers.split(",")]
    nodes = []
    if counts:
        print(f"{'peers':>8}{'resident MiB':>15}{'with children':>15}{'processor':>12}", flush=True)
    for count in counts:
        found = idle(count, chosen.seconds)
        nodes.append(found)
        print(
            f"{count:8}{found.resident_mib:15.0f}{found.with_children_mib:15.0f}{found.processor_percent:10.2f} %",
            flush=True,
        )
    ran = []
    for each in commands(chosen.repeats):
        ran.append(each)
        print(f"{each.name:20}{each.median_s:8.3f} s  {each.least_s:.3f} to {each.most_s:.3f}", flush=True)
    if chosen.json:
        told = {
            "idle": [
                {
                    "peers": each.peers,
                    "resident_mib": each.resident_mib,
                    "with_children_mib": each.with_children_mib,
                    "processor_percent": each.processor_percent,
                }
                for each in nodes
            ],
            "commands": {
                each.name: {"median_s": each.median_s, "least_s": each.least_s, "most_s": each.most_s} for each in ran
            },
        }
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
