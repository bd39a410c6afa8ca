"""Is each deliberate mistake noticed? Run: python -m tests.mutants [--only TEXT] [--jobs N]

A copy of the tree is changed by one mutant at a time, and tests run until one fails: those that the mutant names, then
those of all replication, then chaos. Exit status 1 if a mutant survives, 2 if one cannot be made any more.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue

from attrs import frozen

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("jcpeer", "simulations", "tests", "spec", "setup.cfg", "pyproject.toml")
PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not real and not root and not model")
CHAOS = ("-m", "simulations.chaos", "--seeds", "0..149")
AFTERWARDS = (
    (*PYTEST, "tests/ft"),
    (*PYTEST, "tests/coordinator/test_storm.py"),
    CHAOS,
)
HANGS_S = 300.0
"""A test that takes longer has noticed something, too."""


@frozen
class Fate:
    """Which command noticed it, if any, and how long that took; or why there is no such mutant."""

    mutant: Mutant
    killed_by: str | None
    seconds: float
    fault: str | None = None


def fault_of(mutant: Mutant, tree: Path) -> str | None:
    """Why this mutant cannot be made."""
    times = (tree / mutant.file).read_text().count(mutant.old) if (tree / mutant.file).exists() else 0
    if times != 1:
        return f"its text is {times} times in {mutant.file}; write it anew"
    try:
        compile(_mutated(mutant, tree), mutant.file, "exec")
    except SyntaxError as error:
        return f"it is no Python: {error}"
    return None


def _mutated(mutant: Mutant, tree: Path) -> str:
    return (tree / mutant.file).read_text().replace(mutant.old, mutant.new)


def fate_of(mutant: Mutant, tree: Path) -> Fate:
    """Make the mutant in this tree, which is whole again afterwards, and try to notice it."""
    if (fault := fault_of(mutant, ROOT)) is not None:
        return Fate(mutant, None, 0.0, fault)
    began_s = time.monotonic()
    plain = (tree / mutant.file).read_text()
    (tree / mutant.file).write_text(_mutated(mutant, tree))
    try:
        for command in _commands(mutant):
            if not _passes(command, tree):
                return Fate(mutant, _shown(command), time.monotonic() - began_s)
        return Fate(mutant, None, time.monotonic() - began_s)
    finally:
        (tree / mutant.file).write_text(plain)


def _commands(mutant: Mutant) -> Iterator[tuple[str, ...]]:
    if mutant.tests:
        yield (*PYTEST, *mutant.tests)
    yield from AFTERWARDS


def _passes(command: Sequence[str], tree: Path) -> bool:
    try:
        ran = subprocess.run(
            [sys.executable, "-B", *command],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=HANGS_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


def _shown(command: Sequence[str]) -> str:
    return "chaos" if command == CHAOS else " ".join(command[len(PYTEST) :])


def _copied(directory: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, directory / name)
    return directory


def _work(queue: Queue[Mutant], fates: list[Fate]) -> None:
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        tree = _copied(Path(directory))
        while True:
            try:
                mutant = queue.get_nowait()
            except Empty:
                return
            fate = fate_of(mutant, tree)
            fates.append(fate)
            end = fate.fault or (f"killed by {fate.killed_by}" if fate.killed_by else "SURVIVES")
            print(f"{fate.seconds:6.1f} s  {mutant.name}: {end}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", default="", help="mutants with this text in name or file")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: 2)")
    chosen = parser.parse_args()
    mutants = [each for each in MUTANTS if chosen.only in each.name or chosen.only in each.file]
    unnoticed = list(dict.fromkeys(each for one in mutants for each in _commands(one)))
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        tree = _copied(Path(directory))
        for command in unnoticed:
            if not _passes(command, tree):
                print(f"{_shown(command)} fails without any mutant: it notices nothing")
                return 2
    queue: Queue[Mutant] = Queue()
    for each in mutants:
        queue.put(each)
    fates: list[Fate] = []
    children = [threading.Thread(target=_work, args=(queue, fates)) for _ in range(max(1, chosen.jobs))]
    for child in children:
        child.start()
    for child in children:
        child.join()
    faults = [each for each in fates if each.fault]
    survivors = [each for each in fates if not each.fault and each.killed_by is None]
    print(f"{len(fates)} mutants, {len(survivors)} survive, {len(faults)} cannot be made")
    return 2 if faults else 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
