"""Real nodes for a benchmark, with places of their own so that nobody's grid is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from jcpeer.client.grid import Grid, connect

ACQUAINTED_S = 20.0
LEAVE_S = 10.0
PLACES = ("STATE", "RUNTIME", "CONFIG", "DATA")
IDLE = ("--only-label", "idle=")
"""Options of a node that coordinates and keeps journals, but runs nothing: no application here has this label."""


@frozen
class RealNode:
    """A running `jcpeer node`; `connect(socket)` reaches it."""

    name: str
    socket: str
    pid: int

    def kill(self) -> None:
        """As a machine that loses its power."""
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def real_nodes(each: Sequence[Sequence[str]]) -> Iterator[list[RealNode]]:
    """A node for each of these sequences of options, with one slot if they do not say otherwise; all know each other.
    They end with the block."""
    with tempfile.TemporaryDirectory(prefix="jcpeer-bench-") as directory, ExitStack() as stack:
        places = {f"JCPEER_{place}_DIR": str(Path(directory, place.lower())) for place in PLACES}
        # The first makes the grid that the others enter; these start at once.
        begun = [stack.enter_context(_process(0, places, each[0]))]
        nodes = [_await_ready(0, begun[0])]
        begun += [stack.enter_context(_process(number, places, each[number])) for number in range(1, len(each))]
        nodes += [_await_ready(number, begun[number]) for number in range(1, len(each))]
        limit_s = time.monotonic() + ACQUAINTED_S
        for node in nodes:
            with connect(node.socket) as grid:
                while len(grid.nodes().nodes) < len(each):
                    if time.monotonic() > limit_s:
                        raise SystemExit("the nodes did not find each other")
                    time.sleep(0.02)
        yield nodes


@contextmanager
def three_nodes(count: int = 3, *, others: tuple[str, ...] = ()) -> Iterator[Grid]:
    """A client of the first of so many nodes; `others` are options of all but the first."""
    with real_nodes([others if number else () for number in range(count)]) as nodes, connect(nodes[0].socket) as grid:
        yield grid


@contextmanager
def _process(number: int, places: dict[str, str], options: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        _command(number, options),
        env=os.environ | places,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _command(number: int, options: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "jcpeer", "node", "--json", "--name", f"bench{number}", "--no-mdns"]
    return [*command, "--listen", "127.0.0.1:0", *([] if "--slots" in options else ["--slots", "1"]), *options]


def _await_ready(number: int, process: subprocess.Popen[str]) -> RealNode:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"node bench{number} did not start: run `{' '.join(_command(number, ()))}` to see why")
    return RealNode(f"bench{number}", json.loads(line)["socket"], process.pid)
