"""Where the nodes of a simulation stand, and how far that is from each other."""

from __future__ import annotations

from jcpeer.ids import NodeId
from jcpeer.net.memory.world import Latency


class Sites:
    """Near each other within a site, far from each other otherwise. `latency_s` is what a world wants to know."""

    def __init__(self, *, near_s: Latency = (0.0005, 0.002), far_s: Latency = (0.01, 0.05)) -> None:
        self._near_s = near_s
        self._far_s = far_s
        self._site_of: dict[NodeId, str | None] = {}

    def put(self, node: NodeId, site: str | None) -> None:
        """A node stands there from now on."""
        self._site_of[node] = site

    def latency_s(self, one: NodeId, other: NodeId) -> Latency:
        """The least and the most that a message takes."""
        site = self._site_of.get(one)
        return self._near_s if site is not None and site == self._site_of.get(other) else self._far_s
