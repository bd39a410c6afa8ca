"""Runs Python calls in the workers of a pool: one in a worker of its own, or a line of brief ones after another."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast, get_args

import trio

from jcpeer.application.task import ARGUMENTS, FILE_PREFIX, FUNCTION, MODULES, VALUE, VALUE_PREFIX, Call
from jcpeer.ids import Digest
from jcpeer.wire.messages import AttemptOrder, Failure, FailureKind
from jcpeer.work.calling import VALUE_FILE, CallReply, CallRequest
from jcpeer.work.endings import crash, missing, not_run, printed, timed_out
from jcpeer.work.execution import LINE_PATIENCE_S, START_PATIENCE_S, Content, EachEnded, Execution, InLine, Lasts
from jcpeer.work.files import InputFile, collect_outputs, place_inputs, unusable
from jcpeer.work.pool import Worker, WorkerPool
from jcpeer.work.surroundings import bad_names, files_of, seconds_of, task_variables, visible

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

FOLLOW_AFTER_S = 0.2
"""A call that lasts longer than this has its output shown in its directory; links for the others would cost more than
many a call."""

_in_thread = trio.to_thread.run_sync


class CallRunner:
    """Calls functions. Nothing of a call runs when what waited for it returns."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def run(
        self, order: AttemptOrder, call: Call, inputs: Mapping[str, Content], directory: Path, gpus: Sequence[str]
    ) -> Execution:
        """See `execution.Executor.run`."""
        if (failure := _fault_of(order, call, inputs)) is not None:
            return not_run(failure)
        digests = _digests_of(order)
        files = await _lay_out_call(order, inputs, directory)
        request = _request(order, call, inputs, directory, files=files, gpus=gpus)
        started_s, started = time.time(), time.monotonic()
        # A process chooses its GPUs once, when it first looks for any.
        worker = await self._pool.take(digests.get(MODULES), inputs.get(MODULES, b""), fresh=bool(gpus))
        try:
            reply: CallReply | None = None
            with trio.CancelScope(deadline=trio.current_time() + seconds_of(order.timeout_s)) as patience:
                await worker.send((request, lambda: _told(inputs[FUNCTION])))
                reply = await _receive(worker, directory)
        except BaseException:
            await self._throw_away(worker)
            raise
        if reply is None:
            timeout = timed_out(order) if patience.cancelled_caught else None
            return await self._ended(worker, directory, timeout, started_s, time.monotonic() - started)
        if reply.spent or gpus:
            await self._throw_away(worker)
        else:
            self._pool.give_back(worker)
        return await _execution_of(reply, order, directory, started_s)

    async def run_line(self, line: Sequence[InLine], ended: EachEnded, lasts: Lasts) -> None:
        """See `execution.Executor.run_line`; for the first of these `fits_line` holds."""
        first = line[0]
        modules = _digests_of(first.order).get(MODULES)
        line = line[: next((at for at, each in enumerate(line) if not fits_line(each, modules)), len(line))]
        started_s = time.time()
        worker = await self._pool.take(modules, first.inputs.get(MODULES, b""))
        try:
            await worker.send(*[(_plain_request(each), partial(_told, each.inputs[FUNCTION])) for each in line])
            for each in line:
                began = time.monotonic()
                reply, lasted = None, False
                if worker.has_answer:
                    reply = await worker.receive()
                else:
                    with trio.move_on_after(LINE_PATIENCE_S if worker.warm else START_PATIENCE_S) as patience:
                        reply = await worker.receive()
                    lasted = patience.cancelled_caught
                if lasted:
                    await worker.drop()
                    lasts()
                    reply = await _receive(worker, each.directory)
                if reply is None:
                    await ended(await self._ended(worker, each.directory, None, started_s, time.monotonic() - began))
                    return
                await ended(await _execution_of(reply, each.order, each.directory, started_s))
                started_s += reply.ran_s
                if reply.spent or (lasted and not await worker.dropped()):
                    await self._throw_away(worker)
                    return
                if lasted:
                    break
        except BaseException:
            await self._throw_away(worker)
            raise
        self._pool.give_back(worker)

    async def _throw_away(self, worker: Worker) -> None:
        await self._pool.discard(worker)
        worker.clear_away()

    async def _ended(
        self, worker: Worker, directory: Path, failure: Failure | None, started_s: float, ran_s: float
    ) -> Execution:
        """Of a call whose process ended, or is to: for that reason, or for one of its own."""
        ended = await self._pool.discard(worker)
        stdout = _rescued(worker.stdout, directory / "stdout")
        stderr = _rescued(worker.stderr, directory / "stderr")
        worker.clear_away()
        return Execution(failure or crash(ended), ended.status, started_s, ran_s, stdout=stdout, stderr=stderr)


