"""A node's side of `spawner`: processes that die with the node, and leave nothing behind when they end.

`Process` is one socket to one keeper (see `spawner` for the picture): closing our side of it kills, its answer or its
end means that nothing of the process or of whatever it started runs; then the keeper may be asked for another. The
spawner is started at the first need and again after it died.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio
from attrs import frozen

from jcpeer.errors import StorageError
from jcpeer.work import spawner as spawner_program

KILL_S_MAX = 5.0
"""How long a kill may take before we go on without knowing; only a process stuck in the kernel takes so long."""
LEAVE_S_MAX = 0.9
"""How long the spawner is given at the end."""
MESSAGE_BYTES_MAX = 4096
ASK_AGAIN_S = spawner_program.IDLE_S / 2
"""A keeper that has been idle for longer is not asked for another process: it might be about to end."""


@frozen
class Ended:
    """What became of a process. `status` is negative where a signal ended it; None where it never ran, as `errno` and
    `path` tell, or where the spawner took it along (`lost`)."""

    status: int | None = None
    errno: int = 0
    path: str = ""
    cpu_s: float = 0.0
    lost: bool = False


@frozen
class Keeper:
    """The socket to one that does nothing at present, and since when. `control`: of the spawner that started it."""

    node: socket.socket
    control: socket.socket
    idle_since_s: float


class Process:
    """One process with all that it starts. One child waits for it at a time."""

    def __init__(
        self, keeper: socket.socket, control: socket.socket, *, give_back: Callable[[Keeper], None] | None
    ) -> None:
        """`give_back` takes the keeper when the process has ended; where there is none, the keeper ends with it."""
        self._keeper = keeper
        self._control = control
        self._give_back = give_back
        self._message = b""
        self._ended: Ended | None = None

    @property
    def kept(self) -> bool:
        """Whether the spawner that started it lives; if not, it is about to be killed, though it may still answer."""
        return is_open(self._control)

    async def wait(self) -> Ended:
        """Return once nothing of it runs. Cancelling stops the waiting only."""
        while self._ended is None:
            await trio.lowlevel.wait_readable(self._keeper)
            try:
                piece = self._keeper.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                continue
            except ConnectionError:
                piece = b""
            self._message += piece
            answered = self._message.endswith(b"\n")
            if answered or not piece:
                self._ended = _read_message(self._message)
                if answered and not self._ended.lost and self._give_back is not None:
                    self._give_back(Keeper(self._keeper, self._control, trio.current_time()))
                else:
                    self._keeper.close()
        return self._ended

    async def kill(self) -> Ended:
        """Kill it and all that it started; returns when nothing of it runs, at the latest after `KILL_S_MAX`."""
        if self._ended is None:
            self.kill_soon()
            with trio.move_on_after(KILL_S_MAX, shield=True):
                await self.wait()
        return self._ended or Ended(lost=True)

    def kill_soon(self) -> None:
        """Have it killed; `wait` says when it is done."""
        self._give_back = None
        with suppress(OSError):  # it may have ended already
            self._keeper.shutdown(socket.SHUT_WR)


def _read_message(message: bytes) -> Ended:
    """Without a message the keeper was killed, or the spawner before it forked one."""
    ended = Ended(**json.loads(message)) if message else Ended(lost=True)
    return Ended(lost=True, cpu_s=ended.cpu_s) if ended.lost else ended


class Spawner:
    """Starts processes through the spawner process."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: trio.Process | None = None
        self._lock = trio.Lock()
        self._idle: list[Keeper] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdout: Path,
        stderr: Path,
        extra: socket.socket | None = None,
    ) -> Process:
        """A process in a session of its own; that it cannot be executed is said by `Process.wait`.

        Args:
            argv: The program is looked up in the PATH of `env`, a relative one with a slash from `cwd`.
            stdout: Appended to, made if it is not there; likewise stderr.
            extra: A socket that the process gets as well; its number there becomes the last argument.

        Raises:
            StorageError: this machine is out of processes or open files.
        """
        keeper = (self._idle_keeper() if extra is None else None) or await self._new_keeper(extra)
        request = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": str(cwd),
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        body = json.dumps(request).encode()
        try:
            await send_all(keeper.node, len(body).to_bytes(4, "big") + body)
        except BaseException:
            keeper.node.close()  # which ends whatever has come of it
            raise
        return Process(keeper.node, keeper.control, give_back=self._idle.append if extra is None else None)

    def _idle_keeper(self) -> Keeper | None:
        """One that may be asked for another process."""
        while self._idle:
            keeper = self._idle.pop()
            fresh = trio.current_time() < keeper.idle_since_s + ASK_AGAIN_S
            kept = keeper.control is self._control and is_open(keeper.control)
            if fresh and kept and is_open(keeper.node):
                return keeper
            keeper.node.close()
        return None

    async def _new_keeper(self, extra: socket.socket | None) -> Keeper:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                ours.setblocking(False)
                control = await self._send_descriptors([theirs.fileno(), *([extra.fileno()] if extra else [])])
                return Keeper(ours, control, trio.current_time())
            except BaseException:
                ours.close()
                raise

    async def _send_descriptors(self, descriptors: list[int]) -> socket.socket:
        async with self._lock:
            for _ in range(2):
                if self._control is None:
                    self._control = await self._start()
                try:
                    await trio.lowlevel.wait_writable(self._control)
                    socket.send_fds(self._control, [b"+"], descriptors)
                    return self._control
                except (BrokenPipeError, ConnectionResetError):
                    await self._end()  # somebody killed it; all that it kept is dying with it
            raise StorageError("the process that starts tasks ends as soon as it is started: see the node's log")

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await trio.lowlevel.open_process(
                    [sys.executable, "-I", "-S", spawner_program.__file__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise StorageError(f"cannot start {sys.executable}: {error.strerror or error}") from error
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    async def _end(self) -> None:
        """Close the control socket, upon which the spawner kills everything and ends."""
        control, process = self._control, self._process
        self._control = self._process = None
        while self._idle:
            self._idle.pop().node.close()
        if control is not None:
            control.close()
        if process is not None:
            with trio.move_on_after(LEAVE_S_MAX, shield=True) as scope:
                await process.wait()
            if scope.cancelled_caught:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


@asynccontextmanager
async def open_spawner() -> AsyncIterator[Spawner]:
    """Leaving kills every process that it started, and all that these started, within a second."""
    spawner = Spawner()
    try:
        yield spawner
    finally:
        await spawner._end()


def is_open(silent: socket.socket) -> bool:
    """Whether the other side of a non-blocking socket, which says nothing unasked, is still there."""
    try:
        silent.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        pass  # it was closed on our side, or reset
    return False


async def send_all(target: socket.socket, data: bytes | bytearray) -> None:
    """Send on a non-blocking socket; a reader that is gone is told by its silence, not here."""
    view = memoryview(data)
    while view:
        try:
            view = view[target.send(view) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(target)
        except (BrokenPipeError, ConnectionResetError):
            return


def spawn_error_line(ended: Ended) -> str:
    """Why a process could not be executed, in a few words."""
    return os.strerror(ended.errno) if ended.errno != errno.ENOENT else "there is no such file or command"
