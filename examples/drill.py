"""Twenty nodes lose their coordinators in every way, and nothing that was acknowledged is lost.

Run: make drill   (or: python examples/drill.py --only kill --runs 20)
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from demo_parts.errors import DemoError
from demo_parts.screen import Teller
from drill_parts.figures import Figure, table
from drill_parts.halves import open_halves, why_not
from drill_parts.nodes import Nodes, open_nodes
from drill_parts.runs import Drill
from drill_parts.scenarios import SCENARIOS, Scenario, halves_cut

from jcpeer.errors import JcpeerError

CUT = "cut"
ALL = (*(each.name for each in SCENARIOS), CUT)


def whole(chosen: Sequence[Scenario], options: argparse.Namespace, tell: Teller) -> list[Figure]:
    """The scenarios of one grid on loopback, one after another."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="jcpeer-drill-", ignore_cleanup_errors=True) as directory:
        with open_nodes(Path(directory), tell) as nodes:
            nodes.start(options.nodes)
            drill = ready(nodes, options, tell)
            for scenario in chosen:
                tell(f"--- {scenario.title}")
                figures += attempt(scenario.name, partial(scenario.play, drill, options.runs), tell)
                drill.tidy_up()
    return figures


def halved(options: argparse.Namespace, tell: Teller) -> list[Figure]:
    """The scenario of two halves of a network. Only one node on the left is willing to keep journals, so that it is
    known which half has most of them."""
    tell("--- the network is cut into halves, then healed")
    with (
        tempfile.TemporaryDirectory(prefix="jcpeer-drill-", ignore_cleanup_errors=True) as directory,
        open_halves() as halves,
        open_nodes(Path(directory), tell) as nodes,
    ):
        (home,) = nodes.start(1, half=halves.left)
        known = ("--bootstrap", home.running.address)
        nodes.start(options.nodes // 2 - 1, *known, "--no-coordinate", half=halves.left)
        nodes.start(options.nodes - options.nodes // 2, *known, half=halves.right)
        drill = ready(nodes, options, tell)
        figures = attempt(CUT, partial(halves_cut, drill, halves, home), tell)
        halves.set_cable(plugged=True)
    return figures


def ready(nodes: Nodes, options: argparse.Namespace, tell: Teller) -> Drill:
    nodes.await_acquaintance()
    tell(f"all {len(nodes.by_name)} nodes know each other")
    return Drill(nodes, tell, options.tasks)


def attempt(name: str, play: Callable[[], list[Figure]], tell: Teller) -> list[Figure]:
    """The scenario's figures; one that does not go as it should is itself a promise broken."""
    try:
        return play()
    except (DemoError, JcpeerError, TimeoutError) as error:
        tell(f"it did not go as it should: {error}")
        return [Figure(name, "the scenario comes to its end", "yes", str(error), (), "", reached=False, broken=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Nodes lose their coordinators in every way; nothing may be lost.")
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=ALL, help=f"one of {', '.join(ALL)}; can be repeated"
    )
    parser.add_argument("--runs", type=int, default=1, help="how often the coordinator is killed in the first")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=1000, help="of each application")
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    tell = Teller(time.monotonic(), sys.stderr if options.json else sys.stdout)
    names = options.only or ALL
    figures: list[Figure] = []
    try:
        if chosen := [each for each in SCENARIOS if each.name in names]:
            figures += whole(chosen, options, tell)
        if CUT in names:
            if reason := why_not():
                tell(f"--- {CUT} is skipped: {reason}")
            else:
                figures += halved(options, tell)
    except (DemoError, JcpeerError, OSError) as error:
        print(f"drill: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drill: interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(
            json.dumps(
                {"nodes": options.nodes, "tasks": options.tasks, "figures": [each.as_json() for each in figures]}
            )
        )
    else:
        print(f"\n{table(figures)}")
    return int(any(each.broken for each in figures))


def _stop(number: int, frame: FrameType | None) -> None:
    raise DemoError("told to stop")


if __name__ == "__main__":
    sys.exit(main())
