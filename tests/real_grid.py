"""Real `jcpeer node` processes for tests, on "machines" that are directories: apart from whatever else the user runs.

    with real_grid(tmp_path) as world:
        a, b = world.start("a", "b", slots=2)

All nodes are of one person, thus in one grid: they share the data directory. Nodes of one machine share its runtime
directory, too, by which they find each other; by default each node has a machine to itself, so that only mDNS, an
address that is named, or the address book introduces them. At the end no process of the world is left, or the test
fails.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field

import jcpeer
from jcpeer.application.manifest import OnFailure
from jcpeer.wire.requests import SeenNode

T = TypeVar("T")

READY_S = 30.0
"""For several nodes that start at once on a machine that has other things to do."""
LEAVE_S = 5.0
"""A node that was told to stop is gone by then."""
ORPHANS_S = 2.0
"""Nor does anything that it started outlive it for longer."""
LOOK_S = 0.01


def eventually(look: Callable[[], T], *, within_s: float, what: str) -> T:
    """What `look` returns, as soon as that is true; fails, naming `what`, if it is not so in time."""
    until_s = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < until_s, f"not within {within_s:g} s: {what}"
        time.sleep(LOOK_S)
    return seen


def processes_of(directory: Path) -> dict[int, str]:
    """Command lines, by process id, of all that runs in this directory or whose environment mentions it."""
    found = {}
    mark = os.fsencode(directory)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                about = entry.joinpath("environ").read_bytes() + os.fsencode(os.readlink(entry / "cwd"))
                if mark in about:
                    found[int(entry.name)] = entry.joinpath("cmdline").read_text(errors="replace").replace("\0", " ")
    return found


def attempts_of(directory: Path) -> dict[int, str]:
    """Task by process id, of all processes of commands that run for the nodes in this directory."""
    found = {}
    for pid in processes_of(directory):
        with suppress(OSError):
            for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == b"JCPEER_TASK":
                    found[pid] = value.decode()
    return found


@define(eq=False)
class RealNode:
    """A node in a process of its own. `ready` is what it said when it began to listen, at `ready_at_s`."""

    name: str
    directory: Path
    """Of its machine."""
    process: subprocess.Popen[bytes]
    log: Path
    ready: dict[str, Any] = field(factory=dict)
    ready_at_s: float = 0.0
    leaving: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        """HOST:PORT on loopback."""
        return f"127.0.0.1:{self.ready['listens'][0].split('/')[4]}"

    @property
    def id(self) -> str:
        return str(self.ready["id"])

    def connect(self) -> jcpeer.Grid:
        return jcpeer.connect(self.ready["socket"])

    def seen(self) -> dict[str, SeenNode]:
        """Its directory, by name; without itself."""
        with self.connect() as grid:
            return {each.record.name: each for each in grid.nodes().nodes if not each.myself}

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.leaving |= number in (signal.SIGTERM, signal.SIGINT)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """As its user would, unless it was told before; returns how many seconds it took. Fails if it did not leave in
        time, and well."""
        began_s = time.monotonic()
        if not self.leaving:
            self.send_signal(number)
        try:
            status = self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} was not gone {LEAVE_S:g} s after {number.name}: {self.said()}") from None
        assert status == 0, f"{self} ended with {status}: {self.said()}"
        return time.monotonic() - began_s

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def attempts(self) -> dict[int, str]:
        return attempts_of(self.directory)


@define(eq=False)
class RealGrid:
    """The machines of one person."""

    directory: Path
    nodes: list[RealNode] = field(factory=list)

    def machine(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def environment(self, machine: str) -> dict[str, str]:
        """For a program on that machine, not the user's own settings, grids and nodes."""
        place = self.machine(machine)
        own = {key: value for key, value in os.environ.items() if not key.startswith("JCPEER_")}
        return own | {
            "JCPEER_CONFIG_DIR": str(place / "config"),
            "JCPEER_DATA_DIR": str(self.directory / "data"),
            "JCPEER_STATE_DIR": str(place / "state"),
            "JCPEER_RUNTIME_DIR": str(place / "run"),
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
        }

    def launch(self, name: str, *options: str, machine: str = "", slots: int = 1) -> RealNode:
        """Start a node without waiting for it."""
        machine = machine or name
        log = self.machine(machine) / f"{name}-{len(self.nodes)}.log"
        arguments = ["--name", name, "--json", "--listen", "127.0.0.1:0", "--slots", str(slots), *options]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "jcpeer", "node", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self.environment(machine),
                start_new_session=True,  # Ctrl-C is for the tests
            )
        node = RealNode(name, self.machine(machine), process, log)
        self.nodes.append(node)
        return node

    def await_ready(self, *nodes: RealNode) -> None:
        """Return when all of these listen."""
        until_s = time.monotonic() + READY_S
        with selectors.DefaultSelector() as selector:
            for node in nodes:
                assert node.process.stdout is not None
                selector.register(node.process.stdout, selectors.EVENT_READ, node)
            while selector.get_map():
                ready = selector.select(until_s - time.monotonic())
                assert ready, (
                    f"not ready within {READY_S:g} s: {[str(each.data) for each in selector.get_map().values()]}"
                )
                for key, _ in ready:
                    node = key.data
                    line = node.process.stdout.readline()
                    assert line, f"{node} did not come up ({node.process.wait(LEAVE_S)}): {node.said()}"
                    node.ready, node.ready_at_s = json.loads(line), time.monotonic()
                    selector.unregister(key.fileobj)

    def start(self, *names: str, options: tuple[str, ...] = (), machine: str = "", slots: int = 1) -> list[RealNode]:
        """Nodes that listen."""
        nodes = [self.launch(name, *options, machine=machine, slots=slots) for name in names]
        self.await_ready(*nodes)
        return nodes

    def ensure(self, *names: str, options: tuple[str, ...] = (), slots: int = 1) -> list[RealNode]:
        """Nodes of these names that run and know each other: those of before, and others for those that do not run."""
        running = {each.name: each for each in self.nodes if each.process.poll() is None}
        fresh = [
            running.setdefault(name, self.launch(name, "--label", f"node={name}", *options, slots=slots))
            for name in names
            if name not in running
        ]
        self.await_ready(*fresh)
        nodes = [running[name] for name in names]
        acquainted(*nodes)
        return nodes

    def command(self, *arguments: str, machine: str, within_s: float = 20.0) -> subprocess.CompletedProcess[str]:
        """`jcpeer` with these arguments, on that machine."""
        return subprocess.run(
            [sys.executable, "-m", "jcpeer", *arguments],
            env=self.environment(machine),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
        )

    def calm(self) -> None:
        """Cancel what is left of a test, so that the next one finds all slots free."""
        for node in self.nodes:
            if node.process.poll() is None:
                node.send_signal(signal.SIGCONT)
                with node.connect() as grid:
                    for each in grid.applications():
                        if each.state in ("open", "running") and each.coordinator.id == node.id:
                            grid.handle(each.app).cancel()
        eventually(lambda: not self.attempts(), within_s=ORPHANS_S, what=f"no attempt runs, but {self.attempts()}")

    def processes(self) -> dict[int, str]:
        return processes_of(self.directory)

    def attempts(self) -> dict[int, str]:
        return attempts_of(self.directory)

    def end(self) -> None:
        """Have every node leave; fails if one does not, or if anything is left."""
        living = [each for each in self.nodes if each.process.poll() is None]
        for node in living:
            node.send_signal(signal.SIGCONT)
            if not node.leaving:
                node.send_signal(signal.SIGTERM)
        try:
            for node in living:
                node.stop()
            eventually(lambda: not self.processes(), within_s=ORPHANS_S, what=f"all gone, but {self.processes()}")
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for node in self.nodes:
                node.process.wait()
                assert node.process.stdout is not None
                node.process.stdout.close()


