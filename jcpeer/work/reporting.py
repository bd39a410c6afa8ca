"""What a participant tells coordinators of the outcomes that it keeps and of what it does by right, and when.

An outcome is kept from its attempt's end until a coordinator of the application acknowledges it, the application ends,
or `OUTCOME_KEPT_S` has passed. While more attempts run it waits a moment for company. A report names the successors
that are in hand together with the outcomes that they follow, so that nobody places them in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import takewhile

from attrs import define, field

from jcpeer.ids import AppId, AttemptName, NodeId, TaskId
from jcpeer.wire.messages import InHand, Outcome, Passed, Report
from jcpeer.work.engagement import Engagement, Kept
from jcpeer.work.events import Effect, Send

OUTCOME_KEPT_S = 24 * 3600.0
REPORT_BYTES_MAX = 1024 * 1024
REPORT_HOLD_S = 0.005
"""While more attempts run, an outcome waits so long for company: a message costs as much for one as for fifty."""
BUSY_HOLD_S = 0.02
BUSY_QUEUE = 4
"""So long where so many are ready to run after it: then this node does not wait for orders, and short programs end in
quick succession, each of which would otherwise cost every replica a message and a write."""
REPORT_OUTCOMES = 64
"""So many outcomes do not wait any longer."""


@define
class Unsent:
    """What is to be reported of one application, and since when."""

    since_s: float
    outcomes: list[Kept] = field(factory=list)
    moved: list[InHand] = field(factory=list)
    left: list[AttemptName] = field(factory=list)
    claims: list[TaskId] = field(factory=list)


class Reporting:
    """Outcomes on their way to their coordinators."""

    def __init__(self) -> None:
        self._unsent: dict[AppId, Unsent] = {}
        self._look_at_kept_s = math.inf

    def keep(self, app: AppId, engagement: Engagement, name: AttemptName, kept: Kept) -> None:
        """It has just come out, and is to be told."""
        engagement.kept[name] = kept
        self._look_at_kept_s = min(self._look_at_kept_s, kept.since_s + OUTCOME_KEPT_S)
        self._due(app, kept.since_s).outcomes.append(kept)

    def keep_passed(
        self, app: AppId, engagement: Engagement, passed: Iterable[Passed], *, sender: NodeId, now_s: float
    ) -> AttemptName | None:
        """Outcomes that another passed on, parents first, to be told with the next of our own; returns the last."""
        last = None
        for each in passed:
            name = each.outcome.attempt
            if name not in engagement.kept and name not in engagement.attempts:
                successors = {hand.attempt: hand.node or sender for hand in each.in_hand}
                kept = engagement.kept[name] = Kept(each.outcome, now_s, each.node or sender, last, dict(successors))
                self._look_at_kept_s = min(self._look_at_kept_s, now_s + OUTCOME_KEPT_S)
                self._due(app, math.inf).outcomes.append(kept)
            last = name
        return last

    def tell_moved(self, app: AppId, name: AttemptName, node: NodeId, *, now_s: float) -> None:
        """Another has taken this successor over."""
        self._due(app, now_s).moved.append(InHand(name, node))

    def tell_left(self, app: AppId, name: AttemptName, *, now_s: float) -> None:
        """This successor is again the coordinator's to place."""
        self._due(app, now_s).left.append(name)

    def claim(self, app: AppId, tasks: Iterable[TaskId]) -> None:
        """These shared tasks would be started here: that does not wait for company."""
        self._due(app, -math.inf).claims.extend(tasks)

    def repeat(self, app: AppId, engagement: Engagement) -> None:
        """What was told of this application may not have arrived: tell all that is kept, at once."""
        self._due(app, -math.inf).outcomes = list(engagement.kept.values())

    def unsent(self, app: AppId) -> tuple[AttemptName, ...]:
        """Attempts whose outcomes are yet to be told."""
        return tuple(each.outcome.attempt for each in self._unsent[app].outcomes) if app in self._unsent else ()

    def drop(self, app: AppId, engagement: Engagement) -> None:
        """Nobody wants the application's outcomes any more."""
        engagement.kept.clear()
        self._unsent.pop(app, None)

    def wake_s(self, engagements: dict[AppId, Engagement]) -> float:
        """When something is due to be told, or to be forgotten."""
        due_s = (each.since_s + _hold_s(engagements[app]) for app, each in self._unsent.items())
        return min(min(due_s, default=math.inf), self._look_at_kept_s)

    def report_due(self, engagements: dict[AppId, Engagement], *, now_s: float) -> list[Effect]:
        """Tell what has waited for long enough, or has nobody to wait for."""
        effects: list[Effect] = []
        for app, unsent in list(self._unsent.items()):
            engagement = engagements[app]
            ripe = now_s >= unsent.since_s + _hold_s(engagement) or len(unsent.outcomes) >= REPORT_OUTCOMES
            if ripe or not engagement.attempts:
                effects += self.report(app, engagement)
        return effects

    def report(self, app: AppId, engagement: Engagement) -> list[Effect]:
        """Tell what is to be told of this application, now."""
        unsent = self._unsent.pop(app, None)
        if unsent is None:
            return []
        parts = list(_parts(unsent.outcomes))
        last = parts.pop() if parts else []
        effects: list[Effect] = []
        for at, part in enumerate(parts):
            # What follows in the next reports is not to be placed by then.
            following = (each for later in (*parts[at + 1 :], last) for each in later)
            to_follow = [InHand(each.outcome.attempt) for each in following if each.parent is not None]
            effects.append(Send(engagement.coordinator, _report(app, part, to_follow)))
        if last or unsent.moved or unsent.left or unsent.claims:
            report = _report(app, last, unsent.moved, tuple(unsent.left), tuple(unsent.claims))
            effects.append(Send(engagement.coordinator, report))
        return effects

    def forget_old(self, engagements: dict[AppId, Engagement], *, now_s: float) -> None:
        """Drop outcomes that nobody has asked for in all that time."""
        if now_s < self._look_at_kept_s:
            return
        self._look_at_kept_s = math.inf
        for engagement in engagements.values():
            for name in _old(engagement.kept, now_s):
                del engagement.kept[name]
            if (oldest := next(iter(engagement.kept.values()), None)) is not None:
                self._look_at_kept_s = min(self._look_at_kept_s, oldest.since_s + OUTCOME_KEPT_S)

    def _due(self, app: AppId, since_s: float) -> Unsent:
        unsent = self._unsent.setdefault(app, Unsent(since_s))
        unsent.since_s = min(unsent.since_s, since_s)
        return unsent

    def check(self, engagements: dict[AppId, Engagement]) -> None:
        """Assert what holds after each event."""
        assert self._unsent.keys() <= engagements.keys()


