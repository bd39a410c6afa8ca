"""What a coordinator writes down, and what it has promised for when that is committed.

`record` yields an index at once; what promises something to somebody (an acknowledgement to a participant, an event to
a client, the end) waits until everything recorded before it is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import frozen

from jcpeer.application.manifest import Batch
from jcpeer.coordinator.events import Effect, Record, Send, Tell
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.facts import Entry, Fact
from jcpeer.wire.messages import Acknowledge


@frozen
class Acknowledgement:
    """Due to a participant."""

    node: NodeId
    attempt: AttemptName


class Recorder:
    """Owns the state of the application, which changes by `record` alone. Invariants: see `check`."""

    def __init__(
        self, state: ApplicationState, *, epoch: Epoch, clock_offset_s: float, runnable: Callable[[TaskId], None]
    ) -> None:
        """`runnable` is told of each task that a fact made so; `clock_offset_s` makes times into seconds since 1970."""
        self.state = state
        self.epoch = epoch
        self._clock_offset_s = clock_offset_s
        self._runnable = runnable
        self.committed = state.last_index
        self._promises: deque[tuple[int, Effect | Acknowledgement]] = deque()
        self._acknowledgements: dict[NodeId, list[AttemptName]] = {}

    @property
    def app(self) -> AppId:
        return self.state.app

    def record(self, fact: Fact, *, now_s: float, batch: Batch | None = None) -> list[Effect]:
        entry = Entry(self.epoch, self.state.last_index + 1, now_s + self._clock_offset_s, fact)
        for task in self.state.apply(entry, batch=batch):
            self._runnable(task)
        self._promises.append((entry.index, Tell(entry)))
        return [Record(entry)]

    def promise(self, *promises: Effect | Acknowledgement) -> list[Effect]:
        """Perform these once everything recorded so far is committed."""
        self._promises.extend((self.state.last_index, each) for each in promises)
        return self.keep_promises(self.committed)

    def keep_promises(self, index: int) -> list[Effect]:
        """Everything up to this index is committed."""
        self.committed = max(self.committed, index)
        kept: list[Effect] = []
        while self._promises and self._promises[0][0] <= self.committed:
            promise = self._promises.popleft()[1]
            if isinstance(promise, Acknowledgement):
                self._acknowledgements.setdefault(promise.node, []).append(promise.attempt)
            else:
                kept.append(promise)
        return kept

    @property
    def owes(self) -> bool:
        """Acknowledgements are due."""
        return bool(self._acknowledgements)

    def acknowledge(self) -> list[Effect]:
        """Tell the participants what they need not keep any longer: nobody waits for it, so a few times a second."""
        effects: list[Effect] = [
            Send(node, Acknowledge(self.app, self.epoch, tuple(attempts)))
            for node, attempts in self._acknowledgements.items()
        ]
        self._acknowledgements.clear()
        return effects

    def check(self) -> None:
        """Assert what holds after each event."""
        self.state.check()
        assert all(index > self.committed for index, _ in self._promises)