@contextmanager
def real_grid(directory: Path) -> Iterator[RealGrid]:
    with ExitStack() as stack:
        grid = RealGrid(directory)
        stack.callback(grid.end)
        yield grid


def acquainted(*nodes: RealNode, within_s: float = 10.0) -> None:
    """Return once each of these has all others in its directory."""
    for node in nodes:
        others = {each.name for each in nodes if each is not node}
        eventually(partial(_sees, node, others), within_s=within_s, what=f"{node} sees {others}")


def _sees(node: RealNode, others: set[str]) -> bool:
    return others <= node.seen().keys()


class Gate:
    """Holds tasks up until the test lets them end: none waits for a time that somebody has guessed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "gate"
        os.mkfifo(self.path)
        self._closed: int | None = os.open(self.path, os.O_RDWR)

    @property
    def command(self) -> list[str]:
        """A single process, that takes no notice of being asked to end."""
        return ["sh", "-c", f"trap '' TERM INT HUP; exec cat {self.path}"]

    def application(
        self, name: str, *, tasks: int, on_failure: OnFailure = "finish", replicas: int = 3
    ) -> jcpeer.Application:
        """The node that it is handed to coordinates it."""
        application = jcpeer.Application(name, on_failure=on_failure, replicas=replicas, placement="local")
        for _ in range(tasks):
            application.command(self.command)
        return application

    def open(self) -> None:
        """Those who wait read the end, and so does whoever comes later."""
        if self._closed is not None:
            passage = self.path.with_suffix(".open")
            passage.touch()
            passage.replace(self.path)
            os.close(self._closed)
            self._closed = None
