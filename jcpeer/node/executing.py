"""Runs attempts for a participation, and makes outcomes of what becomes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import trio
from attrs import define, field

from jcpeer.application.task import INLINE_BYTES_MAX, BlobRef, Call
from jcpeer.errors import StorageError
from jcpeer.ids import AppId, Digest
from jcpeer.node.parts import Parts
from jcpeer.wire.messages import Failure, OrderedInput, Outcome, Output
from jcpeer.wire.streams import ReadLog
from jcpeer.work.directories import Directories
from jcpeer.work.events import AttemptKey, Event, Killed, Ran, Start, Unstarted
from jcpeer.work.execution import Content, Execution, InLine

CARRIED_BYTES_MAX = 1024 * 1024
"""Of one attempt's small outputs, so many bytes travel in its report, which is one frame."""
TAIL_BYTES = 4096
"""What an outcome carries of each log; a longer log is a blob beside it, held by the participant."""
READ_MAX = 100
"""Inputs that are looked up without a turn for others."""
LOG_PIECE_BYTES = 64 * 1024
LOG_POLL_S = 0.2


@define
class _Running:
    """An attempt at work. `directory` is where it prints; those of a line share a scope."""

    scope: trio.CancelScope = field(factory=trio.CancelScope)
    directory: Path | None = None
    killed: bool = False


