"""What a task costs, and what is lost with a node: jcpeer beside other schedulers, in one run on one machine.

Run: python -m benchmarks [NAME…] [--against dask,ray,…] [--repeats N] [--small] [--json FILE] [--chart FILE.svg]
                                                                                        (or: make bench)

jcpeer runs as a user would have it: three `jcpeer node` processes on loopback, of which two have a slot each, connected
by libp2p with Noise, three journals on disk; and once more with one. All others have two workers with a slot each, too.
The table shows median and range of the repeats, and how many times as good jcpeer is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.chart import svg
from benchmarks.contender import OURS, PEERS
from benchmarks.figures import as_json, as_markdown, as_text, rows
from benchmarks.suite import Plan, installed, order, peers_python, run
from benchmarks.workloads import WORKLOADS


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    names = chosen.workloads or list(WORKLOADS)
    python = chosen.python or peers_python()
    there = installed(chosen.against, python)
    if absent := [each for each in chosen.against if each not in there]:
        print(f"not installed: {', '.join(absent)}; `make bench-peers` gets them", file=sys.stderr)
    contenders = [each for each in order(sorted(there)) if each in chosen.ours or each not in OURS]
    sizes = {each: WORKLOADS[each].small if chosen.small else WORKLOADS[each].size for each in names}
    plan = Plan(
        sizes,
        {each: sys.executable if each in OURS else python for each in contenders},
        chosen.repeats,
        chosen.replicas,
    )
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log", delete=False) as log:
        print(f"what the contenders print is in {log.name}", file=sys.stderr)
        results = run(plan, lambda text: print(text, file=sys.stderr, flush=True), log=log)
    found = rows(results, sizes, contenders)
    if chosen.json:
        told = as_json(results, found, sizes, _machine(chosen.replicas))
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    if chosen.chart:
        chosen.chart.write_text(svg(found))
    print(as_markdown(found, contenders) if chosen.markdown else as_text(found, results.versions))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").splitlines()[0],
        epilog="workloads: " + ", ".join(WORKLOADS),
    )
    parser.add_argument("workloads", nargs="*", metavar="NAME", type=_workload, help="workloads; all if none is named")
    parser.add_argument(
        "--against", type=_peers, default=list(PEERS), metavar="NAME,…", help=", ".join(PEERS) + "; or none"
    )
    parser.add_argument("--ours", type=_ours, default=list(OURS), metavar="NAME,…", help=", ".join(OURS))
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--replicas", type=int, default=3, metavar="N", help="journals that jcpeer keeps")
    parser.add_argument("--small", action="store_true", help="a trial in a moment; its figures say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--chart", type=_svg, metavar="FILE.svg")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    parser.add_argument("--python", metavar="PATH", help="the Python that has the others [that of `make bench-peers`]")
    return parser


def _workload(name: str) -> str:
    if name not in WORKLOADS:
        raise argparse.ArgumentTypeError(f"there is no workload {name}; there are {', '.join(WORKLOADS)}")
    return name


def _listed(text: str, known: tuple[str, ...]) -> list[str]:
    names = [] if text == "none" else text.split(",")
    if unknown := [each for each in names if each not in known]:
        raise argparse.ArgumentTypeError(f"not known: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _peers(text: str) -> list[str]:
    return _listed(text, PEERS)


def _ours(text: str) -> list[str]:
    return _listed(text, OURS)


def _svg(text: str) -> Path:
    if not text.endswith(".svg"):
        raise argparse.ArgumentTypeError("a chart is SVG: name a file that ends in .svg")
    return Path(text)


def _machine(replicas: int) -> dict[str, object]:
    return {
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "replicas": replicas,
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left running
    raise SystemExit(main())
