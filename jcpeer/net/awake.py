"""Time as it passes for somebody who may be held up: it stands still while he is."""

from __future__ import annotations


class AwakeClock:
    """A clock that leaves out whatever came late, so that nobody takes his own pause for the silence of others.

    Read it at least every `tick_s`. From the moment when the next reading was due it stands still until it is read
    again: a late tick, a stalled process or a stopped one takes no time. Every reading counts as a sign that we are
    awake, so the first one after a pause, be it for a peer's word or a tick, sets the clock right before any silence is
    measured.

    Source: after the idea of Dadgar, Phillips and Currey, Lifeguard (2018), that a watcher distrusts itself when slow.
    """

    def __init__(self, *, tick_s: float) -> None:
        self._tick_s = tick_s
        self._read_s: float | None = None
        self._excused_s = 0.0

    def read(self, now_s: float) -> float:
        """What it shows now."""
        if self._read_s is not None:
            self._excused_s += max(0.0, now_s - self._read_s - self._tick_s)
        self._read_s = now_s
        return now_s - self._excused_s

    @property
    def due_s(self) -> float | None:
        """By when it wants to be read next, by the clock of whoever reads it; None before the first time."""
        return None if self._read_s is None else self._read_s + self._tick_s

    def check(self) -> None:
        """Assert the invariants."""
        assert self._excused_s >= 0, "no pause gives time back"
