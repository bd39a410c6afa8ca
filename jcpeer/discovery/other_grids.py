"""Grids that are not ours, on this machine or network: a person is told how to join them while they are there."""

from __future__ import annotations

from attrs import define, field

from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId

OTHER_GRIDS_MAX = 16
"""Other grids of which a person is told; anybody on the local network can make up more."""
OTHER_GRID_NODES_MAX = 64
"""Nodes by which another grid is known to be there still."""


@define(eq=False)
class _OtherGrid:
    """Within sight as long as one of its nodes is."""

    text: str
    nodes: set[NodeId] = field(factory=set)


class OtherGrids:
    """Which other grids are within sight."""

    def __init__(self, grid: str) -> None:
        """`grid` is the fingerprint of our own."""
        self._grid = grid
        self._others: dict[str, _OtherGrid] = {}

    def see(self, sighting: Sighting) -> tuple[bool, str | None]:
        """A node was seen. Returns whether it is of another grid, and the line about that grid if it is news."""
        if sighting.node is not None:
            self.lose_sight(sighting.node)  # it may have moved from one grid to another
        if not sighting.grid or sighting.grid == self._grid:
            return False, None
        if sighting.node is None:
            return True, None
        other = self._others.get(sighting.grid)
        if other is not None:
            if len(other.nodes) < OTHER_GRID_NODES_MAX:
                other.nodes.add(sighting.node)
            return True, None
        if len(self._others) >= OTHER_GRIDS_MAX and not self._forget_one_out_of_sight():
            return True, None
        text = _how_to_join(sighting)
        self._others[sighting.grid] = _OtherGrid(text, {sighting.node})
        return True, text

    def lose_sight(self, node: NodeId) -> None:
        """It ended, or went elsewhere."""
        for other in self._others.values():
            other.nodes.discard(node)

    def notices(self) -> tuple[str, ...]:
        """Lines for a person, as long as they are true."""
        return tuple(other.text for other in self._others.values() if other.nodes)

    def check(self) -> None:
        """Asserts the invariants."""
        assert len(self._others) <= OTHER_GRIDS_MAX
        assert self._grid not in self._others

    def _forget_one_out_of_sight(self) -> bool:
        gone = next((grid for grid, other in self._others.items() if not other.nodes), None)
        return gone is not None and self._others.pop(gone, None) is not None


def _how_to_join(sighting: Sighting) -> str:
    name = f"{_printable(sighting.grid_name)!r} ({_printable(sighting.grid)})"
    where = "on this machine" if sighting.source == "machine" else "on this network"
    host = f", on {_printable(sighting.host)}" if sighting.host else ""
    return (
        f"another grid is {where}: {name}{host}; to join it, `jcpeer grid invite` there "
        "and `jcpeer grid join TOKEN` here"
    )


def _printable(text: str) -> str:
    """What strangers call themselves, fit for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:64])
