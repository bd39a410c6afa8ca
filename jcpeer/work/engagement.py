"""What a node does for one application, as its participant machine knows it."""

from __future__ import annotations

from collections import deque
from typing import Literal

from attrs import define, field

from jcpeer.application.manifest import Header
from jcpeer.ids import AttemptName, Digest, Epoch, NodeId
from jcpeer.wire.messages import AttemptOrder, Outcome, Signed
from jcpeer.work.rights import NO_RIGHTS, Rights


@define
class Attempt:
    """An attempt that has not ended.

    `by_right`: its coordinator did not order it here; then `parent` is the kept outcome that it follows.
    """

    order: AttemptOrder
    epoch: Epoch
    came_s: float
    state: Literal["fetching", "queued", "running", "stopping"]
    started_s: float = 0.0
    gpus: tuple[str, ...] = ()
    rights: Rights = NO_RIGHTS
    parent: AttemptName | None = None
    by_right: bool = False
    line: deque[AttemptName] | None = None
    """With which others it runs in one slot, one after another; the first of them is the one that takes the room."""
    behind: bool = False
    """It is not the first of its line."""
    wanted_back: bool = False
    """The coordinator would have it run elsewhere, should it not have begun."""

    @property
    def waits(self) -> bool:
        """It has not started."""
        return self.state in ("fetching", "queued")

    @property
    def takes_room(self) -> bool:
        """Slots, memory and GPUs are taken for it."""
        return self.state in ("running", "stopping") and not self.behind


@define
class Kept:
    """An outcome that no coordinator has acknowledged, and who ran it; None: this node.

    `successors` are the attempts that were started after it by right, or are about to be, each with its node.
    """

    outcome: Outcome
    since_s: float
    node: NodeId | None = None
    parent: AttemptName | None = None
    successors: dict[AttemptName, NodeId | None] = field(factory=dict)


@define
class Engagement:
    """The work for one application. `epoch` is the highest seen; `placed` is the application as its submitter signed
    it."""

    coordinator: NodeId
    epoch: Epoch
    placed: Signed
    header: Header
    attempts: dict[AttemptName, Attempt] = field(factory=dict)
    slots_waiting: int = 0
    """What the attempts that have not started will take."""
    queue: deque[AttemptName] = field(factory=deque)
    """Attempts whose inputs are here, in order; those no longer `queued` are passed over."""
    kept: dict[AttemptName, Kept] = field(factory=dict)
    """Parents before children."""
    outputs: dict[Digest, str] = field(factory=dict)
    """What attempts left here and their reports did not carry, by a name for people."""
    ftc: NodeId | None = None
    """Who supervises beside the coordinator."""
    mean_run_s: float | None = None
    """How long its attempts ran of late."""

    def add(self, name: AttemptName, attempt: Attempt) -> None:
        """An attempt is to run here."""
        self.attempts[name] = attempt
        self.slots_waiting += slots_of(attempt.order)

    def start(self, attempt: Attempt, *, now_s: float) -> None:
        """It runs, or is in the hands of who runs it."""
        attempt.state, attempt.started_s = "running", now_s
        self.slots_waiting -= slots_of(attempt.order)

    def put_back(self, attempt: Attempt) -> None:
        """It had not started after all."""
        attempt.state = "queued"
        self.slots_waiting += slots_of(attempt.order)

    def next_queued(self) -> AttemptName | None:
        """The attempt that is to start next; it stays in the queue."""
        while self.queue:
            attempt = self.attempts.get(self.queue[0])
            if attempt is not None and attempt.state == "queued":
                return self.queue[0]
            self.queue.popleft()
        return None

    def remove(self, name: AttemptName) -> Attempt | None:
        """The attempt is no longer here."""
        attempt = self.attempts.pop(name, None)
        if attempt is not None:
            self.slots_waiting -= slots_of(attempt.order) if attempt.waits else 0
            self.forget_successor(attempt.parent, name)
        return attempt

    def forget_successor(self, parent: AttemptName | None, name: AttemptName) -> None:
        """It is no longer in this node's hands, nor in those of whom it was handed to."""
        if parent is not None and (kept := self.kept.get(parent)) is not None:
            kept.successors.pop(name, None)

    def ancestors(self, name: AttemptName | None) -> list[AttemptName]:
        """The kept outcomes that led to this one, itself included, parents first."""
        chain: list[AttemptName] = []
        while name is not None and (kept := self.kept.get(name)) is not None:
            chain.append(name)
            name = kept.parent
        return chain[::-1]

    def check(self) -> None:
        """Assert what holds after each event."""
        waiting = [each for each in self.attempts.values() if each.waits]
        assert self.slots_waiting == sum(slots_of(each.order) for each in waiting)
        assert not self.attempts.keys() & self.kept.keys()


def name_of(order: AttemptOrder, epoch: Epoch) -> AttemptName:
    return AttemptName(order.task, epoch.counter, order.number)


def slots_of(order: AttemptOrder) -> int:
    return max(1, order.needs.cpus)
