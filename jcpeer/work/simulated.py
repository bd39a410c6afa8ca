"""The executor of a simulated world: nothing runs, no file is touched, and time is trio's, so it may be virtual."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio

from jcpeer.application.task import Timed
from jcpeer.wire.messages import AttemptOrder, Failure
from jcpeer.work.execution import Content, EachEnded, Execution, InLine, Lasts, run_one_by_one
from jcpeer.work.files import filler

Answer = Callable[[AttemptOrder, Mapping[str, Content]], Mapping[str, bytes] | Failure]
"""What a command or a call would have left, or why it failed."""


class SimulatedExecutor:
    """Timed work takes its time and leaves the bytes that it leaves in the real world, all of them in memory."""

    def __init__(
        self, *, clock_s: Callable[[], float] = trio.current_time, slowness: float = 1.0, answer: Answer | None = None
    ) -> None:
        """A node with these habits.

        Args:
            clock_s: Gives the seconds since 1970 that `started_s` shows.
            slowness: How much longer than said timed work takes here.
            answer: Asked for commands and calls, which take no time; without it they fail.
        """
        self._clock_s = clock_s
        self._slowness = slowness
        self._answer = answer

    async def run(
        self, order: AttemptOrder, inputs: Mapping[str, Content], directory: Path, *, gpus: Sequence[str] = ()
    ) -> Execution:
        """See `execution.Executor`; the directory need not exist."""
        started_s, started = self._clock_s(), trio.current_time()
        left = await self._work(order, inputs)
        ran_s = trio.current_time() - started
        if isinstance(left, Failure):
            return Execution(left, None, started_s, ran_s)
        missing = [name for name in order.outputs if name not in left]
        if missing:
            text = f"output {missing[0]!r} was not made"
            return Execution(Failure("missing_output", text), None, started_s, ran_s, outputs=left)
        outputs = {name: left[name] for name in order.outputs}
        return Execution(None, None, started_s, ran_s, cpu_s=ran_s, outputs=outputs)

    async def run_line(self, line: Sequence[InLine], ended: EachEnded, lasts: Lasts) -> None:
        """See `execution.Executor`."""
        await run_one_by_one(self, line, ended, lasts)

    async def _work(self, order: AttemptOrder, inputs: Mapping[str, Content]) -> Mapping[str, bytes] | Failure:
        work = order.work
        if isinstance(work, Timed):
            takes_s = work.seconds * self._slowness
            limit_s = math.inf if order.timeout_s is None else order.timeout_s
            await trio.sleep(min(takes_s, limit_s))
            if takes_s > limit_s:
                return Failure("timeout", f"ran longer than {limit_s:g} s", "give the task a longer timeout")
            return {name: filler(order.task, name, work.output_bytes.get(name, 0)) for name in order.outputs}
        await trio.lowlevel.checkpoint()
        if self._answer is None:
            kind = type(work).__name__.lower()
            return Failure("setup", f"a simulated node runs timed work only, not a {kind}", "give it an answer")
        return self._answer(order, inputs)
