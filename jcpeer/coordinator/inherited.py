"""What was under way where when the coordinator before this one was lost, by the word of its replicas.

Each such task waits until its participant says in this epoch what it has, or is gone, or does not answer for a while.
All that is not known to be under way is dispatched at once: so a takeover costs those tasks nothing, and the others are
not run twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AttemptName, NodeId
from jcpeer.wire.replication import UnderwayAttempt

SETTLE_S = 2.0
"""After a takeover, time for participants to say what they still run before it is given to others."""


class Inherited:
    """Attempts of earlier epochs that their participants have not spoken of yet; their tasks are held back."""

    def __init__(self, state: ApplicationState, attempts: Attempts) -> None:
        self._state = state
        self._attempts = attempts
        self._by_node: dict[NodeId, dict[AttemptName, UnderwayAttempt]] = {}
        self._until_s = math.inf

    def take(self, underway: Iterable[UnderwayAttempt], *, now_s: float) -> None:
        for each in underway:
            name = each.attempt
            record = self._state.tasks.get(name.task)
            # Of a task marked `once` the journal knows, and nothing else counts (`once`).
            if record is None or record.spec.once or record.standing != "pending" or record.past_of(name):
                self._attempts.news.ended(each)  # as the journal says, once that is committed
                continue
            self._by_node.setdefault(each.node, {})[name] = each
            self._attempts.note_number(name.task, name.number)
            self._attempts.hold_back(name.task)
        if self._by_node:
            self._until_s = now_s + SETTLE_S

    def __bool__(self) -> bool:
        return bool(self._by_node)

    @property
    def nodes(self) -> list[NodeId]:
        """Those that are still to speak."""
        return list(self._by_node)

    def spoke(self, node: NodeId) -> None:
        """It said what it has, which is booked: what it did not name it has not."""
        self._let_go(self._by_node.pop(node, {}))

    def ended(self, name: AttemptName, node: NodeId) -> bool:
        """Something became of this attempt there. Whether it was waited for."""
        waiting = self._by_node.get(node, {})
        each = waiting.pop(name, None)
        if each is None:
            return False
        if not waiting:
            del self._by_node[node]
        self._let_go({name: each})
        return True

    def lost(self, node: NodeId) -> list[AttemptName]:
        """The node is gone. Returns what it ran or had next in line, as far as is known: that may have felled it."""
        waiting = self._by_node.pop(node, {})
        first = list(waiting)[: max((each.slots for each in waiting.values()), default=0)]
        self._let_go(waiting)
        return first

    def due(self, *, now_s: float) -> list[NodeId]:
        """Who has not spoken in time; each once."""
        if now_s < self._until_s:
            return []
        self._until_s = math.inf
        return self.nodes

    def wake_s(self) -> float:
        """When somebody is due."""
        return self._until_s if self._by_node else math.inf

    def all(self) -> Iterator[UnderwayAttempt]:
        """Everything that was under way as far as is known still."""
        return (each for waiting in self._by_node.values() for each in waiting.values())

    def _let_go(self, waiting: Mapping[AttemptName, UnderwayAttempt]) -> None:
        for name, each in waiting.items():
            if self._attempts.node_of(name) is None:
                self._attempts.news.ended(each)
            self._attempts.let_go(name.task)
