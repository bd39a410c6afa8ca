"""What the node answers its clients: each request of `wire.requests`.

Requests about an application that is not hosted here go to `node.whereabouts`, which finds its home and asks there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Literal

import structlog
import trio

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import CancelRequested
from jcpeer.discovery.directory import Directory
from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, NodeId, TaskId
from jcpeer.node.applications import Applications
from jcpeer.node.aside import ElsewhereError, forgotten
from jcpeer.node.elsewhere import AboutApplication
from jcpeer.node.executing import LOG_POLL_S, TAIL_BYTES
from jcpeer.node.home import Home
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.naming import looks_like_id, named
from jcpeer.node.news import READ_AT_ONCE_MAX, REPLY_BYTES_MAX, by_the_hundred, news_of, with_data
from jcpeer.node.participation import Participation
from jcpeer.node.parts import Parts
from jcpeer.node.safety import Safety
from jcpeer.node.submission import Submissions
from jcpeer.node.views import Views
from jcpeer.node.whereabouts import Whereabouts
from jcpeer.values import evolve
from jcpeer.wire import requests
from jcpeer.wire.facts import Ended
from jcpeer.wire.messages import Outcome
from jcpeer.wire.requests import (
    AddTasks,
    Cancel,
    Done,
    Drain,
    Draining,
    Forget,
    Forgotten,
    GetBlob,
    GetLog,
    GetResults,
    GetStatus,
    GetTask,
    JoinGrid,
    ListApplications,
    ListNodes,
    Missing,
    MissingBlobs,
    Moved,
    News,
    Nodes,
    Opened,
    Piece,
    PutBlob,
    PutBlobs,
    Recover,
    RecoveryPlan,
    ReplyBody,
    RequestBody,
    SealApplication,
    Self,
    Submit,
    Watch,
    WhoAreYou,
    Why,
)
from jcpeer.wire.streams import ReadLog
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

PROGRESS_S = 0.2
MOVED_S = 0.05
"""Between two looks for an application whose coordinator changes."""
NODES_POLL_S = 0.5
PIECE_BYTES = 256 * 1024
OUTPUT_BYTES = 256
"""What the description of an output takes, roughly, beside its data."""


Recovery = Callable[[str, str, bool], Awaitable[RecoveryPlan | None]]
"""Of an application of this user, by id, beginning of it, or name: the plan, or None once it was confirmed and done."""


async def no_copy_here(wanted: str, user: str, confirmed: bool) -> RecoveryPlan | None:
    """A node without copies can recover nothing."""
    raise RequestError(
        f"this node keeps no copy of application {wanted[:40]!r} to go on from; `jcpeer status` shows who does",
        kind="unknown",
    )


class Service:
    """One node's answers. `handle` is what `net.local` serves, and what a client in the same process calls."""

    def __init__(
        self,
        parts: Parts,
        applications: Applications,
        participation: Participation,
        directory: Directory,
        transfer: Transfer,
        submissions: Submissions,
        home: Home,
        whereabouts: Whereabouts,
        *,
        name_of: Callable[[NodeId], str],
        notices: Callable[[], tuple[str, ...]],
        join_grid: Callable[[str], Awaitable[None]],
        drain: Callable[[], AsyncGenerator[Draining, None]],
        safety_of: Callable[[AppId], Safety | None] = lambda app: None,
        recover: Recovery = no_copy_here,
    ) -> None:
        """`safety_of`: how the copies of an application stand that is hosted here; None where ours is the only one.
        `recover`: what to go on from a copy here would mean, or once that is confirmed, do so."""
        self._parts = parts
        self._applications = applications
        self._participation = participation
        self._directory = directory
        self._transfer = transfer
        self._submissions = submissions
        self._home = home
        self._whereabouts = whereabouts
        self._name_of = name_of
        self._notices = notices
        self._join_grid = join_grid
        self._drain = drain
        self._safety_of = safety_of
        self._recover = recover

    async def handle(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        """The replies to one request, in order.

        Raises:
            JcpeerError: the request is refused; the text says why.
        """
        if isinstance(body, AboutApplication):
            async with aclosing(self._about(evolve(body, app=await self._meant(body.app)))) as replies:
                async for reply in replies:
                    yield reply
        elif isinstance(body, GetBlob):
            async with aclosing(self._blob(body)) as pieces:
                async for piece in pieces:
                    yield piece
        elif isinstance(body, Drain):
            async with aclosing(self._drain()) as steps:
                async for step in steps:
                    yield step
        elif isinstance(body, ListNodes) and body.watch:
            async with aclosing(self._watch_nodes()) as changes:
                async for nodes in changes:
                    yield nodes
        else:
            yield await self._answer_once(body)

    async def _about(self, body: AboutApplication) -> AsyncGenerator[ReplyBody, None]:
        """The replies from here or from elsewhere: where the application moves while it is watched, from both."""
        while True:
            host = self._applications.find(body.app, user=self._user, local=True)
            try:
                async with aclosing(self.answer(body, host) if host else self._whereabouts.about(body)) as replies:
                    async for reply in replies:
                        if isinstance(reply, Moved):
                            raise ElsewhereError(reply)
                        if isinstance(body, Watch) and isinstance(reply, News) and reply.events:
                            last = reply.events[-1]
                            body = evolve(body, after_index=last.index, after_epoch=last.epoch)
                        yield reply
                return
            except ElsewhereError as error:
                if isinstance(error.said, Forgotten):
                    raise forgotten(error.said.tombstone) from error
                body = evolve(body, app=error.said.app)
                await trio.sleep(MOVED_S)

    async def _answer_once(self, body: RequestBody) -> ReplyBody:
        match body:
            case WhoAreYou():
                return self._self()
            case ListNodes():
                return self._nodes()
            case Submit():
                return Opened(await self._submissions.open(body.header))
            case MissingBlobs():
                return Missing(await self._submissions.missing(body.app, body.digests))
            case PutBlob():
                await self._submissions.put(body)
                return Done()
            case PutBlobs():
                await self._submissions.put_many(body)
                return Done()
            case AddTasks():
                await self._submissions.add(body)
                return Done()
            case SealApplication():
                return await self._submissions.seal(body.app, body.batches)
            case ListApplications():
                return await self._all_applications()
            case Recover():
                plan = await self._recover(await self._meant(body.app), self._user, body.confirmed)
                return plan or Done()
            case JoinGrid():
                await self._join_grid(body.token)
                return self._self()
            case _:
                raise RequestError(f"this node does not answer {type(body).__name__}")

    # --- the node

    @property
    def _user(self) -> str:
        """Whose clients these are."""
        return self._parts.standing.membership.certificate.user

    def _self(self) -> Self:
        membership = self._parts.standing.membership
        return Self(
            self._directory.view(trio.current_time())[0].record,
            membership.grid_name,
            membership.fingerprint,
            self._parts.network.addresses,
        )

    def _nodes(self) -> Nodes:
        return Nodes(self._directory.view(trio.current_time()), self._notices())

    async def _watch_nodes(self) -> AsyncGenerator[Nodes, None]:
        last: Nodes | None = None
        while True:
            nodes = self._nodes()
            if last is None or nodes.notices != last.notices or _records(nodes) != _records(last):
                last = nodes
                yield nodes
            await trio.sleep(NODES_POLL_S)

    # --- applications

    def summaries(self, user: str) -> requests.Applications:
        """The applications of this user that are hosted here."""
        hosts = [each for each in self._applications if each.machine.state.header.user == user]
        return requests.Applications(tuple(self._views(each).summary() for each in hosts))

    async def _all_applications(self) -> requests.Applications:
        found = {each.app: each for each in await self._whereabouts.applications()}
        found |= {each.app: each for each in self.summaries(self._user).applications}
        return requests.Applications(tuple(sorted(found.values(), key=lambda each: each.submitted_s)))

    async def _meant(self, wanted: str) -> str:
        """The id, where this is a name: one here does not hide a later one that lives elsewhere."""
        if looks_like_id(wanted):
            return wanted
        return named(wanted, (await self._all_applications()).applications) or wanted

    # --- an application that is hosted here

    def _views(self, host: ApplicationHost) -> Views:
        return Views(
            host,
            me=self._parts.identity.node,
            name_of=self._name_of,
            now_s=trio.current_time(),
            safety=self._safety_of(host.app),
        )

    async def answer(self, body: AboutApplication, host: ApplicationHost) -> AsyncGenerator[ReplyBody, None]:
        """The replies to a request about an application of ours."""
        views = self._views(host)
        match body:
            case GetStatus():
                yield views.status(clock_s=self._parts.clock_s())
            case Watch():
                async with aclosing(self._watch(body, host)) as events:
                    async for event in events:
                        yield event
            case GetTask():
                yield views.detail(_task(host, body.task))
            case GetResults():
                for part in _result_parts(views.results(_task(host, body.task) if body.task else None), host):
                    yield requests.Results(host.app, views.state_name(), part)
            case GetLog():
                async with aclosing(self._log(body, host)) as pieces:
                    async for piece in pieces:
                        yield Piece(piece)
            case Cancel():
                task = _task(host, body.task) if body.task else None
                if host.machine.state.ended is not None:
                    raise RequestError(f"{host.machine.state.header.name} has ended ({host.machine.state.ended})")
                standing = host.machine.state.tasks[task].standing if task else "pending"
                if standing not in ("pending", "cancelled"):  # a request that is sent again finds its own work done
                    raise RequestError(f"task {task} has ended ({standing})")
                host.post(CancelRequested(task))
                await host.settled()
                yield Done()
            case Why():
                yield views.why(_task(host, body.task))
            case Forget():
                await self._applications.end_is_known(host)
                self._applications.forget(host)
                yield Done()

    async def _watch(self, body: Watch, host: ApplicationHost) -> AsyncGenerator[ReplyBody, None]:
        index, state = self._resumed(body, host), host.machine.state
        if body.only is not None:
            yield News(())  # it may take long until there is any, and whoever passes it on is to know who answers
        while True:
            if state.ended is not None:  # whoever has seen more than there is, elsewhere, is to know that it ended
                index = min(index, state.ended_index - 1) if body.only != () else state.ended_index - 1
            elif body.only == ():
                index = max(index, host.told_index)
            before = index
            for entries in by_the_hundred(host.entries_after(index, READ_AT_ONCE_MAX)):
                index = entries[-1].index
                for news in news_of(entries, host, self._name_of, values=body.values, only=body.only):
                    yield news
                if isinstance(entries[-1].fact, Ended):
                    return
            if index - before >= READ_AT_ONCE_MAX:
                await trio.lowlevel.checkpoint()
                continue
            if host.fault is not None:
                raise RequestError(f"{host.machine.state.header.name} is stalled: {host.fault}")
            if self._applications.get(host.app) is not host:
                raise ElsewhereError(self._whereabouts.said_of(host.app) or Moved(host.app, host.machine.epoch.counter))
            with trio.move_on_after(PROGRESS_S if body.progress else float("inf")):
                if index == before:
                    await host.news()
            if body.progress:
                yield self._views(host).progress()
                await self._pause_between_views(host, index)

    def _resumed(self, body: Watch, host: ApplicationHost) -> int:
        """After which index the watch goes on. What came in a higher epoch than its last event came instead of what was
        shown, if both have the same index: then two coordinators had gone on, each without the other."""
        later: list[int] = []
        if body.after_epoch:
            runs = self._parts.journal.shape(host.app)
            later = [first for first, epoch in runs if epoch.counter > body.after_epoch]
        return min([body.after_index, *(first - 1 for first in later)])

    async def _pause_between_views(self, host: ApplicationHost, index: int) -> None:
        """A screen needs no more than a few views a second, however much happens; only the end is not kept waiting."""
        with trio.move_on_after(PROGRESS_S):
            while host.machine.state.ended is None:
                await host.news()

    # --- bytes

    async def _blob(self, body: GetBlob) -> AsyncGenerator[ReplyBody, None]:
        content = self._applications.content(body.blob.digest)
        if content is None:
            await self._transfer.fetch(body.blob, await self._holders(body))
            content = self._parts.store.content(body.blob.digest)
        if content is None:
            raise UnreachableError(f"blob {body.blob.digest[:12]} is no longer held anywhere in reach")
        if isinstance(content, bytes):
            yield Piece(content)
            return
        async with aclosing(_read(content)) as pieces:
            async for piece in pieces:
                yield Piece(piece)

    async def _holders(self, body: GetBlob) -> list[NodeId]:
        host = self._applications.get(body.app)
        if host is None:
            return await self._whereabouts.holders(body)
        return list(self._home.holders(host, body.blob.digest))

    async def _log(self, body: GetLog, host: ApplicationHost) -> AsyncGenerator[bytes, None]:
        """First what a running attempt prints, if one is meant; then the log of the one that ended, as far as it was
        not seen while it ran."""
        task = _task(host, body.task)
        number, size = body.attempt, 0
        while host.machine.state.tasks[task].standing == "pending":
            for name, (node, _) in host.machine.under_way(task).items():
                if number in (None, name.number):
                    request = ReadLog(host.app, task, name.number, body.stream, offset=size, follow=body.follow)
                    async with aclosing(self._running_log(node, request)) as pieces:
                        async for piece in pieces:
                            number = name.number
                            size += len(piece)
                            yield piece
            under_way = {name.number for name in host.machine.under_way(task)}
            if not body.follow or (number is not None and number not in under_way):
                break
            await trio.sleep(LOG_POLL_S)
        ended = self._views(host).ended_attempt(task, number)
        if ended is not None:
            async with aclosing(self._ended_log(*ended, body.stream, size)) as pieces:
                async for piece in pieces:
                    yield piece
        elif not size:
            state, known = self._views(host).task_state(task), self._views(host).attempt_numbers(task)
            if body.attempt is not None and known and body.attempt not in known:
                numbers = ", ".join(map(str, known))
                raise RequestError(f"task {task} has no attempt {body.attempt}; it has {numbers}", kind="unknown")
            yet = " yet" if host.machine.state.tasks[task].standing == "pending" else ""
            raise RequestError(f"task {task} has printed nothing{yet}: it is {state}", kind="unknown")

    async def _running_log(self, node: NodeId, request: ReadLog) -> AsyncGenerator[bytes, None]:
        """What an attempt prints, as it comes; nothing where it does not run, or its node went away."""
        own = node == self._parts.identity.node
        printed = self._participation.open_log(request) if own else self._transfer.read_log(node, request)
        if printed is None:
            return
        try:
            async with aclosing(printed):
                async for piece in printed:
                    yield piece
        except (RequestError, UnreachableError) as error:
            log.debug("no log of a running attempt", task=request.task, node=node, why=str(error))

    async def _ended_log(
        self, node: NodeId, outcome: Outcome, stream: Literal["stdout", "stderr"], offset: int
    ) -> AsyncGenerator[bytes, None]:
        blob = outcome.stdout if stream == "stdout" else outcome.stderr
        tail = (outcome.stdout_tail if stream == "stdout" else outcome.stderr_tail).encode()
        if blob is None:
            if len(tail) > offset or not offset:
                yield tail[offset:]
            return
        try:
            async with aclosing(self._whole_log(blob, node)) as pieces:
                async for piece in pieces:
                    if len(piece) > offset:
                        yield piece[offset:]
                    offset = max(0, offset - len(piece))
        except UnreachableError:
            gone = f"[the first {max(0, blob.size - TAIL_BYTES)} bytes went with {self._name_of(node)}]\n"
            yield gone.encode() + tail

    async def _whole_log(self, blob: BlobRef, node: NodeId) -> AsyncGenerator[bytes, None]:
        if not self._parts.store.has(blob.digest):
            await self._transfer.fetch(blob, [node])
        content = self._parts.store.content(blob.digest)
        if isinstance(content, bytes):
            yield content
        elif content is not None:
            async with aclosing(_read(content)) as pieces:
                async for piece in pieces:
                    yield piece


def _result_parts(
    results: Iterable[requests.TaskResult], host: ApplicationHost
) -> Iterator[tuple[requests.TaskResult, ...]]:
    """Cut so that no reply is long, with the small results' data, since they are at hand."""
    part: list[requests.TaskResult] = []
    size = 0
    for result in results:
        outputs = with_data(result.outputs, host, room=REPLY_BYTES_MAX - size)
        part.append(evolve(result, outputs=outputs))
        size += sum(OUTPUT_BYTES + len(each.data or b"") for each in outputs)
        if size > REPLY_BYTES_MAX:
            yield tuple(part)
            part, size = [], 0
    yield tuple(part)


def _task(host: ApplicationHost, name: str) -> TaskId:
    task = TaskId(name)
    if task in host.machine.state.tasks:
        return task
    known = list(host.machine.state.tasks)
    some = ", ".join(known[:5]) + (", …" if len(known) > 5 else "")
    raise RequestError(
        f"{host.machine.state.header.name} has no task {name!r}; it has {some or 'none'}", kind="unknown"
    )


def _records(nodes: Nodes) -> list[object]:
    return [each.record for each in nodes.nodes]


async def _read(path: Path) -> AsyncGenerator[bytes, None]:
    # Opened at once: it may be dropped as soon as anybody else has a turn, and can be read to its end all the same.
    async with trio.wrap_file(path.open("rb")) as file:
        while piece := await file.read(PIECE_BYTES):
            yield piece
