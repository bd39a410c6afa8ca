"""Waiting for what processes do, without sleeping."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import trio


async def gone(pid: int) -> None:
    """Return once this process has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Told:
    """A named pipe through which a process says numbers, each on a line of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "told"
        os.mkfifo(self.path)
        self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # writing too, lest the last writer be an end
        self._text = b""

    async def number(self) -> int:
        while b"\n" not in self._text:
            await trio.lowlevel.wait_readable(self._pipe)
            self._text += os.read(self._pipe, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return int(line)

    def close(self) -> None:
        os.close(self._pipe)
