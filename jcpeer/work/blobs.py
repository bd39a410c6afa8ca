"""The blobs that a node holds, each named by the SHA-256 of its bytes.

Small ones (to `INLINE_BYTES_MAX`) are in memory, large ones are files `<directory>/ab/<digest>.<size>`; a small one
that is pinned goes to a file, too, rather than be lost when memory is full. Without a directory everything is in memory
and no thread is used, as simulations want it.

Each tier has a limit; over it, what was least recently used goes first, and what a running application pinned never.
Where pinned blobs alone are over the limit the store grows beyond it and says so (`notices`): refusing them would fail
the applications that the limit is there to serve.

Files are written beside their place and renamed into it, so that each is whole unless the machine itself went down;
the size in the name then tells a torn one at the next start, and a small one is checked whenever it is read. A large
one is not hashed at each use, which would double the cost of every input: whoever fetches it checks it. Nothing is
synced: inputs and results that must outlive a machine are on several. Files are read-only, since tasks read them in
place. After a restart files are known again and those in memory are not: small blobs of applications are in the
journal. Pins come from journals, so nothing is dropped before the first addition or `trim`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import trio

from jcpeer.application.task import INLINE_BYTES_MAX, BlobRef
from jcpeer.errors import RemoteProtocolError, StorageError
from jcpeer.ids import AppId, Digest, digest_of
from jcpeer.work.execution import Content
from jcpeer.work.partial import PartialBlob, storage_errors
from jcpeer.work.tier import Tier

MEMORY_BYTES_MAX = 64 * 2**20
"""Small blobs in memory: a thousand of the largest, or some 200,000 of a few bytes."""
ENTRY_BYTES = 256
"""What a blob in memory costs beside its bytes, lest a million tiny ones count as nothing."""
PARTIAL_S_MAX = 24 * 3600.0
"""A partial file that nobody resumed for this long is removed at the next start."""
HASH_BYTES = 2**20
DELETED_AT_ONCE_BYTES_MAX = 16 * 2**20
"""A larger file is deleted in a thread: the system takes half a second for a few GiB, which nobody waits for."""


class BlobStore:
    """One node's blobs. Used from the trio thread only; large files are hashed and copied in threads of their own."""

    def __init__(self, directory: Path | None, *, bytes_max: int, memory_bytes_max: int = MEMORY_BYTES_MAX) -> None:
        """Take over what earlier runs left in this directory.

        Raises:
            StorageError: the directory cannot be used.
        """
        self._directory = directory
        self._pins: dict[AppId, set[Digest]] = {}
        self._pin_counts: dict[Digest, int] = {}
        self._data: dict[Digest, bytes] = {}
        self._memory = Tier(bytes_max if directory is None else memory_bytes_max, pinned=self._pin_counts)
        self._files = Tier(bytes_max, pinned=self._pin_counts)
        self._arriving: set[Digest] = set()
        self._temporaries = 0
        if directory is not None:
            with storage_errors(directory):
                self._open(directory)

    # --- what is held

    def has(self, digest: Digest) -> bool:
        return digest in self._memory or digest in self._files

    def size(self, digest: Digest) -> int:
        """In bytes, of a blob that is held."""
        return len(self._data[digest]) if digest in self._memory else self._files.size(digest)

    def content(self, digest: Digest) -> Content | None:
        """A small blob as its bytes, a large one as its file (or bytes, without a directory); None if not held.

        The file stays for as long as the blob is pinned; whoever has it open can read it to its end in any case.
        """
        if digest in self._memory:
            self._memory.touch(digest)
            return self._data[digest]
        if digest not in self._files:
            return None
        path, size = self._path(digest), self._files.size(digest)
        try:
            os.utime(path)  # so that the order of use outlives a restart
            data = path.read_bytes() if size <= INLINE_BYTES_MAX else None
        except OSError:
            data, found = None, False
        else:
            found = data is None or digest_of(data) == digest
        if not found:
            self._remove(digest)  # someone cleaned up behind our back, or a crash of the machine tore it
            return None
        self._files.touch(digest)
        return path if data is None else data

    @property
    def bytes_held(self) -> int:
        return self._memory.bytes_held + self._files.bytes_held

    def notices(self) -> tuple[str, ...]:
        """Lines for a person."""
        tier = self._memory if self._directory is None else self._files
        if not tier.full or tier.oldest_idle() is not None:
            return ()
        held, limit = (f"{size / 2**30:.1f} GiB" for size in (tier.bytes_held, tier.bytes_max))
        return (f"blobs of running applications take {held}, over the store's limit of {limit}: raise store_bytes_max",)

    # --- what comes in

    def put(self, data: bytes, *, named: Digest | None = None) -> BlobRef:
        """Hold these bytes; blocks for as long as hashing and writing them takes.

        Args:
            named: What others call them: if that is right, the very same string is kept, which there may be many of.

        Raises:
            StorageError: the disk is full or does not write.
        """
        digest = digest_of(data)
        blob = BlobRef(named if named == digest else digest, len(data))
        self._keep(blob, data)
        return blob

    async def adopt(self, path: Path) -> BlobRef:
        """Take this file over: afterwards it is gone from its place. A symbolic link is followed, and what it names
        copied.

        Raises:
            StorageError: it cannot be read, or the store cannot be written.
        """
        with storage_errors(path):
            if not path.is_file():
                raise StorageError(f"{path} is not a file: only files can be outputs")
            if self._directory is None or path.stat().st_size <= INLINE_BYTES_MAX:
                blob = self.put(path.read_bytes())
                path.unlink()
                return blob
        moved = self._temporary(self._directory)
        with storage_errors(self._directory):
            try:
                blob = await trio.to_thread.run_sync(_move_and_name, path, moved)
            except BaseException:
                moved.unlink(missing_ok=True)
                raise
        self._keep(blob, moved)
        return blob

    async def receiving(self, blob: BlobRef) -> PartialBlob:
        """A place for the bytes of this blob, at the offset at which earlier ones broke off.

        Raises:
            RemoteProtocolError: the digest is none.
            StorageError: the disk is full or does not write.
        """
        if len(blob.digest) != 64 or blob.digest.strip("0123456789abcdef") or blob.size < 0:
            raise RemoteProtocolError(f"{blob.digest!r:.80} is not the name of a blob")
        if self._directory is None or blob.small:
            return PartialBlob(blob, keep=self._keep, closed=lambda: None)
        if blob.digest in self._arriving:
            # Two who send the same blob at once must not write into one file: the later one has its own.
            own = self._temporary(self._directory)
            return PartialBlob(blob, keep=self._keep, closed=lambda: own.unlink(missing_ok=True), path=own)
        path = self._directory / "partial" / blob.digest
        self._arriving.add(blob.digest)
        try:
            prefix, offset = None, 0
            with storage_errors(self._directory):
                if path.exists():
                    prefix, offset = await trio.to_thread.run_sync(_hash_prefix, path, blob.size)
            return PartialBlob(
                blob,
                keep=self._keep,
                closed=lambda: self._arriving.discard(blob.digest),
                path=path,
                prefix=prefix,
                offset=offset,
            )
        except BaseException:
            self._arriving.discard(blob.digest)
            raise

    # --- what may go

    def pin(self, app: AppId, digests: Iterable[Digest]) -> None:
        """While this application runs these stay, once they are here."""
        pins = self._pins.setdefault(app, set())
        for digest in digests:
            if digest not in pins:
                pins.add(digest)
                self._pin_counts[digest] = self._pin_counts.get(digest, 0) + 1
                self._memory.pin(digest)
                self._files.pin(digest)

    def release(self, app: AppId, *, keep: Iterable[Digest] = ()) -> None:
        """The application needs only these any more; what nobody needs stays until room is wanted."""
        pins = self._pins.pop(app, set())
        kept = pins.intersection(keep)
        if kept:
            self._pins[app] = kept
        for digest in pins - kept:
            self._pin_counts[digest] -= 1
            if not self._pin_counts[digest]:
                del self._pin_counts[digest]
                self._memory.unpin(digest)
                self._files.unpin(digest)
        self.trim()

    def drop(self, digests: Iterable[Digest]) -> None:
        """Delete these, but for those that an application pins."""
        for digest in digests:
            if digest not in self._pin_counts and self.has(digest):
                self._remove(digest)

    def trim(self, *, spare: Digest | None = None) -> None:
        """Drop the least recently used until all is within its limit; `spare` has just come and stays."""
        while self._memory.full:
            victim = self._memory.oldest_idle()
            if victim not in (None, spare):
                self._remove(victim)
            elif self._directory is None or (victim := self._memory.oldest()) in (None, spare):
                break
            else:
                self._spill(victim, self._directory)
        while self._files.full and (victim := self._files.oldest_idle()) not in (None, spare):
            self._remove(victim)

    # --- files

    def _open(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not resumable, and of a process that is gone.
        shutil.rmtree(directory / "temporary", ignore_errors=True)
        for name in ("temporary", "partial"):
            (directory / name).mkdir(mode=0o700, exist_ok=True)
        for partial in (directory / "partial").iterdir():
            if partial.stat().st_mtime < time.time() - PARTIAL_S_MAX:
                partial.unlink()
        found = []
        for folder in directory.iterdir():
            if len(folder.name) == 2:
                found += [(entry.stat(), entry.name) for entry in os.scandir(folder)]
        for stat, name in sorted(found, key=lambda each: each[0].st_mtime_ns):
            digest, _, size = name.partition(".")
            if size == str(stat.st_size):
                self._files.add(Digest(digest), stat.st_size)
            else:
                (directory / name[:2] / name).unlink(missing_ok=True)

    def _path(self, digest: Digest) -> Path:
        assert self._directory is not None
        return self._directory / digest[:2] / f"{digest}.{self._files.size(digest)}"

    def _temporary(self, directory: Path) -> Path:
        self._temporaries += 1
        return directory / "temporary" / str(self._temporaries)

    def _keep(self, blob: BlobRef, content: Content) -> None:
        """Hold checked content; a file is moved into its place."""
        if self.has(blob.digest):
            (self._memory if blob.digest in self._memory else self._files).touch(blob.digest)
            if isinstance(content, Path):
                content.unlink(missing_ok=True)
            return
        if isinstance(content, Path):
            self._place(blob, content)
        elif blob.small or self._directory is None:
            self._data[blob.digest] = content
            self._memory.add(blob.digest, blob.size + ENTRY_BYTES)
        else:
            self._write(blob, content, self._directory)
        self.trim(spare=blob.digest)

    def _spill(self, digest: Digest, directory: Path) -> None:
        data = self._data[digest]
        self._write(BlobRef(digest, len(data)), data, directory)
        del self._data[digest]
        self._memory.remove(digest)

    def _write(self, blob: BlobRef, data: bytes, directory: Path) -> None:
        path = self._temporary(directory)
        try:
            with storage_errors(directory):
                path.write_bytes(data)
            self._place(blob, path)
        except StorageError:
            path.unlink(missing_ok=True)
            raise

    def _place(self, blob: BlobRef, file: Path) -> None:
        assert self._directory is not None
        place = self._directory / blob.digest[:2] / f"{blob.digest}.{blob.size}"
        with storage_errors(self._directory):
            file.chmod(0o400)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            file.replace(place)
        self._files.add(blob.digest, blob.size)

    def _remove(self, digest: Digest) -> None:
        if digest in self._memory:
            del self._data[digest]
            self._memory.remove(digest)
            return
        path, size = self._path(digest), self._files.size(digest)
        self._files.remove(digest)
        with suppress(OSError):  # what cannot be deleted now is found again at the next start
            if size <= DELETED_AT_ONCE_BYTES_MAX or self._directory is None:
                path.unlink()
                return
            # Out of its place first, which is free for the same blob at once.
            moved = path.rename(self._temporary(self._directory))
            trio.lowlevel.start_thread_soon(lambda: moved.unlink(missing_ok=True), lambda outcome: None)


def _move_and_name(source: Path, target: Path) -> BlobRef:
    """Move a file, copying it where a rename cannot, and hash it where it then is, out of reach of its maker."""
    if source.is_symlink():
        shutil.copyfile(source, target)
    else:
        shutil.move(source, target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, hashlib.sha256).hexdigest()
        return BlobRef(Digest(digest), os.fstat(file.fileno()).st_size)


def _hash_prefix(path: Path, size_max: int) -> tuple[hashlib._Hash, int]:
    """The hash of what is there, and its length; more than there can be is thrown away."""
    if path.stat().st_size > size_max:
        path.unlink()
        return hashlib.sha256(), 0
    hasher, offset = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(HASH_BYTES):
            hasher.update(data)
            offset += len(data)
    return hasher, offset
