"""Tasks marked `once`: that one is about to start is journalled and committed before its order leaves.

Such a task is *held* between the fact and its commit: it takes its place at the participant, and may still be taken
back. Once the order left it has started as far as anybody can know. Then it waits for an outcome, or for the certain
word of its participant that it did not start; without either it has failed. Nothing else makes it ready again
(`TaskRecord.runnable`).

Where its participant does not take part at present, or another node coordinated before, it is *awaited* there, until
that one says what it has, or is lost. Invariant (`keeps`): a task that has started and not ended is under way, or here.
"""

from __future__ import annotations

import math
from collections import Counter

from attrs import frozen

from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.roster import Roster
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.wire.facts import AttemptStarted
from jcpeer.wire.messages import AttemptOrder, Outcome

AWAITED_S = 15.0
"""After a takeover a participant that is nowhere to be seen is waited for so long: in vain a task is failed, not run
again, so this is longer than for others (`inherited.SETTLE_S`)."""


@frozen
class Held:
    """An order that leaves when this index is committed."""

    index: int
    node: NodeId
    order: AttemptOrder


class Once:
    """Soft knowledge beside what the journal says (`TaskRecord.started`)."""

    def __init__(self, recorder: Recorder, roster: Roster, attempts: Attempts, orders: Orders) -> None:
        self.early: dict[TaskId, tuple[NodeId, NodeId, Outcome]] = {}
        """Outcomes of which an input was lost meanwhile, and is being made anew: sender, where it ran, outcome. If that
        leaves the same again the outcome stands."""
        self._recorder = recorder
        self._roster = roster
        self._attempts = attempts
        self._orders = orders
        self._held: dict[AttemptName, Held] = {}
        """By index."""
        self._awaited: dict[NodeId, dict[AttemptName, None]] = {}
        self._awaited_tasks: Counter[TaskId] = Counter()
        self._until_s = math.inf

    # --- orders that wait

    def hold(self, node: NodeId, order: AttemptOrder, *, now_s: float) -> list[Effect]:
        """This order, which is under way at the participant from now on, leaves when it is committed that it does."""
        name = AttemptName(order.task, self._recorder.epoch.counter, order.number)
        effects = self._recorder.record(AttemptStarted(node, name), now_s=now_s)
        self._held[name] = Held(self._recorder.state.last_index, node, order)
        return effects

    def leave(self) -> list[Effect]:
        """More is committed. What was cancelled in between stays here."""
        leaving: dict[NodeId, list[AttemptOrder]] = {}
        while self._held:
            name, held = next(iter(self._held.items()))
            if held.index > self._recorder.committed:
                break
            del self._held[name]
            if self._attempts.node_of(name) == held.node and not self._is_cancelled(name, held.node):
                leaving.setdefault(held.node, []).append(held.order)
        return [each for node, orders in leaving.items() for each in self._orders.to_send(node, orders)]

    def _is_cancelled(self, name: AttemptName, node: NodeId) -> bool:
        return self._roster.participants[node].assigned[name].state == "cancelling"

    def take_back(self, name: AttemptName) -> bool:
        """Whether the order has not left: then it does not."""
        return self._held.pop(name, None) is not None

    def holds(self, name: AttemptName) -> bool:
        return name in self._held

    def held_for(self, node: NodeId) -> list[AttemptName]:
        participant = self._roster.participants.get(node)
        return [name for name in participant.assigned if name in self._held] if participant is not None else []

    # --- attempts that wait for the word of their node

    def take_over(self, *, now_s: float) -> None:
        """What had started, by the journal. It looks at every task, as a takeover may."""
        for record in self._recorder.state.tasks.values():
            if record.started is not None and record.standing == "pending":
                self.await_word(record.started.node, record.started.attempt)
        if self._awaited:
            self._until_s = now_s + AWAITED_S

    def await_word(self, node: NodeId, name: AttemptName) -> None:
        waiting = self._awaited.setdefault(node, {})
        self._awaited_tasks[name.task] += name not in waiting
        waiting[name] = None

    def to_ask(self) -> list[NodeId]:
        """Who is to say what it has; one that declined just now is asked later."""
        candidates = self._roster.candidates
        return [each for each in self._awaited if each in candidates and candidates[each].refused is None]

    @property
    def awaits(self) -> bool:
        return bool(self._awaited)

    def spoke(self, node: NodeId) -> list[AttemptName]:
        """The node said what it has, which is booked, or is gone. Returns what it was to tell of."""
        names = list(self._awaited.pop(node, ()))
        for name in names:
            self._await_no_more(name.task)
        return names

    def _await_no_more(self, task: TaskId) -> None:
        self._awaited_tasks[task] -= 1
        if not self._awaited_tasks[task]:
            del self._awaited_tasks[task]

    def ended(self, name: AttemptName, node: NodeId) -> bool:
        """Something became of this attempt there. Whether it was awaited."""
        waiting = self._awaited.get(node, {})
        if name not in waiting:
            return False
        del waiting[name]
        self._await_no_more(name.task)
        if not waiting:
            del self._awaited[node]
        return True

    def due(self, *, now_s: float) -> list[NodeId]:
        """Who was not seen in time since the takeover; each once. Of the others it will be heard."""
        if now_s < self._until_s:
            return []
        self._until_s = math.inf
        return [each for each in self._awaited if each not in self._roster.candidates]

    def wake_s(self) -> float:
        return self._until_s if self._awaited else math.inf

    # --- for people, and for checks

    def awaited_at(self, task: TaskId) -> NodeId | None:
        """Who is to say what became of this task."""
        started = self._recorder.state.tasks[task].started
        if started is not None and started.attempt in self._awaited.get(started.node, ()):
            return started.node
        return None

    def keeps(self, task: TaskId) -> bool:
        """It has started, and is not under way as far as is known, nor given up."""
        return task in self.early or task in self._awaited_tasks

    def check(self) -> None:
        """Assert what holds after each event."""
        assert self._awaited_tasks == Counter(name.task for waiting in self._awaited.values() for name in waiting)
