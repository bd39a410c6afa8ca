"""When an application lets others have slots that it claimed, and when it claims them again.

What it yields it keeps as long as nobody else wants it, so that one that is alone loses nothing; orders may go there,
too. Where the end is in sight (everything runs, and nothing waits for it) all claims are given up at once: then each
slot is another's the moment an attempt ends. Else only slots that nothing was found for during `YIELD_AFTER_S` are
yielded, so that of a graph whose next tasks come in a moment nothing is said at all. They are claimed again when more
is ready than there is room for: so a claim changes no more often than that.
"""

from __future__ import annotations

import math

from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.roster import Roster, queued_last_first
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import NodeId

YIELD_AFTER_S = 0.1


class Yielding:
    """Looks at what is spare after ready tasks were placed."""

    def __init__(self, state: ApplicationState, roster: Roster, attempts: Attempts, orders: Orders) -> None:
        self._state = state
        self._roster = roster
        self._attempts = attempts
        self._orders = orders
        self._spare_since_s = math.inf

    def placed(self, *, on_offer: bool, now_s: float) -> list[Effect]:
        """Nothing more can be placed at this moment. `on_offer`: but participants may still take something."""
        backlog = on_offer or bool(self._attempts.ready)
        effects: list[Effect] = []
        if self._roster.stirring:
            if backlog:
                effects += self._orders.recruit(list(self._roster.stirring))
            self._roster.stirring.clear()
        if not self._roster.claims or on_offer:
            self._spare_since_s = math.inf
            return effects
        return effects + self._orders.let_go(self._unneeded(backlog=backlog, now_s=now_s))

    def _unneeded(self, *, backlog: bool, now_s: float) -> list[NodeId]:
        if not backlog and self._others_wait():
            self._spare_since_s = math.inf
            return []
        if not backlog and self._state.sealed and self._state.blocked == 0:
            return list(self._roster.claims)
        if not self._roster.unused and (backlog or not self._roster.waiting):
            self._spare_since_s = math.inf
        elif self._spare_since_s == math.inf:
            self._spare_since_s = now_s
        elif now_s >= self._spare_since_s + YIELD_AFTER_S:
            self._spare_since_s = math.inf
            return [*self._roster.unused, *(() if backlog else self._roster.waiting)]
        return []

    def _others_wait(self) -> bool:
        """Attempts wait behind others: they may yet be brought to where slots are spare."""
        if self._state.runnable > self._roster.slots:
            return True
        return any(each.slots and any(queued_last_first(each)) for each in self._roster.overfull.values())

    def wake_s(self) -> float:
        return self._spare_since_s + YIELD_AFTER_S
