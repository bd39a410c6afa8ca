"""The dispatch policy `assign`: the coordinator places each ready task itself, by data and by free slots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice

from jcpeer.application.task import Task
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect
from jcpeer.coordinator.matching import NeedsKey, needs_key, unmet_need
from jcpeer.coordinator.once import Once
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.ready import ReadyQueue
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.room import Participant
from jcpeer.coordinator.roster import Roster, full_load, has_room, queued_last_first, slots_of
from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.messages import AttemptOrder

NOBODY = frozenset[NodeId]()
REBALANCE_AFTER_S = 0.25
"""An attempt that has waited this long behind others is taken back when somebody is idle."""
LOOK_S = 0.1
"""Between looks for such attempts, while somebody is idle and others have more than they can run."""


class Assigning:
    """Chooses a participant for each ready task, and another one where it waits behind others for long."""

    def __init__(self, recorder: Recorder, roster: Roster, attempts: Attempts, orders: Orders, once: Once) -> None:
        self._recorder = recorder
        self._roster = roster
        self._attempts = attempts
        self._orders = orders
        self._once = once
        self._look_s = math.inf
        self._seen: tuple[int, int] | None = None
        """Who took part, and who could be asked, when all queues were looked at."""
        self._nobody: dict[tuple[NeedsKey, frozenset[NodeId]], int] = {}
        """Of tasks that no participant could run: the version of the roster when that was seen."""

    def place(self, *, now_s: float) -> list[Effect]:
        """Order as many ready tasks as there is room for."""
        orders: dict[NodeId, list[AttemptOrder]] = {}
        effects: list[Effect] = []
        for queue in self._to_place():
            if queue.once:
                effects += self._place_once(queue, now_s=now_s)
                continue
            for participant, order in self._placed(queue, effects, now_s=now_s):
                orders.setdefault(participant.record.node, []).append(order)
        for node, batch in orders.items():
            effects += self._orders.to_send(node, batch)
        if not self._could_help():
            self._look_s = math.inf
        elif self._look_s == math.inf:
            self._look_s = now_s + LOOK_S
        return effects

    def _to_place(self) -> Iterator[ReadyQueue]:
        """The queues in which there may be something to do: while there is room, any; else those for which somebody may
        have to be called up, which are the new ones, unless others take part than before, or may be asked."""
        ready, new = self._attempts.ready, self._attempts.ready.take_new()
        seen = self._roster.version, self._roster.arrivals
        if seen != self._seen:
            self._seen = seen
            yield from ready
            return
        for queue in ready:
            if self._roster.is_full(self._attempts.mean_run_s):
                break
            yield queue
        yield from new

    def _place_once(self, queue: ReadyQueue, *, now_s: float) -> list[Effect]:
        """Whoever decides otherwise: only what is committed may start such a task."""
        effects: list[Effect] = []
        for participant, order in self._placed(queue, effects, now_s=now_s):
            effects += self._once.hold(participant.record.node, order, now_s=now_s)
        return effects

    def _placed(
        self, queue: ReadyQueue, effects: list[Effect], *, now_s: float
    ) -> Iterator[tuple[Participant, AttemptOrder]]:
        """Tasks of this queue, as long as there is room, each with its participant."""
        if (task := queue.head()) is None:
            return
        avoid = self._to_avoid(self._recorder.state.tasks[task].spec, queue.avoid, effects, now_s=now_s)
        while avoid is not None and (task := queue.head()) is not None:
            spec = self._recorder.state.tasks[task].spec
            participant = self._choose(spec, avoid)
            if participant is None:
                return
            yield participant, self._order(spec, participant, now_s=now_s)

    def heads(self) -> Iterator[TaskId]:
        return self._attempts.ready.heads()

    def look(self, *, now_s: float) -> list[Effect]:
        if now_s < self._look_s:
            return []
        self._look_s = now_s + LOOK_S
        return self._rebalance(now_s=now_s)

    def wake_s(self) -> float:
        return self._look_s

    def claimed(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        return []

    def take(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        return []

    def lost(self, node: NodeId) -> None:
        pass

    @property
    def offers(self) -> bool:
        return False

    def holds(self, task: TaskId) -> bool:
        return False

    def _order(self, task: Task, participant: Participant, *, now_s: float) -> AttemptOrder:
        return self._orders.make(task, participant, now_s=now_s)

    # --- who may be given what

    def _to_avoid(
        self, task: Task, avoid: frozenset[NodeId], effects: list[Effect], *, now_s: float
    ) -> frozenset[NodeId] | None:
        """Whom to pass over for tasks like this one; None where nobody who takes part can be given them. Then others
        are called up, and only when nobody else is left do nodes count where such a task failed."""
        if self._somebody_can(task, avoid):
            return avoid
        if avoid:
            others = self._roster.others_for(task, avoid=avoid, now_s=now_s)
            if others:
                effects += self._orders.recruit(self._roster.ask(others, now_s=now_s))
                return None
            if self._somebody_can(task, NOBODY):
                return NOBODY
        effects += self._orders.recruit(self._roster.call_up_all_for(task, now_s=now_s))
        return None

    def _somebody_can(self, task: Task, avoid: frozenset[NodeId]) -> bool:
        """Whether it can run on a participant with slots, be they free or not."""
        key = (needs_key(task), avoid)
        if self._nobody.get(key) == self._roster.version:
            return False
        if self._roster.room.least_loaded(lambda each: _can_run(task, each, avoid)) is not None:
            self._nobody.pop(key, None)
            return True
        self._nobody[key] = self._roster.version
        return False

    def _choose(self, task: Task, avoid: frozenset[NodeId]) -> Participant | None:
        """The participant that is to run this task, or None while none has room.

        A free slot comes before a place in a queue; then the node that holds most of the task's input bytes; then the
        one with the most free slots.
        """
        wanted = slots_of(task.needs)
        large = self._orders.large_inputs(task)
        if wanted == 1:
            full = full_load(self._attempts.mean_run_s)
            best = self._roster.room.least_loaded(lambda each: _can_run(task, each, avoid), below=full)
            if best is None:
                return None
            # Of those that hold nothing that it lacks none is better, since none has less to do.
            nodes = self._orders.holders_of_more(large, best.record.node)
            others = [self._roster.participants[node] for node in nodes & self._roster.participants.keys()]
        else:
            best, others = None, list(self._roster.participants.values())  # who is free at all may still have no room
        able = [
            each for each in others if _can_run(task, each, avoid) and has_room(each, wanted, self._attempts.mean_run_s)
        ]
        if best is not None:
            able.append(best)

        def score(participant: Participant) -> tuple[bool, int, float, int]:
            held = self._orders.local_bytes(large, participant.record.node)
            return participant.slots_free >= wanted, held, -participant.load, -participant.order

        return max(able, key=score, default=None)

    def _rebalance(self, *, now_s: float) -> list[Effect]:
        """Take back attempts that wait behind others while somebody is idle and nothing else is ready."""
        if not self._could_help():
            return []
        effects: list[Effect] = []
        for helper in self._roster.spare.values():
            room = helper.slots_free
            for owner_id, owner in self._roster.overfull.items():
                if room <= 0:
                    break
                for task in [*islice(queued_last_first(owner), min(room, -owner.slots_free))]:
                    effects += self._withdraw(owner_id, owner, task, helper, now_s=now_s)
                    room -= 1
        return effects

    def _could_help(self) -> bool:
        return bool(self._roster.spare and self._roster.overfull) and not self._attempts.ready

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


def _can_run(task: Task, participant: Participant, avoid: frozenset[NodeId]) -> bool:
    """It has slots for us, is not to be avoided, and offers what the task, and so each task of its queue, needs."""
    return (
        participant.slots > 0 and participant.record.node not in avoid and unmet_need(task, participant.record) is None
    )


def able_to_run(
    task: Task, participants: Mapping[NodeId, Participant], *, avoid: frozenset[NodeId]
) -> dict[NodeId, Participant]:
    return {node: each for node, each in participants.items() if _can_run(task, each, avoid)}
