"""When to begin anew from somebody who is not in the table.

Tables can be wrong together: after many joined at one moment, or a network that was divided has healed, each node knows
its own part, and asking those one knows leads back to whom one knows. Measured: looking up oneself from *one other
member alone* puts that right, once every node has done so. So each node does it for ever, at intervals with jitter
that grow while all is quiet, and are small again when something smells of many that joined, died or came back.
"""

from __future__ import annotations

import math

FIRST_S = 20.0
"""The mean interval; each is between a half and one and a half of it."""
MAX_S = 300.0
MISSING_S = 3600.0
"""For so long after the last loss the intervals stay short: that long a divided network heals within one of them."""
SEVERAL = 3
"""So many newcomers or deaths within one interval cut it short."""


class Upkeep:
    """The times at which to begin anew, `max_s` apart at most while all is quiet."""

    def __init__(self, *, max_s: float = MAX_S) -> None:
        self._max_s = max_s
        self._due_s = math.inf
        self._mean_s = FIRST_S
        self._changes = 0

    def begin(self, now_s: float, drawn: float) -> None:
        """There is somebody now."""
        if self._due_s == math.inf:
            self._due_s = now_s + self._interval_s(drawn)

    def changed(self, now_s: float, drawn: float, *, returned: bool = False) -> None:
        """Somebody is new, was lost, or `returned` from the dead."""
        self._changes += 1
        if self._mean_s > FIRST_S and (returned or self._changes >= SEVERAL):
            self._mean_s = FIRST_S
            self._due_s = min(self._due_s, now_s + self._interval_s(drawn))

    def begun(self, now_s: float, drawn: float, *, last_loss_s: float) -> None:
        """It was time, and the next interval begins. `last_loss_s` is of those that are still missing."""
        quiet = self._changes == 0 and now_s > last_loss_s + MISSING_S
        self._mean_s = min(2 * self._mean_s, self._max_s) if quiet else FIRST_S
        self._changes = 0
        self._due_s = now_s + self._interval_s(drawn)

    def wake_s(self) -> float:
        """When it is time."""
        return self._due_s

    def _interval_s(self, drawn: float) -> float:
        return self._mean_s * (0.5 + drawn)
