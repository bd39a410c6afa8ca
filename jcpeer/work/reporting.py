"""What a participant tells coordinators of the outcomes that it keeps, and when.

An outcome is kept from its attempt's end until a coordinator of the application acknowledges it, the application ends,
or `OUTCOME_KEPT_S` has passed. While more attempts run it waits a moment for company.
"""

from __future__ import annotations

import math

from attrs import define, field

from jcpeer.ids import AppId
from jcpeer.wire.messages import Outcome, Report
from jcpeer.work.engagement import Engagement, Kept
from jcpeer.work.events import Effect, Send

OUTCOME_KEPT_S = 24 * 3600.0
REPORT_BYTES_MAX = 1024 * 1024
REPORT_HOLD_S = 0.005
"""While more attempts run, an outcome waits so long for company: a message costs as much for one as for fifty."""
REPORT_OUTCOMES = 64
"""So many outcomes do not wait any longer."""


@define
class Unsent:
    """Outcomes of one application that are to be reported, and since when."""

    since_s: float
    outcomes: list[Outcome] = field(factory=list)


class Reporting:
    """Outcomes on their way to their coordinators."""

    def __init__(self) -> None:
        self._unsent: dict[AppId, Unsent] = {}
        self._look_at_kept_s = math.inf

    def keep(self, app: AppId, engagement: Engagement, outcome: Outcome, *, now_s: float) -> None:
        """It has just come out, and is to be told."""
        engagement.kept[outcome.attempt] = Kept(outcome, now_s)
        self._look_at_kept_s = min(self._look_at_kept_s, now_s + OUTCOME_KEPT_S)
        self._unsent.setdefault(app, Unsent(now_s)).outcomes.append(outcome)

    def repeat(self, app: AppId, engagement: Engagement) -> None:
        """What was told of this application may not have arrived: tell all that is kept, at once."""
        self._unsent[app] = Unsent(-math.inf, [each.outcome for each in engagement.kept.values()])

    def drop(self, app: AppId, engagement: Engagement) -> None:
        """Nobody wants the application's outcomes any more."""
        engagement.kept.clear()
        self._unsent.pop(app, None)

    def wake_s(self) -> float:
        """When something is due to be told, or to be forgotten."""
        waiting = min((each.since_s for each in self._unsent.values()), default=math.inf)
        return min(waiting + REPORT_HOLD_S, self._look_at_kept_s)

    def report_due(self, engagements: dict[AppId, Engagement], *, now_s: float) -> list[Effect]:
        """Tell what has waited for long enough, or has nobody to wait for."""
        effects: list[Effect] = []
        for app, unsent in list(self._unsent.items()):
            engagement = engagements[app]
            ripe = now_s >= unsent.since_s + REPORT_HOLD_S or len(unsent.outcomes) >= REPORT_OUTCOMES
            if ripe or not engagement.attempts:
                effects += self.report(app, engagement)
        return effects

    def report(self, app: AppId, engagement: Engagement) -> list[Effect]:
        """Tell what is to be told of this application, now."""
        unsent = self._unsent.pop(app, None)
        effects: list[Effect] = []
        part: list[Outcome] = []
        size = 0
        for outcome in unsent.outcomes if unsent else ():
            part.append(outcome)
            size += 512 + sum(len(each.data or b"") for each in outcome.outputs)
            if size > REPORT_BYTES_MAX:
                effects.append(Send(engagement.coordinator, Report(app, tuple(part))))
                part, size = [], 0
        if part:
            effects.append(Send(engagement.coordinator, Report(app, tuple(part))))
        return effects

    def forget_old(self, engagements: dict[AppId, Engagement], *, now_s: float) -> None:
        """Drop outcomes that nobody has asked for in all that time."""
        if now_s < self._look_at_kept_s:
            return
        self._look_at_kept_s = math.inf
        for engagement in engagements.values():
            for name, each in list(engagement.kept.items()):
                if now_s - each.since_s >= OUTCOME_KEPT_S:
                    del engagement.kept[name]
                else:
                    self._look_at_kept_s = min(self._look_at_kept_s, each.since_s + OUTCOME_KEPT_S)

    def check(self, engagements: dict[AppId, Engagement]) -> None:
        """Assert what holds after each event."""
        assert self._unsent.keys() <= engagements.keys()
