"""The bytes that an application brings along: files named by what is in them, and small data made here."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from jcpeer.application.names import one_line
from jcpeer.application.task import BlobRef, Input
from jcpeer.errors import GraphError
from jcpeer.ids import Digest, digest_of


@frozen
class LocalFile:
    """A file of the client's machine, and the name under which tasks find it."""

    name: str
    path: Path


class LocalBlobs:
    """Files and data met so far; each file is read once, however many tasks read it."""

    def __init__(self) -> None:
        self.files: dict[Digest, Path] = {}
        self.data: dict[Digest, bytes] = {}
        self._seen: dict[Path, tuple[BlobRef, bool]] = {}

    def add_data(self, data: bytes) -> BlobRef:
        blob = BlobRef(digest_of(data), len(data))
        self.data.setdefault(blob.digest, data)
        return blob

    def add_file(self, file: LocalFile) -> Input:
        """This file as an input; it is executable there if it is here.

        Raises:
            GraphError: it is no file, or cannot be read.
        """
        path = file.path.absolute()
        seen = self._seen.get(path)
        if seen is None:
            seen = self._seen[path] = self._read(path)
            self.files.setdefault(seen[0].digest, path)
        blob, executable = seen
        return Input(file.name, blob, executable)

    @staticmethod
    def _read(path: Path) -> tuple[BlobRef, bool]:
        try:
            found = path.stat()  # before opening: a pipe would make us wait for its writer
            if not stat.S_ISREG(found.st_mode):
                raise GraphError(f"{path} is not a regular file; name a file")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except (OSError, ValueError) as error:
            raise GraphError(f"{path} cannot be read: {reason(error)}") from error
        return BlobRef(Digest(digest), size), bool(found.st_mode & stat.S_IXUSR)


def files_below(directory: Path, *, name: str) -> Iterator[LocalFile]:
    """Every file in this directory and those below, by name; `name` stands for the directory itself.

    Raises:
        GraphError: it cannot be listed, or links lead in a circle.
    """
    yield from _files_below(directory, name, ())


def _files_below(directory: Path, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[LocalFile]:
    try:
        found = directory.stat()
        here = (found.st_dev, found.st_ino)
        if here in above:
            raise GraphError(f"{directory} is a link to a directory above it; name the files that are meant")
        with os.scandir(directory) as entries:
            listed = sorted(entries, key=lambda each: each.name)
    except OSError as error:
        raise GraphError(f"{directory} cannot be listed: {reason(error)}") from error
    for entry in listed:
        inner = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            yield from _files_below(Path(entry.path), inner, (*above, here))
        else:
            yield LocalFile(inner, Path(entry.path))


def reason(error: Exception) -> str:
    """Why the system says no, in its words."""
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) else one_line(error)