class Executing:
    """The attempts that run on this node: each of them is told of by `Ran`, `Killed` or `Unstarted`, once."""

    def __init__(
        self,
        parts: Parts,
        *,
        tell: Callable[[Event], None],
        left: Callable[[AppId, Digest], None],
        have_again: Callable[[AppId, OrderedInput], Awaitable[Content | None]],
    ) -> None:
        """`left`: an attempt of this application left a blob in the store. `have_again`: an input that was there when
        its attempt was ordered, and is no more."""
        self._parts = parts
        self._tell = tell
        self._left = left
        self._have_again = have_again
        self._running: dict[AttemptKey, _Running] = {}
        self._directories = Directories(parts.attempts_dir or Path("simulated"))

    def __len__(self) -> int:
        return len(self._running)

    def start(self, effect: Start, nursery: trio.Nursery) -> None:
        self._running[effect.key] = running = _Running()
        if not effect.behind:
            nursery.start_soon(self._run, effect, running)
            return
        for each in effect.behind:
            self._running[each.key] = _Running(running.scope)
        nursery.start_soon(self._run_line, (effect, *effect.behind), running.scope)

    def kill(self, key: AttemptKey) -> None:
        """If it runs."""
        if (running := self._running.get(key)) is not None:
            running.killed = True
            running.scope.cancel()

    # --- one, or a line of them

    async def _run(self, effect: Start, running: _Running) -> None:
        outcome: Outcome | None = None
        try:
            with running.scope:
                outcome = await self._attempt(effect, running)
        finally:
            self._running.pop(effect.key, None)
            self._tell(Ran(effect.key, outcome) if outcome else Killed(effect.key))
            await self._clear_away(running)

    async def _run_line(self, line: tuple[Start, ...], scope: trio.CancelScope) -> None:
        """As many of these, one after another, as are over at once; the others are for the next free slot."""
        left = deque(line)

        async def ended(execution: Execution) -> None:
            effect = left.popleft()
            running = self._running[effect.key]
            try:
                outcome = await self._outcome(effect, execution)
            except StorageError as error:
                outcome = _could_not_run(effect, self._parts.clock_s(), str(error))
            del self._running[effect.key]
            self._tell(Ran(effect.key, outcome))
            if execution.left_files:
                await self._clear_away(running)

        def lasts() -> None:
            while len(left) > 1:
                self._not_begun(left.pop())

        try:
            with scope:
                try:
                    if in_line := await self._in_line(line):
                        await self._parts.executor.run_line(in_line, ended, lasts)
                except StorageError as error:
                    effect = left.popleft()
                    del self._running[effect.key]
                    self._tell(Ran(effect.key, _could_not_run(effect, self._parts.clock_s(), str(error))))
        finally:
            while left:
                self._not_begun(left.pop())

    async def _in_line(self, line: tuple[Start, ...]) -> list[InLine]:
        """Those up to the first whose inputs are not at hand.

        Raises:
            StorageError: they are not for the first of all, or its directory cannot be made.
        """
        found: list[InLine] = []
        for each in line:
            inputs = await self._inputs(each)
            if isinstance(inputs, str):
                if not found:
                    raise StorageError(inputs)
                break
            found.append(InLine(each.order, inputs, self._directory_for(each, self._running[each.key])))
        return found

    def _not_begun(self, effect: Start) -> None:
        killed = self._running.pop(effect.key).killed
        self._tell(Killed(effect.key) if killed else Unstarted(effect.key))

    async def _inputs(self, effect: Start) -> dict[str, Content] | str:
        """The content of what it reads, or why it cannot be had.

        Raises:
            StorageError: there is no room for it.
        """
        inputs: dict[str, Content] = {}
        for number, each in enumerate(effect.order.inputs, start=1):
            if number % READ_MAX == 0:
                await trio.lowlevel.checkpoint()  # small ones may have to be read from the disk
            content = self._parts.store.content(each.blob.digest)
            if content is None:
                content = await self._have_again(effect.key.app, each)
            if content is None:
                return f"input {each.name} left the store"
            inputs[each.name] = content
        return inputs

    async def _attempt(self, effect: Start, running: _Running) -> Outcome:
        order = effect.order
        try:
            inputs = await self._inputs(effect)
            if isinstance(inputs, str):
                return _could_not_run(effect, self._parts.clock_s(), inputs)
            directory = self._directory_for(effect, running)
            execution = await self._parts.executor.run(order, inputs, directory, gpus=effect.gpus)
            return await self._outcome(effect, execution)
        except StorageError as error:
            return _could_not_run(effect, self._parts.clock_s(), str(error))

    def _directory_for(self, effect: Start, running: _Running) -> Path:
        """Raises: StorageError: it cannot be made."""
        # For a call the executor makes it, if a file is used at all; and what is simulated uses none.
        by_need = isinstance(effect.order.work, Call) or self._parts.attempts_dir is None
        running.directory = self._directories.name() if by_need else self._directories.make()
        return running.directory

    async def _clear_away(self, running: _Running) -> None:
        if running.directory is not None and self._parts.attempts_dir is not None:
            await self._directories.give_back(running.directory)

    # --- what came of it

    async def _outcome(self, effect: Start, execution: Execution) -> Outcome:
        app = effect.key.app
        outputs = []
        room = CARRIED_BYTES_MAX
        for name, content in execution.outputs.items():
            output = await self._take_over(app, name, content, room)
            outputs.append(output)
            room -= len(output.data or b"")
        stdout, stdout_tail = await self._take_over_log(app, execution.stdout)
        stderr, stderr_tail = await self._take_over_log(app, execution.stderr)
        return Outcome(
            task=effect.order.task,
            epoch=effect.epoch,
            number=effect.order.number,
            failure=execution.failure,
            outputs=tuple(outputs),
            consumed=tuple(each.blob.digest for each in effect.order.inputs),
            exit_status=execution.exit_status,
            started_s=execution.started_s,
            waited_s=effect.waited_s,
            ran_s=execution.ran_s,
            cpu_s=execution.cpu_s,
            stdout=stdout,
            stderr=stderr,
            stdout_tail=stdout_tail,
            stderr_tail=stderr_tail,
        )

    async def _keep(self, app: AppId, content: Content) -> BlobRef:
        """Into the store, where it stays while the application runs."""
        store = self._parts.store
        blob = store.put(content) if isinstance(content, bytes) else await store.adopt(content)
        store.pin(app, [blob.digest])
        return blob

    async def _take_over(self, app: AppId, name: str, content: Content, room: int) -> Output:
        """Into the store; a small blob's bytes travel in the report as well, as far as there is room."""
        if isinstance(content, bytes) and len(content) <= min(room, INLINE_BYTES_MAX):
            # The coordinator will have it in its journal; here it is for what follows at once.
            return Output(name, self._parts.store.put(content), content)
        blob = await self._keep(app, content)
        self._left(app, blob.digest)
        if not blob.small or blob.size > room:
            return Output(name, blob, apart=blob.small)
        data = self._parts.store.content(blob.digest)
        return Output(name, blob, data.read_bytes() if isinstance(data, Path) else data)

    async def _take_over_log(self, app: AppId, content: Content) -> tuple[BlobRef | None, str]:
        """The last bytes as text, and the whole as a blob where they are not the whole. Unlike other blobs it is not
        dropped at the end of the application: people read logs afterwards."""
        if isinstance(content, bytes):
            tail, size = content[-TAIL_BYTES:], len(content)
        else:
            tail, size = _file_tail(content)
        text = tail.decode("utf-8", "replace")
        if size <= TAIL_BYTES:
            return None, text
        return await self._keep(app, content), text

    # --- logs of running attempts

    def open_log(self, request: ReadLog) -> AsyncGenerator[bytes, None] | None:
        """What an attempt that runs here prints, as it comes; None where it does not run here."""
        for key, running in self._running.items():
            same = key.app == request.app and key.name.task == request.task and key.name.number == request.number
            if same and running.directory is not None:
                return self._follow(key, running.directory / request.stream, request)
        return None

    async def _follow(self, key: AttemptKey, path: Path, request: ReadLog) -> AsyncGenerator[bytes, None]:
        offset = request.offset
        while request.follow and key in self._running and not path.exists():
            await trio.sleep(LOG_POLL_S)  # it has not begun to print
        try:
            with path.open("rb") as file:
                while True:
                    still = key in self._running
                    file.seek(offset)
                    piece = file.read(LOG_PIECE_BYTES)
                    if piece:
                        offset += len(piece)
                        yield piece
                    elif not request.follow or not still:
                        return
                    else:
                        await trio.sleep(LOG_POLL_S)
        except OSError:
            return  # it has just ended and its directory is gone


def _could_not_run(effect: Start, started_s: float, why: str) -> Outcome:
    return Outcome(
        task=effect.order.task,
        epoch=effect.epoch,
        number=effect.order.number,
        failure=Failure("setup", why),
        outputs=(),
        consumed=tuple(each.blob.digest for each in effect.order.inputs),
        exit_status=None,
        started_s=started_s,
        waited_s=effect.waited_s,
        ran_s=0.0,
    )


def _file_tail(path: Path) -> tuple[bytes, int]:
    """The last bytes of a file and its size; of one that is not there, nothing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read(TAIL_BYTES), size
    except OSError:
        return b"", 0
