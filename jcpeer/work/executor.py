"""Executes attempts in real processes: the `Executor` of a node.

A command runs in a process of its own, a Python call in a worker of the pool, simulated work in this process (a sleep)
or a tiny one of its own (a burn). Whatever ends them, nothing of them runs when `run` returns.

Tasks see the home directory of the node's user: tasks are that user's own, and what `pip install --user` and its like
put there is part of the machine. Beside it they get a minimal environment, the same on every node.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import assert_never, cast, get_args

import trio
from attrs import evolve

from jcpeer.application.task import (
    ARGUMENTS,
    FILE_PREFIX,
    FUNCTION,
    INLINE_BYTES_MAX,
    MODULES,
    VALUE,
    VALUE_PREFIX,
    Call,
    Command,
    Timed,
)
from jcpeer.wire.messages import AttemptOrder, Failure, FailureKind
from jcpeer.work.calling import VALUE_FILE, CallReply, CallRequest
from jcpeer.work.execution import Content, Execution, Executor
from jcpeer.work.files import InputFile, collect_outputs, filler, place_inputs, stays_inside, unusable, write_filler
from jcpeer.work.pool import Worker, WorkerPool
from jcpeer.work.spawning import Ended, Spawner, open_spawner, spawn_error_line

_in_thread = trio.to_thread.run_sync

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

FOLLOW_AFTER_S = 0.2
"""A call that lasts longer than this has its output shown in its directory; links for the others would cost more than
many a call."""

_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")

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
        pool = WorkerPool(spawner, runtime_dir, env=_environment(), workers_max=slots)
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
        self._pool = pool

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
                return await self._run_call(order, work, inputs, directory, gpus)
            case Timed():
                return await self._run_timed(order, work, directory)
            case _:
                assert_never(work)

    # --- commands

    async def _run_command(
        self,
        order: AttemptOrder,
        command: Command,
        inputs: Mapping[str, Content],
        directory: Path,
        gpus: Sequence[str],
    ) -> Execution:
        if (failure := _bad_names(order)) is not None:
            return _not_run(failure)
        work, temporary = directory / "work", directory / "tmp"
        await _in_thread(place_inputs, temporary, ())
        files = _files_of(order, inputs)
        await _in_thread(partial(place_inputs, interrupt=trio.from_thread.check_cancelled), work, files)
        argv = ("/bin/sh", "-c", *command.argv) if command.shell else command.argv
        env = {**_environment(), "TMPDIR": str(temporary), **_task_variables(order), **command.env, **_visible(gpus)}
        execution = await self._run_process(order, argv, env, directory)
        if execution.failure is not None:
            return execution
        collected = await trio.to_thread.run_sync(collect_outputs, work, order.outputs)
        return evolve(execution, failure=_missing(collected.missing), outputs=collected.outputs)

    async def _run_process(
        self, order: AttemptOrder, argv: Sequence[str], env: Mapping[str, str], directory: Path
    ) -> Execution:
        """Run it to its end, or to the end of its time."""
        work, stdout, stderr = directory / "work", directory / "stdout", directory / "stderr"
        started_s, started = time.time(), time.monotonic()
        process = await self._spawner.spawn(argv, env=env, cwd=work, stdout=stdout, stderr=stderr)
        try:
            with trio.move_on_after(_seconds(order.timeout_s)) as patience:
                ended = await process.wait()
            if patience.cancelled_caught:
                ended = await process.kill()
        except BaseException:
            await process.kill()
            raise
        failure = _timed_out(order) if patience.cancelled_caught else _command_failure(ended, argv[0], work)
        return Execution(
            failure=failure,
            exit_status=ended.status,
            started_s=started_s,
            ran_s=time.monotonic() - started,
            cpu_s=ended.cpu_s,
            stdout=_printed(stdout),
            stderr=_printed(stderr),
        )

    # --- Python calls

    async def _run_call(
        self, order: AttemptOrder, call: Call, inputs: Mapping[str, Content], directory: Path, gpus: Sequence[str]
    ) -> Execution:
        if call.python != PYTHON:
            text = f"the task was made with Python {call.python}, this node has {PYTHON}"
            return _not_run(Failure("setup", text, f"run a node with Python {call.python}, or submit with {PYTHON}"))
        if (failure := _bad_names(order)) is not None:
            return _not_run(failure)
        if FUNCTION not in inputs or ARGUMENTS not in inputs:
            return _not_run(Failure("setup", "the order of a call names no function or no arguments"))
        digests = {each.name: each.blob.digest for each in order.inputs}
        request = CallRequest(
            directory=str(directory),
            function_digest=digests[FUNCTION],
            function_name=call.function_name,
            function=None,
            arguments=_told(inputs[ARGUMENTS]),
            values={name: _told(inputs[name]) for name in digests if name.startswith(VALUE_PREFIX)},
            files=await _lay_out_call(order, inputs, directory),
            env={**_task_variables(order), **_visible(gpus)},
            wants_value=VALUE in order.outputs,
        )
        started_s, started = time.time(), time.monotonic()
        # A process chooses its GPUs once, when it first looks for any.
        worker = await self._pool.take(digests.get(MODULES), inputs.get(MODULES, b""), fresh=bool(gpus))
        try:
            reply: CallReply | None = None
            with trio.CancelScope(deadline=trio.current_time() + _seconds(order.timeout_s)) as patience:
                await worker.send(request, lambda: _told(inputs[FUNCTION]))
                reply = await _receive(worker, directory)
        except BaseException:
            await self._pool.discard(worker)
            worker.clear_away()
            raise
        if reply is None:
            ended = await self._pool.discard(worker)
            failure = _timed_out(order) if patience.cancelled_caught else _crash(ended)
            ran_s = time.monotonic() - started
            stdout = _rescued(worker.stdout, directory / "stdout")
            stderr = _rescued(worker.stderr, directory / "stderr")
            worker.clear_away()
            return Execution(failure, ended.status, started_s, ran_s, stdout=stdout, stderr=stderr)
        if reply.spent or gpus:
            await self._pool.discard(worker)
            worker.clear_away()
        else:
            self._pool.give_back(worker)
        return await _execution_of(reply, order, directory, started_s)

    # --- work that only takes its time

    async def _run_timed(self, order: AttemptOrder, timed: Timed, directory: Path) -> Execution:
        if timed.burn:
            await _in_thread(place_inputs, directory / "work", ())
            argv = (sys.executable, "-I", "-S", "-c", _BURN, repr(timed.seconds))
            execution = await self._run_process(order, argv, _environment(), directory)
        else:
            started_s, started = time.time(), time.monotonic()
            limit_s = _seconds(order.timeout_s)
            await trio.sleep(min(timed.seconds, limit_s))
            failure = _timed_out(order) if timed.seconds > limit_s else None
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


# --- before: names, files, environment


def _bad_names(order: AttemptOrder) -> Failure | None:
    for name in (*(each.name for each in order.inputs), *order.outputs):
        if not name.startswith("@") and not stays_inside(name):
            return Failure("setup", f"{name!r} is not a path below the work directory", "give it a relative path")
    return None


def _files_of(order: AttemptOrder, inputs: Mapping[str, Content]) -> list[InputFile]:
    """The inputs that lie in the work directory under their names."""
    return [InputFile(each.name, inputs[each.name], each.executable) for each in order.inputs if each.name[0] != "@"]


async def _lay_out_call(order: AttemptOrder, inputs: Mapping[str, Content], directory: Path) -> dict[str, str]:
    """Put a call's files in place; returns the paths of those that its arguments mention.

    A large one of these is a link to where the store has it: it is read-only there.
    """
    paths: dict[str, str] = {}
    small: list[InputFile] = []
    large: dict[Path, Path] = {}
    for each in order.inputs:
        if each.name.startswith(FILE_PREFIX):
            content = inputs[each.name]
            name = each.name.removeprefix("@")
            path = directory / "files" / name
            paths[each.name] = str(path)
            if isinstance(content, Path):
                large[path] = content
            else:
                small.append(InputFile(name, content, each.executable))
    if small:
        await _in_thread(place_inputs, directory / "files", small)
    if large:
        await _in_thread(_link, large)
    if files := _files_of(order, inputs):
        await _in_thread(partial(place_inputs, interrupt=trio.from_thread.check_cancelled), directory / "work", files)
    return paths


def _link(targets: Mapping[Path, Path]) -> None:
    for path, target in targets.items():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.symlink_to(target)
        except OSError as error:
            raise unusable(path.parent, error) from error


def _environment() -> dict[str, str]:
    return {"LANG": "C.UTF-8", **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}}


def _task_variables(order: AttemptOrder) -> dict[str, str]:
    return {"JCPEER_TASK": order.task, "JCPEER_ATTEMPT": str(order.number), "JCPEER_CPUS": str(order.needs.cpus)}


def _told(content: Content) -> bytes | str:
    """Content as a worker is told of it."""
    return content if isinstance(content, bytes) else str(content)


def _visible(gpus: Sequence[str]) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def _seconds(timeout_s: float | None) -> float:
    return math.inf if timeout_s is None else timeout_s


# --- after: what became of it


async def _receive(worker: Worker, directory: Path) -> CallReply | None:
    with trio.CancelScope(deadline=trio.current_time() + FOLLOW_AFTER_S):
        await worker.wait_readable()
        return await worker.receive()
    shown = {directory / "stdout": worker.stdout, directory / "stderr": worker.stderr}
    with suppress(OSError):
        directory.mkdir(mode=0o700, exist_ok=True)
        for link, scratch in shown.items():
            link.symlink_to(scratch)
    reply = await worker.receive()
    if reply is not None:
        for link, content in zip(shown, (reply.stdout, reply.stderr), strict=True):
            if content is not True:
                link.unlink(missing_ok=True)  # or it would show what the next call prints
    return reply


async def _execution_of(reply: CallReply, order: AttemptOrder, directory: Path, started_s: float) -> Execution:
    failure = _told_failure(*reply.failure) if reply.failure is not None else None
    outputs: dict[str, Content] = {}
    if failure is None:
        files = [name for name in order.outputs if name != VALUE]
        if VALUE in order.outputs:
            outputs[VALUE] = _given(reply.value, directory, VALUE_FILE)
        if files:
            collected = await _in_thread(collect_outputs, directory / "work", files)
            failure = _missing(collected.missing)
            outputs.update(collected.outputs)
    return Execution(
        failure=failure,
        exit_status=reply.exit_status,
        started_s=started_s,
        ran_s=reply.ran_s,
        cpu_s=reply.cpu_s,
        outputs=outputs,
        stdout=_given(reply.stdout, directory, "stdout"),
        stderr=_given(reply.stderr, directory, "stderr"),
    )


def _told_failure(kind: str, text: str, remedy: str) -> Failure:
    known = kind if kind in get_args(FailureKind) else "exception"
    return Failure(cast(FailureKind, known), text, remedy)


def _given(content: bytes | bool, directory: Path, name: str) -> Content:
    """What a reply gives, or the file that it says is there; a lie about it comes to nothing."""
    if isinstance(content, bytes):
        return content
    path = directory / name
    return path if content and path.is_file() and not path.is_symlink() else b""


def _printed(path: Path) -> Content:
    try:
        size = path.stat().st_size
        return path if size > INLINE_BYTES_MAX else path.read_bytes()
    except OSError:
        return b""  # the process was never executed


def _rescued(scratch: Path, path: Path) -> Content:
    """What a worker that crashed had printed."""
    with suppress(OSError):
        if scratch.stat().st_size > 0:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.move(scratch, path)
    return _printed(path)


def _not_run(failure: Failure) -> Execution:
    return Execution(failure, None, time.time(), 0.0)


def _missing(lines: Sequence[str]) -> Failure | None:
    if not lines:
        return None
    return Failure("missing_output", "; ".join(lines), "have the task make each output that it declares")


def _timed_out(order: AttemptOrder) -> Failure:
    return Failure("timeout", f"ran longer than {order.timeout_s:g} s", "give the task a longer timeout")


def _lost() -> Failure:
    return Failure("killed", "the process that watches over this node's attempts died, and this one with it")


def _command_failure(ended: Ended, program: str, work: Path) -> Failure | None:
    if ended.lost:
        return _lost()
    if ended.status is None:
        return _not_executed(ended, program, work)
    if ended.status < 0:
        return Failure("exit", f"killed by {_signal_name(-ended.status)}", _memory_remedy(ended.status))
    return Failure("exit", f"exit status {ended.status}") if ended.status else None


def _not_executed(ended: Ended, program: str, work: Path) -> Failure:
    text = f"cannot run {ended.path!r}: {spawn_error_line(ended)}"
    if ended.errno == errno.ENOENT and "/" not in program and (work / program).exists():
        return Failure("setup", text, f"call it as ./{program}: the work directory is not on the PATH")
    if ended.errno == errno.ENOENT:
        return Failure("setup", text, "install it on that node, or declare it as an input and call it as ./NAME")
    if ended.errno == errno.EACCES:
        return Failure("setup", text, "declare the program as an executable input")
    if ended.errno == errno.ENOEXEC:
        return Failure("setup", text, "a script begins with #! and its interpreter, a program is for one processor")
    return Failure("setup", text)


def _crash(ended: Ended) -> Failure:
    """Of a worker that ended in the midst of a call."""
    if ended.lost:
        return _lost()
    if ended.status is None:
        return Failure("setup", f"no Python worker: cannot run {ended.path!r}: {spawn_error_line(ended)}")
    if ended.status < 0:
        text = f"the call's process was killed by {_signal_name(-ended.status)}"
        return Failure("killed", text, _memory_remedy(ended.status))
    return Failure("exit", f"the call ended its process with exit status {ended.status}", "return from the function")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _memory_remedy(status: int) -> str:
    return "if memory ran out: ask for more with `memory`" if status == -signal.SIGKILL else ""
