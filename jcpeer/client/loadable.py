"""Whatever a user hands to `run`, as a checked application."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from jcpeer.application.loaded import LoadedApplication


class Buildable(Protocol):
    """An application that is put together in Python, such as `Application`."""

    def load(self) -> LoadedApplication: ...


Runnable = LoadedApplication | Buildable | str | os.PathLike[str]
"""An `Application`, a loaded one, or the path of a file that describes one."""


def loaded_from(application: Runnable) -> LoadedApplication:
    """Raises: GraphError: it cannot be; the text names file, task and remedy."""
    match application:
        case LoadedApplication():
            return application
        case str() | os.PathLike():
            from jcpeer.application.loading import load

            return load(Path(application))
        case _:
            return application.load()
