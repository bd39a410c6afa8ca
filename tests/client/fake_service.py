"""A node small enough to be obviously right: it answers every request of a client and runs calls in this process.

`FakeGrid` is the state machine. `in_process_link` drives it by whoever watches, without threads or waiting;
`serving` puts it behind a real Unix socket, with threads that run the tasks. `breaking` cuts a link at a chosen frame.
"""

from __future__ import annotations

import itertools
import pickle
import socket
import threading
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from jcpeer.application.manifest import Header, application_key
from jcpeer.application.task import ARGUMENTS, FUNCTION, VALUE, BlobRef, Call, OutputOf, Slot, Task
from jcpeer.client.link import InProcessLink, Link
from jcpeer.errors import NoNodeError, RequestError
from jcpeer.ids import AppId, Digest, NodeId, TaskId, digest_of
from jcpeer.wire import requests as ask
from jcpeer.wire.codec import CLIENT_KINDS, FrameReader, decode, encode, pack
from jcpeer.wire.messages import NodeRecord, Output

ME = ask.NodeName(NodeId("node-1"), "one")
PIECE_BYTES = 1000


@define
class FakeApplication:
    id: AppId
    header: Header
    tasks: dict[TaskId, Task] = field(factory=dict)
    states: dict[TaskId, ask.TaskStateName] = field(factory=dict)
    outputs: dict[TaskId, tuple[Output, ...]] = field(factory=dict)
    failures: dict[TaskId, list[str]] = field(factory=dict)
    batches: set[int] = field(factory=set)
    batches_sent: int = 0
    """How often a batch came, repetitions included."""
    sealed: bool = False
    cancelled: bool = False
    state: ask.ApplicationStateName = "open"
    events: list[ask.Happened] = field(factory=list)
    replicas: tuple[ask.ReplicaView, ...] = (ask.ReplicaView(ME, "coordinator"),)
    missing: tuple[ask.NodeName, ...] = ()
    reconciled: tuple[ask.ReconciledView, ...] = ()


