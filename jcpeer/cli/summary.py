"""What is told of an application that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jcpeer.cli import as_json as data
from jcpeer.cli.following import Seen
from jcpeer.cli.screens import Counts, states_text
from jcpeer.cli.terminal import Column, table_lines
from jcpeer.cli.words import counted, duration, joined, one_line, plain, size
from jcpeer.wire.requests import ApplicationSummary, ReplicaView, Share, Status

FAILURES_SHOWN = 10


def headline(status: Status) -> str:
    """ "corpus ended well: 61 tasks in 23 s." """
    summary = status.summary
    counts = Counts.of(summary.tasks)
    finished = summary.tasks.get("finished", 0)
    done = counted(counts.all, "task") if finished == counts.all else f"{finished:,} of {counted(counts.all, 'task')}"
    rest = states_text({state: count for state, count in summary.tasks.items() if state != "finished"})
    more = [f"{done} finished in {duration(status.seconds)}"]
    if rest:
        more.append(rest)
    if status.attempts > finished:
        more.append(counted(status.attempts, "attempt"))
    if status.takeovers:
        more.append(counted(status.takeovers, "takeover"))
    return f"{one_line(summary.name, length=60)} {end_in_words(summary.state)}: {', '.join(more)}."


def end_in_words(state: str) -> str:
    """What became of an application."""
    return {"ok": "ended well", "cancelled": "was cancelled"}.get(state, state)


def summary_lines(status: Status, seen: Seen, outputs: Sequence[str]) -> list[str]:
    """The whole story, as far as it fits a screen."""
    lines = [headline(status), *outputs]
    if reconciled := reconciled_lines(status):
        lines += ["", *reconciled]
    if status.summary.state == "failed":
        lines += ["", *failure_lines(status.failures)]
    if status.shares:
        lines += ["", *share_lines(status.shares)]
    if len(seen.slowest) > 1:
        lines += ["", *_slowest_lines(seen)]
    return lines


def replica_text(replica: ReplicaView) -> str:
    """ "shed (coordinator)", "desk", "gx3 (missing for 12 s)"."""
    name = plain(replica.node.name)
    match replica.state:
        case "copy":
            return name
        case "missing":
            return f"{name} (missing for {duration(replica.missing_s, fractions=False)})"
        case state:
            return f"{name} ({state})"


def waits_for(summary: ApplicationSummary) -> str:
    """Which replicas a stalled application misses; empty where it misses none."""
    if not summary.missing:
        return ""
    return f"waits for {joined([plain(each.name) for each in summary.missing])}: too few of its journals are in reach"


def reconciled_lines(status: Status) -> list[str]:
    """What two coordinators had done without each other, as far as it matters to whoever saw it."""
    lines = []
    for each in status.reconciled:
        twice, changed = [joined([plain(task) for task in tasks]) for tasks in (each.twice, each.changed)]
        lines.append(f"{plain(each.node.name)} had coordinated, too, while the grid was divided:")
        lines.append(f"  ran twice      {twice or 'nothing'}")
        lines.append(f"  other results  {f'{changed}: what was shown before no longer holds' if changed else 'none'}")
    return lines


def failure_lines(failures: Sequence[str]) -> list[str]:
    """The story of what went wrong, the last of it where it is long."""
    shown = failures[-FAILURES_SHOWN:]
    left_out = len(failures) - len(shown)
    lines = [f"({counted(left_out, 'earlier failure')}: `jcpeer status APP --json` has them)"] if left_out else []
    return lines + [line for each in shown for line in plain(each).splitlines()]


def share_lines(shares: Iterable[Share]) -> list[str]:
    """Who did how much, the busiest first."""
    in_order = sorted(shares, key=lambda each: (-each.busy_s, each.node.name))
    busy_s = sum(each.busy_s for each in in_order)
    columns = [
        Column("NODE"),
        Column("TASKS", right=True),
        Column("BUSY", right=True),
        Column("SHARE", right=True),
        Column(""),
    ]
    rows = [
        [
            one_line(each.node.name, length=40),
            f"{each.finished:,}",
            duration(each.busy_s),
            f"{each.busy_s / busy_s:.0%}" if busy_s else "",
            ", ".join(f"{count:,} {word}" for count, word in ((each.failed, "failed"), (each.lost, "lost")) if count),
        ]
        for each in in_order
    ]
    return table_lines(columns, rows, width=None)


def _slowest_lines(seen: Seen) -> list[str]:
    columns = [Column("SLOWEST TASKS"), Column("TOOK", right=True), Column("ON")]
    rows = [
        [one_line(task, length=60), duration(seconds), one_line(node, length=40)]
        for seconds, task, node in sorted(seen.slowest, reverse=True)
    ]
    return table_lines(columns, rows, width=None)


def outputs_line(paths: Sequence[Path], directory: Path) -> str:
    """Where the files are."""
    if len(paths) == 1:
        return f"Output: {paths[0]} ({size(paths[0].stat().st_size)})"
    total = sum(each.stat().st_size for each in paths)
    return f"Outputs: {counted(len(paths), 'file')}, {size(total)}, in {directory}/"


def end_as_json(status: Status, paths: Sequence[Path]) -> dict[str, Any]:
    """The object with which `run --json` ends."""
    return {"event": "summary", **data.of_status(status), "outputs": [str(each) for each in paths]}
