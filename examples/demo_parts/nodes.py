"""Real `jcpeer node` processes, apart from whatever else the user runs, that mDNS alone can introduce to each other.

Nodes of one person on one machine would find each other through their runtime directory, and those that met before
through their address books. So each gets an empty state directory and a runtime directory to itself, and no address.
"""

from __future__ import annotations

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

ACQUAINTED_S = 20.0
"""They need one; a machine that has other things to do may need more."""
LEAVE_S = 6.0
"""After SIGTERM a node is gone within 5 s, by its own promise."""
GONE_S = 3.0
"""What it started outlives it for 2 s at most, by the same promise."""


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
        family = _family(self.process.pid)
        began_s = time.monotonic()
        self.process.kill()
        self.process.wait()
        _see_gone(self.name, family)
        return len(family), time.monotonic() - began_s


@contextmanager
def running_nodes(names: Sequence[str], directory: Path) -> Iterator[list[RunningNode]]:
    """Nodes that listen on loopback, one slot each; when the block ends they are gone, with all that they started.

    Raises:
        DemoError: one did not come up, or did not leave as it should.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            processes[name] = _start(name, directory)
        yield [_when_ready(name, process, directory / f"{name}.log") for name, process in processes.items()]
    finally:
        with _undisturbed():
            families = {name: _family(process.pid) for name, process in processes.items()}
            killed = [name for name, process in processes.items() if process.poll() == -signal.SIGKILL]
            _end(list(processes.values()))
    for name, process in processes.items():
        _see_gone(name, families[name])
        if process.returncode != 0 and name not in killed:
            raise DemoError(f"node {name} did not leave well: {_last_line(directory / f'{name}.log')}")


def await_acquaintance(nodes: Sequence[RunningNode]) -> None:
    """Return once each node has every other one in its directory.

    Raises:
        DemoError: that takes too long.
    """
    until_s = time.monotonic() + ACQUAINTED_S
    for node in nodes:
        wanted = {each.name for each in nodes}
        with node.connect() as grid:
            while missing := wanted - {each.record.name for each in grid.nodes().nodes}:
                if time.monotonic() > until_s:
                    raise DemoError(
                        f"{node.name} does not see {' and '.join(sorted(missing))} after {ACQUAINTED_S:.0f} s: does "
                        "something keep multicast (UDP port 5353) off loopback?"
                    )
                time.sleep(0.05)


def _start(name: str, directory: Path) -> subprocess.Popen[bytes]:
    # Not the user's settings, grids and nodes: those are neither used nor touched.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JCPEER_")}
    environment |= {
        "JCPEER_CONFIG_DIR": str(directory / "config"),
        "JCPEER_DATA_DIR": str(directory / "data"),
        "JCPEER_STATE_DIR": str(directory / "state"),
        "JCPEER_RUNTIME_DIR": str(directory / name),
        # The tasks say `python3`: it is to be the Python whose standard library they read.
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
    }
    options = ["--name", name, "--listen", "127.0.0.1:0", "--slots", "1", "--json", "--until-eof"]
    with (directory / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "jcpeer", "node", *options],
            stdin=subprocess.PIPE,  # never written to: it ends with us, however we end, and the node with it
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us
        )


def _when_ready(name: str, process: subprocess.Popen[bytes], log: Path) -> RunningNode:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        status = process.wait()
        raise DemoError(f"node {name} did not come up: {_last_line(log) or f'exit status {status}'}")
    return RunningNode(name, process, log, json.loads(line))


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C waits until all is tidied up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _family(pid: int) -> list[int]:
    """The processes that this one started and that still run: a node's spawner, and all of its attempts."""
    try:
        return [each.pid for each in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _see_gone(name: str, family: Sequence[int]) -> None:
    """Ended is gone, even where nobody asks for the exit status, as in containers without an init."""
    until_s = time.monotonic() + GONE_S
    for pid in family:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
                    raise DemoError(f"process {pid} of node {name} outlived it by {GONE_S:.0f} s")
            finally:
                os.close(descriptor)


def _last_line(log: Path) -> str:
    return next(reversed(log.read_text(errors="replace").strip().splitlines()), "")
