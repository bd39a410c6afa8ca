"""All that will happen in a simulated world, by instants: a message costs a place in a list and no child of its own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import NoReturn

import trio

Action = Callable[[], None]

ABOUT_PER_S = 64
"""Instants a second for what is many and may as well come together."""


class Schedule:
    """Actions in order of time; those of the same instant in the order in which they were put in.

    What costs is the instant, for which trio's scheduler goes round once and which is one entry of the heap: actions
    that share one are nearly free.

    Attributes:
        instants: How many there were so far at which something was done.
    """

    def __init__(self) -> None:
        self.instants = 0
        self._instants: list[float] = []
        self._due: dict[float, list[Action]] = {}
        self._sleep = trio.CancelScope(deadline=-math.inf)
        self._acting_s: float | None = None

    @property
    def now_s(self) -> float:
        return trio.current_time() if self._acting_s is None else self._acting_s

    def at(self, when_s: float, action: Action) -> None:
        """Have this done at that time. There is no way to take it back: an action looks whether it still applies."""
        actions = self._due.get(when_s)
        if actions is not None:
            actions.append(action)
            return
        self._due[when_s] = [action]
        heapq.heappush(self._instants, when_s)
        if when_s < self._sleep.deadline:
            self._sleep.deadline = when_s

    def about(self, when_s: float, action: Action) -> None:
        """Have this done then or a moment later, with all else for which the instant does not matter."""
        self.at(math.ceil(when_s * ABOUT_PER_S) / ABOUT_PER_S, action)

    async def run(self) -> NoReturn:
        """Do everything when its time has come, for ever."""
        while True:
            self._do_what_is_due()
            self._sleep = trio.CancelScope(deadline=self._instants[0] if self._instants else math.inf)
            with self._sleep:
                await trio.sleep_forever()

    def _do_what_is_due(self) -> None:
        now_s = self._acting_s = trio.current_time()
        try:
            while self._instants and self._instants[0] <= now_s:
                self.instants += 1
                for action in self._due.pop(heapq.heappop(self._instants)):
                    action()
        finally:
            self._acting_s = None
