"""Where an application's files land, whole or not at all, and never outside of the directory that was asked for.

The names come from whoever made the application, so each is checked: below the directory, through no symbolic link
that leads out of it.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from jcpeer.application.names import file_name_fault
from jcpeer.errors import RequestError, StorageError
from jcpeer.ids import TaskId
from jcpeer.wire.messages import Output
from jcpeer.wire.requests import TaskResult


@frozen
class Landing:
    """One file of the results and the path, relative to the directory, where it goes."""

    task: TaskId
    output: Output
    path: str


def landings(results: Iterable[TaskResult]) -> tuple[Landing, ...]:
    """The files among these results. A name that two tasks left goes below a directory of each task's name."""
    files = [(each.task, output) for each in results for output in each.outputs if not output.name.startswith("@")]
    uses = Counter(output.name for _, output in files)
    return tuple(
        Landing(task, output, output.name if uses[output.name] == 1 else f"{task}/{output.name}")
        for task, output in files
    )


def place(directory: Path, name: str) -> Path:
    """The path of this output below the directory.

    Raises:
        RequestError: it would lie outside, or is no name of a file.
    """
    path = directory / name
    fault = file_name_fault(name)
    if fault is None and not path.parent.resolve().is_relative_to(directory.resolve()):
        fault = "a symbolic link leads it out of there"
    if fault is not None:
        raise RequestError(f"output {name!r:.80} is not brought to {directory}: {fault}")
    return path


class Draft:
    """A file being written beside the path that it will take."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        """Raises: StorageError: the disk does not take it."""
        with _named(self._path):
            self._file.write(data)


@contextmanager
def written_whole(path: Path) -> Iterator[Draft]:
    """A file that takes this path's place when the block ends well, and leaves nothing behind when it does not.

    Raises:
        StorageError: it cannot be written.
    """
    draft = path.parent / f".jcpeer-{secrets.token_hex(8)}.part"
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = draft.open("xb")
    try:
        with closing(file):
            yield Draft(path, file)
            with _named(path):
                file.flush()
        with _named(path):
            draft.replace(path)
    finally:
        with suppress(OSError):
            os.unlink(draft)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    # Only around our own calls: the block of `written_whole` may raise a TimeoutError, an OSError of another meaning.
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
