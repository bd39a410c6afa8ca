"""What another coordinator had journalled while both went on without each other, as far as it differs from ours.

Ours stands (its epoch is higher). A foreign outcome fills a gap by the rule for all outcomes, a foreign cancel holds,
and what ran twice, or has another result than was shown, is named.
"""

from __future__ import annotations

from attrs import define, field

from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import Digest, NodeId, TaskId
from jcpeer.wire.facts import Reconciled
from jcpeer.wire.messages import Outcome
from jcpeer.wire.replication import Diverged, RanThere


@define
class _Differences:
    twice: dict[TaskId, None] = field(factory=dict)
    changed: dict[TaskId, None] = field(factory=dict)


class Reconciling:
    """Compares part by part; what is said again counts once."""

    def __init__(self, state: ApplicationState) -> None:
        self._state = state
        self._found: dict[NodeId, _Differences] = {}

    def compare(self, node: NodeId, message: Diverged) -> list[RanThere]:
        """Note what differs; returns the outcomes of tasks that have no result here."""
        found = self._found.setdefault(node, _Differences())
        to_take = []
        for each in message.outcomes:
            record = self._state.tasks.get(each.outcome.task)
            if record is None:
                continue
            result = record.result
            if result is None:
                to_take.append(each)
            elif result.outcome.attempt != each.outcome.attempt and each.outcome.failure is None:
                same = _left(result.outcome) == _left(each.outcome)
                (found.twice if same else found.changed)[each.outcome.task] = None
        return to_take

    def refused(self, node: NodeId, task: TaskId) -> None:
        """Its outcome does not fit, since it was made from another result than stands here: it runs again."""
        self._found.setdefault(node, _Differences()).changed[task] = None

    def conclude(self, node: NodeId) -> Reconciled | None:
        """All of it was compared. None where it was before."""
        found = self._found.pop(node)
        fact = Reconciled(node, tuple(found.twice), tuple(found.changed))
        return None if fact in self._state.reconciled else fact


def _left(outcome: Outcome) -> dict[str, Digest]:
    return {each.name: each.blob.digest for each in outcome.outputs}
