"""The grid as a trio program sees it: the verbs of a `Node`, and of whatever else has a link."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Unpack

import trio

from jcpeer.application.manifest import Header, RunPolicies
from jcpeer.client.handle import AsyncHandle
from jcpeer.client.header import header_for
from jcpeer.client.link import Link
from jcpeer.client.loadable import Runnable, loaded_from
from jcpeer.client.session import Session, Upload
from jcpeer.wire.requests import ApplicationSummary, Nodes, Self


class AsyncGrid:
    """See `Grid`; the caller owns time, and cancelling abandons the wait, never the application."""

    def __init__(self, link: Link) -> None:
        self.session = Session(link)

    async def run(
        self,
        application: Runnable,
        *,
        header: Header | None = None,
        progress: Callable[[Upload], None] | None = None,
        **policies: Unpack[RunPolicies],
    ) -> AsyncHandle:
        """See `Grid.run`."""
        loaded = await trio.to_thread.run_sync(loaded_from, application)  # reads and hashes its files
        header = header or header_for(loaded, **policies)
        return self.handle((await self.session.submit(loaded, header, progress=progress)).app)

    def handle(self, application: str) -> AsyncHandle:
        """Take up an application by its id, a unique prefix of it, or its name."""
        return AsyncHandle(self.session, application)

    async def applications(self) -> tuple[ApplicationSummary, ...]:
        """The applications that the node knows."""
        return await self.session.applications()

    async def forget(self, application: str) -> None:
        """Drop an ended application's results and journal."""
        await self.session.forget(application)

    async def nodes(self) -> Nodes:
        """The nodes in the directory."""
        return await self.session.nodes()

    def watch_nodes(self) -> AsyncGenerator[Nodes, None]:
        """The directory, again at each change; close it (`contextlib.aclosing`) when leaving early."""
        return self.session.watch_nodes()

    async def who(self) -> Self:
        """The node that answers."""
        return await self.session.who()

    async def join_grid(self, token: str) -> Self:
        """Move the node into the grid of this token."""
        return await self.session.join_grid(token)
