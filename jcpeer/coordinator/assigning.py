"""The dispatch policy `assign`: the coordinator places each ready task itself, by data and by free slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from jcpeer.application.task import Task
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.matching import unmet_need
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.roster import Participant, Roster, has_room, queued_last_first, slots_of
from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.messages import AttemptOrder

REBALANCE_AFTER_S = 0.25
"""An attempt that has waited this long behind others is taken back when somebody is idle."""


class Assigning:
    """Chooses a participant for each ready task, and another one where it waits behind others for long."""

    def __init__(self, recorder: Recorder, roster: Roster, attempts: Attempts, orders: Orders) -> None:
        self._recorder = recorder
        self._roster = roster
        self._attempts = attempts
        self._orders = orders

    def place(self, *, now_s: float) -> list[Effect]:
        """Order as many ready tasks as there is room for."""
        orders: dict[NodeId, list[AttemptOrder]] = {}
        effects: list[Effect] = []
        for queue in self._attempts.ready:
            task = queue.head()
            able = self._able(task, queue.avoid, effects, now_s=now_s) if task is not None else {}
            while (task := queue.head()) is not None:
                spec = self._recorder.state.tasks[task].spec
                node = choose(spec, able, local_bytes=self._orders.local_bytes, mean_run_s=self._attempts.mean_run_s)
                if node is None:
                    break
                orders.setdefault(node, []).append(self._order(spec, able[node], now_s=now_s))
        for node, batch in orders.items():
            effects += self._orders.to_send(node, batch)
        return effects

    def heads(self) -> Iterator[TaskId]:
        return self._attempts.ready.heads()

    def look(self, *, now_s: float) -> list[Effect]:
        return self._rebalance(now_s=now_s)

    def claimed(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        return []

    def take(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        return []

    def lost(self, node: NodeId) -> None:
        pass

    def holds(self, task: TaskId) -> bool:
        return False

    def _order(self, task: Task, participant: Participant, *, now_s: float) -> AttemptOrder:
        return self._orders.make(task, participant, now_s=now_s)

    def _able(
        self, task: TaskId, avoid: frozenset[NodeId], effects: list[Effect], *, now_s: float
    ) -> dict[NodeId, Participant]:
        """Who may be given tasks like this one. Where none of the participants should, others are called up, and only
        when nobody else is left do nodes count where such a task failed."""
        spec = self._recorder.state.tasks[task].spec
        for avoided in (avoid, frozenset[NodeId]()):
            able = able_to_run(spec, self._roster.participants, avoid=avoided)
            if able:
                return able
            others = self._roster.others_for(spec, avoid=avoided, now_s=now_s)
            if others:
                effects += self._orders.recruit(self._roster.ask(others, now_s=now_s))
                return {}
        return {}

    def _rebalance(self, *, now_s: float) -> list[Effect]:
        """Take back attempts that wait behind others while somebody is idle and nothing else is ready."""
        if self._attempts.ready:
            return []
        idle = [each for each in self._roster.participants.values() if each.slots_free > 0]
        effects: list[Effect] = []
        for helper in idle:
            room = helper.slots_free
            for owner_id, owner in self._roster.participants.items():
                if room <= 0 or owner.slots_free >= 0:
                    continue
                for task in queued_last_first(owner)[: min(room, -owner.slots_free)]:
                    effects += self._withdraw(owner_id, owner, task, helper, now_s=now_s)
                    room -= 1
        return effects

    def _withdraw(
        self, owner_id: NodeId, owner: Participant, task: TaskId, helper: Participant, *, now_s: float
    ) -> list[Effect]:
        spec = self._recorder.state.tasks[task].spec
        if slots_of(spec.needs) > helper.slots_free or unmet_need(spec, helper.record) is not None:
            return []
        for name, node in self._attempts.of(task).items():
            attempt = owner.assigned.get(name) if node == owner_id else None
            if attempt and attempt.state == "assigned" and now_s - attempt.given_s >= REBALANCE_AFTER_S:
                attempt.state = "withdrawing"
                return self._orders.withdraw(owner_id, [name])
        return []


def able_to_run(
    task: Task, participants: Mapping[NodeId, Participant], *, avoid: frozenset[NodeId]
) -> dict[NodeId, Participant]:
    """The participants with slots for us that offer what this task, and so each task of its queue, needs."""
    return {
        node: each
        for node, each in participants.items()
        if each.slots and node not in avoid and unmet_need(task, each.record) is None
    }


def choose(
    task: Task,
    able: Mapping[NodeId, Participant],
    *,
    local_bytes: Callable[[Task, NodeId], int],
    mean_run_s: float | None,
) -> NodeId | None:
    """The participant that is to run this task, or None while none has room.

    A free slot comes before a place in a queue; then the node that holds most of the task's input bytes; then the one
    with the most free slots.
    """
    wanted = slots_of(task.needs)
    best: tuple[tuple[bool, int, float], NodeId] | None = None
    for node, participant in able.items():
        free = participant.slots_free
        if not has_room(participant, wanted, mean_run_s):
            continue
        score = (free >= wanted, local_bytes(task, node), free / participant.slots)
        if best is None or score > best[0]:
            best = (score, node)
    return best[1] if best else None
