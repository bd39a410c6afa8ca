"""A client on the machine of a simulated node: it keeps its place when the node goes away, as over a Unix socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import trio

from jcpeer.client.link import Link
from jcpeer.errors import NoNodeError
from jcpeer.wire.requests import ReplyBody, RequestBody

Handle = Callable[[RequestBody], AsyncGenerator[ReplyBody, None]]


class SimulatedLink(Link):
    """To whichever node runs on this machine (`client.link.Link`). A node that goes away breaks what is under way."""

    def __init__(self) -> None:
        self._handle: Handle | None = None
        self._returned = trio.Event()
        self._waiting: dict[trio.CancelScope, None] = {}

    def up(self, handle: Handle) -> None:
        """A node runs, and answers so."""
        self._handle = handle
        self._returned.set()

    def down(self) -> None:
        """It went away; a crashed one's children may say so once more."""
        if self._handle is None:
            return
        self._handle, self._returned = None, trio.Event()
        for scope in [*self._waiting]:
            scope.cancel()

    async def call(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        """See `client.link.Link.call`."""
        handle = self._handle
        if handle is None:
            raise NoNodeError("the node of this machine does not run")
        async with aclosing(handle(body)) as replies:
            while True:
                if self._handle is not handle:  # while the caller was at the reply before
                    raise NoNodeError("the node of this machine went away")
                # A scope of its own around each step: none may stay open while a generator has yielded.
                with trio.CancelScope() as scope:
                    self._waiting[scope] = None
                    try:
                        reply = await anext(replies, None)
                    finally:
                        del self._waiting[scope]
                if scope.cancelled_caught:
                    raise NoNodeError("the node of this machine went away")
                if reply is None:
                    return
                yield reply

    async def await_return(self) -> None:
        """See `client.link.Link.await_return`; a simulated person is patient."""
        await self._returned.wait()
