"""What one node shows of an application, and when it did."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from demo_parts.errors import DemoError

from drill_parts.nodes import LOOK_S, PATIENCE_S, DrillNode
from jcpeer.client import Grid, Handle
from jcpeer.errors import JcpeerError
from jcpeer.ids import TaskId
from jcpeer.wire.requests import Happened, Progress

T = TypeVar("T")


class Follower:
    """Follows an application at a node, in a thread of its own, until it ends. `stop` ends that sooner."""

    def __init__(self, node: DrillNode, app: str) -> None:
        self.node = node
        self.shown: list[tuple[float, Happened]] = []
        """What was shown, with the time since 1970."""
        self.stalled_at_s: list[float] = []
        """When it began to say that it waits for replicas."""
        self._stalled = self._stopped = False
        self._seen = 0
        self._error: JcpeerError | None = None
        self._changed = threading.Condition()
        self._grid: Grid = node.client()
        self.handle: Handle = self._grid.handle(app)
        self._thread = threading.Thread(target=self._run, name=f"follows at {node.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._grid.close()
        self._thread.join()

    def _run(self) -> None:
        patient_until_s = math.inf
        while not self._stopped and not self.end:
            try:
                for event in self.handle.events(self._seen, progress=True):
                    patient_until_s = math.inf
                    with self._changed:
                        self._take(event)
                        self._changed.notify_all()
            except JcpeerError as error:  # where all were killed, those who know of it may come back last
                patient_until_s = min(patient_until_s, time.monotonic() + PATIENCE_S)
                if self._stopped or time.monotonic() > patient_until_s:
                    with self._changed:
                        self._error = error
                        self._changed.notify_all()
                    return
                time.sleep(LOOK_S)

    def _take(self, event: Happened | Progress) -> None:
        if isinstance(event, Happened):
            self._seen = event.index
            self.shown.append((time.time(), event))
        elif bool(event.missing) != self._stalled:
            self._stalled = not self._stalled
            if self._stalled:
                self.stalled_at_s.append(time.time())

    def wait(self, look: Callable[[], T | None], *, within_s: float, what: str) -> T:
        """What `look` returns, as soon as that is true.

        Raises:
            DemoError: it is not so in time.
        """
        until_s = time.monotonic() + within_s
        with self._changed:
            while not (seen := look()):
                if self._error is not None:
                    raise DemoError(f"{what}: {self.node.name} shows no more: {self._error}")
                if not self._changed.wait(until_s - time.monotonic()) and time.monotonic() >= until_s:
                    raise DemoError(f"not within {within_s:.0f} s at {self.node.name}: {what}")
        return seen

    # --- what has been shown

    @property
    def finished_at_s(self) -> Mapping[TaskId, float]:
        """When each task was first shown as finished."""
        at_s: dict[TaskId, float] = {}
        for shown_s, event in list(self.shown):
            if event.kind == "finished" and event.task is not None:
                at_s.setdefault(event.task, shown_s)
        return at_s

    @property
    def end(self) -> str:
        return next((event.text for _, event in self.shown if event.kind == "ended"), "")

    def takeovers(self, *, after_s: float = 0.0) -> list[Happened]:
        """Those that were shown since."""
        return [event for at_s, event in list(self.shown) if event.kind == "took_over" and at_s > after_s]

    def await_finished(self, count: int, *, within_s: float = 120.0) -> None:
        """Until so many tasks are shown as finished."""
        self.wait(lambda: len(self.finished_at_s) >= count, within_s=within_s, what=f"{count} tasks finished")

    def await_end(self, *, within_s: float = 240.0) -> str:
        return self.wait(lambda: self.end, within_s=within_s, what="the application ended")
