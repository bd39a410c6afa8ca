"""What the benchmarks have called: a user's module, which lies in a directory of its own and travels as such."""

from __future__ import annotations

import os
import subprocess
import time


def identity(value: int) -> int:
    """As little as a task can do."""
    return value


def step(*before: int) -> int:
    """As little as a task can do with what came before: how deep it lies."""
    return 1 + max(before, default=0)


def true() -> int:
    """For schedulers that run functions only: what they need to run a program."""
    return subprocess.run(["/bin/true"], check=True).returncode


def nap(seconds: float) -> int:
    """Takes its time and no processor."""
    time.sleep(seconds)
    return 1


def make(size: int) -> bytes:
    """So many bytes."""
    piece = os.urandom(min(size, 2**20))
    return piece * (size // len(piece))


def measure(data: bytes) -> int:
    """How many bytes came."""
    return len(data)


def leave(path: str) -> None:
    """A file that says that this was called."""
    with open(path, "w"):
        pass


MEASURED = (identity, step, true, nap, make, measure)
"""For schedulers that have each function wrapped first."""
