"""What a node does for one application, as its participant machine knows it."""

from __future__ import annotations

from collections import deque
from typing import Literal

from attrs import define, field

from jcpeer.ids import AttemptName, Epoch, NodeId
from jcpeer.wire.messages import AttemptOrder, Outcome


@define
class Attempt:
    """An attempt that has not ended. Slots, memory and GPUs are taken while it is `running` or `stopping`."""

    order: AttemptOrder
    epoch: Epoch
    came_s: float
    state: Literal["fetching", "queued", "running", "stopping"]
    started_s: float = 0.0
    gpus: tuple[str, ...] = ()


@define
class Kept:
    """An outcome that no coordinator has acknowledged."""

    outcome: Outcome
    since_s: float


@define
class Engagement:
    """The work for one application. `epoch` is the highest seen."""

    coordinator: NodeId
    epoch: Epoch
    attempts: dict[AttemptName, Attempt] = field(factory=dict)
    queue: deque[AttemptName] = field(factory=deque)
    """Attempts whose inputs are here, in order; those no longer `queued` are passed over."""
    kept: dict[AttemptName, Kept] = field(factory=dict)

    def next_queued(self) -> AttemptName | None:
        """The attempt that is to start next; it stays in the queue."""
        while self.queue:
            attempt = self.attempts.get(self.queue[0])
            if attempt is not None and attempt.state == "queued":
                return self.queue[0]
            self.queue.popleft()
        return None


def name_of(order: AttemptOrder, epoch: Epoch) -> AttemptName:
    return AttemptName(order.task, epoch.counter, order.number)


def slots_of(order: AttemptOrder) -> int:
    return max(1, order.needs.cpus)