def _hold_s(engagement: Engagement) -> float:
    return BUSY_HOLD_S if len(engagement.queue) >= BUSY_QUEUE else REPORT_HOLD_S


def _old(kept: dict[AttemptName, Kept], now_s: float) -> list[AttemptName]:
    """Those that nobody has asked for: the first, since they are kept in the order in which they came."""
    return [*takewhile(lambda name: kept[name].since_s + OUTCOME_KEPT_S <= now_s, kept)]


def size_of(outcome: Outcome) -> int:
    """About how many bytes it takes in a message."""
    return 512 + sum([len(each.data) for each in outcome.outputs if each.data])


def _parts(outcomes: list[Kept]) -> Iterable[list[Kept]]:
    """As many to a report as fit."""
    part: list[Kept] = []
    size = 0
    for each in outcomes:
        part.append(each)
        size += size_of(each.outcome)
        if size > REPORT_BYTES_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def _report(
    app: AppId,
    part: list[Kept],
    also_in_hand: list[InHand],
    left: tuple[AttemptName, ...] = (),
    claims: tuple[TaskId, ...] = (),
) -> Report:
    ran_by = tuple([each.node for each in part])
    in_hand = [InHand(*successor) for each in part for successor in each.successors.items()]
    return Report(
        app,
        tuple([each.outcome for each in part]),
        ran_by if any(ran_by) else (),
        (*in_hand, *also_in_hand),
        left,
        claims,
    )
