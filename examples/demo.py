"""Three nodes index the Python standard library. The one that coordinates is killed half way, another takes over, and
the index is complete all the same.

Run: make demo   (or, where jcpeer is installed: python examples/demo.py)
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from demo_parts.account import Account
from demo_parts.errors import DemoError
from demo_parts.nodes import await_acquaintance, running_nodes
from demo_parts.processes import RunningNode
from demo_parts.screen import Death, Teller, progress, show_losses, show_names, show_shares

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.task import BlobRef
from jcpeer.cli.words import counted, joined, size
from jcpeer.client import Handle
from jcpeer.errors import JcpeerError
from jcpeer.wire.requests import Happened

NAMES = ("anna", "bela", "cora")
APPLICATION = Path(__file__).with_name("corpus.toml")
LIMIT_S = 300
"""On two cores it takes 15 s; what takes so long hangs."""


def demonstrate(variables: Mapping[str, str], directory: Path) -> None:
    """The whole story. Raises: DemoError, JcpeerError: it did not go as it should."""
    print("Three nodes on this machine index the Python standard library. The one that coordinates will be killed.\n")
    began_s = time.monotonic()
    tell = Teller(began_s)
    with running_nodes(NAMES, directory) as nodes:
        tell(f"{joined([f'{each.name} ({each.address})' for each in nodes])} listen, with one slot each")
        await_acquaintance(nodes)
        tell("each sees the two others: mDNS introduced them, none was told an address")
        loaded = load(APPLICATION, variables=variables)
        with nodes[0].connect() as grid:
            handle = grid.run(loaded)
            tell(f"{nodes[0].name} has handed over {APPLICATION.stem}: {extent(loaded)}")
            status = handle.status()
            keepers = joined(sorted(each.node.name for each in status.replicas))
            tell(f"{status.coordinator.name} coordinates it; its journal is kept by {keepers}")
        victim = next(each for each in nodes if each.name == status.coordinator.name)
        witness = next(each for each in nodes if each is not victim)
        with witness.connect() as grid:
            handle = grid.handle(handle.id)
            account, death = follow(handle, loaded, victim, tell)
            tell(f"all {len(loaded.tasks)} tasks finished")
            successor = handle.status().coordinator.name
            files = {path.name: path for path in handle.fetch(directory / "results")}
        show_names(files["top20.txt"], files["index.json"])
        show_shares(account, death)
        show_losses(account, death, successor=successor)
    print(f"\n{time.monotonic() - began_s:.0f} s in all; no process is left, and no file.")


def extent(loaded: LoadedApplication) -> str:
    """How much an application reads and how much it does, in words."""
    given = [
        (each.name, each.source.size)
        for task in loaded.tasks
        for each in task.inputs
        if isinstance(each.source, BlobRef)
    ]
    files = dict(given)
    return f"{counted(len(loaded.tasks), 'task')}, {counted(len(files), 'file')} of {size(sum(files.values()))}"


def follow(handle: Handle, loaded: LoadedApplication, victim: RunningNode, tell: Teller) -> tuple[Account, Death]:
    """Show the progress to the end; half way, kill the coordinator."""
    account = Account()
    death: Death | None = None
    loss_told = False
    with progress(len(loaded.tasks), tell) as show:
        for event in handle.events():
            assert isinstance(event, Happened)
            account.add(event)
            if event.kind == "took_over":
                tell(event.text)
            if account.outputs_lost and not loss_told and event.kind != "output_lost":
                loss_told = True
                again = counted(len(account.outputs_lost), "finished task")
                tell(f"{again} must run again: what they left was on {victim.name} alone")
            show(account)
            if death is None and len(account.where) * 2 >= len(loaded.tasks):
                done = f"{account.results_of(victim.name)} of the {len(account.where)} finished tasks"
                tell(f"kill -9 {victim.process.pid}: that was {victim.name}, the coordinator, which has done {done}")
                at_s = time.time()
                death = Death(victim.name, at_s, *victim.kill())
    if account.end != "ok":
        raise DemoError("\n  ".join([f"the application ended {account.end!r}", *handle.status().failures]))
    if death is None or account.taken_over_at_s is None or not account.lost:
        raise DemoError("the application was over before the loss of a node mattered; give it more files to read")
    return account, death


def main() -> int:
    options = argparse.ArgumentParser(
        description="Three nodes index the Python standard library, and their coordinator is killed."
    )
    options.add_argument("--stdlib", metavar="DIR", help="index the Python files in this directory instead")
    source = options.parse_args().stdlib
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _stop)
    signal.alarm(LIMIT_S)
    try:
        with tempfile.TemporaryDirectory(prefix="jcpeer-demo-", ignore_cleanup_errors=True) as directory:
            demonstrate({} if source is None else {"source": source}, Path(directory))
    except (DemoError, JcpeerError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise DemoError(f"not over after {LIMIT_S} s" if number == signal.SIGALRM else "told to stop")


if __name__ == "__main__":
    sys.exit(main())
