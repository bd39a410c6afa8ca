"""From a submitted application to its end: events to a screen, and what is worth telling afterwards."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

from attrs import define, field

from jcpeer.cli.screens import Screen
from jcpeer.cli.words import counted, joined, plain
from jcpeer.client.blocking import iterate_blocking, run_blocking
from jcpeer.client.session import Session
from jcpeer.errors import NoNodeError
from jcpeer.values import evolve
from jcpeer.wire.requests import Happened, NodeName, Progress, Status

SLOWEST = 5
IDLE_S = 3.0
"""Tasks that could run and do not for this long are worth a word: most often no node has what they need."""


@define
class Seen:
    """What was kept of the events: the slowest successful attempts, as (seconds, task, node)."""

    slowest: list[tuple[float, str, str]] = field(factory=list)

    def take(self, event: Happened) -> None:
        if event.kind == "finished" and event.task is not None and event.node is not None:
            heapq.heappush(self.slowest, (event.ran_s, event.task, event.node.name))
            if len(self.slowest) > SLOWEST:
                heapq.heappop(self.slowest)


@define
class Idle:
    """Notices, once each time, that an application stands still though some of its tasks could run."""

    clock_s: Callable[[], float] = time.monotonic
    _since_s: float | None = None
    _told: bool = False

    def for_long(self, progress: Progress) -> bool:
        if not progress.tasks.get("ready") or progress.tasks.get("running") or progress.tasks.get("assigned"):
            self._since_s, self._told = None, False
            return False
        if self._since_s is None:
            self._since_s = self.clock_s()
        if self._told or self.clock_s() - self._since_s < IDLE_S:
            return False
        self._told = True
        return True


@define
class Stalled:
    """Notices that an application stalls, and that it goes on."""

    _missing: tuple[NodeName, ...] = ()

    def news(self, progress: Progress) -> str:
        """A line where that has changed, else nothing."""
        before, self._missing = self._missing, progress.missing
        if before == self._missing:
            return ""
        if not self._missing:
            return "Enough of its journals are in reach again: it goes on."
        names = joined([plain(each.name) for each in self._missing])
        return f"It is stalled: too few of its journals are in reach without {names}. It goes on by itself with them."


def follow(session: Session, app: str, screen: Screen, *, from_now: bool = False) -> tuple[Status, Seen]:
    """How the application ended, when it has. `from_now`: the screen is spared what happened before.

    Raises:
        NoNodeError: the local node went away for good; the text says how to come back.
    """
    me = run_blocking(session.who(for_app=app)).record.node
    seen, idle, stalled = Seen(), Idle(), Stalled()
    past = from_now
    last = Progress({}, {}, 0.0, None)
    try:
        for event in iterate_blocking(session.events(app, progress=True)):
            if not isinstance(event, Progress):
                seen.take(event)
                if not past:
                    screen.event(event)
                continue
            past = False  # the node first catches up, and then tells how it stands
            # Without a coordinator nobody counts its tasks: what was counted last still holds.
            last = event if event.tasks else evolve(last, running={}, rate=0.0, left_s=None, missing=event.missing)
            screen.progress(last)
            if news := stalled.news(last):
                screen.note(news)
            if not last.missing and idle.for_long(event):
                screen.note(
                    f"Nothing runs, though {counted(event.tasks['ready'], 'task')} could: "
                    f"`jcpeer why {app[:8]} TASK` says what one waits for."
                )
    except NoNodeError as error:
        others = [plain(each.name) for each in last.copies if each.id != me]
        if not others:
            raise
        raise NoNodeError(
            f"the local node is gone; {joined(others)} {'has a copy' if len(others) == 1 else 'have copies'} of the "
            f"application: follow it from another node with `jcpeer wait {app}`"
        ) from error
    return run_blocking(session.status(app)), seen
