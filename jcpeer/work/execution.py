"""The seam between a participant and whatever executes attempts: real processes, or a simulated world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import trio
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
    left_files: bool = True
    """There may be something in the attempt's directory."""


@frozen
class InLine:
    """One of several attempts that follow each other; as the arguments of `Executor.run`."""

    order: AttemptOrder
    inputs: Mapping[str, Content]
    directory: Path


EachEnded = Callable[[Execution], Awaitable[None]]
"""Told what came of the next attempt of a line."""
Lasts = Callable[[], None]
"""Told that the next attempt of a line is not over at once: those behind it will not begin here."""

LINE_PATIENCE_S = 0.05
"""Attempts that are over at once are waited for so long; then those behind them go elsewhere."""
START_PATIENCE_S = 2.0
"""The same where a worker has to start first: an interpreter, and what the user's modules import."""


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

    async def run_line(self, line: Sequence[InLine], ended: EachEnded, lasts: Lasts) -> None:
        """Execute attempts that are likely to be over at once, one after another, in a time that `run` would take for
        one or two of them.

        `ended` is told of each, in order. On return those of which it was not told have not begun, as far as anybody
        will hear: so it is where one lasted, which `lasts` is told as soon as that is known, or ended its process.
        Cancelling kills the one that runs.

        Raises:
            StorageError: a directory cannot be written.
        """


async def run_one_by_one(executor: Executor, line: Sequence[InLine], ended: EachEnded, lasts: Lasts) -> None:
    """A line for executors that can do no better."""
    for each in line:
        lasted = False

        async def watch() -> None:
            nonlocal lasted
            await trio.sleep(LINE_PATIENCE_S)
            lasted = True
            lasts()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            execution = await executor.run(each.order, each.inputs, each.directory)
            nursery.cancel_scope.cancel()
        await ended(execution)
        if lasted:
            return
