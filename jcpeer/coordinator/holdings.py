"""Which nodes hold which blobs of one application, as far as they have said, and when that is doubted.

What the journal has, whoever coordinates has: there may be millions of these, and they are not here. Soft knowledge: a
holder that is silent about having dropped a blob is believed until it is lost, or until the blob was not to be had from
anybody twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from jcpeer.ids import Digest, NodeId

DOUBTS_MAX = 2
"""One failure to get a blob may be the asker's; after the second its holders are taken to have lost it."""
GROUPS_MAX = 10_000
NOBODY: frozenset[NodeId] = frozenset()


class Holdings:
    """Blob → holders, and back. `me` is the coordinator's own node, which is not doubted by others' failures.

    Invariants: see `check`.
    """

    def __init__(self, *, me: NodeId) -> None:
        self._me = me
        self._holders: dict[Digest, frozenset[NodeId]] = {}
        self._groups: dict[frozenset[NodeId], frozenset[NodeId]] = {}
        """Blobs with the same holders share one set: there are many blobs, and few such groups."""
        self._held: dict[NodeId, dict[Digest, None]] = {}
        """The same by node, but for this one, which is never lost; in the order in which it became known."""
        self._doubts: dict[Digest, int] = {}

    def of(self, digest: Digest) -> frozenset[NodeId]:
        return self._holders.get(digest, NOBODY)

    def at(self, node: NodeId) -> Collection[Digest]:
        """What another node holds, in the order in which that became known; not to be changed."""
        return self._held.get(node, {})

    def nodes(self) -> frozenset[NodeId]:
        """All others that hold something."""
        return frozenset(self._held)

    def holds(self, node: NodeId, digest: Digest) -> bool:
        return node in self.of(digest)

    def add(self, node: NodeId, digest: Digest) -> None:
        holders = self._holders.get(digest, NOBODY)
        if node in holders:
            return
        self._set(digest, holders | {node})
        if node != self._me:
            self._held.setdefault(node, {})[digest] = None

    def add_if_known(self, node: NodeId, digests: Iterable[Digest]) -> None:
        """A node says that it fetched these; what is no blob of the application is passed over."""
        for digest in digests:
            if digest in self._holders:
                self.add(node, digest)

    def remove(self, nodes: Iterable[NodeId], digest: Digest) -> None:
        holders = self.of(digest)
        gone = holders.intersection(nodes)
        if not gone:
            return
        self._set(digest, holders - gone)
        for node in gone - {self._me}:
            held = self._held[node]
            del held[digest]
            if not held:
                del self._held[node]

    def remove_each(self, node: NodeId, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self.remove((node,), digest)

    def lose(self, node: NodeId) -> list[Digest]:
        """Another node is gone; returns what nobody has any more."""
        lost = self._held.pop(node, {})
        for digest in lost:
            self._set(digest, self._holders[digest] - {node})
        return [digest for digest in lost if not self._holders[digest]]

    def doubt(self, digest: Digest) -> bool:
        """Nobody gave this blob though none of its holders is known to be gone. True when they no longer count."""
        self._doubts[digest] = self._doubts.get(digest, 0) + 1
        if self._doubts[digest] < DOUBTS_MAX:
            return False
        del self._doubts[digest]
        self.remove(self.of(digest) - {self._me}, digest)
        return True

    def _set(self, digest: Digest, holders: frozenset[NodeId]) -> None:
        if len(self._groups) > GROUPS_MAX:
            self._groups.clear()
        self._holders[digest] = self._groups.setdefault(holders, holders)

    def check(self) -> None:
        """Assert what holds after each event."""
        by_node = {(node, digest) for node, held in self._held.items() for digest in held}
        holders = {(node, digest) for digest, nodes in self._holders.items() for node in nodes}
        assert by_node == {each for each in holders if each[0] != self._me}
        assert all(self._held.values())
