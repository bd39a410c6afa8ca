"""Questions to other nodes about applications that are not hosted here, and answers to theirs.

All nodes in the directory are asked at once; the first that does not say "not here" is listened to. A question is
answered from one's own applications only, never passed on, and only to nodes of the user whose application it is. Who
no longer wants to know says so by an empty question of the same number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, cast

import structlog
import trio
from attrs import define, field

from jcpeer.errors import JcpeerError, RemoteProtocolError, RequestError, UnreachableError
from jcpeer.ids import NodeId
from jcpeer.node.applications import Applications
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Answer, Ask, NodeRecord
from jcpeer.wire.requests import (
    Applications as Summaries,
)
from jcpeer.wire.requests import (
    ApplicationSummary,
    Cancel,
    Done,
    Forget,
    GetBlob,
    GetLog,
    GetResults,
    GetStatus,
    GetTask,
    ListApplications,
    Refusal,
    ReplyBody,
    Status,
    Watch,
    Why,
)

AboutApplication = GetStatus | Watch | GetTask | GetResults | GetLog | Cancel | Why | Forget
"""Requests that name an application, and that another node may answer."""
Answerer = Callable[[AboutApplication, ApplicationHost], AsyncGenerator[ReplyBody, None]]
Lister = Callable[[str], Summaries]
"""The applications of a user."""

log = structlog.get_logger()

ANSWER_S = 3.0
"""A node that has not begun to answer by then is not waited for."""

LIST_S = 1.0
"""The same where everybody is listened to, so that one who is silent is not waited for by all that goes well."""
NO_LONGER = b""
NOT_HERE = "not here"
"""The kind of refusal that says nothing but that the application is not hosted there."""

ASKABLE: Any = AboutApplication | ListApplications
REPLIES: Any = ReplyBody


@define
class _Call:
    """A question under way: who has not answered yet, and who is listened to."""

    waiting: set[NodeId]
    replies: trio.MemorySendChannel[tuple[ReplyBody, bool]]
    chosen: NodeId | None = None


@define
class _Poll:
    """A question of which every answer counts."""

    waiting: set[NodeId]
    found: list[ApplicationSummary] = field(factory=list)
    complete: trio.Event = field(factory=trio.Event)

    def without(self, node: NodeId) -> None:
        self.waiting.discard(node)
        if not self.waiting:
            self.complete.set()


class Elsewhere:
    """Asks other nodes, and answers them."""

    def __init__(
        self,
        parts: Parts,
        applications: Applications,
        nursery: trio.Nursery,
        *,
        others: Callable[[], Iterable[NodeRecord]],
    ) -> None:
        self._parts = parts
        self._applications = applications
        self._nursery = nursery
        self._others = others
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._polls: dict[int, _Poll] = {}
        self._answering: dict[tuple[NodeId, int], trio.CancelScope] = {}
        self._answerer: Answerer | None = None
        self._lister: Lister = lambda user: Summaries(())

    # --- asking

    async def ask(self, body: AboutApplication) -> AsyncGenerator[ReplyBody, None]:
        """The replies of the one node that knows the application.

        Raises:
            RequestError: nobody in reach knows it.
        """
        unknown = RequestError(
            f"no application {body.app!r} here or at another node in reach; `jcpeer list` shows which there are",
            kind="unknown",
        )
        nodes = [each.node for each in self._others()]
        if not nodes:
            raise unknown
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[tuple[ReplyBody, bool]](math.inf)
        self._calls[number] = _Call(set(nodes), send)
        request = pack(body, ASKABLE)
        for node in nodes:
            self._parts.network.send(node, Ask(number, request))
        try:
            with trio.move_on_after(ANSWER_S) as scope:
                reply, last = await receive.receive()
            if scope.cancelled_caught or (isinstance(reply, Refusal) and reply.kind == NOT_HERE):
                raise unknown
            while True:
                if isinstance(reply, Refusal):
                    raise RequestError(reply.text, kind=reply.kind)
                if last:
                    return
                yield reply
                reply, last = await receive.receive()
        finally:
            call = self._calls.pop(number)
            for node in call.waiting if call.chosen is None else {call.chosen} & call.waiting:
                self._parts.network.send(node, Ask(number, NO_LONGER))

    async def applications(self) -> list[ApplicationSummary]:
        """Our user's applications that other nodes in reach coordinate."""
        poll = _Poll({each.node for each in self._others()})
        if not poll.waiting:
            return []
        number = next(self._numbers)
        self._polls[number] = poll
        for node in list(poll.waiting):
            self._parts.network.send(node, Ask(number, pack(ListApplications(), ASKABLE)))
        try:
            with trio.move_on_after(LIST_S):
                await poll.complete.wait()
        finally:
            del self._polls[number]
        return poll.found

    async def holders(self, body: GetBlob) -> list[NodeId]:
        """Who may hold a blob of an application that is not ours: its coordinator, then its participants."""
        async with aclosing(self.ask(GetStatus(body.app))) as replies:
            async for reply in replies:
                if isinstance(reply, Status):
                    return [reply.coordinator.id, *(each.id for each in reply.participants)]
        raise UnreachableError(f"nobody in reach knows who holds blob {body.blob.digest[:12]}")

    def answered(self, node: NodeId, answer: Answer) -> None:
        asked = self._calls.get(answer.call) or self._polls.get(answer.call)
        if asked is None or node not in asked.waiting:
            return
        try:
            reply = cast(ReplyBody, unpack(answer.reply, REPLIES))
        except RemoteProtocolError as error:
            log.warning("malformed answer", node=node, reason=str(error))
            return
        if isinstance(asked, _Poll):
            asked.found += reply.applications if isinstance(reply, Summaries) else ()
            asked.without(node)
        else:
            self._hear(asked, node, reply, answer.last)

    def _hear(self, call: _Call, node: NodeId, reply: ReplyBody, last: bool) -> None:
        if call.chosen is None and not (isinstance(reply, Refusal) and reply.kind == NOT_HERE):
            call.chosen = node
        if last:
            call.waiting.discard(node)
        if call.chosen == node:
            call.replies.send_nowait((reply, last))
        elif call.chosen is None and not call.waiting:
            call.replies.send_nowait((reply, True))

    def lost(self, node: NodeId) -> None:
        """A node that may owe an answer is gone."""
        gone = Refusal("unreachable", "the node that coordinates the application went away; ask again")
        for call in self._calls.values():
            if call.chosen == node:
                call.replies.send_nowait((gone, True))
            elif node in call.waiting and call.chosen is None:
                call.waiting.discard(node)
                if not call.waiting:
                    call.replies.send_nowait((Refusal(NOT_HERE, ""), True))
        for poll in self._polls.values():
            poll.without(node)
        for (asker, _), scope in list(self._answering.items()):
            if asker == node:
                scope.cancel()

    # --- answering

    @property
    def answering(self) -> int:
        """Questions of other nodes that are being answered."""
        return len(self._answering)

    def answer_with(self, answerer: Answerer, lister: Lister) -> None:
        """Set once, when the service that asks through us stands."""
        self._answerer, self._lister = answerer, lister

    def asked(self, node: NodeId, user: str, ask: Ask) -> None:
        key = (node, ask.call)
        if key in self._answering:  # no longer wanted, or of an asker that has started anew since
            self._answering.pop(key).cancel()
        if ask.request != NO_LONGER:
            scope = self._answering[key] = trio.CancelScope()
            self._nursery.start_soon(self._answer_within, scope, node, user, ask)

    async def _answer_within(self, scope: trio.CancelScope, node: NodeId, user: str, ask: Ask) -> None:
        with scope:
            await self._answer(node, user, ask)
        if self._answering.get((node, ask.call)) is scope:
            del self._answering[node, ask.call]

    async def _answer(self, node: NodeId, user: str, ask: Ask) -> None:
        def reply(body: ReplyBody, *, last: bool) -> None:
            self._parts.network.send(node, Answer(ask.call, pack(body, REPLIES), last))

        try:
            body = cast("AboutApplication | ListApplications", unpack(ask.request, ASKABLE))
            if isinstance(body, ListApplications):
                reply(self._lister(user), last=True)
                return
            host = self._applications.find(body.app)
            if host is None or self._answerer is None or host.machine.state.header.user != user:
                reply(Refusal(NOT_HERE, ""), last=True)
                return
            async with aclosing(self._answerer(body, host)) as replies:
                async for each in replies:
                    reply(each, last=False)
            reply(Done(), last=True)
        except RequestError as error:
            reply(Refusal(error.kind, str(error)), last=True)
        except RemoteProtocolError as error:
            log.warning("malformed question", node=node, reason=str(error))
        except JcpeerError as error:
            reply(Refusal("invalid", str(error)), last=True)
        except Exception as error:  # a bug in answering one question is no reason to fail all else
            log.exception("a bug in answering a node", node=node)
            reply(Refusal("invalid", f"internal error: {error!r}"), last=True)
