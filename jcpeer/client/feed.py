"""From submitted calls to settled futures: the two threads behind an executor.

One sends what was queued, in batches: what comes while one is sent makes up the next. The other reads the committed
events and settles the futures. Both start with the first call and end by themselves, after `close`, with the
application.

Invariant: a future is in `futures` until exactly one thread takes it out; that thread settles it.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import RunPolicies
from jcpeer.application.python import Application, TaskOptions
from jcpeer.application.task import FUNCTION, MODULES, VALUE, BlobRef
from jcpeer.client.blocking import iterate_blocking, run_blocking
from jcpeer.client.futures import CANCELLED, FutureOutcome, GridFuture, Raised, Value
from jcpeer.client.header import new_header
from jcpeer.client.session import Session
from jcpeer.client.shipment import Shipment, content, ships
from jcpeer.client.story import failed_task
from jcpeer.errors import ApplicationFailedError, GraphError, JcpeerError, RequestError, StorageError, UnreachableError
from jcpeer.ids import AppId, Digest, TaskId
from jcpeer.wire.requests import AddTasks, Happened

LINGER_S = 0.001
"""How long a batch waits for more company, if it has some: calls come in a burst then, and each batch has its price."""
COMPANY_TASKS = 500
"""So many wait for no more."""
NOT_STARTED = ("waiting", "ready", "assigned")


class Calls(Application):
    """The calls of an executor, packed as those of any application; `directory` holds the user's modules, if any."""

    def __init__(self, name: str, directory: Path | None) -> None:
        super().__init__(name, directory=directory or Path())
        if directory is None:  # at a prompt there are no modules of the user's own
            self._directory = None


