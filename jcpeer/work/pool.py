"""Worker processes, kept for the next call of the same user modules.

A worker is started when a call finds no idle one for its modules, kept while idle for `IDLE_S_MAX`, and gives way when
another archive of modules wants its place. How many calls run at once is the participant's business: a call never
waits here for another to end.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

import jcpeer
from jcpeer.errors import StorageError
from jcpeer.ids import Digest
from jcpeer.work.calling import (
    DROP,
    FUNCTIONS_MAX,
    HEADER_BYTES,
    REPLY_BYTES_MAX,
    CallReply,
    CallRequest,
    frame_of,
    read_reply,
)
from jcpeer.work.execution import Content
from jcpeer.work.files import InputFile, place_inputs
from jcpeer.work.spawning import Ended, Process, Spawner, is_open, send_all

IDLE_S_MAX = 60.0
"""An idle worker costs some 20 MB; a minute bridges the gaps within one application."""
RETIRE_EVERY_S = 20.0
RECEIVE_BYTES = 64 * 1024

_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from jcpeer.work.worker import main; main()"
"""jcpeer's own place comes last on the path, where it shadows nothing of the worker's installation."""


class Worker:
    """A worker process and the socket to it; busy with one call, or one line of them, at a time."""

    def __init__(self, process: Process, node: socket.socket, modules: Digest | None, scratch: Path) -> None:
        self.process = process
        self.modules = modules
        self.stdout = scratch / "stdout"
        self.stderr = scratch / "stderr"
        self.idle_since_s = 0.0
        self.warm = False
        """It has started, and answered a call."""
        self._node = node
        self._functions: set[str] = set()
        self._received = bytearray()
        self._scratch = scratch

    @property
    def usable(self) -> bool:
        """An idle worker says nothing, so what can be read is its end; without its spawner, that is near."""
        return is_open(self._node) and self.process.kept

    async def send(self, *calls: tuple[CallRequest, Callable[[], bytes | str]]) -> None:
        """Have these called, one after another; each comes with what gives its function, which the worker may have."""
        frames = bytearray()
        for request, function in calls:
            if request.function_digest not in self._functions:
                if len(self._functions) >= FUNCTIONS_MAX:
                    self._functions.clear()  # as the worker does on its side of the count
                self._functions.add(request.function_digest)
                request = request._replace(function=function())
            frames += frame_of(request)
        await send_all(self._node, frames)

    async def drop(self) -> None:
        """Take back what has not begun. Whoever has received the answer of the call under way calls `dropped` next."""
        await send_all(self._node, DROP)

    async def dropped(self) -> bool:
        """Return once nothing more comes of what was taken back; False where it is not fit for anything any more."""
        while (body := await self._next_frame()) is not None:
            if body == DROP[HEADER_BYTES:]:
                return True
        return False

    async def wait_readable(self) -> None:
        """Return once the answer, or the worker's end, is there or on its way."""
        await trio.lowlevel.wait_readable(self._node)

    async def receive(self) -> CallReply | None:
        """The next answer; None where the worker ended instead, or answered nonsense, and can only be discarded."""
        body = await self._next_frame()
        try:
            reply = read_reply(body) if body is not None else None
        except ValueError:
            return None
        self.warm = True
        return reply

    @property
    def has_answer(self) -> bool:
        """The next answer is here: `receive` will not wait."""
        return 0 < self._frame_end() <= len(self._received)

    async def _next_frame(self) -> bytes | None:
        while True:
            if (body := self._whole_frame()) is not None:
                return body
            if self._frame_end() > REPLY_BYTES_MAX:
                return None
            try:
                piece = self._node.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await self.wait_readable()
                continue
            except ConnectionError:
                return None
            if not piece:
                return None
            self._received += piece

    def _whole_frame(self) -> bytes | None:
        if not self.has_answer:
            return None
        end = self._frame_end()
        body = bytes(self._received[HEADER_BYTES:end])
        del self._received[:end]
        return body

    def _frame_end(self) -> int:
        """Of the next frame; 0 where its length is not known yet."""
        if len(self._received) < HEADER_BYTES:
            return 0
        return HEADER_BYTES + int.from_bytes(self._received[:HEADER_BYTES], "big")

    async def end(self) -> Ended:
        """Kill it with all that it started. What it printed without having answered is left in its scratch files."""
        self._node.close()
        return await self.process.kill()

    def clear_away(self) -> None:
        """Remove the scratch files."""
        shutil.rmtree(self._scratch, ignore_errors=True)