class FakeGrid:
    """The machine. All is done under `changed`, so that any number of threads may ask and work."""

    def __init__(self) -> None:
        self.applications: dict[AppId, FakeApplication] = {}
        self.store: dict[Digest, bytes] = {}
        self.partial: dict[Digest, bytes] = {}
        self.changed = threading.Condition()
        self.stopped = False
        self.asked: Counter[str] = Counter()

    # --- asking

    def answer(self, body: ask.RequestBody, wait: Callable[[], None]) -> Iterator[ask.ReplyBody]:
        """The replies; `wait` is called, with the lock held, where a watch has nothing to tell for now."""
        with self.changed:
            self.asked[type(body).__name__] += 1
            match body:
                case ask.Watch():
                    replies: Iterator[ask.ReplyBody] = iter(())
                case _:
                    replies = iter(list(self._reply(body)))
            self.changed.notify_all()
        if isinstance(body, ask.Watch):
            replies = self._watch(self._find(body.app), body, wait)
        yield from replies

    def await_request(self, kind: str) -> None:
        """Returns once a request of this kind was asked."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked[kind] > 0, timeout=10)

    def _reply(self, body: ask.RequestBody) -> Iterator[ask.ReplyBody]:
        match body:
            case ask.Submit(header):
                app = application_key(header, pack(header))
                self.applications.setdefault(app, FakeApplication(app, header))
                yield ask.Opened(app)
            case ask.MissingBlobs(_, digests):
                yield ask.Missing(tuple(each for each in digests if each not in self.store))
            case ask.PutBlob(_, blob, offset, data):
                if blob.digest not in self.store:
                    before = self.partial.get(blob.digest, b"") if offset else b""
                    if len(before) != offset:
                        raise RequestError(f"bytes at {offset}, expected {len(before)}")
                    whole = self.partial[blob.digest] = before + data
                    if len(whole) == blob.size:
                        if digest_of(self.partial.pop(blob.digest)) != blob.digest:
                            raise RequestError("the bytes are not what the digest says")
                        self.store[blob.digest] = whole
                yield ask.Done()
            case ask.PutBlobs():
                self.store.update(body.data)
                yield ask.Done()
            case ask.AddTasks():
                self._add(self.applications[body.app], body)
                yield ask.Done()
            case ask.SealApplication(app, batches):
                found = self.applications[app]
                if set(range(batches)) - found.batches:
                    raise RequestError("batches are missing")
                if not found.sealed:
                    found.sealed, found.state = True, "running"
                    self._tell(found, "accepted")
                    self._end_if_done(found)
                yield ask.Accepted(app, 1)
            case ask.ListApplications():
                yield ask.Applications(tuple(self._summary(each) for each in self.applications.values()))
            case ask.GetStatus(app):
                found = self._find(app)
                story = tuple(f"{task}: {text}" for task, texts in found.failures.items() for text in texts)
                yield ask.Status(
                    self._summary(found),
                    1,
                    ME,
                    found.replicas,
                    (ME,),
                    0,
                    0,
                    0.0,
                    sealed=found.sealed,
                    failures=story,
                    replica_set=(ME,),
                    ftc=next((each.node for each in found.replicas if each.state == "copy"), None),
                    promise=f"{len(found.replicas)} of 3 copies",
                    reconciled=found.reconciled,
                )
            case ask.GetTask(app, name):
                found = self._find(app)
                task = self._task(found, name)
                attempts = tuple(
                    ask.AttemptView(number, 1, ME, "failed", text=text)
                    for number, text in enumerate(found.failures.get(task, []), 1)
                )
                yield ask.TaskDetail(found.id, task, found.states[task], attempts, found.outputs.get(task, ()))
            case ask.GetResults(app, name):
                found = self._find(app)
                wanted = self._last(found) if name is None else [self._task(found, name)]
                results = tuple(ask.TaskResult(each, found.outputs[each]) for each in wanted if each in found.outputs)
                yield ask.Results(found.id, found.state, results)
            case ask.GetBlob(_, blob):
                if blob.digest not in self.store:
                    raise RequestError(f"no node holds {blob.digest[:12]}")
                held = self.store[blob.digest]
                yield from (ask.Piece(held[at : at + PIECE_BYTES]) for at in range(0, max(len(held), 1), PIECE_BYTES))
            case ask.GetLog(_, task, _, stream):
                yield ask.Piece(f"{stream} of {task}".encode())
            case ask.Cancel(app, name):
                self._cancel(self._find(app), name)
                yield ask.Done()
            case ask.Why(app, name):
                found = self._find(app)
                yield ask.Reasons(found.states[self._task(found, name)], ("because",))
            case ask.Recover(app, confirmed):
                found = self._find(app)
                others = (ask.LastWord(ask.NodeName(NodeId("2"), "two"), 75.0), ask.LastWord(ME, None))
                yield (
                    ask.Done()
                    if confirmed
                    else ask.RecoveryPlan(found.id, found.header.name, ME, 1200, 1180, 1, 2, others)
                )
            case ask.Drain():
                yield ask.Draining(2, ("letters",))
                yield ask.Draining(0, ())
            case ask.ListNodes():
                yield ask.Nodes((ask.SeenNode(RECORD, 0.0, "", myself=True),))
            case ask.WhoAreYou():
                yield ask.Self(RECORD, "home", "f" * 8, ())
            case ask.Forget(app):
                del self.applications[self._find(app).id]
                yield ask.Done()
            case _:
                raise RequestError(f"the fake does not know {type(body).__name__}")

    def _watch(self, app: FakeApplication, body: ask.Watch, wait: Callable[[], None]) -> Iterator[ask.News]:
        told = body.after_index
        while True:
            with self.changed:
                while len(app.events) <= told:
                    if self.stopped:
                        return
                    wait()
                event = app.events[told]
            told = event.index
            yield ask.News((event,))
            if event.kind == "ended":
                return

    def _find(self, name: str) -> FakeApplication:
        found = [each for each in self.applications.values() if each.id.startswith(name) or each.header.name == name]
        if len(found) != 1:
            raise RequestError(f"{name!r} means {len(found)} applications", kind="ambiguous" if found else "unknown")
        return found[0]

    def _task(self, app: FakeApplication, name: str) -> TaskId:
        if name not in app.tasks:
            raise RequestError(f"no task {name}", kind="unknown")
        return TaskId(name)

    def _summary(self, app: FakeApplication) -> ask.ApplicationSummary:
        counts: Counter[str] = Counter(app.states.values())
        return ask.ApplicationSummary(
            app.id, app.header.name, "", app.state, app.header.submitted_s, counts, ME, app.missing
        )

    def _last(self, app: FakeApplication) -> list[TaskId]:
        read = {parent for task in app.tasks.values() for parent in task.parents()}
        return [each.id for each in app.tasks.values() if each.keep or each.id not in read]

    # --- taking tasks

    def _add(self, app: FakeApplication, batch: ask.AddTasks) -> None:
        app.batches_sent += 1
        if batch.number in app.batches:
            return
        if app.sealed:
            raise RequestError("sealed")
        for digest, data in batch.data.items():
            assert digest_of(data) == digest
            self.store[digest] = data
        for blob in batch.blobs:
            if blob.digest not in self.store:
                raise RequestError(f"blob {blob.digest[:12]} was not put first")
        known = app.tasks.keys() | {task.id for task in batch.tasks}
        for task in batch.tasks:
            if task.id in app.tasks or not known >= set(task.parents()):
                raise RequestError(f"task {task.id} is known, or its parents are not")
        app.batches.add(batch.number)
        for task in batch.tasks:
            app.tasks[task.id] = task
            app.states[task.id] = "cancelled" if app.cancelled else "waiting"
        for task in batch.tasks:
            if any(app.states[each] in ("failed", "cancelled", "skipped") for each in task.parents()):
                app.states[task.id] = "skipped"
        self._refresh(app)

    def _cancel(self, app: FakeApplication, name: str | None) -> None:
        if name is None:
            app.cancelled = True
            for task, state in app.states.items():
                if state not in ("finished", "failed", "skipped"):
                    app.states[task] = "cancelled"
            self._tell(app, "cancelled", final=True)
        elif app.states[self._task(app, name)] in ("waiting", "ready", "running"):
            app.states[TaskId(name)] = "cancelled"
            self._tell(app, "cancelled", task=TaskId(name), final=True)
        self._refresh(app)

    # --- working

    def take_ready(self) -> tuple[FakeApplication, Task] | None:
        """A task that can run, now running."""
        for app in self.applications.values():
            for task, state in app.states.items():
                if state == "ready":
                    app.states[task] = "running"
                    return app, app.tasks[task]
        return None

    def run(self, app: FakeApplication, task: Task) -> None:
        """Run it and note what came of it; without the lock."""
        outputs: tuple[Output, ...] = ()
        try:
            outputs, failure = tuple(self._execute(app, task)), ""
        except BaseException:
            failure = traceback.format_exc()
        with self.changed:
            if app.states[task.id] != "running":
                return  # cancelled meanwhile
            if failure:
                earlier = app.failures.setdefault(task.id, [])
                earlier.append(failure)
                final = len(earlier) > task.retries
                app.states[task.id] = "failed" if final else "waiting"
                self._tell(app, "failed", task=task.id, attempt=len(earlier), text=failure, final=final)
            else:
                app.outputs[task.id] = outputs
                app.states[task.id] = "finished"
                self._tell(app, "finished", task=task.id, attempt=1, final=True, outputs=outputs)
            self._refresh(app)
            self.changed.notify_all()

    def step(self) -> None:
        """Run one task, if one is ready; for those who watch without threads."""
        work = self.take_ready()
        assert work is not None, "somebody waits for an event that will never come"
        self.run(*work)

    def _execute(self, app: FakeApplication, task: Task) -> Iterator[Output]:
        inputs: dict[str, bytes] = {}
        for each in task.inputs:
            source = each.source
            if isinstance(source, OutputOf):
                (blob,) = [output.blob for output in app.outputs[source.task] if output.name == source.output]
            else:
                blob = source
            inputs[each.name] = self.store[blob.digest]
        contents = {name: f"{name} of {task.id}".encode() for name in task.outputs}
        if isinstance(task.work, Call):
            args, kwargs = pickle.loads(inputs[ARGUMENTS])

            def filled(value: object) -> Any:
                return pickle.loads(inputs[value.name]) if isinstance(value, Slot) else value

            function = pickle.loads(inputs[FUNCTION])
            value = function(*map(filled, args), **{key: filled(each) for key, each in kwargs.items()})
            contents = {VALUE: pickle.dumps(value)}
        for name, data in contents.items():
            blob = BlobRef(digest_of(data), len(data))
            self.store[blob.digest] = data
            yield Output(name, blob, data if blob.small and len(data) < PIECE_BYTES else None)

    def _refresh(self, app: FakeApplication) -> None:
        for task in app.tasks.values():
            parents = [app.states[each] for each in task.parents()]
            if app.states[task.id] == "waiting" and all(each == "finished" for each in parents):
                app.states[task.id] = "ready"
            elif app.states[task.id] == "waiting" and {"failed", "cancelled", "skipped"}.intersection(parents):
                app.states[task.id] = "skipped"
        self._end_if_done(app)

    def _end_if_done(self, app: FakeApplication) -> None:
        states = set(app.states.values())
        if not (app.sealed or app.cancelled) or app.state not in ("open", "running"):
            return
        if not states & {"waiting", "ready", "running"}:
            app.state = "failed" if "failed" in states else "cancelled" if states - {"finished"} else "ok"
            if app.cancelled:
                app.state = "cancelled"
            self._tell(app, "ended", text=app.state, final=True)

    def _tell(self, app: FakeApplication, kind: ask.EventKind, **more: Any) -> None:
        app.events.append(ask.Happened(len(app.events) + 1, 0.0, kind, node=ME, **more))


RECORD = NodeRecord(ME.id, ME.name, "me", "host", 1, 1, "idle", 1, 0, 1, 1, 0.0, "3.11")


# --- in this process


def in_process_link(grid: FakeGrid) -> InProcessLink:
    """A link over which nothing ever waits: a watch with nothing to tell runs a task itself."""

    async def handle(body: ask.RequestBody) -> AsyncGenerator[ask.ReplyBody, None]:
        for reply in grid.answer(body, grid.step):
            yield reply

    return InProcessLink(handle)


class BreakingLink(Link):
    """Breaks once, at the frame with this number, counting requests and replies; the node forgets what was half put."""

    def __init__(self, grid: FakeGrid, at_frame: int) -> None:
        self._grid = grid
        self._inner: Link = in_process_link(grid)
        self._frames_left = at_frame
        self.returns = 0

    def _frame(self) -> None:
        self._frames_left -= 1
        if self._frames_left == 0:
            self._grid.partial.clear()
            raise NoNodeError("the node went away")

    @property
    def broke(self) -> bool:
        return self._frames_left <= 0

    async def call(self, body: ask.RequestBody) -> AsyncGenerator[ask.ReplyBody, None]:
        self._frame()
        async for reply in self._inner.call(body):
            self._frame()
            yield reply

    async def await_return(self) -> None:
        self.returns += 1


# --- behind a Unix socket


class FakeNode:
    """Serves a `FakeGrid` at a socket with threads, and runs its tasks with a few more."""

    def __init__(self, path: Path, grid: FakeGrid, *, slots: int = 2, break_at_frame: int = 0) -> None:
        self.path = path
        self.grid = grid
        self._frames = itertools.count(1)
        self._break_at_frame = break_at_frame
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads += [threading.Thread(target=self._work) for _ in range(slots)]
        for thread in list(self._threads):  # the first may add to them already
            thread.start()

    def stop(self) -> None:
        """Go away, as a process that dies: its socket stays where it is and refuses."""
        with self.grid.changed:
            self.grid.stopped = True
            self.grid.changed.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        _join(self._threads.pop(0))  # first, since it may have a connection in hand that is in no list yet
        for each in self._connections:
            _hang_up(each)
        for thread in self._threads:
            _join(thread)
        self.grid.stopped = False

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        frames = FrameReader()
        with connection:
            try:
                while data := connection.recv(65536):
                    for packed in frames.feed(data):
                        self._frame(connection)
                        self._answer(connection, decode(packed, CLIENT_KINDS))
            except OSError:
                return

    def _answer(self, connection: socket.socket, request: ask.Request) -> None:
        many = ask.answered_by_many(request.body)

        def send(body: ask.ReplyBody, *, last: bool) -> None:
            self._frame(connection)
            connection.sendall(encode(ask.Reply(request.call, body, last)))

        try:
            for reply in self.grid.answer(request.body, self._wait):
                send(reply, last=not many)
            if many and not self.grid.stopped:
                send(ask.Done(), last=True)
        except RequestError as error:
            send(ask.Refusal(error.kind, str(error)), last=True)

    def _wait(self) -> None:
        self.grid.changed.wait()

    def _frame(self, connection: socket.socket) -> None:
        if next(self._frames) == self._break_at_frame:
            self.grid.partial.clear()
            _hang_up(connection)

    def _work(self) -> None:
        while True:
            with self.grid.changed:
                while (work := self.grid.take_ready()) is None:
                    if self.grid.stopped:
                        return
                    self.grid.changed.wait()
            self.grid.run(*work)


def _join(thread: threading.Thread) -> None:
    thread.join(5)
    assert not thread.is_alive(), thread


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(path: Path, grid: FakeGrid | None = None, *, slots: int = 2, break_at_frame: int = 0) -> Iterator[FakeNode]:
    """A fake node at this socket."""
    node = FakeNode(path, grid or FakeGrid(), slots=slots, break_at_frame=break_at_frame)
    try:
        yield node
    finally:
        node.stop()
        path.unlink()
