"""What is heavy though nothing of it is rare: many files, a large one, much that is printed, many tasks, a long one.

Run: python -m benchmarks.heavy [NAME…] [--small] [--json FILE]

`files`: a directory of 10,000 small files is the input of a task on another node. `file`: one of 2 GiB is. `logs`: 500
tasks print 1 MiB each. `matrix`: 100,000 tasks, half of which read what the other half makes, in a few lines of TOML.
`stragglers`: short tasks of which some were queued behind a long one, on two nodes with a slot each.

Real nodes, and the commands of a user: three nodes that run nothing and keep journals, the first of which is the
submitter's, and two with a slot each. What a yardstick takes for the same is measured in the same run, since only that
says what is slow. `silence` is the longest that any node left a client without an answer meanwhile, asked every 50 ms:
who is silent for long is taken for dead. `processor` is that of all nodes, of what they ran, and of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from attrs import define, frozen

import jcpeer
from benchmarks.growth import FUNCTIONS, REPLICAS, grid_of
from benchmarks.memory import MIB, forget_peak, peak_bytes, tree_cpu_s
from benchmarks.nodes import RealNode
from benchmarks.tables import Point, tell
from jcpeer.client.grid import Grid
from jcpeer.wire.requests import Happened

ASK_EVERY_S = 0.05
FILE_BYTES = 4096
SHORT_S = 0.2
MOMENTS = 500
"""Calls that do nothing, after which the next ones are expected to be as short."""
COPIES = 8
"""Of a large file, at most: the file itself, one with each node, with the task, and with the yardstick."""


@define
class Observed:
    """What happened on these nodes while they were observed."""

    silence_s: float = 0.0
    seconds: float = 0.0
    processor_s: float = 0.0
    peak_bytes: int = 0

    def point(self, what: str) -> Point:
        return point(what, self.seconds, self.processor_s, peak_bytes=self.peak_bytes, silence_s=self.silence_s)


def point(what: str, seconds: float, processor_s: float, *, peak_bytes: float = 0, silence_s: float = 0) -> Point:
    """A line of the table; 0 is what was not measured."""
    return Point(
        {
            "what": what,
            "seconds": seconds,
            "processor s": processor_s,
            "largest node MiB": peak_bytes / MIB,
            "silence s": silence_s,
        }
    )


@contextmanager
def observed(nodes: Sequence[RealNode]) -> Iterator[Observed]:
    """How long the block takes, and what the nodes are like meanwhile."""
    found, over = Observed(), threading.Event()

    def ask(node: RealNode) -> None:
        with jcpeer.connect(node.socket) as grid:
            while not over.wait(ASK_EVERY_S):
                began_s = time.perf_counter()
                grid.who()
                found.silence_s = max(found.silence_s, time.perf_counter() - began_s)

    for each in nodes:
        forget_peak(each.pid)
    threads = [threading.Thread(target=ask, args=[each]) for each in nodes]
    cpu_before_s, began_s = sum(tree_cpu_s(each.pid) for each in nodes) + commands_cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - began_s
        over.set()
        for thread in threads:
            thread.join()
    found.processor_s = sum(tree_cpu_s(each.pid) for each in nodes) + commands_cpu_s() - cpu_before_s
    found.peak_bytes = max(peak_bytes(each.pid) for each in nodes)


def commands_cpu_s() -> float:
    """Of the commands that this process has run and awaited."""
    times = os.times()
    return times.children_user + times.children_system


def jcpeer_command(node: RealNode, *arguments: str) -> str:
    """What this command of a user prints."""
    command = [sys.executable, "-m", "jcpeer", *arguments, "--node", node.socket]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ran.returncode == 0, f"jcpeer {' '.join(arguments)}: {ran.stderr}{ran.stdout}"
    return ran.stdout.strip()


def yardstick(what: str, command: Sequence[str], directory: Path) -> Point:
    cpu_before_s, began_s = commands_cpu_s(), time.perf_counter()
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return point(what, time.perf_counter() - began_s, commands_cpu_s() - cpu_before_s)


@contextmanager
def place(bytes_needed: int = 0) -> Iterator[Path]:
    """A directory that is gone afterwards, on a disk with so much room."""
    with tempfile.TemporaryDirectory(prefix="jcpeer-heavy-") as directory:
        if shutil.disk_usage(directory).free < bytes_needed:
            raise SystemExit(
                f"{directory} has no room for {bytes_needed / 2**30:.0f} GiB; set TMPDIR, or leave this out"
            )
        yield Path(directory)


def handed_over_and_run(nodes: Sequence[RealNode], file: Path, what: str) -> Iterator[Point]:
    """Two lines: until it is accepted, and from there to its end."""
    with observed(nodes) as accepting:
        app = jcpeer_command(nodes[0], "run", "--detach", str(file))
    yield accepting.point(f"{what}: until accepted")
    with observed(nodes) as running:
        ended = json.loads(jcpeer_command(nodes[0], "wait", "--json", app))
    assert ended["status"] == "ok", ended
    yield running.point(f"{what}: from there to the end")


# --- files


def many_files(count: int) -> Iterator[Point]:
    with place() as directory, grid_of(REPLICAS) as (_, nodes):
        data = directory / "data"
        data.mkdir()
        for each in range(count):
            (data / f"{each}.bin").write_bytes(os.urandom(FILE_BYTES))
        file = directory / "files.toml"
        file.write_text(
            '[task.count]\ninputs = ["data"]\n'
            f"command = 'test $(ls data | wc -l) = {count}'\nlabels = {{side = \"left\"}}\n"
        )
        yield from handed_over_and_run(nodes, file, f"{count:,} files of {FILE_BYTES // 1024} KiB")
        copied = "mkdir copy && tar cC data . | tar xC copy && cd copy && ls | xargs sha256sum"
        yield yardstick("tar into another place, sha256sum", ["sh", "-c", copied], directory)


def one_file(size: int) -> Iterator[Point]:
    with place(COPIES * size) as directory, grid_of(REPLICAS) as (_, nodes):
        source = directory / "large.bin"
        with source.open("wb") as writer:
            for _ in range(size // MIB):
                writer.write(os.urandom(MIB))
        file = directory / "file.toml"
        file.write_text(
            '[task.measure]\ninputs = ["large.bin"]\n'
            f"command = 'test $(wc -c < large.bin) = {size}'\nlabels = {{side = \"left\"}}\n"
        )
        yield from handed_over_and_run(nodes, file, f"one file of {size // MIB:,} MiB")
        yield yardstick("cp, sha256sum", ["sh", "-c", "cp large.bin copy.bin && sha256sum copy.bin"], directory)


# --- what is printed


def printed(count: int, size: int) -> Iterator[Point]:
    print_it = f"yes 0123456789abcdef | head -c {size}"
    with place() as directory, grid_of(REPLICAS) as (_, nodes):
        file = directory / "logs.toml"
        file.write_text(f'[task.print]\nmatrix.number = {{range = [{count}]}}\ncommand = "{print_it}"\n')
        with observed(nodes) as running:
            ended = json.loads(jcpeer_command(nodes[0], "run", "--json", str(file)).splitlines()[-1])
        assert ended["status"] == "ok", ended
        yield running.point(f"{count:,} tasks print {size // 1024:,} KiB, followed to the end")
        with observed(nodes) as reading:
            log = jcpeer_command(nodes[0], "logs", ended["application"], "print-0")
        assert len(log) > size - 2, len(log)
        yield reading.point("jcpeer logs of one")
        loop = f"for each in $(seq {count}); do /bin/sh -c '{print_it} > printed-'$each; done"
        yield yardstick("/bin/sh prints as often, one after another", ["sh", "-c", loop], directory)


# --- many tasks


def matrix(rows: int, columns: int) -> Iterator[Point]:
    with place() as directory, grid_of(REPLICAS) as (_, nodes):
        file = directory / "matrix.toml"
        axes = f"matrix.row = {{range = [{rows}]}}\nmatrix.column = {{range = [{columns}]}}\n"
        file.write_text(
            f'[task.make]\n{axes}outputs = ["{{row}}-{{column}}.txt"]\n'
            'command = "echo {row} {column} > {row}-{column}.txt"\n\n'
            f'[task.use]\n{axes}inputs = ["{{row}}-{{column}}.txt"]\n'
            'command = ["grep", "-q", "{row} {column}", "{row}-{column}.txt"]\n'
        )
        with observed(nodes) as accepting:
            app = jcpeer_command(nodes[0], "run", "--detach", str(file))
        yield accepting.point(f"{2 * rows * columns:,} tasks: until accepted")
        with observed(nodes) as asking:
            status = json.loads(jcpeer_command(nodes[0], "status", "--json", app))
        yield asking.point("jcpeer status while they run")
        if status["status"] == "running":
            with observed(nodes) as cancelling:
                jcpeer_command(nodes[0], "cancel", app)
            yield cancelling.point("jcpeer cancel")
        load = "from pathlib import Path; from jcpeer.application.toml import load_toml; "
        load += "load_toml(Path('matrix.toml'), variables={})"
        yield yardstick("a Python that loads the file alone", [sys.executable, "-c", load], directory)
        parse = "import tomllib; tomllib.load(open('matrix.toml', 'rb'))"
        yield yardstick("a Python that reads TOML alone", [sys.executable, "-c", parse], directory)


# --- stragglers


def stragglers(shorts: int) -> Iterator[Point]:
    """The other slot has time enough for all the short ones: at the ideal, the end is that of the long one."""
    import bench_calls  # found once `main` has put it on the path

    long_s = 1.25 * shorts * SHORT_S
    with place() as directory, grid_of(REPLICAS) as (grid, _):
        file = directory / "stragglers.toml"
        file.write_text(
            f'[task.a-long]\ncommand = ["sleep", "{long_s}"]\n\n'
            f'[task.short]\nmatrix.number = {{range = [{shorts}]}}\ncommand = ["sleep", "{SHORT_S}"]\n'
        )
        yield late("programs", grid, file, long_s)
        calls = jcpeer.Application("calls", directory=FUNCTIONS)
        calls.options(name="a-long").task(bench_calls.nap, long_s)
        for _ in range(shorts):
            calls.task(bench_calls.nap, SHORT_S)
        yield late("calls", grid, calls, long_s)
        mixed = jcpeer.Application("mixed", directory=FUNCTIONS)
        for _ in range(MOMENTS):  # so short that what follows is likely to be put into one line with them
            mixed.task(bench_calls.identity, 0)
        mixed.options(name="a-long").task(bench_calls.nap, long_s)
        for _ in range(shorts):
            mixed.task(bench_calls.nap, SHORT_S)
        yield late(f"calls, after {MOMENTS:,} of a moment", grid, mixed, long_s)


@frozen
class Ran:
    node: str
    started_s: float
    ended_s: float


def late(what: str, grid: Grid, application: jcpeer.Application | Path, long_s: float) -> Point:
    handle = grid.run(application)
    status = handle.wait()
    assert status.summary.state == "ok", status.failures
    ran = {task: attempt_of(handle, task) for task in tasks_of(handle)}
    long = ran["a-long"]
    beside = [each for task, each in ran.items() if task != "a-long" and each.ended_s > long.started_s]
    behind = [each for each in beside if each.node == long.node and each.started_s >= long.ended_s]
    end_s = max(each.ended_s for each in ran.values())
    return Point(
        {
            "what": what,
            "seconds from the long one's start": end_s - long.started_s,
            "s later than ideal": end_s - long.started_s - long_s,
            "waited for the long one": len(behind),
        }
    )


def tasks_of(handle: jcpeer.Handle) -> list[str]:
    events = handle.events()
    return [each.task for each in events if isinstance(each, Happened) and each.kind == "finished" and each.task]


def attempt_of(handle: jcpeer.Handle, task: str) -> Ran:
    attempt = handle.task(task).attempts[-1]
    assert attempt.started_s is not None
    assert attempt.ran_s is not None
    return Ran(attempt.node.name, attempt.started_s, attempt.started_s + attempt.ran_s)


def workloads(*, small: bool) -> dict[str, Callable[[], Iterator[Point]]]:
    if small:
        return {
            "files": partial(many_files, 30),
            "file": partial(one_file, MIB),
            "logs": partial(printed, 3, 2**17),
            "matrix": partial(matrix, 5, 4),
            "stragglers": partial(stragglers, 4),
        }
    return {
        "files": partial(many_files, 10_000),
        "file": partial(one_file, 2**31),
        "logs": partial(printed, 500, MIB),
        "matrix": partial(matrix, 1_000, 50),
        "stragglers": partial(stragglers, 20),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heavy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="files, file, logs, matrix, stragglers; else all")
    parser.add_argument("--small", action="store_true", help="a trial in a moment")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args(arguments)
    sys.path.insert(0, str(FUNCTIONS))
    tell(parser, chosen.names, workloads(small=chosen.small), chosen.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