class ExecutorFeed:
    """What executor, futures and the two threads share.

    Two locks: `_packing` is taken before `_changed`, and held while a call is packed and queued, so that what is taken
    for sending is always queued already.
    """

    def __init__(self, session: Session, calls: Calls, options: TaskOptions, policies: RunPolicies) -> None:
        self.app: AppId | None = None
        self._futures: dict[TaskId, GridFuture[Any]] = {}
        self._session = session
        self._calls = calls
        self._options = options
        self._header = new_header(calls.name, open_ended=True, **policies)
        self._packing = threading.Lock()
        self._changed = threading.Condition()
        self._queue: set[TaskId] = set()
        self._in_flight: frozenset[TaskId] = frozenset()
        self._children: dict[TaskId, list[TaskId]] = {}
        self._without_value: dict[TaskId, FutureOutcome] = {}
        self._to_cancel: deque[GridFuture[Any]] = deque()
        self._closed = False
        self._broken: BaseException | None = None
        self._opened = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(run,), name=f"jcpeer-{calls.name}", daemon=True)
            for run in (self._send, self._watch)
        ]
        self._started = False

    # --- from the user's threads

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> GridFuture[Any]:
        """A future for this call. Raises: RuntimeError: closed. BrokenExecutor: no node any more."""
        self._check_open()
        parents = [each for each in (*args, *kwargs.values()) if isinstance(each, Future)]
        with self._packing:
            try:
                ref = self._calls.options(**self._options).task(
                    function,
                    *(self._meant(each) for each in args),
                    **{name: self._meant(each) for name, each in kwargs.items()},
                )
            except Exception as error:  # packing runs the user's code
                unpacked: GridFuture[Any] = GridFuture(self, None)
                unpacked.settle(Raised(_root_of(error)))
                return unpacked
            future: GridFuture[Any] = GridFuture(self, ref)
            doom = self._enqueue(
                future, ref.id, [each.ref.id for each in parents if isinstance(each, GridFuture) and each.ref]
            )
        if doom is not None:
            future.settle(doom)
        return future

    def _check_open(self) -> None:
        if self._broken is not None:
            raise BrokenExecutor(str(self._broken)) from self._broken
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _meant(self, argument: object) -> object:
        if not isinstance(argument, Future):
            return argument
        if not isinstance(argument, GridFuture) or argument.feed is not self:
            raise TypeError("a future of another executor cannot be an argument: pass its result()")
        if argument.ref is None:
            argument.result()  # raises what kept it from being packed
        return argument.ref

    def _enqueue(self, future: GridFuture[Any], task: TaskId, parents: Sequence[TaskId]) -> FutureOutcome | None:
        """The outcome that the call shares with a parent that has no value, if so; then it is not sent."""
        with self._changed:
            self._check_open()
            for each in parents:
                doom = self._without_value.get(each)
                if doom is not None:
                    self._without_value[task] = doom
                    return doom
            for each in parents:
                if each in self._futures:
                    self._children.setdefault(each, []).append(task)
            self._futures[task] = future
            self._queue.add(task)
            self._start()
            self._changed.notify_all()
        return None

    def cancel(self, future: GridFuture[Any]) -> bool:
        task = future.ref.id if future.ref else None
        with self._changed:
            self._await_arrival(task)
            if task is None or task not in self._futures:
                return future.cancelled()
            # Taken out together with what waits for it, before the sending thread can send that without it.
            unsent = self._take_out(task, CANCELLED) if task in self._queue else []
        for each in unsent:
            each.settle(CANCELLED)
        if unsent:
            return True
        if not self._cancel_sent(task):
            return False
        self._settle(task, CANCELLED)
        return future.cancelled() or not future.done()  # the latter while the watching thread is about to settle it

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel these in passing: nobody waits for them any more."""
        unsent: list[GridFuture[Any]] = []
        with self._changed:
            for future in futures:
                if not isinstance(future, GridFuture) or future.ref is None:
                    continue
                if future.ref.id in self._queue:
                    unsent += self._take_out(future.ref.id, CANCELLED)
                elif future.ref.id in self._futures:
                    self._to_cancel.append(future)
            self._changed.notify_all()
        for future in unsent:
            future.settle(CANCELLED)

    def is_running(self, future: GridFuture[Any]) -> bool:
        if future.ref is None:
            return False
        with self._changed:
            self._await_arrival(future.ref.id)
            if self.app is None or future.ref.id in self._queue:
                return False
        return self._state(future.ref.id) == "running"

    def _await_arrival(self, task: TaskId | None) -> None:
        # What is on its way can be neither held back nor asked about.
        self._changed.wait_for(lambda: task not in self._in_flight)

    def close(self, *, cancel: bool = False) -> None:
        with self._changed:
            doomed = list(self._futures.values()) if cancel else []
        self.abandon(doomed)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Returns when all is settled, or when it broke: then the other thread may wait for a node for long."""
        for thread in self._threads if self._started else []:
            while thread.is_alive() and self._broken is None:
                thread.join(1.0)

    # --- the sending thread

    def _start(self) -> None:
        if not self._started:
            self._started = True
            _feeds.add(self)
            for thread in self._threads:
                thread.start()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # whatever it is, futures must not be waited for in vain
            self._break(error)

    def _send(self) -> None:
        self.app = run_blocking(self._session.open(self._header))
        self._opened.set()
        there: set[Digest] = set()
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._to_cancel or self._closed or self._broken)
                burst = 1 < len(self._queue) < COMPANY_TASKS and not self._closed
            if self._broken:
                return
            if burst:
                time.sleep(LINGER_S)
            if self._queue:
                with self._packing:
                    loaded = self._calls.take()
                number = self._send_all(self.app, loaded, number, there)
            elif self._to_cancel:
                self.cancel(self._to_cancel.popleft())
            elif self._closed:
                run_blocking(self._session.seal(self.app, number))
                return

    def _send_all(self, app: AppId, loaded: LoadedApplication, number: int, there: set[Digest]) -> int:
        """Send what was taken, batch by batch, but for what is cancelled meanwhile; returns the next batch's number."""
        waiting = deque(loaded.tasks)
        while not self._broken:
            with self._changed:
                wanted = (each for each in waiting if each.id in self._queue)
                batch = next(ships(wanted, number=number, there=there), None)
                if batch is None:
                    break
                self._in_flight = frozenset(each.id for each in batch.tasks)
                self._queue -= self._in_flight
            while waiting.popleft() is not batch.tasks[-1]:
                pass
            number += self._send_batch(app, loaded, batch, there)
        return number

    def _send_batch(self, app: AppId, loaded: LoadedApplication, batch: Shipment, there: set[Digest]) -> bool:
        """Whether the node took it; if not, its number is free for the next one."""
        refused: JcpeerError | None = None
        try:
            data = {blob.digest: content(loaded, blob) for blob in batch.aboard}
            order = AddTasks(app, batch.number, batch.tasks, batch.blobs, data)
            run_blocking(self._session.add(self._header, order, loaded))
        except (RequestError, StorageError) as error:
            refused = error
        with self._changed:
            self._in_flight = frozenset()
            self._changed.notify_all()
        if refused is not None:
            for task in batch.tasks:
                self._settle(task.id, Raised(refused))
            return False
        if not batch.tasks:
            there.update(blob.digest for blob in batch.aboard)
        # What calls share travels once; to remember their arguments too would cost more than it saves.
        shared = (each.source for task in batch.tasks for each in task.inputs if each.name in (FUNCTION, MODULES))
        there.update(each.digest for each in shared if isinstance(each, BlobRef))
        return True

    def _cancel_sent(self, task: TaskId) -> bool:
        if self.app is None or self._state(task) not in NOT_STARTED:
            return False
        try:
            run_blocking(self._session.cancel(self.app, task))
        except (RequestError, UnreachableError):
            return False  # it ended in between, or nobody can say
        # What had not started and has not ended will not: its cancellation is on its way, if not done.
        return self._state(task) not in ("finished", "failed", "unknown")

    def _state(self, task: TaskId) -> str:
        assert self.app is not None
        try:
            return run_blocking(self._session.task(self.app, task)).state
        except (RequestError, UnreachableError):
            return "unknown"

    # --- the watching thread

    def _watch(self) -> None:
        self._opened.wait()
        if self.app is None:
            return
        for event in iterate_blocking(self._session.events(self.app, values=True)):
            if isinstance(event, Happened):
                self._take_event(self.app, event)

    def _take_event(self, app: AppId, event: Happened) -> None:
        if event.kind == "ended":
            self._end(app, event.text)
        if event.task is None or event.task not in self._futures:
            return
        match event.kind:
            case "finished":
                self._settle(event.task, self._value(app, event.task, event))
            case "failed" | "lost" if event.final:
                text = run_blocking(self._session.failure_text(app, event))
                self._settle(event.task, Raised(failed_task(event.task, text)))
            case "cancelled":
                self._settle(event.task, CANCELLED)
            case _:
                pass

    def _value(self, app: AppId, task: TaskId, event: Happened) -> FutureOutcome:
        for output in event.outputs:
            if output.name == VALUE:
                try:
                    return Value(run_blocking(self._session.read_value(app, task, output)))
                except JcpeerError as error:
                    return Raised(error)
        return Raised(RequestError(f"task {task} left no value"))

    # --- settling

    def _settle(self, task: TaskId, outcome: FutureOutcome) -> None:
        """Give a task's future its outcome, and where that is no value, all that wait for it the same."""
        for future in self._take_out(task, outcome):
            future.settle(outcome)

    def _take_out(self, task: TaskId, outcome: FutureOutcome) -> list[GridFuture[Any]]:
        """Whoever calls this settles the futures that it returns, without the lock: their callbacks are the user's."""
        taken: list[GridFuture[Any]] = []
        with self._changed:
            stack = [task]
            while stack:
                each = stack.pop()
                future = self._futures.pop(each, None)
                if future is None:
                    continue
                self._queue.discard(each)
                taken.append(future)
                children = self._children.pop(each, [])
                if not isinstance(outcome, Value):
                    self._without_value[each] = outcome
                    stack.extend(children)
        return taken

    def _settle_all(self, outcome: FutureOutcome) -> None:
        for task in list(self._futures):
            self._settle(task, outcome)

    def _end(self, app: AppId, status: str) -> None:
        error = ApplicationFailedError(f"application {app} has ended: {status}")
        with self._changed:
            if not self._closed:  # somebody cancelled it: what is submitted from now on would wait for ever
                self._broken = error
                self._changed.notify_all()
        self._settle_all(Raised(error) if status == "failed" else CANCELLED)

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken = error
            self._in_flight = frozenset()
            self._changed.notify_all()
        self._opened.set()
        self._settle_all(Raised(error))


def _root_of(error: Exception) -> BaseException:
    """What the user's code or pickle raised, as a pool of the standard library shows it, with our line as a note."""
    root: BaseException = error
    while isinstance(root, GraphError) and root.__cause__ is not None:
        root = root.__cause__
    if root is not error:
        root.add_note(str(error))
    return root


_feeds: weakref.WeakSet[ExecutorFeed] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    # As the executors of the standard library: what was submitted is done before the interpreter ends.
    for feed in list(_feeds):
        feed.close()
        feed.join()
