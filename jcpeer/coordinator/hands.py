"""Attempts that were not ordered here, and whose hands they are in, by the word of participants.

Each is booked as under way at one node, so that its loss is noticed and its task is not placed twice; one that is of
no use any more is booked, too, until it has stopped. What somebody says of another is believed as long as nothing
better is known, and the other is asked.
"""

from __future__ import annotations

from jcpeer.coordinator.absences import Absences
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.room import Assigned, Participant
from jcpeer.coordinator.roster import Roster, slots_of
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.wire.messages import InHand


class Hands:
    """Books what participants say that they, or others, have."""

    def __init__(
        self, recorder: Recorder, roster: Roster, attempts: Attempts, orders: Orders, absences: Absences
    ) -> None:
        self._state = recorder.state
        self._recorder = recorder
        self._roster = roster
        self._attempts = attempts
        self._orders = orders
        self._absences = absences

    def has(self, participant: Participant, name: AttemptName, *, now_s: float) -> list[Effect]:
        """A participant has this attempt, to which it was not ordered."""
        node = participant.record.node
        record = self._state.tasks.get(name.task)
        if record is None or not self._attempts.may_exist(name, self._recorder.epoch):
            return self._orders.stop(node, [name])
        before = self._attempts.node_of(name)
        if before == node:
            return []
        moved = self._attempts.forget(name) if before is not None else None
        wanted = record.standing == "pending" and not self._attempts.of(name.task)
        if moved is not None:
            wanted = moved.state != "cancelling"
        self._attempts.note_number(name.task, name.number)
        attempt = Assigned(name, slots_of(record.spec.needs), now_s, "assigned" if wanted else "cancelling")
        self._attempts.give(participant, attempt)
        return [] if wanted else self._orders.stop(node, [name])

    def told(self, hand: InHand, *, sender: NodeId, finished: set[TaskId], now_s: float) -> list[Effect]:
        """A report says who has a successor of a task; those `finished` had not been before."""
        name, node = hand.attempt, hand.node or sender
        record = self._state.tasks.get(name.task)
        if record is None or node == self._attempts.node_of(name):
            return []
        if node == sender:
            return self._told_of_itself(node, name, now_s=now_s)
        moves = self._attempts.node_of(name) == sender
        is_news = record.standing == "pending" and not self._attempts.of(name.task) and not self._is_past(name)
        if not moves and not (is_news and not finished.isdisjoint(record.spec.parents())):
            return []  # what the other said itself counts, or that it is gone
        participant = self._roster.participants.get(node) or self._take_part(node, now_s=now_s)
        if participant is None:
            if moves:
                self._attempts.free(name)
            return []
        self._absences.doubt(participant, [name])
        return [*self.has(participant, name, now_s=now_s), *self._orders.recruit([node])]

    def _told_of_itself(self, node: NodeId, name: AttemptName, *, now_s: float) -> list[Effect]:
        if self._attempts.node_of(name) is not None or self._is_past(name):
            return []  # it has been handed on meanwhile
        if (participant := self._roster.participants.get(node)) is None:
            return self._orders.recruit(self._roster.ask_again(node, now_s=now_s))
        return self.has(participant, name, now_s=now_s)

    def _is_past(self, name: AttemptName) -> bool:
        return self._attempts.is_closed(name) or self._state.tasks[name.task].is_result_of(name)

    def _take_part(self, node: NodeId, *, now_s: float) -> Participant | None:
        """It does, as another participant says; None if nobody knows it here."""
        candidate = self._roster.candidates.get(node)
        return self._roster.confirm(node, candidate.record.slots, now_s=now_s) if candidate is not None else None
