"""One contender in a process of its own, in its own Python: does what it is told, and writes what that took.

Run by the suite: python -m benchmarks.contender NAME [--replicas N] WORKLOAD:SIZE …

Each line on stdout is one JSON object: first the version, then for each workload its seconds, or a note that says why
there are none. Whatever a scheduler prints goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from benchmarks.workloads import KILL_SHARE, SLOTS, WORKLOADS, late_s, naps_ideal_s

PATIENCE_S = 150.0
"""After a scheduler or worker was killed, so much longer than the ideal may the full workload take: Parsl believes a
silent manager for 120 s. A trial waits for less."""

PATIENCE_S_MIN = 20.0


class NotOffered(Exception):
    """The contender has no such thing, or it cannot be measured here; the text says what is missing."""


class Lost(Exception):
    """What was handed over does not end well; the text says what was lost."""


@dataclass(frozen=True)
class Settings:
    """What the command line says of contenders."""

    replicas: int = 3


class Contender(Protocol):
    """A scheduler with two single-slot workers. A method with the name of a workload takes its size, checks the
    results, and returns seconds; one that is not there is not offered."""

    version: str

    def start(self, *, apart: bool) -> None:
        """Ready to work when this returns; `apart`: each part in a process of its own, so that it can be killed."""

    def warm_up(self) -> None:
        """Both workers have been called once."""

    def stop(self) -> None:
        """No process is left."""


@dataclass(frozen=True)
class Entry:
    """A contender by name: its title, the module in `peers`, and the package that it needs."""

    title: str
    module: str
    package: str | None = None
    only: frozenset[str] = frozenset(WORKLOADS)


ENTRIES = {
    "jcpeer": Entry("jcpeer", "jcpeer"),
    "jcpeer-1": Entry("jcpeer, 1 replica, local", "jcpeer"),
    "jcpeer-relay": Entry("jcpeer, relay", "jcpeer", only=frozenset({"layers", "chain"})),
    "processpool": Entry("ProcessPoolExecutor, xargs", "processpool"),
    "dask": Entry("Dask", "dask", "distributed"),
    "ray": Entry("Ray", "ray", "ray"),
    "parsl": Entry("Parsl", "parsl", "parsl"),
    "hyperqueue": Entry("HyperQueue", "hyperqueue", "hyperqueue"),
}
OURS = tuple(name for name in ENTRIES if name.startswith("jcpeer"))
PEERS = tuple(name for name in ENTRIES if name not in OURS)


# --- for the contenders


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """What it yields says how many seconds the block has taken, or took."""
    began_s, ended_s = time.perf_counter(), 0.0
    yield lambda: (ended_s or time.perf_counter()) - began_s
    ended_s = time.perf_counter()


def median_s(call: Callable[[int], object], count: int) -> float:
    """Of so many calls, one after the other."""
    seconds = []
    for number in range(count):
        with timed() as took:
            result = call(number)
        assert result == number
        seconds.append(took())
    return statistics.median(seconds)


def late_after_kill_s(
    size: int, begin: Callable[[], object], kill: Callable[[], int], answered: Callable[[float], int]
) -> float:
    """How late naps end of which `begin` hands over `size`, when `kill` ends a part meanwhile and says how many slots
    remain. `answered` waits for so many seconds at most, and says how many there were answers to."""
    killed_after_s = naps_ideal_s(size) * KILL_SHARE
    with timed() as took:
        begin()
        time.sleep(max(0.0, killed_after_s - took()))
        left = kill()
        patience_s = PATIENCE_S * size / WORKLOADS["kill_worker"].size
        found = answered(naps_ideal_s(size) * SLOTS + max(PATIENCE_S_MIN, patience_s))
    if found < size:
        raise Lost("all lost" if found == 0 else f"{size - found} of {size} never answered")
    return late_s(took(), size, killed_after_s=killed_after_s, slots_left=left)


def processes_with(text: str) -> list[tuple[int, str]]:
    """Ids and command lines of what was started on behalf of this contender and has this in its command line."""
    return [(pid, line) for pid, line in marked_processes(os.environ.get(MARK, "")) if text in line]


def marked_processes(mark: str) -> list[tuple[int, str]]:
    """Those whose environment has this mark, which all that a contender starts inherits; without this process."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ, open(f"/proc/{entry}/cmdline", "rb") as cmdline:
                if mark and f"{MARK}={mark}".encode() in environ.read().split(b"\0"):
                    found.append((int(entry), cmdline.read().replace(b"\0", b" ").decode(errors="replace")))
        except OSError:
            continue  # gone, or another user's
    return found


MARK = "JCPEER_BENCHMARK"


# --- the process


def load(name: str, settings: Settings) -> Contender:
    contender: Contender = import_module(f"benchmarks.peers.{ENTRIES[name].module}").contender(name, settings)
    return contender


def measure(contender: Contender, workload: str, size: int) -> dict[str, Any]:
    """One line for the suite."""
    method = getattr(contender, workload, None)
    if method is None:
        return {"workload": workload, "note": "not offered"}
    try:
        return {"workload": workload, "seconds": method(size)}
    except (NotOffered, Lost) as reason:
        return {"workload": workload, "note": str(reason)}
    except Exception as error:
        traceback.print_exc()
        return {"workload": workload, "note": f"{type(error).__name__}: {error}".strip()[:200]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender")
    parser.add_argument("name", choices=ENTRIES)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("workloads", nargs="+", metavar="WORKLOAD:SIZE")
    chosen = parser.parse_args()
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contender = load(chosen.name, Settings(chosen.replicas))
    print(json.dumps({"version": contender.version}), file=told)
    work = [(name, int(size)) for name, _, size in (each.partition(":") for each in chosen.workloads)]
    alone = WORKLOADS[work[0][0]].alone
    try:
        if work[0][0] != "first_result":  # which starts by itself
            try:
                contender.start(apart=alone)
            except NotOffered as reason:
                for name, _ in work:
                    print(json.dumps({"workload": name, "note": str(reason)}), file=told)
                return
            contender.warm_up()
        for name, size in work:
            print(json.dumps(measure(contender, name, size)), file=told)
    finally:
        contender.stop()


if __name__ == "__main__":
    # By its name, or the exceptions that contenders import would be others than those that are caught here.
    import_module("benchmarks.contender").main()
