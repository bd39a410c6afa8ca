"""jcpeer: a peer-to-peer grid. Hand any node a graph of tasks; a coordinator arises, recruits, and is survived.

Importing it loads next to nothing: each name below is fetched from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jcpeer._version import version as __version__

if TYPE_CHECKING:
    from jcpeer.application.loaded import LoadedApplication as LoadedApplication
    from jcpeer.application.loading import load as load
    from jcpeer.application.python import Application as Application
    from jcpeer.application.python import task as task
    from jcpeer.application.references import File as File
    from jcpeer.client.embedded import open_node as open_node
    from jcpeer.client.grid import Grid as Grid
    from jcpeer.client.grid import connect as connect
    from jcpeer.client.handle import Handle as Handle

_HOMES = {
    "Application": "jcpeer.application.python",
    "File": "jcpeer.application.references",
    "Grid": "jcpeer.client",
    "Handle": "jcpeer.client",
    "LoadedApplication": "jcpeer.application.loaded",
    "connect": "jcpeer.client",
    "load": "jcpeer.application.loading",
    "open_node": "jcpeer.client.embedded",
    "task": "jcpeer.application.python",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'jcpeer' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
