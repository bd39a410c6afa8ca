"""The dispatch policy `relay`: whoever finishes a task starts what follows it.

An order carries rights for the tasks below it that wait for it alone (*isolated* ones, and those below these in turn):
the participant starts them without asking, or hands them to others, and reports whose hands they are in. A task with
several parents (a *shared* one) is started once, by a claim that is granted here: the last friend's. All else, what
participants leave, and tasks marked `once`, the coordinator places as with `assign`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from jcpeer.application.roles import role_of
from jcpeer.application.task import Task
from jcpeer.coordinator.assigning import Assigning
from jcpeer.coordinator.events import Effect, Send
from jcpeer.coordinator.matching import unmet_need
from jcpeer.coordinator.room import Participant
from jcpeer.coordinator.roster import slots_of
from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.messages import AttemptOrder, ClaimRefused, Right

RIGHTS_MAX = 256
"""Given with one order: a whole chain of usual length or a small tree, and never a large part of a large graph."""
SHARED_TOLD_MAX = 64
"""Of the shared tasks that wait for one task. The others are placed by the coordinator."""


class Relaying(Assigning):
    """Gives rights with orders, and decides claims."""

    # --- orders with rights

    def _order(self, task: Task, participant: Participant, *, now_s: float) -> AttemptOrder:
        rights = self._rights(task)
        return self._orders.make(task, participant, now_s=now_s, rights=rights, shared=self._shared(task.id))

    def _rights(self, task: Task) -> tuple[Right, ...]:
        """Breadth first, so that what is left out is what comes last."""
        rights: list[Right] = []
        waiting = deque([task.id])
        while waiting:
            for child in self._recorder.state.tasks[waiting.popleft()].children:
                record = self._recorder.state.tasks[child]
                if (
                    record.standing != "pending"
                    or self._attempts.of(child)
                    or self._attempts.held_back(child)
                    or record.spec.once
                    or role_of(record.spec) != "isolated"
                ):
                    continue
                if len(rights) == RIGHTS_MAX:
                    return tuple(rights)
                rights.append(self._orders.right(record.spec, shared=self._shared(child)))
                waiting.append(child)
        return tuple(rights)

    def _shared(self, task: TaskId) -> tuple[TaskId, ...]:
        tasks = self._recorder.state.tasks
        specs = (tasks[each].spec for each in tasks[task].children)
        shared = (each.id for each in specs if not each.once and role_of(each) == "shared")
        return tuple(islice(shared, SHARED_TOLD_MAX))

    # --- claims

    def claimed(self, node: NodeId, tasks: tuple[TaskId, ...], *, now_s: float) -> list[Effect]:
        """Events come one at a time, so of two friends that end together exactly one is granted what they share."""
        granted: list[AttemptOrder] = []
        refused: list[tuple[TaskId, str]] = []
        for task in dict.fromkeys(tasks):
            if (why := self._objection(task, node)) is None:
                spec = self._recorder.state.tasks[task].spec
                granted.append(self._order(spec, self._roster.participants[node], now_s=now_s))
            else:
                refused.append((task, why))
        effects: list[Effect] = [*self._orders.to_send(node, granted)]
        if refused:
            whys = tuple(why for _, why in refused)
            tasks = tuple(task for task, _ in refused)
            effects.append(Send(node, ClaimRefused(self._recorder.app, self._recorder.epoch, tasks, whys)))
        return effects

    def _objection(self, task: TaskId, node: NodeId) -> str | None:
        """Why this node is not to start this task."""
        record = self._recorder.state.tasks.get(task)
        participant = self._roster.participants.get(node)
        if record is None:
            return "there is no such task"
        if record.standing != "pending":
            return f"it is {record.standing}"
        if record.spec.once:
            return "it is marked once"
        if self._attempts.of(task):
            return "already started"
        if self._attempts.held_back(task):
            return "it waits"
        if record.missing:
            return "a friend is still running"
        if participant is None or node in self._attempts.to_avoid(task):
            return "others are to run it"
        if participant.slots_free < slots_of(record.spec.needs):
            return "your slots are taken up"
        return unmet_need(record.spec, participant.record)
