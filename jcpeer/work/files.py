"""Files of an attempt: inputs put into its directory, outputs looked for there.

An input is copied, never linked, so that no program can write into the blob store; an output is a regular file of the
attempt's own. Names come from applications, thus from other machines: none leads out of the directory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from attrs import frozen

from jcpeer.application.task import INLINE_BYTES_MAX
from jcpeer.errors import StorageError
from jcpeer.ids import TaskId
from jcpeer.work.execution import Content

COPY_BYTES = 64 * 2**20
"""Copied at one go; a cancellation is noticed in between."""
FILLER_BYTES = 2**20
LISTED_MAX = 20
"""Files named where an output is missing."""


@frozen
class InputFile:
    """A file that an attempt finds under `name`, a path relative to its work directory."""

    name: str
    content: Content
    executable: bool = False


def stays_inside(name: str) -> bool:
    """Whether this name, taken from a work directory, names something below it."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def make_directory(directory: Path) -> None:
    """Of this user alone, with all that is above it. That takes some microseconds: no thread is needed for it.

    Raises:
        StorageError: the disk is full or does not write.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(directory, error) from error


def place_inputs(directory: Path, inputs: Iterable[InputFile], *, interrupt: Callable[[], None] = lambda: None) -> None:
    """Write or copy each input to its name below the directory; `interrupt` is called between pieces, and may raise.

    Raises:
        StorageError: the disk is full or does not write.
    """
    make_directory(directory)
    made = {str(directory)}
    try:
        for each in inputs:
            interrupt()
            # There may be thousands in few directories: each costs what the system takes, and no look at what is known.
            target = os.path.join(directory, each.name)
            parent = os.path.dirname(target)
            if parent not in made:
                os.makedirs(parent, mode=0o700, exist_ok=True)
                made.add(parent)
            mode = 0o700 if each.executable else 0o600
            if isinstance(each.content, bytes):
                descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
                with open(descriptor, "wb", buffering=0) as writer:
                    writer.write(each.content)
            else:
                copy_file(each.content, Path(target), interrupt=interrupt)
                os.chmod(target, mode)
    except OSError as error:
        raise unusable(directory, error) from error


def copy_file(source: Path, target: Path, *, interrupt: Callable[[], None] = lambda: None) -> None:
    """A copy that shares its blocks with the source where the file system can do that.

    Raises:
        OSError: of reading or writing.
    """
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while True:
            interrupt()
            try:
                copied = os.copy_file_range(reader.fileno(), writer.fileno(), COPY_BYTES)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise
                shutil.copyfileobj(reader, writer, 2**20)  # not between these file systems, or not at all
                return
            if copied == 0:
                return


@frozen
class Collected:
    """The declared outputs that are there, and one line for each that is not."""

    outputs: Mapping[str, Content]
    missing: tuple[str, ...]


def collect_outputs(directory: Path, names: Iterable[str]) -> Collected:
    """Look for these names below a work directory; what is there is read if small, and else left as a file.

    Raises:
        StorageError: the disk does not read, or is full.
    """
    outputs: dict[str, Content] = {}
    missing: list[str] = []
    for name in names:
        try:
            found = _own_regular_file(directory, name)
            outputs[name] = found.read_bytes() if found.stat().st_size <= INLINE_BYTES_MAX else found
        except _NotAnOutput as error:
            missing.append(f"output {name!r} {error}")
        except OSError as error:
            raise unusable(directory, error) from error
    if missing:
        missing.append(_listing(directory))
    return Collected(outputs, tuple(missing))


class _NotAnOutput(Exception):
    """Why a name is no output."""


def _own_regular_file(directory: Path, name: str) -> Path:
    """The file itself, owned by nothing else: what is a link to it, of either kind, becomes a copy first."""
    if not stays_inside(name):
        raise _NotAnOutput("is not a path below the work directory")
    path = directory / name
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise _NotAnOutput("was not made") from None
    except RuntimeError:
        raise _NotAnOutput("is a symbolic link to itself") from None
    if not target.is_relative_to(directory.resolve()):
        raise _NotAnOutput("is a symbolic link that leads out of the work directory")
    if not stat.S_ISREG(status.st_mode):
        raise _NotAnOutput("is not a regular file; an archive of a directory can be one")
    if path.is_symlink() or status.st_nlink > 1:
        copy = path.with_name(path.name + ".jcpeer-copy")
        copy_file(target, copy)
        copy.replace(path)
        return path
    return target


def _listing(directory: Path) -> str:
    found = []
    for parent, _, files in os.walk(directory):
        found += [str(Path(parent, each).relative_to(directory)) for each in sorted(files)]
        if len(found) > LISTED_MAX:
            break
    if not found:
        return "the work directory is empty"
    more = ", and more" if len(found) > LISTED_MAX else ""
    return f"the work directory holds {', '.join(found[:LISTED_MAX])}{more}"


def filler(task: TaskId, output: str, size: int) -> bytes:
    """Bytes that stand for an output of simulated work: the same each time, and others for another task or output."""
    seed = hashlib.sha256(f"{task}\0{output}".encode("utf-8", "surrogatepass")).digest()
    return (seed * (size // len(seed) + 1))[:size]


def write_filler(path: Path, task: TaskId, output: str, size: int) -> None:
    """The same bytes to a file.

    Raises:
        StorageError: the disk is full or does not write.
    """
    piece = filler(task, output, FILLER_BYTES)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, size, FILLER_BYTES):
                file.write(piece[: size - start])
    except OSError as error:
        raise unusable(path, error) from error


def unusable(directory: Path, error: OSError) -> StorageError:
    remedy = ": free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return StorageError(f"cannot use {error.filename or directory}: {error.strerror or error}{remedy}")
