"""What a task of the drill does: it takes its time, and says itself when it began and ended, to a file."""

from __future__ import annotations

import os
import time


def step(before: int | None, witness: str, number: int, seconds: float) -> int:
    """One more than before. Whatever anybody says of attempts later, the file has each that really ran."""
    of = f"{number} {os.getpid()} {_spawner()}"
    _testify(witness, f"{of} began {time.time()}")
    time.sleep(seconds)
    _testify(witness, f"{of} ended {time.time()}")
    return (before or 0) + 1


def _spawner() -> int:
    """The process of our node that has all of its attempts started: it says which node this is."""
    with open(f"/proc/{os.getppid()}/stat") as keeper:
        return int(keeper.read().rpartition(")")[2].split()[1])


def _testify(witness: str, line: str) -> None:
    file = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())  # one short write at the end of a file is whole
    finally:
        os.close(file)
