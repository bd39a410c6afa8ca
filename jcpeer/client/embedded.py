"""A node inside the user's own trio program, with the verbs of a grid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jcpeer.client.async_grid import AsyncGrid
from jcpeer.client.link import InProcessLink
from jcpeer.config import Config
from jcpeer.node import opening
from jcpeer.node.opening import NodeReady, OpenedNode
from jcpeer.values import evolve


class OpenNode(AsyncGrid):
    """A node in this program: the verbs of `AsyncGrid`, and `ready`, which says who it is and where it listens."""

    def __init__(self, opened: OpenedNode) -> None:
        super().__init__(InProcessLink(opened.node.service.handle))
        self.ready: NodeReady = opened.ready


@asynccontextmanager
async def open_node(config: Config | None = None, **settings: Any) -> AsyncIterator[OpenNode]:
    """A node in this program; leaving the block stops it.

    Args:
        config: Its settings.
        settings: Replace single ones, as in `open_node(name="second", slots=2)`.

    Raises:
        ConfigError: a setting, the state directory or the address is impossible or taken.
        MembershipError: the grid's keys or this node's certificate do not hold.
        StorageError: the disk is full or damaged; also later, when the journal can no longer be written.
    """
    async with opening.open_node(evolve(config or Config(), **settings)) as opened:
        yield OpenNode(opened)
