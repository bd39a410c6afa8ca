"""Which nodes hold which blobs of one application, as far as they have said, and when that is doubted.

Soft knowledge: a holder that is silent about having dropped a blob is believed until it is lost, or until the blob was
not to be had from anybody twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.ids import Digest, NodeId

DOUBTS_MAX = 2
"""One failure to get a blob may be the asker's; after the second its holders are taken to have lost it."""


NOBODY: frozenset[NodeId] = frozenset()


class Holdings:
    """Blob → holders. `me` is the coordinator's own node, which is not doubted by others' failures."""

    def __init__(self, *, me: NodeId) -> None:
        self._me = me
        self._holders: dict[Digest, frozenset[NodeId]] = {}
        self._groups: dict[frozenset[NodeId], frozenset[NodeId]] = {}
        """Blobs with the same holders share one set: there are many blobs, and few such groups."""
        self._doubts: dict[Digest, int] = {}

    def of(self, digest: Digest) -> frozenset[NodeId]:
        return self._holders.get(digest, NOBODY)

    def has_any(self, node: NodeId) -> bool:
        """Whether this node holds something. Looks at every blob, if need be."""
        return any(node in holders for holders in self._holders.values())

    def nodes(self) -> frozenset[NodeId]:
        """All that hold something. Looks at every blob."""
        return frozenset().union(*self._holders.values())

    def holds(self, node: NodeId, digest: Digest) -> bool:
        return node in self.of(digest)

    def add(self, node: NodeId, digest: Digest) -> None:
        holders = self.of(digest)
        if node not in holders:
            self._set(digest, holders | {node})

    def add_if_known(self, node: NodeId, digests: Iterable[Digest]) -> None:
        """A node says that it fetched these; what is no blob of the application is passed over."""
        for digest in digests:
            if digest in self._holders:
                self.add(node, digest)

    def remove(self, nodes: Iterable[NodeId], digest: Digest) -> None:
        if digest in self._holders:
            self._set(digest, self._holders[digest].difference(nodes))

    def remove_each(self, node: NodeId, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self.remove((node,), digest)

    def lose(self, node: NodeId) -> frozenset[Digest]:
        """A node is gone; returns what it held. A death is rare, so it may look at every blob."""
        lost = frozenset(digest for digest, holders in self._holders.items() if node in holders)
        for digest in lost:
            self.remove((node,), digest)
        return lost

    def _set(self, digest: Digest, holders: frozenset[NodeId]) -> None:
        self._holders[digest] = self._groups.setdefault(holders, holders)

    def doubt(self, digest: Digest) -> bool:
        """Nobody gave this blob though none of its holders is known to be gone. True when they no longer count."""
        self._doubts[digest] = self._doubts.get(digest, 0) + 1
        if self._doubts[digest] < DOUBTS_MAX:
            return False
        del self._doubts[digest]
        self._set(digest, self.of(digest) & {self._me})
        return True
