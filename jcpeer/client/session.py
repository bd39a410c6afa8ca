"""What a client does with a node, once for every face: submit, follow, fetch, ask.

Each verb survives the node's absence: it waits until the link says that the node is back, then goes on. Asking again
is harmless, because submissions, batches and blobs bear names that are the client's own, and events resume after the
last one seen. Reads no clock and draws no random number: a `Header` is made at the edge.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from attrs import frozen

from jcpeer.application.manifest import Header
from jcpeer.application.task import VALUE, BlobRef
from jcpeer.client.link import Link, ask, expect
from jcpeer.client.outputs import Landing, landings, place, written_whole
from jcpeer.client.shipment import Loaded, Shipment, blobs_of, boxes, content, parents_first, pieces, ships
from jcpeer.client.story import TRACEBACK, failed_application, failed_task
from jcpeer.errors import NoNodeError, RequestError, UnreachableError
from jcpeer.ids import AppId, Digest, TaskId
from jcpeer.values import evolve
from jcpeer.wire import requests
from jcpeer.wire.messages import Output
from jcpeer.wire.requests import Accepted, Done, Happened, News, Progress, Results, Status, TaskDetail

T = TypeVar("T")

BREAKS_MAX = 5
"""So often in a row a node may go away over one and the same request; then that request may be what fells it."""
DIGESTS_MAX = 10_000


@frozen
class Upload:
    """How far a submission is. `bytes_all` counts only what the node did not have yet."""

    bytes_sent: int
    bytes_all: int
    tasks_sent: int
    tasks_all: int


class Session:
    """A client's dealings with one node. Applications are named by id, by a unique prefix of it, or by name."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: dict[AppId, set[Digest]] = {}
        """Open applications, and which of their blobs the node has for all we know; it has not been away since."""

    # --- handing over

    async def submit(
        self, loaded: Loaded, header: Header, *, progress: Callable[[Upload], None] | None = None
    ) -> Accepted:
        """Hand over a whole application; when this returns, the client may leave.

        The same header again resumes: what arrived before counts once.

        Raises:
            NoNodeError: the node went away for good; the text says whether the application stands.
            RequestError: the node refuses; the text says why.
            StorageError: a file cannot be read, or changed since it was loaded.
        """
        shipments = list(ships(parents_first(loaded.tasks)))
        ahead = [blob for blob in blobs_of(loaded.tasks) if not blob.small]
        apart = sum(blob.size for each in shipments if not each.tasks for blob in each.aboard)

        async def whole() -> Accepted:
            app = await self._open(header)
            missing = await self._missing(app, ahead)
            bytes_sent = tasks_sent = 0
            bytes_all = apart + sum(blob.size for blob in missing)

            def report() -> None:
                if progress is not None:
                    progress(Upload(bytes_sent, bytes_all, tasks_sent, len(loaded.tasks)))

            report()
            async with aclosing(self._put_all(app, missing, loaded)) as sent:
                async for size in sent:
                    bytes_sent += size
                    report()
            batches = (_batch(app, each, loaded) for each in shipments)
            async with aclosing(self._link.call_each(batches)) as replies:
                for each in shipments:
                    expect(await anext(replies), Done)
                    tasks_sent += len(each.tasks)
                    bytes_sent += 0 if each.tasks else sum(blob.size for blob in each.aboard)
                    report()
            return await ask(self._link, requests.SealApplication(app, len(shipments)), Accepted)

        remedy = f"application {header.name} was not accepted yet; once a node runs, submit it again"
        return await self._persist(whole, remedy)

    async def open(self, header: Header) -> AppId:
        """Open an application to which batches are added as they come."""
        return await self._persist(lambda: self._open(header), "")

    async def add(self, header: Header, batch: requests.AddTasks, loaded: Loaded) -> None:
        """Add a batch to an open application, after those blobs that it names, that do not ride in it, and that
        `loaded` has."""
        left = [blob for blob in batch.blobs if blob.digest not in batch.data]
        ahead = [blob for blob in left if not blob.small or blob.digest in loaded.data or blob.digest in loaded.files]
        digests = {blob.digest for blob in ahead}

        async def whole() -> None:
            known = self._known.pop(batch.app, None)
            if known is None or not digests <= known or not await self._takes(batch):
                # A node that came back may have lost an opening that nothing had followed.
                app = await self._open(header)
                async with aclosing(self._put_all(app, await self._missing(app, ahead), loaded)) as sent:
                    async for _ in sent:
                        pass
                await ask(self._link, batch, Done)
            self._known[batch.app] = digests.union(known or ())

        await self._persist(whole, _come_back(batch.app))

    async def _takes(self, batch: requests.AddTasks) -> bool:
        """Whether the node takes it as it is; if not, asking it what is missing tells why."""
        try:
            await ask(self._link, batch, Done)
        except RequestError:
            return False
        return True

    async def seal(self, app: AppId, batches: int) -> Accepted:
        """Say that no further batch comes."""
        self._known.pop(app, None)
        return await self._once(requests.SealApplication(app, batches), Accepted, app)

    # --- following

    async def events(
        self,
        app: str,
        after: int = 0,
        *,
        after_epoch: int = 0,
        progress: bool = False,
        values: bool = False,
        only: tuple[str, ...] | None = None,
    ) -> AsyncGenerator[Happened | Progress, None]:
        """Each committed event after this index, as it comes, the last one being the end.

        `progress` mixes in how it stands, a few times a second; `values` adds small outputs to the events. Of `only`
        these tasks, and the end; others may be among them.
        """
        breaks, epoch = 0, after_epoch
        while True:
            try:
                watch = requests.Watch(app, after, progress, values, epoch, only)
                async with aclosing(self._link.call(watch)) as replies:
                    async for reply in replies:
                        breaks = 0
                        if isinstance(reply, Progress):
                            yield reply
                            continue
                        for event in expect(reply, News).events:
                            after, epoch = event.index, event.epoch
                            yield event
                            if event.kind == "ended":
                                return
                raise NoNodeError("the node ended the watch")
            except NoNodeError as error:
                breaks += 1
                await self._await_return(error, breaks, _come_back(app))

    async def wait(self, app: str) -> Status:
        """How it stands when the application has ended, which may be at once."""
        status = await self.status(app)
        if ended(status):
            return status
        async with aclosing(self.events(status.summary.app, only=())) as events:
            async for _ in events:
                pass
        return await self.status(app)

    async def wait_ok(self, app: str) -> Status:
        """Like `wait`.

        Raises:
            ApplicationFailedError: it did not end "ok"; carries the story, and the first traceback in its text.
        """
        status = await self.wait(app)
        if status.summary.state != "ok":
            task, text = await self._first_failure(status.summary.app)
            raise failed_application(status, text, task)
        return status

    async def wait_task(self, app: str, task: str) -> None:
        """Returns when this task has finished.

        Raises:
            Exception: whatever the task raised, if its type is known here, else ApplicationFailedError or RemoteError.
        """
        status = await self.status(app)
        detail = await self.task(app, task)
        if detail.state == "finished":
            return
        news = self.events(app, status.index, after_epoch=status.index_epoch, only=(detail.task,))
        async with aclosing(news) as events:
            async for event in events:
                match event:
                    case Happened(kind="finished", task=detail.task):
                        return
                    case Happened(kind="failed" | "lost", task=detail.task, final=True):
                        raise failed_task(task, await self.failure_text(app, event))
                    case _:
                        pass
        if (await self.task(app, task)).state != "finished":  # skipped or cancelled, or run again after a lost output
            await self.wait_ok(app)
            raise RequestError(f"task {task} did not finish; see `jcpeer why {app} {task}`")

    # --- asking

    async def status(self, app: str) -> Status:
        return await self._once(requests.GetStatus(app), Status, app)

    async def applications(self) -> tuple[requests.ApplicationSummary, ...]:
        return (await self._once(requests.ListApplications(), requests.Applications)).applications

    async def nodes(self) -> requests.Nodes:
        return await self._once(requests.ListNodes(), requests.Nodes)

    async def watch_nodes(self) -> AsyncGenerator[requests.Nodes, None]:
        """The directory, again at each change, until the node goes away."""
        async with aclosing(self._link.call(requests.ListNodes(watch=True))) as replies:
            async for reply in replies:
                yield expect(reply, requests.Nodes)

    async def who(self, *, for_app: str = "") -> requests.Self:
        """The node that answers. `for_app`: where it is gone for good, the error says how to come back to that one."""
        return await self._once(requests.WhoAreYou(), requests.Self, for_app)

    async def task(self, app: str, task: str) -> TaskDetail:
        return await self._once(requests.GetTask(app, task), TaskDetail, app)

    async def why(self, app: str, task: str) -> requests.Reasons:
        """What the task waits for."""
        return await self._once(requests.Why(app, task), requests.Reasons, app)

    async def logs(
        self,
        app: str,
        task: str,
        *,
        attempt: int | None = None,
        stream: Literal["stdout", "stderr"] = "stdout",
        follow: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What an attempt printed, the latest one where none is named; `follow` waits for more until it ends."""
        request = requests.GetLog(app, task, attempt, stream, follow)
        async with aclosing(self._link.call(request)) as replies:
            async for reply in replies:
                yield expect(reply, requests.Piece).data

    # --- results

    async def results(self, app: str, task: str | None = None) -> Results:
        """The outputs of one task, or of all tasks whose outputs are the application's results."""

        async def whole() -> Results:
            parts: list[Results] = []
            async with aclosing(self._link.call(requests.GetResults(app, task))) as replies:
                async for reply in replies:
                    parts.append(expect(reply, Results))
            return evolve(parts[-1], results=tuple(each for part in parts for each in part.results))

        return await self._persist(whole, _come_back(app))

    async def fetch(self, app: str, directory: Path, task: str | None = None) -> tuple[Path, ...]:
        """Bring the files among the results below this directory, each whole or not at all.

        Raises:
            RequestError: a name would lead outside of the directory, or no node holds a file any more.
            StorageError: the disk does not take it.
        """
        results = await self.results(app, task)
        goals = [(each, place(directory, each.path)) for each in landings(results.results)]
        for landing, path in goals:
            await self._persist(partial(self._fetch, results.app, landing, path), _come_back(app))
        return tuple(path for _, path in goals)

    async def value(self, app: str, task: str) -> object:
        """What a Python task returned, unpickled in this process: ask for values of people you trust only.

        Raises:
            RequestError: the task left no value, or none that can be read here.
        """
        results = await self.results(app, task)
        outputs = [output for each in results.results for output in each.outputs if output.name == VALUE]
        if not outputs:
            raise RequestError(f"task {task} left no value")
        return await self.read_value(results.app, TaskId(task), outputs[0])

    async def values(self, app: str) -> dict[TaskId, object]:
        """The values among the application's results, by task."""
        results = await self.results(app)
        return {
            each.task: await self.read_value(results.app, each.task, output)
            for each in results.results
            for output in each.outputs
            if output.name == VALUE
        }

    async def read_value(self, app: AppId, task: TaskId, output: Output) -> object:
        """The value that this output is."""
        data = await self._persist(lambda: self._read(app, output), _come_back(app))
        try:
            return pickle.loads(data)
        except Exception as error:  # unpickling runs the value's own code, which may raise anything
            raise RequestError(
                f"the value of task {task} cannot be read here: {type(error).__name__}: {error}"
            ) from error

    async def failure_text(self, app: str, event: Happened) -> str:
        """What a failed attempt left behind: its traceback where it has one."""
        if TRACEBACK in event.text or event.task is None:
            return event.text
        try:
            attempts = (await self.task(app, event.task)).attempts
        except (RequestError, UnreachableError):
            return event.text
        texts = [each.text for each in attempts if each.number == event.attempt and TRACEBACK in each.text]
        return texts[0] if texts else event.text

    # --- ending

    async def cancel(self, app: str, task: str | None = None) -> None:
        """Cancel a task, or the application.

        Raises:
            RequestError: it has ended already, or is unknown.
        """
        await self._once(requests.Cancel(app, task), Done, app)

    async def forget(self, app: str) -> None:
        """Drop an ended application's results and journal."""
        await ask(self._link, requests.Forget(app), Done)

    async def recovery(self, app: str) -> requests.RecoveryPlan:
        """What `recover` would go on with, and what it may lose.

        Raises:
            RequestError: the node keeps no copy, or the application is not stalled.
        """
        return await self._once(requests.Recover(app), requests.RecoveryPlan, app)

    async def recover(self, app: str) -> None:
        """Have the node go on with a stalled application from its own copy alone, whatever the others had."""
        await ask(self._link, requests.Recover(app, confirmed=True), Done)

    async def drain(self) -> AsyncGenerator[requests.Draining, None]:
        """Have the node take nothing new, and leave when what runs has ended: how far that is, at each change."""
        async with aclosing(self._link.call(requests.Drain())) as replies:
            async for reply in replies:
                yield expect(reply, requests.Draining)

    async def join_grid(self, token: str) -> requests.Self:
        """Move the node into the grid of this token."""
        return await ask(self._link, requests.JoinGrid(token), requests.Self)

    # --- steps

    async def _open(self, header: Header) -> AppId:
        return (await ask(self._link, requests.Submit(header), requests.Opened)).app

    async def _missing(self, app: AppId, blobs: Iterable[BlobRef]) -> list[BlobRef]:
        by_digest = {blob.digest: blob for blob in blobs}
        digests = tuple(by_digest)
        missing: list[BlobRef] = []
        for start in range(0, len(digests), DIGESTS_MAX):
            question = requests.MissingBlobs(app, digests[start : start + DIGESTS_MAX])
            answer = await ask(self._link, question, requests.Missing)
            missing += (by_digest[each] for each in answer.digests if each in by_digest)
        return missing

    async def _put_all(self, app: AppId, blobs: Iterable[BlobRef], loaded: Loaded) -> AsyncGenerator[int, None]:
        """Bring these blobs to the node: those that are not large by the box, the others in pieces. Yields how many
        bytes were taken, each time some were.

        Raises:
            RequestError: the node does not take one; a large one is named.
            StorageError: one cannot be read, or changed since it was loaded.
        """
        blobs = list(blobs)
        packed = list(boxes(blob for blob in blobs if blob.travels_with_others))
        small = (requests.PutBlobs(app, {blob.digest: content(loaded, blob) for blob in box}) for box in packed)
        async with aclosing(self._link.call_each(small)) as replies:
            for box in packed:
                expect(await anext(replies), Done)
                yield sum(blob.size for blob in box)
        for blob in blobs:
            if blob.travels_with_others:
                continue
            try:
                async with aclosing(self._put(app, blob, pieces(loaded, blob))) as sent:
                    async for size in sent:
                        yield size
            except RequestError as error:
                raise RequestError(f"{loaded.files.get(blob.digest, 'an input')}: {error}") from error

    async def _put(self, app: AppId, blob: BlobRef, parts: Iterable[bytes]) -> AsyncGenerator[int, None]:
        offset = 0
        for part in parts:
            await ask(self._link, requests.PutBlob(app, blob, offset, part), Done)
            offset += len(part)
            yield len(part)

    async def _fetch(self, app: AppId, landing: Landing, path: Path) -> None:
        with written_whole(path) as draft:
            async with aclosing(self._pieces(app, landing.output)) as parts:
                async for part in parts:
                    draft.write(part)

    async def _read(self, app: AppId, output: Output) -> bytes:
        async with aclosing(self._pieces(app, output)) as parts:
            return b"".join([part async for part in parts])

    async def _pieces(self, app: AppId, output: Output) -> AsyncGenerator[bytes, None]:
        if output.data is not None:
            yield output.data
            return
        size = 0
        async with aclosing(self._link.call(requests.GetBlob(app, output.blob))) as replies:
            async for reply in replies:
                part = expect(reply, requests.Piece).data
                size += len(part)
                yield part
        if size != output.blob.size:  # the node checks the digest; what can go wrong on a local socket is an early end
            raise NoNodeError(f"the node ended {output.name} after {size} of {output.blob.size} bytes")

    async def _first_failure(self, app: AppId) -> tuple[str, str]:
        async with aclosing(self.events(app)) as events:
            async for event in events:
                if isinstance(event, Happened) and event.kind in ("failed", "lost") and event.final and event.task:
                    return event.task, await self.failure_text(app, event)
        return "", ""

    # --- patience

    async def _once(self, body: requests.RequestBody, kind: type[T], app: str = "") -> T:
        return await self._persist(lambda: ask(self._link, body, kind), _come_back(app) if app else "")

    async def _persist(self, step: Callable[[], Awaitable[T]], remedy: str) -> T:
        """The result of this step, which is taken again from its start each time the node returns."""
        breaks = 0
        while True:
            try:
                return await step()
            except NoNodeError as error:
                breaks += 1
                await self._await_return(error, breaks, remedy)

    async def _await_return(self, broken: NoNodeError, breaks: int, remedy: str) -> None:
        try:
            if breaks > BREAKS_MAX:
                raise NoNodeError(f"the local node went away {breaks} times over the same request ({broken})")
            await self._link.await_return()
        except NoNodeError as error:
            raise NoNodeError(f"{error}; {remedy}" if remedy else str(error)) from broken


def _batch(app: AppId, shipment: Shipment, loaded: Loaded) -> requests.AddTasks:
    data = {blob.digest: content(loaded, blob) for blob in shipment.aboard}
    return requests.AddTasks(app, shipment.number, shipment.tasks, shipment.blobs, data)


def ended(status: Status) -> bool:
    """The application will not change any more."""
    return status.summary.state in ("ok", "failed", "cancelled")


def _come_back(app: str) -> str:
    return f"application {app} is kept: once a node runs, come back with `jcpeer wait {app}`"
