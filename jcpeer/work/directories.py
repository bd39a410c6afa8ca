"""Where attempts run: a directory for each, of which nothing is left when it has ended.

One that an attempt left as it was made serves the next: to remove it and make another is most of what a short program
costs on a busy disk.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from jcpeer.work.files import make_directory

LOGS = ("stdout", "stderr")
PARTS = ("tmp", "work")
MODE = stat.S_IFDIR | 0o700


class Directories:
    """Those below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named = 0
        self._spare: list[Path] = []

    def name(self) -> Path:
        """A directory that does not exist, for whoever may need none."""
        self._named += 1
        return self._root / str(self._named)

    def make(self) -> Path:
        """One that exists.

        Raises:
            StorageError: the disk is full or does not write.
        """
        if self._spare:
            return self._spare.pop()
        directory = self.name()
        make_directory(directory)
        return directory

    async def give_back(self, directory: Path) -> None:
        """Nothing runs there any more."""
        if _is_as_made(directory):
            self._spare.append(directory)
        elif not _removed_if_empty(directory):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(shutil.rmtree, directory, ignore_errors=True))


def _is_as_made(attempt: Path) -> bool:
    """Whether it holds two empty directories and nothing else, but for logs, which are removed. To find that out takes
    some microseconds, a thread that looks some hundred."""
    parts = [attempt / each for each in PARTS]
    try:
        for log in LOGS:
            with suppress(FileNotFoundError):
                os.unlink(attempt / log)
        return (
            sorted(os.listdir(attempt)) == list(PARTS)
            and all(os.lstat(each).st_mode == MODE for each in (attempt, *parts))
            and not any(os.listdir(each) for each in parts)
        )
    except OSError:
        return False


def _removed_if_empty(attempt: Path) -> bool:
    """Whether it is gone: it was never made, or held nothing but its logs."""
    try:
        for part in (*[attempt / each for each in PARTS], attempt):
            with suppress(FileNotFoundError):
                os.rmdir(part)
    except OSError:
        return False  # there is something in it
    return True
