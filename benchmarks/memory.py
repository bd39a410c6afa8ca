"""What processes take, as the system tells it."""

from __future__ import annotations

import psutil

MIB = 2**20


def resident_bytes(pid: int) -> int:
    resident: int = psutil.Process(pid).memory_info().rss
    return resident


def cpu_s(pid: int) -> float:
    """Seconds of processor so far, of this process alone."""
    user, system, *_ = psutil.Process(pid).cpu_times()
    return float(user + system)


def tree_bytes(pid: int) -> int:
    """With all that it started; what they share counts once for each."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
