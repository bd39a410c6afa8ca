"""What a participant does by right with the successors of what it finished (the dispatch policy `relay`).

It keeps one ready successor for itself, the one for which most bytes are here, and more while it has slots to spare;
for the others it searches nodes that have room. What nobody takes it queues here if there is room for that, or leaves
to the coordinator. Each successor is at any time in exactly one pair of hands, and the coordinator is told whose:

- before a successor is handed over, the outcome that it follows is reported, with those in hand;
- whoever takes it tells the coordinator itself, and passes the outcomes before it on with its own report;
- a successor that was handed over and not confirmed is given up, never started here as well.

Rights are for one epoch. A failed or cancelled attempt relays nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from jcpeer.application.task import Task
from jcpeer.coordinator.matching import NeedsKey, needs_key
from jcpeer.ids import AppId, AttemptName, NodeId
from jcpeer.values import evolve
from jcpeer.wire.messages import AttemptOrder, Hand, InHand, Outcome, Passed, ProbeAnswer, Taken
from jcpeer.work.engagement import Attempt, Engagement, name_of, slots_of
from jcpeer.work.events import AttemptKey, Effect, SendHand
from jcpeer.work.reporting import REPORT_BYTES_MAX, Reporting, size_of
from jcpeer.work.rights import order_after
from jcpeer.work.searching import HandOver, Homeless, Moved, Searches, Step


class Desk(Protocol):
    """The participant, as far as its room is concerned."""

    def suits(self, task: Task) -> bool:
        """Whether this node has what the task needs, be it free or not."""

    def slots_idle(self) -> int:
        """Slots that nothing runs in, waits for, or holds; negative while attempts wait behind others."""

    def queue_room(self) -> int:
        """How many slots' worth of attempts may still be queued here."""

    def has(self, app: AppId, name: AttemptName) -> bool:
        """Whether an attempt of this name is known here."""

    def begin(self, key: AttemptKey, engagement: Engagement, attempt: Attempt, *, first: bool = False) -> list[Effect]:
        """Fetch what the attempt lacks and queue it: before all others of its application, or after them."""


