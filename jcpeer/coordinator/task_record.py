"""One task, and what the journal of its application says of it.

There may be a million of these, so a result is kept packed, without what its record has anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from attrs import frozen

from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.values import Value, evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.facts import AttemptStarted, Finished
from jcpeer.wire.messages import Outcome, Output

TaskStanding = Literal["pending", "finished", "failed", "cancelled", "skipped"]
"""`skipped`: a parent failed or was cancelled for good, so this task will never run."""


@frozen
class PastAttempt:
    """An attempt that came to something other than the task's result."""

    number: int
    epoch: int
    node: NodeId
    outcome: Outcome | None
    reason: str


class _Rest(Value):
    """Of a result, what its record does not have otherwise."""

    outputs: tuple[Output, ...]
    exit_status: int | None
    started_s: float
    waited_s: float
    ran_s: float
    cpu_s: float
    stdout: BlobRef | None
    stderr: BlobRef | None
    stdout_tail: str
    stderr_tail: str


class TaskRecord(msgspec.Struct, gc=False):
    """Nothing in a record leads back to it, so the collector of cycles need not look at a million of them."""

    spec: Task
    missing: int
    """How many of its parents are not finished."""
    batch: int = 0
    """The number of the batch that brought it."""
    standing: TaskStanding = "pending"
    children: Sequence[TaskId] = ()
    readers: int = 0
    """How many of the children read its outputs; the others only wait for it."""
    failures: int = 0
    losses: int = 0
    past: tuple[PastAttempt, ...] = ()
    started: AttemptStarted | None = None
    """Of a task marked `once`: what may have started, wherever it is now. It never becomes ready again."""
    ran_by: NodeId | None = None
    """The node on which its result was made."""
    _epoch: Epoch | None = None
    _number: int = 0
    _rest: bytes = b""
    _leaves_apart: bool = False

    # --- its result

    @property
    def has_result(self) -> bool:
        return self.ran_by is not None

    @property
    def result(self) -> Finished | None:
        """The valid result; its outputs carry no data, and what it consumed is not in it, since that was compared. None
        again when an output was lost."""
        if self.ran_by is None or self._epoch is None:
            return None
        rest = unpack(self._rest, _Rest)
        outcome = Outcome(
            self.spec.id,
            self._epoch,
            self._number,
            None,
            rest.outputs,
            (),
            rest.exit_status,
            rest.started_s,
            rest.waited_s,
            rest.ran_s,
            rest.cpu_s,
            rest.stdout,
            rest.stderr,
            rest.stdout_tail,
            rest.stderr_tail,
        )
        return Finished(self.ran_by, outcome)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What it left; nothing without a result."""
        return unpack(self._rest, _Rest).outputs if self.has_result else ()

    @property
    def apart(self) -> tuple[Output, ...]:
        """Those of its outputs that the journal has not; of most tasks there are none, which is known without a look at
        the result."""
        return tuple([each for each in self.outputs if not each.carried]) if self._leaves_apart else ()

    def take_result(self, node: NodeId, epoch: Epoch, outcome: Outcome) -> None:
        """`node` and `epoch` are those of the outcome, as objects that many records share."""
        outputs = tuple([evolve(each, data=None) if each.data is not None else each for each in outcome.outputs])
        rest = _Rest(
            outputs,
            outcome.exit_status,
            outcome.started_s,
            outcome.waited_s,
            outcome.ran_s,
            outcome.cpu_s,
            outcome.stdout,
            outcome.stderr,
            outcome.stdout_tail,
            outcome.stderr_tail,
        )
        self.ran_by, self._epoch, self._number = node, epoch, outcome.number
        self._rest = bytes(memoryview(pack(rest)))  # a copy: what was packed has room for half as much again
        self._leaves_apart = bool([each for each in outputs if not each.carried])

    def drop_result(self) -> None:
        self.ran_by, self._epoch, self._number, self._rest = None, None, 0, b""
        self._leaves_apart = False

    # --- how it stands

    @property
    def is_final(self) -> bool:
        """Its outputs are results of the application, as far as its readers have come."""
        return self.spec.keep or self.readers == 0

    @property
    def runnable(self) -> bool:
        return self.standing == "pending" and self.missing == 0 and self.started is None

    @property
    def blocked(self) -> bool:
        return self.standing == "pending" and self.missing > 0

    # --- its attempts

    @property
    def last_number(self) -> int:
        """The highest attempt number that the journal knows."""
        past = max([each.number for each in self.past]) if self.past else 0
        started = self.started.attempt.number if self.started else 0
        return max(past, started, self._number)

    def is_result_of(self, attempt: AttemptName) -> bool:
        """That attempt brought the result."""
        return self._epoch is not None and (self._epoch.counter, self._number) == (attempt.epoch, attempt.number)

    def past_of(self, attempt: AttemptName) -> list[PastAttempt]:
        """What this attempt came to; one that was taken for lost may have come back and failed, too."""
        return [each for each in self.past if (each.epoch, each.number) == (attempt.epoch, attempt.number)]
