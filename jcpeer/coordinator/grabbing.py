"""The dispatch policy `grab`: participants compete for what the coordinator offers.

Each suitable participant that has room is offered ready tasks; the first that would take one is given it, and the
others are told. Offers go out when something is new for somebody: a task, or room. One that nobody takes ends by its
lease, and is made again. Tasks marked `once` are not offered, but placed as with `assign`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from jcpeer.coordinator.assigning import Assigning, able_to_run
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect, Send
from jcpeer.coordinator.once import Once
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.ready import ReadyKey
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.room import Participant
from jcpeer.coordinator.roster import Roster, prefetch_slots
from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.messages import AttemptOrder, Gone, Offer, Offered

OFFER_LEASE_S = 2.0
"""How long an offer stands; each time that nobody takes a task it is offered for twice as long, so that what nobody has
room for is not offered all the time."""
OFFER_LEASE_S_MAX = 60.0
STANDING_MAX = 1024
"""Offers at any time, of tasks with the same needs."""
TOLD_FACTOR = 2
"""A participant is told of so many times the tasks that it has room for: some will go to others."""


Group = dict[TaskId, float]
"""Offers that the same participants may take: of each task the time when it ends."""


class Grabbing(Assigning):
    """Offers ready tasks; what was taken and waits behind others for long is taken back as with `assign`."""

    def __init__(self, recorder: Recorder, roster: Roster, attempts: Attempts, orders: Orders, once: Once) -> None:
        super().__init__(recorder, roster, attempts, orders, once)
        self._groups: dict[ReadyKey, Group] = {}
        self._ends: list[tuple[float, TaskId]] = []
        """When each offer ends, the earliest first; some have ended before."""
        self._keys: dict[TaskId, ReadyKey] = {}
        """The group of each task on offer."""
        self._told: dict[NodeId, set[TaskId]] = {}
        """Of which offers that stand each participant knows."""
        self._knowing: dict[TaskId, dict[NodeId, None]] = {}
        """The same by offer."""
        self._lapses: dict[TaskId, int] = {}
        """How often nobody took a task that was offered."""
        self._gone: dict[NodeId, list[TaskId]] = {}
        """What is still to be said to those who know of an offer that ended."""

    def place(self, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for queue in self._attempts.ready:
            if queue.once:
                effects += self._place_once(queue, now_s=now_s)
                continue
            group = self._groups.setdefault(queue.key, {})
            while len(group) < STANDING_MAX and (task := queue.pop()) is not None:
                if task not in self._keys:
                    group[task] = until_s = now_s + self._lease_s(task)
                    heapq.heappush(self._ends, (until_s, task))
                    self._keys[task] = queue.key
        for key, group in list(self._groups.items()):
            if not group:
                del self._groups[key]
                continue
            spec = self._recorder.state.tasks[next(iter(group))].spec
            avoid = self._to_avoid(spec, key[1], effects, now_s=now_s)
            able = able_to_run(spec, self._roster.participants, avoid=avoid) if avoid is not None else {}
            effects += self._offer(group, able, now_s=now_s)
        return [*self._say_gone(), *effects]

    def _offer(self, group: Group, able: dict[NodeId, Participant], *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        standing = list(group)
        for place, (node, participant) in enumerate(able.items()):
            told = self._told.setdefault(node, set())
            room = participant.slots_free + prefetch_slots(participant.slots, self._attempts.mean_run_s)
            wanted = TOLD_FACTOR * room - len(told)
            if room <= 0 or wanted <= 0 or len(told) >= room:
                continue
            start = place * len(standing) // len(able)  # so that not all begin with the same
            news = [task for task in (*standing[start:], *standing[:start]) if task not in told][:wanted]
            if news:
                told.update(news)
                for task in news:
                    self._knowing.setdefault(task, {})[node] = None
                tasks = tuple(Offered(task, self._recorder.state.tasks[task].spec.needs) for task in news)
                lease_s = max(group[task] for task in news) - now_s
                effects.append(Send(node, Offer(self._recorder.app, self._recorder.epoch, tasks, lease_s)))
        return effects

    def take(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        """The first who would take one gets it."""
        orders: list[AttemptOrder] = []
        participant = self._roster.participants.get(node)
        for task in dict.fromkeys(tasks):
            if participant is not None and task in self._keys and self._attempts.is_ready(task):
                for other in self._end_offer(task):
                    if other != node:  # to which the order says it
                        self._gone.setdefault(other, []).append(task)
                self._lapses.pop(task, None)
                orders.append(self._order(self._recorder.state.tasks[task].spec, participant, now_s=now_s))
            else:
                self._gone.setdefault(node, []).append(task)
        return [*self._orders.to_send(node, orders), *self._say_gone()]

    def heads(self) -> Iterator[TaskId]:
        yield from super().heads()
        yield from (next(iter(group)) for group in self._groups.values() if group)

    def look(self, *, now_s: float) -> list[Effect]:
        while self._ends and self._ends[0][0] <= now_s:
            until_s, task = heapq.heappop(self._ends)
            if task in self._keys and self._groups[self._keys[task]][task] == until_s:
                self._end_offer(task)  # which those who know of it see themselves
                self._lapses[task] = self._lapses.get(task, 0) + 1
                self._attempts.requeue(task)
        return super().look(now_s=now_s)

    def wake_s(self) -> float:
        return min(super().wake_s(), self._ends[0][0] if self._ends else math.inf)

    def lost(self, node: NodeId) -> None:
        for task in self._told.pop(node, ()):
            self._knowing[task].pop(node, None)
        self._gone.pop(node, None)

    @property
    def offers(self) -> bool:
        return bool(self._keys)

    def holds(self, task: TaskId) -> bool:
        return task in self._keys

    def _lease_s(self, task: TaskId) -> float:
        doublings = min(self._lapses.get(task, 0), 10)
        return min(OFFER_LEASE_S * (1 << doublings), OFFER_LEASE_S_MAX)

    def _end_offer(self, task: TaskId) -> list[NodeId]:
        """It stands no longer; returns who knows of it."""
        del self._groups[self._keys.pop(task)][task]
        knew = self._knowing.pop(task, {})
        for node in knew:
            self._told[node].discard(task)
        return list(knew)

    def _say_gone(self) -> list[Effect]:
        gone, self._gone = self._gone, {}
        return [
            Send(node, Gone(self._recorder.app, self._recorder.epoch, tuple(tasks))) for node, tasks in gone.items()
        ]
