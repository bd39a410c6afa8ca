"""Files that hold keys: readable by their owner alone, whole or absent, checked when read.

A file appears by rename after it was synced, so no reader sees half of one and none is lost with the power. Its bytes
stand behind a line that names the format and a SHA-256, so that damage is told from everything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from jcpeer.errors import ConfigError, MembershipError, RemoteProtocolError
from jcpeer.wire.codec import pack, unpack

T = TypeVar("T")

_FORMAT = b"jcpeer 1\n"
_DIGEST_BYTES = 32
_FILE_BYTES_MAX = 1024 * 1024


def make_private_directory(directory: Path) -> None:
    """The directory, made where it is missing, for its owner alone.

    Raises:
        ConfigError: it cannot be made, or is somebody else's.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise ConfigError(f"cannot make the directory {directory}: {error.strerror}") from error
    # Its mode is not looked at: each file's owner and mode are, and a usual umask makes directories group-writable.
    _check_owner(directory, status)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among all processes of this machine that lock this directory; the lock dies with its holder.

    Raises:
        ConfigError: the directory cannot be written to.
    """
    make_private_directory(directory)
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot lock {directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes | None:
    """What a file holds, None where there is none.

    Raises:
        ConfigError: it cannot be read, is somebody else's, or others may read it.
    """
    try:
        # Not to hang where somebody put a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give it back to its owner or remove it") from error
    try:
        status = os.fstat(descriptor)  # of the file that is open, not of one put in its place
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file: remove it")
        _check_owner(path, status)
        if status.st_mode & 0o077:
            raise ConfigError(f"{path} holds a key and others may open it: chmod 600 {path}")
        return os.read(descriptor, _FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Put a whole file in place of what was there, or change nothing; it has reached the disk on return.

    Raises:
        ConfigError: it cannot be written: disk full, no permission.
    """
    passing = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with open(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            passing.replace(path)
        except BaseException:
            passing.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def read_value(path: Path, kind: type[T]) -> T | None:
    """The value that `write_value` put there, None where there is no file.

    Raises:
        ConfigError: see `read_private`.
        MembershipError: the file is damaged, or of another version of jcpeer.
    """
    data = read_private(path)
    if data is None:
        return None
    digest, packed = data[len(_FORMAT) : len(_FORMAT) + _DIGEST_BYTES], data[len(_FORMAT) + _DIGEST_BYTES :]
    if not data.startswith(_FORMAT) or hashlib.sha256(packed).digest() != digest:
        raise damaged(path)
    try:
        return unpack(packed, kind)
    except RemoteProtocolError as error:
        raise damaged(path) from error


def write_value(path: Path, value: object) -> None:
    """Keep an attrs value in a private file. Raises: ConfigError: see `write_private`."""
    packed = pack(value)
    write_private(path, _FORMAT + hashlib.sha256(packed).digest() + packed)


def damaged(path: Path) -> MembershipError:
    """What is said of a file that was read but does not hold."""
    return MembershipError(f"{path} is damaged or of another version of jcpeer: restore it from a copy, or remove it")


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to user {status.st_uid}, and this process runs as {os.geteuid()}: "
            f"run as its owner, or chown {os.geteuid()} {path}"
        )


def _sync_directory(directory: Path) -> None:
    """A rename is lasting only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