class Relaying:
    """Successors in this participant's hands that are not attempts yet."""

    def __init__(self, desk: Desk, engagements: dict[AppId, Engagement], reporting: Reporting) -> None:
        self._desk = desk
        self._engagements = engagements
        self._reporting = reporting
        self._searches = Searches()

    # --- beginning

    def succeeded(
        self, app: AppId, engagement: Engagement, attempt: Attempt, outcome: Outcome, *, now_s: float
    ) -> list[Effect]:
        """An attempt has just succeeded, and is kept: see to what may follow it."""
        if attempt.epoch != engagement.epoch:
            return []
        effects = self._relay(app, engagement, attempt, outcome, now_s=now_s)
        if attempt.order.shared and self._desk.slots_idle() > 0:
            self._reporting.claim(app, attempt.order.shared)  # with no slot to spare it would be refused
        return effects

    def _relay(
        self, app: AppId, engagement: Engagement, attempt: Attempt, outcome: Outcome, *, now_s: float
    ) -> list[Effect]:
        ready: list[tuple[Task, AttemptName, Attempt]] = []
        names: set[AttemptName] = set()
        for right in attempt.rights.after(attempt.order.task):
            order = order_after(outcome, right, coordinator=engagement.coordinator)
            if order is not None and not self._desk.has(app, name_of(order, attempt.epoch)):
                successor = Attempt(
                    order,
                    attempt.epoch,
                    now_s,
                    "fetching",
                    rights=attempt.rights,
                    parent=outcome.attempt,
                    by_right=True,
                )
                name = name_of(order, attempt.epoch)
                if name not in names:
                    names.add(name)
                    ready.append((right.task, name, successor))
        if not ready:
            return []
        engagement.kept[outcome.attempt].successors.update((name, None) for _, name, _ in ready)
        return self._keep_or_search(app, engagement, outcome.attempt, ready, now_s=now_s)

    def _keep_or_search(
        self,
        app: AppId,
        engagement: Engagement,
        parent: AttemptName,
        ready: list[tuple[Task, AttemptName, Attempt]],
        *,
        now_s: float,
    ) -> list[Effect]:
        if len(ready) > 1:
            ready.sort(key=lambda each: -_bytes_here(each[1], each[2]))
        room = self._desk.slots_idle() if len(ready) > 1 else 0
        kept: list[tuple[AttemptName, Attempt]] = []
        alike: dict[NeedsKey, tuple[Task, dict[AttemptName, Attempt]]] = {}
        for task, name, successor in ready:
            if self._desk.suits(task) and (not kept or slots_of(successor.order) <= room):
                room -= slots_of(successor.order)
                kept.append((name, successor))
            else:
                alike.setdefault(needs_key(task), (task, {}))[1][name] = successor
        effects: list[Effect] = []
        for name, successor in reversed(kept):
            effects += self._desk.begin(AttemptKey(app, name), engagement, successor, first=True)
        before = engagement.ancestors(parent) if alike else ()
        crowded = sum(size_of(engagement.kept[each].outcome) for each in before) > REPORT_BYTES_MAX
        for task, attempts in alike.values():
            if crowded:
                self._leave(Homeless(app, parent, task, attempts), tell=True, now_s=now_s)
                continue
            steps = self._searches.begin(app, engagement.epoch, parent, task, attempts)
            effects += self._perform(steps, now_s=now_s)
        return effects

    # --- searching

    def found(self, search: int, nodes: tuple[NodeId, ...], *, now_s: float) -> list[Effect]:
        return self._perform(self._searches.found(search, nodes, now_s=now_s), now_s=now_s)

    def answered(self, node: NodeId, answer: ProbeAnswer, *, now_s: float) -> list[Effect]:
        return self._perform(self._searches.answered(node, answer, now_s=now_s), now_s=now_s)

    def taken(self, node: NodeId, taken: Taken, *, now_s: float) -> list[Effect]:
        return self._perform(self._searches.taken(node, taken, now_s=now_s), now_s=now_s)

    def not_reached(self, node: NodeId, *, now_s: float) -> list[Effect]:
        return self._perform(self._searches.not_reached(node, now_s=now_s), now_s=now_s)

    def look(self, *, now_s: float) -> list[Effect]:
        return self._perform(self._searches.look(now_s=now_s), now_s=now_s)

    def wake_s(self) -> float:
        return self._searches.wake_s()

    # --- ending

    def in_hand(self, app: AppId) -> Collection[AttemptName]:
        """Successors that are no attempts yet."""
        return self._searches.names(app)

    def withdraw(self, app: AppId, name: AttemptName, *, now_s: float) -> list[Effect] | None:
        """Drop a successor that nobody was handed yet; None if there is no such thing."""
        withdrawn = self._searches.withdraw(app, name, now_s=now_s)
        if withdrawn is None:
            return None
        parent, steps = withdrawn
        self._engagements[app].forget_successor(parent, name)
        return self._perform(steps, now_s=now_s)

    def end(self, app: AppId, *, tell: bool, now_s: float) -> None:
        """Rights of this application end; `tell` the coordinator that it has all successors again."""
        for homeless in self._searches.end(app):
            self._leave(homeless, tell=tell, now_s=now_s)

    # --- steps of searches

    def _perform(self, steps: list[Step], *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for step in steps:
            match step:
                case HandOver():
                    effects += self._hand_over(step)
                case Moved():
                    engagement = self._engagements[step.app]
                    if (kept := engagement.kept.get(step.parent)) is not None:
                        kept.successors[step.name] = step.node
                    self._reporting.tell_moved(step.app, step.name, step.node, now_s=now_s)
                case Homeless():
                    effects += self._settle(step, now_s=now_s)
                case _:
                    effects.append(step)
        return effects

    def _hand_over(self, step: HandOver) -> list[Effect]:
        engagement = self._engagements[step.app]
        effects = self._reporting.report(step.app, engagement)
        hand = Hand(
            step.app,
            engagement.epoch,
            step.search,
            engagement.coordinator,
            engagement.placed,
            tuple(_whole_order(each) for each in step.attempts.values()),
            _passed_on(engagement, step.parent, without=step.attempts),
        )
        return [*effects, SendHand(step.node, hand)]

    def _settle(self, homeless: Homeless, *, now_s: float) -> list[Effect]:
        if homeless.lost:
            self._leave(homeless, tell=True, now_s=now_s)
            return []
        engagement = self._engagements[homeless.app]
        effects: list[Effect] = []
        suits = self._desk.suits(homeless.task)
        room = self._desk.queue_room()
        left: dict[AttemptName, Attempt] = {}
        for name, attempt in homeless.attempts.items():
            room -= slots_of(attempt.order)
            if room >= 0 and suits:
                effects += self._desk.begin(AttemptKey(homeless.app, name), engagement, attempt)
            else:
                left[name] = attempt
        self._leave(Homeless(homeless.app, homeless.parent, homeless.task, left), tell=True, now_s=now_s)
        return effects

    def _leave(self, homeless: Homeless, *, tell: bool, now_s: float) -> None:
        for name in homeless.attempts:
            self._engagements[homeless.app].forget_successor(homeless.parent, name)
            if tell:
                self._reporting.tell_left(homeless.app, name, now_s=now_s)

    def check(self) -> None:
        """Assert what holds after each event."""
        self._searches.check()
        for app, engagement in self._engagements.items():
            assert engagement.attempts.keys().isdisjoint(self._searches.names(app))


def _whole_order(attempt: Attempt) -> AttemptOrder:
    """With the rights that whoever goes on from here needs."""
    return evolve(attempt.order, rights=attempt.rights.below(attempt.order.task))


def _passed_on(
    engagement: Engagement, parent: AttemptName, *, without: Collection[AttemptName] = ()
) -> tuple[Passed, ...]:
    """The outcomes that led here and that nobody acknowledged, parents first."""
    passed = []
    for name in engagement.ancestors(parent):
        kept = engagement.kept[name]
        in_hand = tuple(InHand(*each) for each in kept.successors.items() if each[0] not in without)
        passed.append(Passed(kept.outcome, kept.node, in_hand))
    return tuple(passed)


def _bytes_here(name: AttemptName, successor: Attempt) -> int:
    absent = sum(each.blob.size for each in successor.rights.absent(name))
    return sum(each.blob.size for each in successor.order.inputs) - absent
