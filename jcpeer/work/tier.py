"""What one tier of the blob store holds, in order of last use, and what may go first. It stores nothing itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from jcpeer.ids import Digest


class Tier:
    """Sizes by digest within a limit. Every step costs the same, however much is held or pinned.

    Invariants: see `check`.
    """

    def __init__(self, bytes_max: int, *, pinned: Container[Digest]) -> None:
        """`pinned` is asked at each addition; later changes of it are told by `pin` and `unpin`."""
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self._pinned = pinned
        self._sizes: OrderedDict[Digest, int] = OrderedDict()
        self._idle: OrderedDict[Digest, None] = OrderedDict()

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def full(self) -> bool:
        """More is held than should be."""
        return self.bytes_held > self.bytes_max

    def size(self, digest: Digest) -> int:
        return self._sizes[digest]

    def add(self, digest: Digest, size: int) -> None:
        if digest in self._sizes:
            self.remove(digest)
        self._sizes[digest] = size
        self.bytes_held += size
        if digest not in self._pinned:
            self._idle[digest] = None

    def remove(self, digest: Digest) -> None:
        self.bytes_held -= self._sizes.pop(digest)
        self._idle.pop(digest, None)

    def touch(self, digest: Digest) -> None:
        """It was just used."""
        self._sizes.move_to_end(digest)
        if digest in self._idle:
            self._idle.move_to_end(digest)

    def pin(self, digest: Digest) -> None:
        self._idle.pop(digest, None)

    def unpin(self, digest: Digest) -> None:
        if digest in self._sizes:
            self._idle[digest] = None

    def oldest_idle(self) -> Digest | None:
        """What nobody pinned and nobody used for longest."""
        return next(iter(self._idle), None)

    def oldest(self) -> Digest | None:
        return next(iter(self._sizes), None)

    def check(self) -> None:
        assert self.bytes_held == sum(self._sizes.values())
        assert set(self._idle) == {digest for digest in self._sizes if digest not in self._pinned}
