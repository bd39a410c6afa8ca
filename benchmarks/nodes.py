"""Real nodes for a benchmark, with places of their own so that nobody's grid is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jcpeer.client.grid import Grid, connect

ACQUAINTED_S = 20.0


@contextmanager
def three_nodes(count: int = 3, *, others: tuple[str, ...] = ()) -> Iterator[Grid]:
    """A client of the first of so many nodes, which all know each other; they end with the block. `others` are options
    of all but the first."""
    with tempfile.TemporaryDirectory(prefix="jcpeer-bench-") as directory, ExitStack() as stack:
        places = {f"JCPEER_{each}_DIR": str(Path(directory, each.lower())) for each in PLACES}
        sockets = [
            stack.enter_context(_node(f"bench{number}", places, *(others if number else ()))) for number in range(count)
        ]
        grid = stack.enter_context(connect(sockets[0]))
        limit_s = time.monotonic() + ACQUAINTED_S
        while len(grid.nodes().nodes) < count:
            if time.monotonic() > limit_s:
                raise SystemExit("the nodes did not find each other")
            time.sleep(0.1)
        yield grid


PLACES = ("STATE", "RUNTIME", "CONFIG", "DATA")


@contextmanager
def _node(name: str, places: dict[str, str], *options: str) -> Iterator[str]:
    """One `jcpeer node` process; yields the path of its socket."""
    command = [sys.executable, "-m", "jcpeer", "node", "--json", "--name", name, "--slots", "1", "--no-mdns"]
    command += ["--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(
        command, env=os.environ | places, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"node {name} did not start: run `{' '.join(command)}` to see why")
        yield json.loads(line)["socket"]
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
