"""What a node's owner allows: whose work, which, and when. Pure: the local time is passed in.

Whether an application is taken is `coordinator.matching.refusal` of the node's `Policy`, which is in its record, so
that coordinators need not call it up in vain. Here is what becomes of the settings, and of the time.
"""

from __future__ import annotations

from attrs import frozen

from jcpeer.config import Config
from jcpeer.hours import Hours, clock_text, parse_hours, second_of_week
from jcpeer.values import evolve
from jcpeer.wire.messages import Policy


@frozen
class Opening:
    """The policy at a moment, and in how many seconds it will be another."""

    policy: Policy
    changes_in_s: float

    @property
    def opens_in_s(self) -> float | None:
        """None while the node takes new attempts, and where it never will again."""
        return self.changes_in_s if self.policy.closed and self.changes_in_s < float("inf") else None


class HouseRules:
    """The policy of a node over time."""

    def __init__(self, config: Config) -> None:
        self._policy = Policy(config.only_users, config.refuse_users, config.only_labels, config.refuse_labels)
        self._closed = ""
        self._hours: Hours | None = parse_hours(config.hours) if config.hours else None

    def close(self, reason: str) -> None:
        """From now on nothing new is taken, at whatever time."""
        self._closed = reason

    def at(self, local_s: float) -> Opening:
        """What holds at this local time, in seconds since 1970."""
        if self._closed:
            return Opening(evolve(self._policy, closed=self._closed), float("inf"))
        if self._hours is None:
            return Opening(self._policy, float("inf"))
        second = second_of_week(local_s)
        change_s = self._hours.next_change(second)
        if self._hours.contain(second):
            return Opening(self._policy, change_s)
        until = clock_text(second + change_s)
        closed = f"takes nothing new until {until} (its hours: {self._hours.text})"
        return Opening(evolve(self._policy, closed=closed), change_s)
