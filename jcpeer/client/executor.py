"""A `concurrent.futures.Executor` whose calls run on the grid: an application that stays open until `shutdown`."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from jcpeer.application.manifest import RunPolicies, policies_fault
from jcpeer.application.python import TaskOptions, task
from jcpeer.client.chunk import call_each
from jcpeer.client.feed import Calls, ExecutorFeed
from jcpeer.client.session import Session
from jcpeer.errors import GraphError
from jcpeer.ids import AppId

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_POLICIES = RunPolicies.__annotations__


class ExecutorOptions(TaskOptions, RunPolicies, total=False):
    """What each call needs, and how all of it is run."""


class GridExecutor(Executor):
    """See `Grid.executor`."""

    def __init__(
        self,
        session: Session,
        name: str = "executor",
        directory: Path | None = None,
        **options: Unpack[ExecutorOptions],
    ) -> None:
        policies = cast(RunPolicies, {each: value for each, value in options.items() if each in _POLICIES})
        needs = cast(TaskOptions, {each: value for each, value in options.items() if each not in _POLICIES})
        task(**needs)  # refuses what is impossible now, not in each future
        if fault := policies_fault(cast(dict[str, object], policies)):
            raise GraphError(f"executor {name}: {fault}")
        # A value is wanted for as long as its future may be an argument.
        needs["keep"] = True
        self.feed = ExecutorFeed(session, Calls(name, directory), needs, policies)
        # An executor that nobody holds any more gets no further calls: its application may end.
        weakref.finalize(self, self.feed.close).atexit = False

    @property
    def application(self) -> AppId | None:
        """The id of its application, once the first call was submitted and a node has answered."""
        return self.feed.app

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call this function on the grid.

        A function or argument that cannot be pickled shows as the future's exception, as in a ProcessPoolExecutor.

        Raises:
            RuntimeError: after `shutdown`.
            BrokenExecutor: the local node went away for good, or somebody cancelled the application.
        """
        return self.feed.submit(fn, args, kwargs)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """The results in the order of the arguments; `chunksize` calls travel and run as one task.

        Raises:
            TimeoutError: the next result was not there `timeout` seconds after the call of `map`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        until = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        if chunksize == 1:
            return self._in_order([self.submit(fn, *each) for each in calls], until)
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        futures: list[Future[list[T]]] = [self.submit(call_each, fn, each) for each in chunks]
        in_order: Iterator[list[T]] = self._in_order(futures, until)
        return itertools.chain.from_iterable(in_order)

    def _in_order(self, futures: Sequence[Future[R]], until: float | None) -> Generator[R, None, None]:
        waiting = deque(futures)
        try:
            while waiting:
                result = waiting[0].result(None if until is None else until - time.monotonic())
                waiting.popleft()  # nothing here holds a result that the consumer is done with
                yield result
                del result
        finally:
            self.feed.abandon(waiting)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls; with `wait`, return when all are done.

        `cancel_futures` cancels what has not started.
        """
        self.feed.close(cancel=cancel_futures)
        if wait:
            self.feed.join()
