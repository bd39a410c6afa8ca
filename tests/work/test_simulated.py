"""Simulated work passes in virtual time and leaves the same bytes as real work."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from jcpeer.values import evolve
from jcpeer.wire.messages import Failure
from jcpeer.work.files import filler
from jcpeer.work.simulated import SimulatedExecutor
from tests.work.orders import command, timed

NOWHERE = Path("/nowhere")


async def test_timed_work_takes_its_time_and_leaves_bytes_of_its_own(autojump_clock: MockClock) -> None:
    executor = SimulatedExecutor(slowness=2.0, clock_s=lambda: 1000.0)
    before = trio.current_time()
    execution = await executor.run(timed(30.0, {"a": 100_000, "b": 100_000, "c": 0}), {}, NOWHERE)
    assert trio.current_time() - before == execution.ran_s == 60.0
    assert (execution.failure, execution.started_s) == (None, 1000.0)
    assert [len(bytes(each)) for each in execution.outputs.values()] == [100_000, 100_000, 0]
    assert execution.outputs["a"] != execution.outputs["b"]
    again = await executor.run(timed(30.0, {"a": 100_000}), {}, NOWHERE)
    assert again.outputs["a"] == execution.outputs["a"] == filler(timed(0).task, "a", 100_000)


async def test_timed_work_ends_at_its_timeout(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    execution = await SimulatedExecutor().run(evolve(timed(30.0), timeout_s=10.0), {}, NOWHERE)
    assert execution.failure == Failure("timeout", "ran longer than 10 s", "give the task a longer timeout")
    assert trio.current_time() - before == 10.0


async def test_commands_need_an_answer() -> None:
    order = command("count", outputs=("result",))
    refused = await SimulatedExecutor().run(order, {}, NOWHERE)
    assert refused.failure is not None
    assert refused.failure.kind == "setup"
    answered = await SimulatedExecutor(answer=lambda order, inputs: {"result": b"3"}).run(order, {}, NOWHERE)
    assert (answered.failure, answered.outputs) == (None, {"result": b"3"})
    silent = await SimulatedExecutor(answer=lambda order, inputs: {}).run(order, {}, NOWHERE)
    assert silent.failure is not None
    assert silent.failure.kind == "missing_output"
