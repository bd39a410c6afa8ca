"""From a submitted application to its end: events to a screen, and what is worth telling afterwards."""

from __future__ import annotations

import heapq

from attrs import define, field

from jcpeer.cli.screens import Screen
from jcpeer.client.blocking import iterate_blocking, run_blocking
from jcpeer.client.session import Session
from jcpeer.wire.requests import Happened, Progress, Status

SLOWEST = 5


@define
class Seen:
    """What was kept of the events: the slowest successful attempts, as (seconds, task, node)."""

    slowest: list[tuple[float, str, str]] = field(factory=list)

    def take(self, event: Happened) -> None:
        if event.kind == "finished" and event.task is not None and event.node is not None:
            heapq.heappush(self.slowest, (event.ran_s, event.task, event.node.name))
            if len(self.slowest) > SLOWEST:
                heapq.heappop(self.slowest)


def follow(session: Session, app: str, screen: Screen, *, from_now: bool = False) -> tuple[Status, Seen]:
    """How the application ended, when it has. `from_now`: the screen is spared what happened before.

    Raises:
        NoNodeError: the local node went away for good; the text says how to come back.
    """
    seen = Seen()
    past = from_now
    for event in iterate_blocking(session.events(app, progress=True)):
        if isinstance(event, Progress):
            past = False  # the node first catches up, and then tells how it stands
            screen.progress(event)
            continue
        seen.take(event)
        if not past:
            screen.event(event)
    return run_blocking(session.status(app)), seen
