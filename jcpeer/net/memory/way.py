"""One direction of a connection: order, latency, and waiting while the path is blocked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from jcpeer.net.memory.path import Path


class Way:
    """What is put in comes out later, once each and in order; nothing comes out while the path is blocked.

    As over TCP nothing is lost in between: what was lost once is sent again and comes later, and so does all behind it.
    """

    __slots__ = ("_armed", "_come_out", "_items", "_latest_s", "path", "waiting_bytes")

    def __init__(self, path: Path, come_out: Callable[[object], None]) -> None:
        self.path = path
        self.waiting_bytes = 0
        self._come_out = come_out
        self._items: deque[tuple[float, int, object]] = deque()
        self._latest_s = 0.0
        self._armed = False

    def put(self, item: object, *, size: int) -> None:
        self._append(max(self._latest_s, self.path.arrival_s(size)), size, item)

    def put_last(self, item: object) -> None:
        """Comes out together with what is before it, if anything is."""
        self._append(self._items[-1][0] if self._items else self.path.arrival_s(0), 0, item)

    def resume(self) -> None:
        """The path may be free again: what waited is sent once more."""
        if self._items and not self._armed and not self.path.blocked:
            self._arm(self.path.arrival_s(0))

    def clear(self) -> None:
        """What is on its way never arrives."""
        self._items.clear()
        self.waiting_bytes = 0

    def seal(self) -> None:
        """Nothing comes out any more, whatever is on its way or is still put in."""
        self.clear()
        self._come_out = _drop

    def _append(self, when_s: float, size: int, item: object) -> None:
        self._latest_s = when_s
        self._items.append((when_s, size, item))
        self.waiting_bytes += size
        if not self._armed:
            self._arm(when_s)

    def _arm(self, when_s: float) -> None:
        """There is at most one entry in the schedule, for the first item."""
        self._armed = True
        self.path.schedule.at(when_s, self._deliver)

    def _deliver(self) -> None:
        self._armed = False
        now_s = self.path.schedule.now_s
        while self._items and self._items[0][0] <= now_s:
            if self.path.blocked:
                return
            _, size, item = self._items.popleft()
            self.waiting_bytes -= size
            self._come_out(item)
        if self._items and not self._armed:
            self._arm(self._items[0][0])


def _drop(item: object) -> None: ...
