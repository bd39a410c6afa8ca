"""All that will happen in a simulated world, in one heap: a message costs an entry in it and no child of its own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import NoReturn

import trio

Action = Callable[[], None]


class Schedule:
    """Actions in order of time; those of the same instant in the order in which they were put in."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._numbers = count()
        self._sleeps_until_s = -math.inf
        self._earlier = trio.Event()

    @property
    def now_s(self) -> float:
        return trio.current_time()

    def at(self, when_s: float, action: Action) -> None:
        """Have this done at that time. There is no way to take it back: an action looks whether it still applies."""
        heapq.heappush(self._heap, (when_s, next(self._numbers), action))
        if when_s < self._sleeps_until_s:
            self._earlier.set()

    async def run(self) -> NoReturn:
        """Do everything when its time has come, for ever."""
        while True:
            self._do_what_is_due()
            self._earlier = trio.Event()
            self._sleeps_until_s = self._heap[0][0] if self._heap else math.inf
            with trio.move_on_at(self._sleeps_until_s):
                await self._earlier.wait()
            self._sleeps_until_s = -math.inf

    def _do_what_is_due(self) -> None:
        now_s = self.now_s
        while self._heap and self._heap[0][0] <= now_s:
            _, _, action = heapq.heappop(self._heap)
            action()
