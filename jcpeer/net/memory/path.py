"""From one node to another: how long it takes, and whether anything arrives at present."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from jcpeer.ids import NodeId
from jcpeer.net.memory.schedule import Action

if TYPE_CHECKING:
    from jcpeer.net.memory.node import MemoryNetwork
    from jcpeer.net.memory.world import MemoryWorld

GRAINS_PER_S_MAX = 4096
GRAINS_PER_S_MIN = 64
GRAINS_PER_LATENCY = 16
"""Arrivals fall on grains of time, this many of them in the longest latency: each instant at which anything happens
costs a round of trio's scheduler, however much happens in it."""


class Path:
    """One way between two nodes, for packets, messages and bytes alike."""

    __slots__ = ("_grains_per_s", "_least_s", "_source", "_spread_s", "_target", "_world", "schedule")

    def __init__(self, world: MemoryWorld, source: MemoryNetwork, target: MemoryNetwork) -> None:
        least_s, most_s = world.latency_of(source.me, target.me)
        self.schedule = world.schedule
        self._world = world
        self._source = source
        self._target = target
        self._least_s = least_s
        self._spread_s = most_s - least_s
        self._grains_per_s = world.grains_per_s or _grains_per_s(most_s)

    @property
    def source(self) -> NodeId:
        return self._source.me

    @property
    def blocked(self) -> bool:
        """Nothing arrives at present."""
        source, target = self._source, self._target
        cuts = self._world.cuts
        return source.stopped or target.stopped or (cuts.any and cuts.between(source.me, target.me))

    def arrival_s(self, size: int) -> float:
        """When so many bytes arrive that depart now."""
        world = self._world
        at_s = world.schedule.now_s
        if world.bandwidth is not None:
            at_s = max(at_s, self._source.uplink_free_s) + size / world.bandwidth
            self._source.uplink_free_s = at_s
        at_s += self._least_s + self._spread_s * world.random.random()
        while world.loss and world.random.random() < world.loss:
            at_s += world.retransmit_s
        return math.ceil(at_s * self._grains_per_s) / self._grains_per_s

    def carry(self, action: Action) -> None:
        """A packet of a handshake: this is done at the other end, or it is lost and whoever waits gives up in time."""
        self.schedule.at(self.arrival_s(0), lambda: None if self.blocked else action())


@functools.lru_cache(maxsize=1024)
def _grains_per_s(latency_s: float) -> int:
    """A power of two, so that instants of different paths coincide and are exact."""
    if latency_s * GRAINS_PER_S_MAX <= GRAINS_PER_LATENCY:
        return GRAINS_PER_S_MAX
    return max(GRAINS_PER_S_MIN, 1 << max(0, math.ceil(math.log2(GRAINS_PER_LATENCY / latency_s))))
