"""Outputs whose holders, as the journal has it, were gone already when this node took over.

Others may have fetched them: whoever works for the application says so when it is called up. Until all have spoken, or
for a while, tasks that would read such an output wait; then what nobody has is made anew.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.inherited import SETTLE_S
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import NodeId, TaskId


class Orphans:
    """After one takeover."""

    def __init__(self, state: ApplicationState, attempts: Attempts, holdings: Holdings) -> None:
        self._state = state
        self._attempts = attempts
        self._holdings = holdings
        self._gone: frozenset[NodeId] = frozenset()
        self._awaited: set[NodeId] = set()
        self._held_back: list[TaskId] = []
        self._until_s = math.inf

    def take(self, present: Collection[NodeId], *, awaited: Iterable[NodeId], now_s: float) -> None:
        """Those who are `present` hold what they are said to hold; the `awaited` are yet to speak."""
        self._gone = self._holdings.nodes() - frozenset(present)
        if not self._gone:
            return
        self._awaited, self._until_s = set(awaited), now_s + SETTLE_S
        held = {digest for node in self._gone for digest in self._holdings.at(node)}
        orphaned = {digest for digest in held if not self._holdings.of(digest) - self._gone}
        for task, record in self._state.tasks.items() if orphaned else ():
            if record.runnable and not orphaned.isdisjoint(self._state.consumed(task) or ()):
                self._attempts.hold_back(task)
                self._held_back.append(task)

    def spoke(self, node: NodeId) -> None:
        """It said what it holds, or is gone, too."""
        self._awaited.discard(node)

    def are_due(self, *, now_s: float) -> bool:
        return bool(self._gone) and (not self._awaited or now_s >= self._until_s)

    def due(self) -> frozenset[NodeId]:
        """Who is gone for good, with what only they held. `let_go` follows."""
        gone, self._gone, self._until_s = self._gone, frozenset(), math.inf
        return gone

    def let_go(self) -> None:
        """What is lost is known: the tasks go on, or wait for their inputs to be made anew."""
        held_back, self._held_back = self._held_back, []
        for task in held_back:
            self._attempts.let_go(task)

    def wake_s(self) -> float:
        """When they are due at the latest."""
        return self._until_s
