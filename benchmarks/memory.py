"""What processes take, as the system tells it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

MIB = 2**20


def resident_bytes(pid: int) -> int:
    resident: int = psutil.Process(pid).memory_info().rss
    return resident


def forget_peak(pid: int) -> None:
    """From now on the peak is that of what follows."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most that was resident at once, since the start or since that was last forgotten."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"the system tells no peak of process {pid}")


def cpu_s(pid: int) -> float:
    """Seconds of processor so far, of this process alone."""
    user, system, *_ = psutil.Process(pid).cpu_times()
    return float(user + system)


def tree_cpu_s(pid: int) -> float:
    """With all that it started, that which has ended and was awaited too."""
    process, seconds = psutil.Process(pid), 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended just now: who awaits it has its time
            seconds += sum(each.cpu_times()[:4])
    return seconds


def tree_bytes(pid: int) -> int:
    """With all that it started; what they share counts once for each."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
