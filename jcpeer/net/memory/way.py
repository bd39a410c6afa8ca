"""One direction of a connection: order, latency, and waiting while the path is blocked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from jcpeer.ids import NodeId
from jcpeer.net.memory.schedule import Action, Schedule


class Path(Protocol):
    """From one node to another, as things stand."""

    @property
    def schedule(self) -> Schedule: ...

    @property
    def source(self) -> NodeId: ...

    @property
    def blocked(self) -> bool:
        """Nothing arrives at present."""

    def arrival_s(self, size: int) -> float:
        """When so many bytes arrive that depart now."""


class Way:
    """What is put in comes out later, once each and in order; nothing comes out while the path is blocked.

    As over TCP nothing is lost in between: what was lost once is sent again and comes later, and so does all behind it.
    """

    def __init__(self, path: Path, come_out: Callable[[object], None]) -> None:
        self._path = path
        self._come_out = come_out
        self._items: deque[tuple[float, int, object]] = deque()
        self._latest_s = 0.0
        self._armed = False
        self.waiting_bytes = 0

    def put(self, item: object, *, size: int) -> None:
        self._latest_s = max(self._latest_s, self._path.arrival_s(size))
        self._items.append((self._latest_s, size, item))
        self.waiting_bytes += size
        if not self._armed:
            self._arm(self._latest_s)

    def resume(self) -> None:
        """The path may be free again: what waited is sent once more."""
        if self._items and not self._armed and not self._path.blocked:
            self._arm(self._path.arrival_s(0))

    def clear(self) -> None:
        """What is on its way never arrives."""
        self._items.clear()
        self.waiting_bytes = 0

    def _arm(self, when_s: float) -> None:
        """There is at most one entry in the schedule, for the first item."""
        self._armed = True
        self._path.schedule.at(when_s, self._deliver)

    def _deliver(self) -> None:
        self._armed = False
        now_s = self._path.schedule.now_s
        while self._items and self._items[0][0] <= now_s:
            if self._path.blocked:
                return
            _, size, item = self._items.popleft()
            self.waiting_bytes -= size
            self._come_out(item)
        if self._items and not self._armed:
            self._arm(self._items[0][0])


def carry(path: Path, action: Action) -> None:
    """A packet of a handshake: this is done at the other end, or it is lost and whoever waits gives up in time."""
    path.schedule.at(path.arrival_s(0), lambda: None if path.blocked else action())
