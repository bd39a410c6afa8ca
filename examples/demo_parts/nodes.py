"""Real `jcpeer node` processes, apart from whatever else the user runs, that mDNS alone can introduce to each other.

Nodes of one person on one machine would find each other through their runtime directory, and those that met before
through their address books. So each gets an empty state directory and a runtime directory to itself, and no address.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo_parts.errors import DemoError
from demo_parts.processes import (
    RunningNode,
    end,
    family,
    last_line,
    launch,
    log_of,
    see_gone,
    undisturbed,
    when_ready,
)

ACQUAINTED_S = 20.0
"""They need one; a machine that has other things to do may need more."""


@contextmanager
def running_nodes(names: Sequence[str], directory: Path) -> Iterator[list[RunningNode]]:
    """Nodes that listen on loopback, one slot each; when the block ends they are gone, with all that they started.

    Raises:
        DemoError: one did not come up, or did not leave as it should.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            processes[name] = launch(name, directory, "--listen", "127.0.0.1:0")
        yield [when_ready(name, process, log_of(name, directory)) for name, process in processes.items()]
    finally:
        with undisturbed():
            families = {name: family(process.pid) for name, process in processes.items()}
            killed = [name for name, process in processes.items() if process.poll() == -signal.SIGKILL]
            end(list(processes.values()))
    for name, process in processes.items():
        see_gone(name, families[name])
        if process.returncode != 0 and name not in killed:
            raise DemoError(f"node {name} did not leave well: {last_line(log_of(name, directory))}")


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
