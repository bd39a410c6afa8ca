"""A child that calls a machine when its time has come, and sleeps otherwise: an idle node costs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import trio


class Alarm:
    """Rings at `wake_s()`. Whoever may have brought that time forward says so by `look`."""

    def __init__(self, wake_s: Callable[[], float], ring: Callable[[], None]) -> None:
        self._wake_s = wake_s
        self._ring = ring
        self._set_s = math.inf
        self._earlier = trio.Event()

    def look(self) -> None:
        """Something happened: is there an earlier time now?"""
        if self._wake_s() < self._set_s:
            self._earlier.set()

    async def run(self) -> NoReturn:
        """For ever. A time that has passed rings at once, and again until the machine sets a later one."""
        while True:
            self._set_s = self._wake_s()
            self._earlier = trio.Event()
            with trio.move_on_at(self._set_s) as scope:
                await self._earlier.wait()
            if scope.cancelled_caught:
                self._set_s = -math.inf
                self._ring()
