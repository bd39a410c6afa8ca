"""The seam between a client's logic and whatever carries its requests to a node.

`session` is written once over it. The blocking face drives the same coroutines over a Unix socket without an event
loop (`blocking`), the trio face awaits them, with a node in the same process at the other end (`InProcessLink`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Protocol, TypeVar

from jcpeer.errors import JcpeerError, NoNodeError, RemoteProtocolError, RequestError, UnreachableError
from jcpeer.wire.requests import Refusal, ReplyBody, RequestBody

R = TypeVar("R")


class Link(Protocol):
    """One node, as a client reaches it. Classes that name this one as their base inherit `call_each`."""

    def call(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        """The replies of one request, in order; closing the generator early abandons the call.

        Raises:
            NoNodeError: the node is not there, or went away in the middle.
        """

    async def call_each(self, bodies: Iterable[RequestBody]) -> AsyncGenerator[ReplyBody, None]:
        """The only reply of each of these requests, in order. Where a link can, it has some of them under way at once:
        they need an order of their own, since the node may come to a later one first.

        Raises:
            NoNodeError: the node is not there, or went away in the middle.
        """
        for body in bodies:
            async with aclosing(self.call(body)) as replies:
                async for reply in replies:
                    yield reply
                    break
                else:
                    raise unanswered(body)

    async def await_return(self) -> None:
        """Returns once a node that went away can be reached again.

        Raises:
            NoNodeError: it did not come back in the time that this link waits.
        """


class InProcessLink(Link):
    """A node in this very process: its service is called directly, and nothing can break between."""

    def __init__(self, handle: Callable[[RequestBody], AsyncGenerator[ReplyBody, None]]) -> None:
        self._handle = handle

    def call(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        return self._handle(body)

    async def await_return(self) -> None:
        raise NoNodeError("the node in this process has stopped")


async def ask(link: Link, body: RequestBody, kind: type[R]) -> R:
    """The only reply of a request that has one.

    Raises:
        RequestError: the node says no.
        NoNodeError: see `Link.call`.
    """
    async with aclosing(link.call(body)) as replies:
        async for reply in replies:
            return expect(reply, kind)
    raise unanswered(body)


def unanswered(body: RequestBody) -> NoNodeError:
    return NoNodeError(f"the node ended {type(body).__name__} without an answer")


def expect(reply: ReplyBody, kind: type[R]) -> R:
    """This reply, if it is of that kind; a refusal or any other kind is raised as what it means."""
    if isinstance(reply, kind):
        return reply
    raise _surprise(reply)


def _surprise(reply: ReplyBody) -> JcpeerError:
    match reply:
        case Refusal(kind="unreachable"):
            return UnreachableError(reply.text)
        case Refusal():
            return RequestError(reply.text, kind=reply.kind)
        case _:
            return RemoteProtocolError(f"the node answered with an unexpected {type(reply).__name__}")
