"""Questions to other nodes about applications that live there, and answers to theirs.

Of several nodes that are asked at once, the first that does not say "not here" is listened to; what the others say of
where it is (`node.aside`) counts where nobody does, or names somebody who was not asked. A question is answered
from one's own applications only, never passed on, and only to nodes of the user whose application it is. Who no longer
wants to know says so by an empty question of the same number; who needs long for an answer, or has nothing new to tell,
says so by empty answers. One that says nothing any more is not waited for, nor are more questions of one node answered
at a time than `ANSWERING_MAX`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Any, cast

import structlog
import trio
from attrs import define, field

from jcpeer.errors import JcpeerError, RemoteProtocolError, RequestError, UnreachableError
from jcpeer.ids import AppId, NodeId
from jcpeer.node.applications import Applications
from jcpeer.node.aside import NOT_HERE, Aside, ElsewhereError, KnownOf, weight
from jcpeer.node.home import Home
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Answer, Ask
from jcpeer.wire.requests import (
    Applications as Summaries,
)
from jcpeer.wire.requests import (
    ApplicationSummary,
    Cancel,
    Done,
    Forget,
    Forgotten,
    GetLog,
    GetResults,
    GetStatus,
    GetTask,
    HomeRequest,
    Host,
    ListApplications,
    Moved,
    Refusal,
    ReplyBody,
    Watch,
    Why,
)

AboutApplication = GetStatus | Watch | GetTask | GetResults | GetLog | Cancel | Why | Forget
"""Requests that name an application, and that another node may answer."""
Question = AboutApplication | HomeRequest | ListApplications
Answerer = Callable[[AboutApplication, ApplicationHost], AsyncGenerator[ReplyBody, None]]
Lister = Callable[[str], Summaries]
"""The applications of a user."""

log = structlog.get_logger()

ASIDE_S = 0.3
"""Once somebody has said that it is not there but known, the others are not waited for any longer than this."""
ANSWER_S = 3.0
"""A node that has not begun to answer by then is not waited for."""
STILL_AT_IT_S = 1.0
"""How often whoever needs longer says so."""
SILENT_S = 6.0
"""Who has begun to answer, and says nothing for so long, hangs."""
ANSWERING_MAX = 256
"""Questions of one node that are answered at a time; more are refused."""

LIST_S = 1.0
"""The same where everybody is listened to, so that one who is silent is not waited for by all that goes well."""
NOTHING = b""
"""As a question: no longer wanted. As an answer: still at it."""

QUESTIONS: Any = Question
REPLIES: Any = ReplyBody


@define
class _Call:
    """A question under way: who has not answered yet, and who is listened to. None among the replies: still at it."""

    waiting: set[NodeId]
    replies: trio.MemorySendChannel[tuple[ReplyBody | None, bool]]
    chosen: NodeId | None = None
    asked: frozenset[NodeId] = field(init=False)
    aside: Aside | None = None
    patience: trio.CancelScope = field(factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self.asked = frozenset(self.waiting)

    def note(self, said: Aside) -> bool:
        """Whether nothing better is to be waited for."""
        if self.aside is None or weight(said) > weight(self.aside):
            self.aside = said
        self.patience.deadline = min(self.patience.deadline, trio.current_time() + ASIDE_S)
        named = said.coordinator if isinstance(said, Moved) else None
        return named is not None and named.id not in self.asked


@define(eq=False)
class _AtIt:
    """An answer that is being made, and when its asker last heard that."""

    node: NodeId
    call: int
    said_s: float


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
        home: Home,
        nursery: trio.Nursery,
        *,
        holding: Callable[[NodeId], AbstractContextManager[None]],
        known_of: KnownOf = lambda wanted, user: None,
    ) -> None:
        """`holding`: within this the connection to a node is kept, however long nothing is said. `known_of`: what this
        node says of an application that it does not coordinate."""
        self._parts = parts
        self._applications = applications
        self._home = home
        self._nursery = nursery
        self._holding = holding
        self.known_of = known_of
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._polls: dict[int, _Poll] = {}
        self._answering: dict[tuple[NodeId, int], trio.CancelScope] = {}
        self._at_it: dict[_AtIt, None] = {}
        self._speaking = False
        self._answerer: Answerer | None = None
        self._lister: Lister = lambda user: Summaries(())

    # --- asking

    async def ask(
        self, body: Question, nodes: Iterable[NodeId], *, chosen: Callable[[NodeId], None] = lambda node: None
    ) -> AsyncGenerator[ReplyBody, None]:
        """The replies of the first of these nodes that knows the application, which is told to `chosen`.

        Raises:
            RequestError: it says no; of kind `NOT_HERE` where none of those that answered knows it.
            ElsewhereError: none of them coordinates it, or the one that did no longer does, but some know of it.
            UnreachableError: nobody answers, or the one that did went away.
        """
        waiting = set(nodes)
        if not waiting:
            raise RequestError("there is nobody to ask", kind=NOT_HERE)
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[tuple[ReplyBody | None, bool]](math.inf)
        call = self._calls[number] = _Call(waiting, send)
        everybody = len(waiting)
        for node in sorted(waiting):
            self._parts.network.send(node, Ask(number, pack(body)))
        try:
            call.patience.deadline = trio.current_time() + ANSWER_S
            with call.patience as scope:
                reply, last = await receive.receive()
            if call.chosen is None and call.aside is not None:
                raise ElsewhereError(call.aside)
            if scope.cancelled_caught:
                if len(call.waiting) < everybody:
                    raise RequestError("not known to those that answer", kind=NOT_HERE)
                raise UnreachableError(f"no answer within {ANSWER_S:.0f} s")
            if call.chosen is None:
                raise _error_of(reply)
            chosen(call.chosen)
            with self._holding(call.chosen):
                while True:
                    if isinstance(reply, Refusal):
                        raise _error_of(reply)
                    if isinstance(reply, Moved | Forgotten):
                        raise ElsewhereError(reply)
                    if last and not isinstance(body, HomeRequest):
                        return  # the mark after many replies
                    if reply is not None:
                        yield reply
                    if last:
                        return
                    with trio.move_on_after(SILENT_S) as scope:
                        reply, last = await receive.receive()
                    if scope.cancelled_caught:
                        raise UnreachableError(f"it has said nothing for {SILENT_S:.0f} s")
        finally:
            del self._calls[number]
            for node in sorted(call.waiting if call.chosen is None else {call.chosen} & call.waiting):
                self._parts.network.send(node, Ask(number, NOTHING))

    async def request(self, node: NodeId, body: HomeRequest) -> ReplyBody:
        """The only reply of a node.

        Raises:
            RequestError: it says no; of kind `NOT_HERE` where the application does not live there.
            UnreachableError: it does not answer.
        """
        async with aclosing(self.ask(body, [node])) as replies:
            async for reply in replies:
                return reply
        raise UnreachableError("it ended without an answer")

    async def applications(self, nodes: Iterable[NodeId]) -> list[ApplicationSummary]:
        """Our user's applications that live on these nodes, as far as they answer."""
        poll = _Poll(set(nodes))
        if not poll.waiting:
            return []
        number = next(self._numbers)
        self._polls[number] = poll
        for node in sorted(poll.waiting):
            self._parts.network.send(node, Ask(number, pack(ListApplications())))
        try:
            with trio.move_on_after(LIST_S):
                await poll.complete.wait()
        finally:
            del self._polls[number]
        return poll.found

    def answered(self, node: NodeId, answer: Answer) -> None:
        asked = self._calls.get(answer.call) or self._polls.get(answer.call)
        if asked is None or node not in asked.waiting:
            return
        try:
            reply = None if answer.reply == NOTHING else cast(ReplyBody, unpack(answer.reply, REPLIES))
        except RemoteProtocolError as error:
            log.warning("malformed answer", node=node, reason=str(error))
            return
        if isinstance(asked, _Poll):
            asked.found += reply.applications if isinstance(reply, Summaries) else ()
            asked.without(node)
        else:
            self._hear(asked, node, reply, answer.last)

    def _hear(self, call: _Call, node: NodeId, reply: ReplyBody | None, last: bool) -> None:
        enough = False
        if call.chosen is None and isinstance(reply, Moved | Forgotten):
            enough = call.note(reply)
        elif call.chosen is None and not (isinstance(reply, Refusal) and reply.kind == NOT_HERE):
            call.chosen = node
        if last:
            call.waiting.discard(node)
        if call.chosen == node:
            call.replies.send_nowait((reply, last))
        elif call.chosen is None and (enough or not call.waiting):
            call.replies.send_nowait((reply, True))

    def lost(self, node: NodeId) -> None:
        """A node that may owe an answer is gone."""
        for call in self._calls.values():
            if node not in call.waiting:
                continue
            if call.chosen == node:
                call.replies.send_nowait((Refusal("unreachable", "it went away; ask again"), True))
            elif call.chosen is None:
                call.waiting.discard(node)
                if not call.waiting:
                    call.replies.send_nowait((Refusal("unreachable", "it went away"), True))
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
        if ask.request == NOTHING:
            return
        if sum(asker == node for asker, _ in self._answering) >= ANSWERING_MAX:
            refusal = Refusal("busy", f"more than {ANSWERING_MAX} questions of one node at a time are not answered")
            self._parts.network.send(node, Answer(ask.call, pack(refusal), last=True))
        else:
            scope = self._answering[key] = trio.CancelScope()
            self._nursery.start_soon(self._answer_within, scope, node, user, ask)

    async def _answer_within(self, scope: trio.CancelScope, node: NodeId, user: str, ask: Ask) -> None:
        with scope:
            await self._answer(node, user, ask)
        if self._answering.get((node, ask.call)) is scope:
            del self._answering[node, ask.call]

    async def _answer(self, node: NodeId, user: str, ask: Ask) -> None:
        def reply(body: ReplyBody, *, last: bool) -> None:
            self._parts.network.send(node, Answer(ask.call, pack(body), last))

        try:
            body = cast(Question, unpack(ask.request, QUESTIONS))
            if isinstance(body, ListApplications):
                reply(self._lister(user), last=True)
                return
            if isinstance(body, HomeRequest):
                aside = None if isinstance(body, Host) else self._aside(body.app, user)
                with self._saying_still_at_it(node, ask.call):
                    done = aside or await self._home.answer(body, asker=node, user=user)
                reply(done, last=True)
                return
            host = self._applications.find(body.app, user=user)
            if host is None or self._answerer is None:
                reply(self.known_of(body.app, user) or Refusal(NOT_HERE, ""), last=True)
                return
            with self._saying_still_at_it(node, ask.call):
                async with aclosing(self._answerer(body, host)) as replies:
                    async for each in replies:
                        reply(each, last=False)
            reply(Done(), last=True)
        except ElsewhereError as error:  # it was here when the question came
            reply(error.said, last=True)
        except RequestError as error:
            reply(Refusal(error.kind, str(error)), last=True)
        except RemoteProtocolError as error:
            log.warning("malformed question", node=node, reason=str(error))
        except JcpeerError as error:
            reply(Refusal("invalid", str(error)), last=True)
        except Exception as error:  # a bug in answering one question is no reason to fail all else
            log.exception("a bug in answering a node", node=node)
            reply(Refusal("invalid", f"internal error: {error!r}"), last=True)

    def is_here(self, app: AppId, user: str) -> bool:
        """Whether an application of that user is hosted here."""
        host = self._applications.get(app)
        return host is not None and host.machine.state.header.user == user

    def _aside(self, app: AppId, user: str) -> Aside | None:
        return None if self._applications.get(app) is not None else self.known_of(app, user)

    @contextmanager
    def _saying_still_at_it(self, node: NodeId, call: int) -> Iterator[None]:
        at_it = _AtIt(node, call, trio.current_time())
        self._at_it[at_it] = None
        if not self._speaking:
            self._speaking = True
            self._nursery.start_soon(self._say_still_at_it)
        try:
            yield
        finally:
            del self._at_it[at_it]

    async def _say_still_at_it(self) -> None:
        """One for all answers, since most take no time."""
        while self._at_it:
            await trio.sleep(STILL_AT_IT_S / 2)
            now_s = trio.current_time()
            for each in self._at_it:
                if now_s >= each.said_s + STILL_AT_IT_S:
                    each.said_s = now_s
                    self._parts.network.send(each.node, Answer(each.call, NOTHING, last=False))
        self._speaking = False


def _error_of(reply: ReplyBody | None) -> JcpeerError:
    """What a refusal says; of a call that nobody was chosen for, there is no other reply."""
    assert isinstance(reply, Refusal)
    return UnreachableError(reply.text) if reply.kind == "unreachable" else RequestError(reply.text, kind=reply.kind)
