"""A blob on its way in: its bytes so far, and the check when they are all there.

Invariant: the file (or buffer), and after it what is held back for it, are exactly the first `offset` bytes, and the
hash is that of the file. Bytes are written and hashed many at a time, in a thread: a slow disk must not silence the
heartbeats. Where the bytes come from, and what becomes of a checked blob, is the business of `transfer` and `blobs`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import trio

from jcpeer.application.task import BlobRef
from jcpeer.errors import RemoteProtocolError, StorageError
from jcpeer.ids import short


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the file system says into one line that names the place and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"no space left for blobs in {path}: free some, or set a smaller store limit") from error
        raise StorageError(f"cannot use the blob store {path}: {error.strerror or error}") from error


HELD_BYTES_MAX = 2**20
"""So many bytes are held back before they are written."""


class PartialBlob:
    """Made by `BlobStore.receiving`, for one at a time to write to. Leaving its `with` block before `finish` keeps a
    file for a later resumption."""

    def __init__(
        self,
        blob: BlobRef,
        *,
        keep: Callable[[BlobRef, bytes | Path], None],
        closed: Callable[[], None],
        path: Path | None = None,
        prefix: hashlib._Hash | None = None,
        offset: int = 0,
    ) -> None:
        """The bytes go to `path`, which holds `offset` of them with the hash `prefix`; without one, to memory."""
        self.blob = blob
        self._path = path
        self._hash = prefix or hashlib.sha256()
        self._offset = offset
        self._keep = keep
        self._closed = closed
        self._in_use = True
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._file = self._open()

    @property
    def offset(self) -> int:
        """How many bytes are there; the next ones to write start here."""
        return self._offset

    @property
    def complete(self) -> bool:
        return self._offset == self.blob.size

    async def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            RemoteProtocolError: more bytes than the blob has; what came so far is discarded.
            StorageError: the disk is full or does not write; what came so far is discarded.
        """
        if self._offset + len(data) > self.blob.size:
            self.discard()
            raise RemoteProtocolError(f"blob {short(self.blob.digest)} came with more than its {self.blob.size} bytes")
        self._offset += len(data)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._path is None:
            self._write_held()
        elif self._held_bytes >= HELD_BYTES_MAX or self.complete:
            try:
                await trio.to_thread.run_sync(self._write_held)
            except StorageError:
                self.discard()
                raise

    def _write_held(self) -> None:
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held, self._held_bytes = [], 0
        with storage_errors(self._path or Path()):
            self._file.write(data)
        self._hash.update(data)

    def finish(self) -> BlobRef:
        """Put the blob into the store.

        Raises:
            RemoteProtocolError: bytes are missing, or are not what the digest says; they are discarded.
            StorageError: the disk is full or does not write.
        """
        if not self.complete or self._hash.hexdigest() != self.blob.digest:
            self.discard()
            raise RemoteProtocolError(f"what came as blob {short(self.blob.digest)} is not what its digest says")
        try:
            with storage_errors(self._path or Path()):
                self._file.flush()
            content = self._path if self._path is not None else self._memory()
            self._keep(self.blob, content)
        finally:
            self.close()
        return self.blob

    def discard(self) -> None:
        """Begin again at offset 0."""
        # A full disk refuses the last buffered bytes; they are to go anyway.
        with suppress(OSError):
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._held, self._held_bytes = [], 0
        self._offset = 0
        self._file = self._open()

    def close(self) -> None:
        """Let go of the file; nothing can be written any more."""
        if not self._in_use:
            return
        self._in_use = False
        # Bytes that the disk refuses here were not counted on: a resumption reads what is really there.
        with suppress(OSError):
            self._file.write(b"".join(self._held))
        with suppress(OSError):
            self._file.close()
        if self._path is not None and self._offset == 0:
            self._path.unlink(missing_ok=True)
        self._closed()

    def __enter__(self) -> PartialBlob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> BinaryIO:
        if self._path is None:
            return io.BytesIO()
        with storage_errors(self._path):
            return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")

    def _memory(self) -> bytes:
        assert isinstance(self._file, io.BytesIO)
        return self._file.getvalue()
