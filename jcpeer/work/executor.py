"""Executes attempts in real processes: the `Executor` of a node.

A command runs in a process of its own, a Python call in a worker of the pool, simulated work in this process (a sleep)
or a tiny one of its own (a burn). Whatever ends them, nothing of them runs when `run` returns.

Tasks see the home directory of the node's user: tasks are that user's own, and what `pip install --user` and its like
put there is part of the machine. Beside it they get a minimal environment, the same on every node.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import assert_never

import trio

from jcpeer.application.task import INLINE_BYTES_MAX, MODULES, Call, Command, Timed
from jcpeer.ids import Digest
from jcpeer.values import evolve
from jcpeer.wire.messages import AttemptOrder
from jcpeer.work.call_runner import CallRunner, fits_line
from jcpeer.work.endings import command_failure, missing, not_run, printed, timed_out
from jcpeer.work.execution import Content, EachEnded, Execution, Executor, InLine, Lasts, run_one_by_one
from jcpeer.work.files import collect_outputs, filler, make_directory, place_inputs, unusable, write_filler
from jcpeer.work.pool import WorkerPool
from jcpeer.work.spawning import Spawner, open_spawner
from jcpeer.work.surroundings import bad_names, environment, files_of, seconds_of, task_variables, visible

_in_thread = trio.to_thread.run_sync

_BURN = "import sys, time\nend_s = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end_s: pass"


@asynccontextmanager
async def open_executor(*, slots: int, runtime_dir: Path) -> AsyncIterator[Executor]:
    """A node's executor; leaving the block kills everything that it started, within a second.

    Args:
        slots: Workers that are kept at most.
        runtime_dir: Of this executor alone; what is in it is removed.

    Raises:
        StorageError: that directory cannot be used.
    """
    try:
        shutil.rmtree(runtime_dir, ignore_errors=True)
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(runtime_dir, error) from error
    async with open_spawner() as spawner, trio.open_nursery() as nursery:
        pool = WorkerPool(spawner, runtime_dir, env=environment(), workers_max=slots)
        nursery.start_soon(pool.run)
        try:
            yield ProcessExecutor(spawner, pool)
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await pool.close()
            shutil.rmtree(runtime_dir, ignore_errors=True)


class ProcessExecutor:
    """See `open_executor`."""

    def __init__(self, spawner: Spawner, pool: WorkerPool) -> None:
        self._spawner = spawner
        self._calls = CallRunner(pool)

    @property
    def spawner_pid(self) -> int | None:
        """The process that all others depend on; None before the first attempt."""
        return self._spawner.pid

    async def run(
        self, order: AttemptOrder, inputs: Mapping[str, Content], directory: Path, *, gpus: Sequence[str] = ()
    ) -> Execution:
        """See `execution.Executor`. The directory need not exist: a call that uses no file makes none."""
        work = order.work
        match work:
            case Command():
                return await self._run_command(order, work, inputs, directory, gpus)
            case Call():
                return await self._calls.run(order, work, inputs, directory, gpus)
            case Timed():
                return await self._run_timed(order, work, directory)
            case _:
                assert_never(work)

    async def run_line(self, line: Sequence[InLine], ended: EachEnded, lasts: Lasts) -> None:
        """See `execution.Executor`. Calls that need nothing but a worker share one; all else is run by itself."""
        if fits_line(line[0], _modules_of(line[0])):
            await self._calls.run_line(line, ended, lasts)
        else:
            await run_one_by_one(self, line, ended, lasts)

    # --- commands

    async def _run_command(
        self,
        order: AttemptOrder,
        command: Command,
        inputs: Mapping[str, Content],
        directory: Path,
        gpus: Sequence[str],
    ) -> Execution:
        if (failure := bad_names(order)) is not None:
            return not_run(failure)
        work, temporary = directory / "work", directory / "tmp"
        for each in (temporary, work):
            make_directory(each)
        if files := files_of(order, inputs):
            await _in_thread(partial(place_inputs, interrupt=trio.from_thread.check_cancelled), work, files)
        argv = ("/bin/sh", "-c", *command.argv) if command.shell else command.argv
        env = {**environment(), "TMPDIR": str(temporary), **task_variables(order), **command.env, **visible(gpus)}
        execution = await self._run_process(order, argv, env, directory)
        if execution.failure is not None or not order.outputs:
            return execution
        collected = await _in_thread(collect_outputs, work, order.outputs)
        return evolve(execution, failure=missing(collected.missing), outputs=collected.outputs)

    async def _run_process(
        self, order: AttemptOrder, argv: Sequence[str], env: Mapping[str, str], directory: Path
    ) -> Execution:
        """Run it to its end, or to the end of its time."""
        work, stdout, stderr = directory / "work", directory / "stdout", directory / "stderr"
        started_s, started = time.time(), time.monotonic()
        process = await self._spawner.spawn(argv, env=env, cwd=work, stdout=stdout, stderr=stderr)
        try:
            with trio.move_on_after(seconds_of(order.timeout_s)) as patience:
                ended = await process.wait()
            if patience.cancelled_caught:
                ended = await process.kill()
        except BaseException:
            await process.kill()
            raise
        failure = timed_out(order) if patience.cancelled_caught else command_failure(ended, argv[0], work)
        return Execution(
            failure=failure,
            exit_status=ended.status,
            started_s=started_s,
            ran_s=time.monotonic() - started,
            cpu_s=ended.cpu_s,
            stdout=printed(stdout),
            stderr=printed(stderr),
        )

    # --- work that only takes its time

    async def _run_timed(self, order: AttemptOrder, timed: Timed, directory: Path) -> Execution:
        if timed.burn:
            make_directory(directory / "work")
            argv = (sys.executable, "-I", "-S", "-c", _BURN, repr(timed.seconds))
            execution = await self._run_process(order, argv, environment(), directory)
        else:
            started_s, started = time.time(), time.monotonic()
            limit_s = seconds_of(order.timeout_s)
            await trio.sleep(min(timed.seconds, limit_s))
            failure = timed_out(order) if timed.seconds > limit_s else None
            execution = Execution(failure, None, started_s, time.monotonic() - started)
        if execution.failure is not None:
            return execution
        outputs: dict[str, Content] = {}
        for index, name in enumerate(order.outputs):
            size = timed.output_bytes.get(name, 0)
            if size <= INLINE_BYTES_MAX:
                outputs[name] = filler(order.task, name, size)
            else:
                outputs[name] = path = directory / f"output-{index}"
                await _in_thread(write_filler, path, order.task, name, size)
        return evolve(execution, outputs=outputs)


def _modules_of(each: InLine) -> Digest | None:
    return next((item.blob.digest for item in each.order.inputs if item.name == MODULES), None)
