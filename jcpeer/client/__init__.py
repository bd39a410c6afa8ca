"""What users import: `connect` and what it returns, each fetched from its module when it is first used.

So a worker that needs one small module of this package does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jcpeer.client.async_grid import AsyncGrid as AsyncGrid
    from jcpeer.client.executor import GridExecutor as GridExecutor
    from jcpeer.client.grid import Grid as Grid
    from jcpeer.client.grid import connect as connect
    from jcpeer.client.handle import AsyncHandle as AsyncHandle
    from jcpeer.client.handle import Handle as Handle
    from jcpeer.client.own_node import own_node as own_node
    from jcpeer.client.story import RemoteError as RemoteError

_HOMES = {
    "AsyncGrid": "jcpeer.client.async_grid",
    "AsyncHandle": "jcpeer.client.handle",
    "Grid": "jcpeer.client.grid",
    "GridExecutor": "jcpeer.client.executor",
    "Handle": "jcpeer.client.handle",
    "RemoteError": "jcpeer.client.story",
    "connect": "jcpeer.client.grid",
    "own_node": "jcpeer.client.own_node",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
