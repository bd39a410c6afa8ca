"""Discovery on a simulated local network: whoever announces itself is seen by all others a moment later."""

from __future__ import annotations

import math

import trio

from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.messages import NodeRecord


class Lan:
    """One local network. `seen_after_s` is the least and the most that an announcement takes."""

    def __init__(self, world: MemoryWorld, *, grid: str, seen_after_s: tuple[float, float] = (0.05, 0.3)) -> None:
        self._world = world
        self._grid = grid
        self._seen_after_s = seen_after_s
        self._members: list[LanDiscovery] = []

    def join(self) -> LanDiscovery:
        """A node's way of discovery on this network."""
        member = LanDiscovery(self)
        self._members.append(member)
        return member

    def leave(self, member: LanDiscovery) -> None:
        """Without a goodbye: the others have to find out."""
        self._members.remove(member)

    def introduce(self, member: LanDiscovery) -> None:
        """Everybody hears of the newcomer, and it of everybody."""
        for other in self._members:
            if other is not member and other.record is not None:
                self._show(member, to=other)
                self._show(other, to=member)

    def _show(self, member: LanDiscovery, *, to: LanDiscovery) -> None:
        record = member.record
        assert record is not None
        sighting = Sighting("simulated", record.node, record.addresses, grid=self._grid, incarnation=record.incarnation)
        delay_s = self._world.random.uniform(*self._seen_after_s)
        self._world.schedule.about(self._world.schedule.now_s + delay_s, lambda: to.see(sighting))


class LanDiscovery:
    """One node's view of the network (`discovery.sighting.Discovery`)."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self.record: NodeRecord | None = None
        self._send, self.sightings = trio.open_memory_channel[Sighting | Farewell](math.inf)

    def announce(self, record: NodeRecord) -> None:
        is_new = self.record is None
        self.record = record
        if is_new:
            self._lan.introduce(self)

    def see(self, sighting: Sighting) -> None:
        self._send.send_nowait(sighting)
