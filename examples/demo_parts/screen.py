"""What the demonstration shows."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from attrs import field, frozen
from rich.progress import BarColumn, Progress, TextColumn

from demo_parts.account import Account
from jcpeer.cli.words import counted, joined, size

LINES = 8
"""About so many lines of progress where there is no terminal."""


@frozen
class Death:
    """A node was killed: when, in seconds since 1970; what it had started, and how long that outlived it."""

    node: str
    at_s: float
    processes: int
    outlived_s: float


@frozen
class Teller:
    """Says what happens, with the seconds since the beginning in front."""

    began_s: float
    to: TextIO = field(factory=lambda: sys.stdout)

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.began_s:5.1f} s  {text}", file=self.to, flush=True)


@contextmanager
def progress(total: int, tell: Teller) -> Iterator[Callable[[Account], None]]:
    """Within the block, call what it yields whenever the account has grown: a bar moves, or a line is said at times."""

    def text(account: Account) -> str:
        return f"{len(account.where)} of {total} tasks finished"

    if sys.stdout.isatty():
        with Progress(TextColumn("        "), BarColumn(), TextColumn("{task.description}"), transient=True) as bar:
            shown = bar.add_task("", total=total)
            yield lambda account: bar.update(shown, completed=len(account.where), description=text(account))
        return

    told = 0

    def show(account: Account) -> None:
        nonlocal told
        if account.attempts_finished - told >= total / LINES:
            told = account.attempts_finished
            tell(text(account))

    yield show


def show_names(top: Path, index: Path) -> None:
    """The names that are used most, in two columns: the ranking goes down the first, then the second."""
    names = [line.split() for line in top.read_text().splitlines()]
    print(f"\nThe {len(names)} names used most, by an index of {size(index.stat().st_size)}\n")
    rows = (len(names) + 1) // 2
    width = max(len(name) for _, name in names)
    for row in range(rows):
        print("  ".join(f"{int(uses):>9,}  {name:<{width}}" for uses, name in names[row::rows]).rstrip())


def show_shares(account: Account, death: Death) -> None:
    """What each node did."""
    print("\nEach node's share\n")
    print("  node   tasks run  busy    results that stand")
    for node, share in sorted(account.shares.items()):
        killed = " (killed half way)" if node == death.node else ""
        print(f"  {node:<6} {share.finished:>8}  {share.busy_s:>4.1f} s  {account.results_of(node)}{killed}")


def show_losses(account: Account, death: Death, *, successor: str) -> None:
    """What happened to the tasks and outputs of the node that was killed."""
    idle_s = max(0.0, (account.taken_over_at_s or death.at_s) - death.at_s)
    attempts, outputs = account.attempts_lost, account.outputs_lost
    print(f"\nWhat became of {death.node}'s part\n")
    print(f"  its place  taken by {successor}, {idle_s:.2f} s after the kill")
    if death.processes:
        started = counted(death.processes, "process", plural="processes")
        print(f"  orphans    none: {started} that it had started ended {death.outlived_s:.2f} s after it")
    print(f"  under way  {counted(len(attempts), 'task')}{_ran_again(attempts, account)}")
    if account.losers <= {death.node}:
        print("             what the others were running went on")
    copies = account.results_of(death.node)
    print(
        f"  finished   {counted(account.shares[death.node].finished, 'task')}; the outputs of {len(outputs)} were "
        f"nowhere else{_ran_again(outputs, account)}" + (f"; {copies} had a copy elsewhere" if copies else "")
    )


def _ran_again(tasks: Sequence[str], account: Account) -> str:
    """ ", run again by anna (6) and cora (4)"."""
    by_node = Counter(account.where[task] for task in tasks)
    return ", run again by " + joined([f"{node} ({count})" for node, count in sorted(by_node.items())]) if tasks else ""
