"""Between whom nothing goes, without a look at each pair: half a world cut from the other half has a million pairs."""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.ids import NodeId


class Cuts:
    """Each cut is a bit, which marks those who cannot send across it and those who cannot be reached across it.

    Attributes:
        any: There are some.
    """

    def __init__(self) -> None:
        self.any = False
        self._bit = 1
        self._unheard: dict[NodeId, int] = {}
        self._unreached: dict[NodeId, int] = {}

    def add(self, from_nodes: Iterable[NodeId], to_nodes: Iterable[NodeId]) -> None:
        """Nothing goes from these to those any more."""
        self.any = True
        for marks, nodes in ((self._unheard, from_nodes), (self._unreached, to_nodes)):
            for node in nodes:
                marks[node] = marks.get(node, 0) | self._bit
        self._bit <<= 1

    def between(self, source: NodeId, target: NodeId) -> bool:
        """Nothing goes this way."""
        return self._unheard.get(source, 0) & self._unreached.get(target, 0) != 0

    def touch(self, node: NodeId) -> bool:
        """The node is at one side of a cut."""
        return node in self._unheard or node in self._unreached

    def clear(self) -> None:
        """None any more."""
        self.any = False
        self._bit = 1
        self._unheard.clear()
        self._unreached.clear()
