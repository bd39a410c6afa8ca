"""The seam between a participant and whatever executes attempts: real processes, or a simulated world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from jcpeer.wire.messages import AttemptOrder, Failure

Content = bytes | Path
"""A small blob as its bytes, a large one as a file, which whoever is given it may read but neither change nor keep."""


@frozen
class Execution:
    """What came of an attempt that ran to its end. `started_s` is seconds since 1970, the rest durations in seconds.

    `outputs` holds each declared output that is there; those given as files lie below the attempt's directory, and the
    caller takes them over. `stdout` and `stderr` are likewise files there, or bytes.
    """

    failure: Failure | None
    exit_status: int | None
    started_s: float
    ran_s: float
    cpu_s: float = 0.0
    outputs: Mapping[str, Content] = field(factory=dict)
    stdout: Content = b""
    stderr: Content = b""


class Executor(Protocol):
    async def run(
        self, order: AttemptOrder, inputs: Mapping[str, Content], directory: Path, *, gpus: Sequence[str] = ()
    ) -> Execution:
        """Execute one attempt in this empty directory, made for it alone; the caller removes it afterwards. It sees
        these GPUs of the machine and no others.

        While it runs, what it prints stands in `directory / "stdout"` and `directory / "stderr"`; its work directory
        is `directory / "work"`. The timeout in the order is kept here. Cancelling kills the attempt's whole process
        group and returns only when nothing of it runs. A task's own fault is a `Failure`, never an exception.

        Raises:
            StorageError: the directory cannot be written.
        """
