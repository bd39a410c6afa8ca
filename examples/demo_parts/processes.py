"""A `jcpeer node` in a process of its own, with all that it starts: how it comes, and how it is seen to be gone.

Nodes have places in one directory, so that nobody's settings, grids and nodes are used or touched. They share the
grid's keys; those that share a runtime directory find each other by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from attrs import define

import jcpeer
from demo_parts.errors import DemoError

LEAVE_S = 6.0
"""After SIGTERM a node is gone within 5 s, by its own promise."""
GONE_S = 3.0
"""What it started outlives it for 2 s at most, by the same promise."""

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


@define(eq=False)
class RunningNode:
    """A node in a process of its own. `ready` is what it said when it began to listen."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    ready: dict[str, Any]

    @property
    def address(self) -> str:
        _, _, host, _, port, *_ = self.ready["listens"][0].split("/")
        return f"{host}:{port}"

    def connect(self) -> jcpeer.Grid:
        return jcpeer.connect(self.ready["socket"])

    def kill(self) -> tuple[int, float]:
        """End it as a power cut would; returns how many processes it had started, and how long they outlived it.

        Raises:
            DemoError: they still run.
        """
        started = family(self.process.pid)
        began_s = time.monotonic()
        self.process.kill()
        self.process.wait()
        see_gone(self.name, started)
        return len(started), time.monotonic() - began_s


def launch(
    name: str,
    directory: Path,
    *options: str,
    runtime: str = "",
    inside: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """A node's process, at once; `when_ready` waits for it. It ends with us, however we end.

    Args:
        name: Of the node.
        directory: With everybody's places, and their logs.
        options: Of `jcpeer node`, besides.
        runtime: Name of its runtime directory. Default: it has one to itself.
        inside: A command that runs it somewhere else, such as in a network namespace.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JCPEER_")}
    environment |= {
        "JCPEER_CONFIG_DIR": str(directory / "config"),
        "JCPEER_DATA_DIR": str(directory / "data"),
        "JCPEER_STATE_DIR": str(directory / "state"),
        "JCPEER_RUNTIME_DIR": str(directory / (runtime or name)),
        # The tasks say `python3`: it is to be this Python.
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
    }
    with log_of(name, directory).open("ab") as log:
        return subprocess.Popen(
            [*inside, sys.executable, "-m", "jcpeer", "node", "--name", name, "--slots", "1", "--json", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us
            preexec_fn=_end_with_us,
        )


def _end_with_us() -> None:
    """In the new process. Not by --until-eof: a node that is started with it coordinates for nobody else."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def log_of(name: str, directory: Path) -> Path:
    return directory / f"{name}.log"


def when_ready(name: str, process: subprocess.Popen[bytes], log: Path) -> RunningNode:
    """The node, once it listens. Raises: DemoError: it did not come up."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        status = process.wait()
        raise DemoError(f"node {name} did not come up: {last_line(log) or f'exit status {status}'}")
    return RunningNode(name, process, log, json.loads(line))


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """As their user would, and otherwise as a power cut would."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        close_pipes(process)


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Of one that has ended."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until all is tidied up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def family(pid: int) -> list[int]:
    """The processes that this one started and that still run: a node's spawner, and all of its attempts."""
    return children(pid, recursive=True)


def children(pid: int, *, recursive: bool = False) -> list[int]:
    """Those that this one started itself."""
    try:
        return [each.pid for each in psutil.Process(pid).children(recursive=recursive)]
    except psutil.NoSuchProcess:
        return []


def see_gone(name: str, started: Sequence[int]) -> None:
    """Ended is gone, even where nobody asks for the exit status, as in containers without an init.

    Raises:
        DemoError: one of these processes of the node still runs.
    """
    until_s = time.monotonic() + GONE_S
    for pid in started:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
                    raise DemoError(f"process {pid} of node {name} outlived it by {GONE_S:.0f} s")
            finally:
                os.close(descriptor)


def last_line(log: Path) -> str:
    return next(reversed(log.read_text(errors="replace").strip().splitlines()), "")