def fits_line(each: InLine, modules: Digest | None) -> bool:
    """It needs nothing but a worker that imports these modules: no file, no time limit, and it can be called at all."""
    order = each.order
    return (
        isinstance(order.work, Call)
        and order.timeout_s is None
        and order.outputs in ((), (VALUE,))
        and not any(item.name[0] != "@" or item.name.startswith(FILE_PREFIX) for item in order.inputs)
        and _digests_of(order).get(MODULES) == modules
        and _fault_of(order, order.work, each.inputs) is None
    )


# --- what a worker is told


def _fault_of(order: AttemptOrder, call: Call, inputs: Mapping[str, Content]) -> Failure | None:
    """Why it cannot be called here."""
    if call.python != PYTHON:
        text = f"the task was made with Python {call.python}, this node has {PYTHON}"
        return Failure("setup", text, f"run a node with Python {call.python}, or submit with {PYTHON}")
    if (failure := bad_names(order)) is not None:
        return failure
    if FUNCTION not in inputs or ARGUMENTS not in inputs:
        return Failure("setup", "the order of a call names no function or no arguments")
    return None


def _digests_of(order: AttemptOrder) -> dict[str, Digest]:
    return {each.name: each.blob.digest for each in order.inputs}


def _request(
    order: AttemptOrder,
    call: Call,
    inputs: Mapping[str, Content],
    directory: Path,
    *,
    files: dict[str, str],
    gpus: Sequence[str] = (),
) -> CallRequest:
    digests = _digests_of(order)
    return CallRequest(
        directory=str(directory),
        function_digest=digests[FUNCTION],
        function_name=call.function_name,
        function=None,
        arguments=_told(inputs[ARGUMENTS]),
        values={name: _told(inputs[name]) for name in digests if name.startswith(VALUE_PREFIX)},
        files=files,
        env={**task_variables(order), **visible(gpus)},
        wants_value=VALUE in order.outputs,
        has_work_directory=any(name[0] != "@" for name in digests),
    )


def _plain_request(each: InLine) -> CallRequest:
    assert isinstance(each.order.work, Call)
    return _request(each.order, each.order.work, each.inputs, each.directory, files={})


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
    if files := files_of(order, inputs):
        await _in_thread(partial(place_inputs, interrupt=trio.from_thread.check_cancelled), directory / "work", files)
    return paths


def _link(targets: Mapping[Path, Path]) -> None:
    for path, target in targets.items():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.symlink_to(target)
        except OSError as error:
            raise unusable(path.parent, error) from error


def _told(content: Content) -> bytes | str:
    """Content as a worker is told of it."""
    return content if isinstance(content, bytes) else str(content)


# --- what became of it


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
            failure = missing(collected.missing)
            outputs.update(collected.outputs)
    return Execution(
        failure=failure,
        exit_status=reply.exit_status,
        started_s=started_s,
        ran_s=reply.ran_s,
        cpu_s=reply.cpu_s,
        outputs=outputs,
        left_files=reply.left_files,
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


def _rescued(scratch: Path, path: Path) -> Content:
    """What a worker that crashed had printed."""
    with suppress(OSError):
        if scratch.stat().st_size > 0:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.move(scratch, path)
    return printed(path)
