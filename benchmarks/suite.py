"""Runs contenders in turn, each in a process of its own, and collects what they say.

Only one is there at a time, so that nobody pays for another one's idle processes; within a repeat all take their turn,
so that whatever else the machine does meanwhile meets all of them. Afterwards nothing of a contender is left.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from attrs import field, frozen

from benchmarks.contender import ENTRIES, MARK, OURS, PEERS, marked_processes
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
LINE_S_MAX = 300.0
"""Who takes longer than this for one workload does not end."""
STOP_S_MAX = 15.0
LOOK_S = 0.2
DIED = "the program ends, all lost"


@frozen
class Plan:
    """What is to be run; `sizes` by workload, `pythons` by contender, in the order in which they run."""

    sizes: Mapping[str, int]
    pythons: Mapping[str, str]
    repeats: int
    replicas: int = 3


@frozen
class Results:
    """What all said: seconds by workload and contender, one for each repeat that has any; else the note why not."""

    seconds: dict[str, dict[str, list[float]]] = field(factory=dict)
    notes: dict[str, dict[str, str]] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)

    def add(self, contender: str, line: Mapping[str, Any]) -> None:
        if "version" in line:
            self.versions[contender] = line["version"]
        elif "seconds" in line:
            self.seconds.setdefault(line["workload"], {}).setdefault(contender, []).append(line["seconds"])
        elif "note" in line:
            self.notes.setdefault(line["workload"], {})[contender] = line["note"]


def peers_python() -> str:
    """Which Python has the peers: the one that JCPEER_BENCH_PYTHON names, that of `make bench-peers`, or ours."""
    return os.environ.get("JCPEER_BENCH_PYTHON") or str(PEERS_PYTHON if PEERS_PYTHON.exists() else sys.executable)


def installed(names: Iterable[str], python: str) -> set[str]:
    """Of these peers those whose packages this Python has."""
    packages = {name: ENTRIES[name].package for name in names}
    wanted = json.dumps([each for each in packages.values() if each])
    look = "import json, sys; from importlib.util import find_spec as f; print(*filter(f, json.loads(sys.argv[1])))"
    ran = subprocess.run([python, "-c", look, wanted], capture_output=True, text=True, check=True, cwd=os.sep)
    there = set(ran.stdout.split())
    return {name for name, package in packages.items() if package is None or package in there}


def run(plan: Plan, told: Callable[[str], None], *, log: IO[bytes]) -> Results:
    """All of the plan; `told` hears of each part that begins, `log` gets what the contenders print."""
    results = Results()
    try:
        for repeat in range(plan.repeats):
            for name, python in plan.pythons.items():
                for work in portions(plan.sizes, ENTRIES[name].only):
                    told(f"{repeat + 1}/{plan.repeats} {ENTRIES[name].title}: {', '.join(work)}")
                    for line in lines_of(name, python, work, replicas=plan.replicas, log=log):
                        results.add(name, line)
    except KeyboardInterrupt:
        told("interrupted; this is what was found so far")
    return results


def portions(sizes: Mapping[str, int], only: Iterable[str]) -> list[dict[str, int]]:
    """What one process does after the other: first all that bears company, then each of the rest."""
    mine = {name: size for name, size in sizes.items() if name in only}
    together = {name: size for name, size in mine.items() if not WORKLOADS[name].alone}
    return [each for each in (together, *({name: mine[name]} for name in mine if WORKLOADS[name].alone)) if each]


def lines_of(
    name: str, python: str, work: Mapping[str, int], *, replicas: int, log: IO[bytes]
) -> Iterator[dict[str, Any]]:
    """What one contender says in a process of its own; for a workload of which it says nothing, a note."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        command = [python, "-m", "benchmarks.contender", name, f"--replicas={replicas}"]
        process = subprocess.Popen(
            [*command, *(f"{workload}:{size}" for workload, size in work.items())],
            env=_environment(python, home) | {MARK: mark},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        said: set[str] = set()
        missing = DIED
        try:
            for line in _lines_in_time(process):
                if line is None:
                    missing = f"no end within {LINE_S_MAX:.0f} s"
                    break
                said.add(line.get("workload", ""))
                yield line
                if said.issuperset(work):
                    break  # Parsl, for one, does not stop once its scheduler is dead
        finally:
            _end(process, mark)
        yield from ({"workload": each, "note": missing} for each in work if each not in said)


def _environment(python: str, home: str) -> dict[str, str]:
    paths = (ROOT, Path(__file__).parent / "functions")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PATH": os.pathsep.join((str(Path(python).absolute().parent), os.environ.get("PATH", os.defpath))),
        # Nobody is told of it, and nothing is left in the user's home.
        "HOME": home,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it keeps to the loopback interface then
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_TMPDIR": home,
        "DASK_TEMPORARY_DIRECTORY": home,
    }


def _lines_in_time(process: subprocess.Popen[str]) -> Iterator[dict[str, Any] | None]:
    """Each line that it says, until it ends; None, and no more, where the next one is too long in coming."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    until_s = time.monotonic() + LINE_S_MAX
    while time.monotonic() < until_s:
        ended = process.poll() is not None  # what it left behind may keep its end of the pipe open
        try:
            line = lines.get(timeout=LOOK_S)
        except queue.Empty:
            if ended:
                return
            continue
        if not line:
            return
        yield json.loads(line)
        until_s = time.monotonic() + LINE_S_MAX
    yield None


def _read(stdout: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with stdout:
        for line in stdout:
            lines.put(line)
    lines.put("")


def _end(process: subprocess.Popen[str], mark: str) -> None:
    """It, and whatever it started and left behind."""
    until_s = time.monotonic() + STOP_S_MAX
    while process.poll() is None and time.monotonic() < until_s:
        time.sleep(0.05)
    while left := [pid for pid, _ in marked_processes(mark) if not _is_dead(pid)]:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    process.wait()


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def order(peers: Sequence[str]) -> list[str]:
    """Ours first, then these in the order of the table."""
    return [*OURS, *(each for each in PEERS if each in peers)]
