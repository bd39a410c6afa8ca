"""From submitted calls to settled futures: the two threads behind an executor.

One collects what was queued within a millisecond into batches and sends them; the other reads the committed events
and settles the futures. Both start with the first call and end by themselves, after `close`, with the application.

Invariant: a future is in `futures` until exactly one thread takes it out; that thread settles it.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from jcpeer.application.manifest import Header
from jcpeer.application.task import FUNCTION, MODULES, VALUE, BlobRef
from jcpeer.client.blocking import iterate_blocking, run_blocking
from jcpeer.client.calls import PackedCall
from jcpeer.client.futures import CANCELLED, FutureOutcome, GridFuture, Raised, Value
from jcpeer.client.session import Session
from jcpeer.client.shipment import BATCH_BYTES, blobs_of, described_bytes
from jcpeer.client.story import failed_task
from jcpeer.errors import ApplicationFailedError, RequestError
from jcpeer.ids import AppId, Digest, TaskId
from jcpeer.wire.requests import AddTasks, Happened

LINGER_S = 0.001
"""How long a batch waits for company; below what a person or a task's round trip notices."""
BATCH_TASKS_MAX = 500
NOT_STARTED = ("waiting", "ready", "assigned")


class ExecutorFeed:
    """What executor, futures and the two threads share."""

    def __init__(self, session: Session, header: Header) -> None:
        self.app: AppId | None = None
        self.futures: dict[TaskId, GridFuture[Any]] = {}
        self._session = session
        self._header = header
        self._changed = threading.Condition()
        self._queue: dict[TaskId, PackedCall] = {}
        self._in_flight: frozenset[TaskId] = frozenset()
        self._children: dict[TaskId, list[TaskId]] = {}
        self._without_value: dict[TaskId, FutureOutcome] = {}
        self._to_cancel: deque[GridFuture[Any]] = deque()
        self._closed = False
        self._broken: BaseException | None = None
        self._opened = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(run,), name=f"jcpeer-{header.name}", daemon=True)
            for run in (self._send, self._watch)
        ]
        self._started = False

    # --- from the user's threads

    def check_open(self) -> None:
        if self._broken is not None:
            raise BrokenExecutor(str(self._broken)) from self._broken
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def producer(self, argument: object) -> TaskId | None:
        if not isinstance(argument, Future):
            return None
        if isinstance(argument, GridFuture) and argument.feed is self:
            return argument.task
        raise TypeError("a future of another executor cannot be an argument: pass its result()")

    def put(self, packed: PackedCall, future: GridFuture[Any]) -> None:
        task = packed.task
        with self._changed:
            self.check_open()
            doomed = next(
                (self._without_value[each] for each in task.parents() if each in self._without_value),
                None,
            )
            if doomed is not None:
                self._without_value[task.id] = doomed
            else:
                for each in task.parents():
                    if each in self.futures:
                        self._children.setdefault(each, []).append(task.id)
                self.futures[task.id] = future
                self._queue[task.id] = packed
                self._start()
                self._changed.notify_all()
        if doomed is not None:
            future.settle(doomed)

    def cancel(self, future: GridFuture[Any]) -> bool:
        with self._changed:
            # What is on its way can be neither held back nor asked about.
            self._changed.wait_for(lambda: future.task not in self._in_flight)
            if future.task not in self.futures:
                return future.cancelled()
            # Taken out together with what waits for it, before the sending thread can send that without it.
            unsent = self._take_out(future.task, CANCELLED) if future.task in self._queue else []
        for each in unsent:
            each.settle(CANCELLED)
        if unsent:
            return True
        if not self._cancel_sent(future.task):
            return False
        self._settle(future.task, CANCELLED)
        return future.cancelled() or not future.done()  # the latter while the watching thread is about to settle it

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel these in passing: nobody waits for them any more."""
        unsent: list[GridFuture[Any]] = []
        with self._changed:
            for each in futures:
                if not isinstance(each, GridFuture):
                    continue
                if each.task in self._queue:
                    unsent += self._take_out(each.task, CANCELLED)
                elif each.task in self.futures:
                    self._to_cancel.append(each)
            self._changed.notify_all()
        for each in unsent:
            each.settle(CANCELLED)

    def is_running(self, future: GridFuture[Any]) -> bool:
        with self._changed:
            if self.app is None or future.task in self._queue or future.task in self._in_flight:
                return False
        return self._state(future.task) == "running"

    def close(self, *, cancel: bool = False) -> None:
        with self._changed:
            doomed = list(self.futures.values()) if cancel else []
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
        aboard: set[Digest] = set()
        number = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._to_cancel or self._closed or self._broken)
                if self._broken:
                    return
                alone = 0 < len(self._queue) < BATCH_TASKS_MAX and not self._closed
            if alone:
                time.sleep(LINGER_S)
            batch = self._take_batch()
            if batch:
                number += self._send_batch(self.app, number, batch, aboard)
            elif self._to_cancel:
                self.cancel(self._to_cancel.popleft())
            elif self._closed and not self._queue:
                run_blocking(self._session.seal(self.app, number))
                return

    def _take_batch(self) -> list[PackedCall]:
        batch: list[PackedCall] = []
        weight = 0
        with self._changed:
            for packed in self._queue.values():
                weight += described_bytes(packed.task) + sum(len(each) for each in packed.data.values())
                if batch and weight > BATCH_BYTES:
                    break
                batch.append(packed)
                if len(batch) == BATCH_TASKS_MAX:
                    break
            for packed in batch:
                del self._queue[packed.task.id]
            self._in_flight = frozenset(packed.task.id for packed in batch)
        return batch

    def _send_batch(self, app: AppId, number: int, batch: Sequence[PackedCall], aboard: set[Digest]) -> bool:
        """Whether the node took it; if not, its number is free for the next one."""
        tasks = tuple(each.task for each in batch)
        blobs = blobs_of(tasks)
        content = {digest: data for each in batch for digest, data in each.data.items() if digest not in aboard}
        small = {blob.digest: content[blob.digest] for blob in blobs if blob.small and blob.digest in content}
        large = {blob.digest: content[blob.digest] for blob in blobs if not blob.small and blob.digest in content}
        refused: RequestError | None = None
        try:
            run_blocking(self._session.add(self._header, AddTasks(app, number, tasks, blobs, small), large))
        except RequestError as error:
            refused = error
        with self._changed:
            self._in_flight = frozenset()
            self._changed.notify_all()
        if refused is not None:
            for task in tasks:
                self._settle(task.id, Raised(refused))
            return False
        # What calls share travels once; to remember their arguments too would cost more than it saves.
        shared = (each.source for task in tasks for each in task.inputs if each.name in (FUNCTION, MODULES))
        aboard.update(each.digest for each in shared if isinstance(each, BlobRef))
        return True

    def _cancel_sent(self, task: TaskId) -> bool:
        if self.app is None or self._state(task) not in NOT_STARTED:
            return False
        try:
            run_blocking(self._session.cancel(self.app, task))
        except RequestError:
            return False  # it ended in between
        return self._state(task) in ("cancelled", "skipped")

    def _state(self, task: TaskId) -> str:
        assert self.app is not None
        try:
            return run_blocking(self._session.task(self.app, task)).state
        except RequestError:
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
        if event.task is None or event.task not in self.futures:
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
                except RequestError as error:
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
                future = self.futures.pop(each, None)
                if future is None:
                    continue
                self._queue.pop(each, None)
                taken.append(future)
                children = self._children.pop(each, [])
                if not isinstance(outcome, Value):
                    self._without_value[each] = outcome
                    stack.extend(children)
        return taken

    def _settle_all(self, outcome: FutureOutcome) -> None:
        for task in list(self.futures):
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


_feeds: weakref.WeakSet[ExecutorFeed] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    # As the executors of the standard library: what was submitted is done before the interpreter ends.
    for feed in list(_feeds):
        feed.close()
        feed.join()
