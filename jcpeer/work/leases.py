"""Room that a participant holds for others for a moment, so that what they hand over need not be refused."""

from __future__ import annotations

import math

from attrs import frozen

from jcpeer.ids import AppId, NodeId

LEASE_S = 1.0


@frozen
class Lease:
    slots: int
    until_s: float


class Leases:
    """At most one for each search of each node; one that is not used ends by itself."""

    def __init__(self) -> None:
        self._held: dict[tuple[NodeId, AppId, int], Lease] = {}
        self.slots = 0
        """What is held in all."""

    def hold(self, node: NodeId, app: AppId, search: int, slots: int, *, now_s: float) -> None:
        self.end(node, app, search)
        self._held[node, app, search] = Lease(slots, now_s + LEASE_S)
        self.slots += slots

    def held_for(self, app: AppId) -> int:
        """How many slots, whoever is to hand something over."""
        return sum(each.slots for (_, held_for, _), each in self._held.items() if held_for == app)

    def end(self, node: NodeId, app: AppId, search: int) -> None:
        """It was used, or is not wanted."""
        lease = self._held.pop((node, app, search), None)
        if lease is not None:
            self.slots -= lease.slots

    def end_old(self, *, now_s: float) -> None:
        for key, each in list(self._held.items()):
            if each.until_s <= now_s:
                self.end(*key)

    def wake_s(self) -> float:
        return min((each.until_s for each in self._held.values()), default=math.inf)

    def check(self) -> None:
        """Assert what holds after each event."""
        assert self.slots == sum(each.slots for each in self._held.values())
