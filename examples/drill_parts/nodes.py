"""Twenty nodes or so on this machine, that can be killed, stopped, and started again where they left off."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field
from demo_parts.errors import DemoError
from demo_parts.processes import RunningNode, children, end, family, launch, log_of, see_gone, undisturbed, when_ready
from demo_parts.screen import Teller

from drill_parts.halves import Half
from jcpeer.cli.words import counted
from jcpeer.client import Grid
from jcpeer.client.blocking import SocketLink

AT_ONCE = 4
"""So many begin at a time: more would only take each other's turn."""
ACQUAINTED_S = 90.0
PATIENCE_S = 120.0
"""A client waits so long for a node that was killed: all of them are started again meanwhile."""
LOOK_S = 0.1


@define(eq=False)
class DrillNode:
    """One of them, which may run or not. `options` are those of `jcpeer node`."""

    name: str
    directory: Path
    options: tuple[str, ...] = ()
    half: Half | None = None
    felled: set[int] = field(factory=set)
    """The processes that had started its attempts, and went with it."""
    _process: subprocess.Popen[bytes] | None = None
    _running: RunningNode | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def spawners(self) -> set[int]:
        """The processes that start, or once started, its attempts: there is one at a time, after the first attempt."""
        return self.felled.union(children(self.process.pid))

    @property
    def running(self) -> RunningNode:
        """As it said when it listened, the last time."""
        assert self._running is not None
        return self._running

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def begin(self) -> None:
        """Start it, or start it again with what it has on its disk; `await_ready` follows."""
        self._process = launch(
            self.name,
            self.directory,
            *("--listen", f"{self.half.address if self.half else '127.0.0.1'}:0", "--no-mdns", *self.options),
            runtime=f"run-{self.half.name}" if self.half else "run",
            inside=self.half.inside if self.half else (),
        )

    def await_ready(self) -> None:
        """Return when it listens. Raises: DemoError: it does not come up."""
        self._running = when_ready(self.name, self.process, log_of(self.name, self.directory))

    def client(self) -> Grid:
        """One that outlives the node."""
        return Grid(SocketLink(Path(self.running.ready["socket"]), patience_s=PATIENCE_S))

    def kill(self) -> float:
        """SIGKILL; returns when, in seconds since 1970. Raises: DemoError: what it had started still runs."""
        self.felled, started = self.spawners, family(self.process.pid)
        at_s = time.time()
        self.process.kill()
        self.process.wait()
        see_gone(self.name, started)
        return at_s

    def stop(self) -> float:
        """SIGSTOP, of the node and not of its tasks; returns when."""
        at_s = time.time()
        self.process.send_signal(signal.SIGSTOP)
        return at_s

    def wake(self) -> float:
        at_s = time.time()
        self.process.send_signal(signal.SIGCONT)
        return at_s


@define(eq=False)
class Nodes:
    """All of them. `directory` has their places."""

    directory: Path
    tell: Teller
    by_name: dict[str, DrillNode] = field(factory=dict)

    def __iter__(self) -> Iterator[DrillNode]:
        return iter(self.by_name.values())

    def __getitem__(self, name: str) -> DrillNode:
        return self.by_name[name]

    def start(self, count: int, *options: str, half: Half | None = None) -> list[DrillNode]:
        """So many more, which listen when this returns."""
        first = len(self.by_name) + 1
        new = [DrillNode(f"n{number}", self.directory, options, half) for number in range(first, first + count)]
        self.by_name |= {each.name: each for each in new}
        self._bring_up(new)
        return new

    def start_again(self) -> list[DrillNode]:
        """Those that do not run; each goes on with what it has on its disk."""
        dead = [each for each in self if not each.alive]
        self._bring_up(dead)
        return dead

    def _bring_up(self, nodes: Sequence[DrillNode]) -> None:
        for at in range(0, len(nodes), AT_ONCE):
            group = nodes[at : at + AT_ONCE]
            for node in group:
                node.begin()
            for node in group:
                node.await_ready()
            if len(nodes) > AT_ONCE:
                self.tell(f"{at + len(group)} of {counted(len(nodes), 'node')} listen")

    def await_acquaintance(self, nodes: Iterable[DrillNode] | None = None) -> None:
        """Return once each of these, or all, has all others of these in its directory.

        Raises:
            DemoError: that takes too long.
        """
        among = list(self if nodes is None else nodes)
        names = {each.name for each in among}
        until_s = time.monotonic() + ACQUAINTED_S
        for node in among:
            with node.client() as grid:
                while missing := names - {each.record.name for each in grid.nodes().nodes}:
                    if time.monotonic() > until_s:
                        raise DemoError(f"{node.name} does not see {' and '.join(sorted(missing))}")
                    time.sleep(LOOK_S)

    def kill_all(self) -> float:
        """SIGKILL to every one at once; returns when. Raises: DemoError: what they had started still runs."""
        families = {each.name: family(each.process.pid) for each in self}
        for each in self:
            each.felled = each.spawners
        at_s = time.time()
        for each in self:
            each.process.kill()
        for each in self:
            each.process.wait()
            see_gone(each.name, families[each.name])
        return at_s

    def end(self) -> None:
        with undisturbed():
            living = [each for each in self if each.alive]
            for each in living:
                each.process.send_signal(signal.SIGCONT)
            families = {each.name: family(each.process.pid) for each in living}
            end([each.process for each in living])
        for name, started in families.items():
            see_gone(name, started)


@contextmanager
def open_nodes(directory: Path, tell: Teller) -> Iterator[Nodes]:
    """None at first; when the block ends they are gone, with all that they started."""
    nodes = Nodes(directory, tell)
    try:
        yield nodes
    finally:
        nodes.end()
