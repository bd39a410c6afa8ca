"""An application in the hands of its client, from plain threads (`Handle`) and under trio (`AsyncHandle`).

A handle holds nothing but the application's id: any process can take up an application with `grid.handle(id)`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from jcpeer.application.references import TaskRef
from jcpeer.client.blocking import deadline, iterate_blocking, run_blocking
from jcpeer.client.session import Session
from jcpeer.ids import TaskId
from jcpeer.wire.requests import Happened, Progress, Reasons, Status, TaskDetail

POLL_S = 0.3
"""The shortest wait for a node's answer, so that a timeout of 0 still learns of what has ended already."""


Which = TaskRef | str
"""A task: what `Application.task` returned, or its id."""


def task_id(which: Which) -> TaskId:
    return TaskId(which) if isinstance(which, str) else which.id


class Handle:
    """An application that a node accepted; every method may be called from any thread.

    Each method raises RequestError where the node says no, and NoNodeError where the local node went away and did not
    return within 30 s: the application goes on all the same.
    """

    def __init__(self, session: Session, app: str) -> None:
        self._session = session
        self.id = app

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def status(self) -> Status:
        """How it stands now."""
        return run_blocking(self._session.status(self.id))

    def wait(self, timeout: float | None = None) -> Status:
        """How it stands once it has ended, however it ended.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        with self._at_most(timeout):
            return run_blocking(self._session.wait(self.id))

    def result(self, task: Which | None = None, timeout: float | None = None) -> object:
        """The value of one task as soon as it is there, or at the end the value of the last task.

        Where several tasks are last (nothing reads them, or they are marked `keep`): their values by task id.

        Raises:
            ApplicationFailedError: it did not end well; carries the story, and the traceback where a task raised.
            TimeoutError: nothing yet after `timeout` seconds.
        """
        with self._at_most(timeout):
            if task is None:
                return run_blocking(final_value(self._session, self.id))
            return run_blocking(task_value(self._session, self.id, task_id(task)))

    def events(self, after: int = 0, *, progress: bool = False) -> Generator[Happened | Progress, None, None]:
        """Every committed event after this index, as it comes, to the end. `progress` mixes in how it stands."""
        return iterate_blocking(self._session.events(self.id, after, progress=progress))

    def fetch(self, directory: Path | str, task: Which | None = None) -> tuple[Path, ...]:
        """Bring the files of one task, or of the last ones, below this directory."""
        wanted = None if task is None else task_id(task)
        return run_blocking(self._session.fetch(self.id, Path(directory), wanted))

    def cancel(self, task: Which | None = None) -> None:
        """Cancel one task, or the application; returns when that is journalled."""
        run_blocking(self._session.cancel(self.id, None if task is None else task_id(task)))

    def task(self, task: Which) -> TaskDetail:
        """A task with all its attempts."""
        return run_blocking(self._session.task(self.id, task_id(task)))

    def why(self, task: Which) -> Reasons:
        """What a task waits for."""
        return run_blocking(self._session.why(self.id, task_id(task)))

    def logs(
        self,
        task: Which,
        *,
        attempt: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        follow: bool = False,
    ) -> Generator[bytes, None, None]:
        """What an attempt printed, the latest one where none is named; `follow` waits for more until it ends."""
        return iterate_blocking(
            self._session.logs(self.id, task_id(task), attempt=attempt, stream=stream, follow=follow)
        )

    @contextmanager
    def _at_most(self, timeout: float | None) -> Generator[None, None, None]:
        with deadline(None if timeout is None else max(timeout, POLL_S)):
            try:
                yield
            except TimeoutError:
                raise TimeoutError(f"application {self.id} still runs after {timeout} s") from None


class AsyncHandle:
    """An application that a node accepted, under trio. The caller owns time: `with trio.fail_after(…):` around."""

    def __init__(self, session: Session, app: str) -> None:
        self._session = session
        self.id = app

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def status(self) -> Status:
        """How it stands now."""
        return await self._session.status(self.id)

    async def wait(self) -> Status:
        """How it stands once it has ended, however it ended."""
        return await self._session.wait(self.id)

    async def result(self, task: Which | None = None) -> object:
        """See `Handle.result`."""
        if task is None:
            return await final_value(self._session, self.id)
        return await task_value(self._session, self.id, task_id(task))

    def events(self, after: int = 0, *, progress: bool = False) -> AsyncGenerator[Happened | Progress, None]:
        """See `Handle.events`; close it (`contextlib.aclosing`) when leaving early."""
        return self._session.events(self.id, after, progress=progress)

    async def fetch(self, directory: Path | str, task: Which | None = None) -> tuple[Path, ...]:
        """See `Handle.fetch`."""
        return await self._session.fetch(self.id, Path(directory), None if task is None else task_id(task))

    async def cancel(self, task: Which | None = None) -> None:
        """See `Handle.cancel`."""
        await self._session.cancel(self.id, None if task is None else task_id(task))

    async def task(self, task: Which) -> TaskDetail:
        """A task with all its attempts."""
        return await self._session.task(self.id, task_id(task))

    async def why(self, task: Which) -> Reasons:
        """What a task waits for."""
        return await self._session.why(self.id, task_id(task))

    def logs(
        self,
        task: Which,
        *,
        attempt: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        follow: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """See `Handle.logs`."""
        return self._session.logs(self.id, task_id(task), attempt=attempt, stream=stream, follow=follow)


async def final_value(session: Session, app: str) -> object:
    """The value of the one last task, or the values of several by task, once all is done."""
    await session.wait_ok(app)
    values = await session.values(app)
    return next(iter(values.values()), None) if len(values) < 2 else values


async def task_value(session: Session, app: str, task: TaskId) -> object:
    """The value of one task, as soon as it is there."""
    await session.wait_task(app, task)
    return await session.value(app, task)