class WorkerPool:
    """The workers of one node. `run` retires idle ones; whoever takes a worker gives it back or discards it."""

    def __init__(self, spawner: Spawner, directory: Path, *, env: Mapping[str, str], workers_max: int) -> None:
        """`directory` is the pool's own, for scratch files and modules; `env` is what each worker starts with."""
        self._spawner = spawner
        self._directory = directory
        self._env = dict(env)
        self._workers_max = workers_max
        self._started = 0
        self._idle: list[Worker] = []  # the longest idle first
        self._users: dict[Digest, int] = {}
        self._busy = 0

    async def take(self, modules: Digest | None, archive: Content = b"", *, fresh: bool = False) -> Worker:
        """A worker that imports these modules, idle or new; `fresh`: one that has not been called before.

        Raises:
            StorageError: the modules cannot be written, or no process can be started.
        """
        for index in () if fresh else range(len(self._idle) - 1, -1, -1):
            if self._idle[index].modules == modules:
                worker = self._idle.pop(index)
                if worker.usable:
                    self._busy += 1
                    return worker
                await self._discard(worker)
                return await self.take(modules, archive)
        self._busy += 1
        try:
            while self._idle and len(self._idle) + self._busy > self._workers_max:
                await self._discard(self._idle.pop(0))
            return await self._start(modules, archive)
        except BaseException:
            self._busy -= 1
            raise

    def give_back(self, worker: Worker) -> None:
        """Its call was answered, and left nothing behind."""
        self._busy -= 1
        worker.idle_since_s = trio.current_time()
        self._idle.append(worker)

    async def discard(self, worker: Worker) -> Ended:
        """It is not fit for another call; returns when nothing of it runs.

        Its scratch files stay until `clear_away`.
        """
        self._busy -= 1
        self._forget_modules(worker.modules)
        return await worker.end()

    async def run(self) -> None:
        """Retire workers that were idle for long."""
        while True:
            await trio.sleep(RETIRE_EVERY_S)
            while self._idle and trio.current_time() - self._idle[0].idle_since_s > IDLE_S_MAX:
                await self._discard(self._idle.pop(0))

    async def close(self) -> None:
        """End the idle workers; those that are busy end with their calls."""
        idle, self._idle = self._idle, []
        for each in idle:
            each.process.kill_soon()
        for each in idle:
            await self._discard(each)

    async def _discard(self, worker: Worker) -> None:
        self._forget_modules(worker.modules)
        await worker.end()
        worker.clear_away()

    async def _start(self, modules: Digest | None, archive: Content) -> Worker:
        self._started += 1
        scratch = self._directory / str(self._started)
        try:
            scratch.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(f"cannot make {scratch}: {error.strerror}") from error
        path = await self._keep_modules(modules, archive) if modules else ""
        root = os.path.dirname(os.path.dirname(os.path.abspath(jcpeer.__file__)))
        argv = [sys.executable, "-P", "-c", _PROGRAM, root, path]
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                ours.setblocking(False)
                process = await self._spawner.spawn(
                    argv,
                    env=self._env,
                    cwd=scratch,
                    stdout=scratch / "stdout",
                    stderr=scratch / "stderr",
                    extra=theirs,
                )
            except BaseException:
                ours.close()
                self._forget_modules(modules)
                raise
        return Worker(process, ours, modules, scratch)

    # --- archives of user modules: there for as long as a worker imports from them

    async def _keep_modules(self, modules: Digest, archive: Content) -> str:
        path = self._modules_path(modules)
        self._users[modules] = self._users.get(modules, 0) + 1
        try:
            if not path.exists():
                copy = f"modules-{self._started}.part"  # another call may be about to write the same
                await trio.to_thread.run_sync(place_inputs, self._directory, [InputFile(copy, archive)])
                os.replace(self._directory / copy, path)
        except BaseException:
            self._forget_modules(modules)
            raise
        return str(path)

    def _forget_modules(self, modules: Digest | None) -> None:
        if modules is None:
            return
        self._users[modules] -= 1
        if self._users[modules] == 0:
            del self._users[modules]
            self._modules_path(modules).unlink(missing_ok=True)

    def _modules_path(self, modules: Digest) -> Path:
        return self._directory / f"modules-{modules}.zip"
