"""What a coordinator journals: each fact is one change of an application's durable state.

`coordinator.state.ApplicationState.apply` is the only reader of their meaning; the journal stores and copies them
without looking inside, but for the small results in `Finished`, which it keeps apart (they need not be in memory).
"""

from __future__ import annotations

from jcpeer.application.manifest import ReplicaSet
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.values import Number, Value
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import Outcome, Signed


class Submitted(Value, tag=True):
    """The application exists; `placed` is a signed `manifest.Placed`."""

    placed: Signed


class TasksAdded(Value, tag=True):
    """A batch was accepted; `batch` is a signed `manifest.Batch` with this number."""

    number: int
    batch: Signed


class Sealed(Value, tag=True):
    """No further batch; `seal` is a signed `manifest.Seal`."""

    seal: Signed


class Finished(Value, tag=True):
    """The task's first valid successful outcome."""

    node: NodeId
    outcome: Outcome


class Failed(Value, tag=True):
    """An attempt failed. `final`: the task has no retry left and is failed for good."""

    node: NodeId
    outcome: Outcome
    final: bool


class AttemptLost(Value, tag=True):
    """A started attempt went with its participant. `final`: as often as the limit allows, to which this one `counts`
    unless another one of the same outage does."""

    node: NodeId
    attempt: AttemptName
    reason: str
    final: bool
    counts: bool = True


class AttemptStarted(Value, tag=True):
    """An attempt of a task marked `once` may start at this node as soon as this is committed, and not before. From here
    on its task has started, and no other attempt of it follows but after `NotStarted`."""

    node: NodeId
    attempt: AttemptName


class NotStarted(Value, tag=True):
    """It is certain that this attempt of a task marked `once` neither started nor will: its task may yet start."""

    node: NodeId
    attempt: AttemptName
    reason: str


class OutputLost(Value, tag=True):
    """No reachable node holds an output of this finished task any more, and it is needed: it runs again. `final`: it is
    marked `once`, so it does not, and has failed for good."""

    task: TaskId
    reason: str
    final: bool = False


class Cancelled(Value, tag=True):
    """By the user: one task, or the application where `task` is None."""

    task: TaskId | None


class TookOver(Value, tag=True):
    """A new reign; every later entry of the journal has its epoch. What was adopted counts as acknowledged once this is
    on `ack` journals.

    `mandate` is that of the reign, None where the only journal is its coordinator's own; `predecessor` is who was lost,
    `after_s` how long before, as far as the successor knows.
    """

    epoch: Epoch
    mandate: Mandate | None = None
    predecessor: NodeId | None = None
    after_s: Number = 0.0
    unsure: bool = False
    """The machines of too many who voted had gone down: what was acknowledged last may be lost."""


class ReplicasChanged(Value, tag=True):
    """The next replica set. It commits in the one before; later entries count in this one.

    `statement` is the coordinator's own signed `mandates.Seated`, `last` what proves the set before this one.
    """

    replica_set: ReplicaSet
    statement: Signed
    last: tuple[Signed, ...] = ()


class Reconciled(Value, tag=True):
    """Two nodes had coordinated without each other (`available`). Of what `node` had journalled meanwhile these ran
    twice, and of these another result had been shown."""

    node: NodeId
    twice: tuple[TaskId, ...]
    changed: tuple[TaskId, ...]


class Ended(Value, tag=True):
    """The last entry. `status` is "ok", "failed" or "cancelled"."""

    status: str


Fact = (
    Submitted
    | TasksAdded
    | Sealed
    | Finished
    | Failed
    | AttemptLost
    | AttemptStarted
    | NotStarted
    | OutputLost
    | Cancelled
    | TookOver
    | ReplicasChanged
    | Reconciled
    | Ended
)


class Entry(Value):
    """A fact in its place; `at_s` is seconds since 1970 by the recorder's clock, for showing only."""

    epoch: Epoch
    index: int
    at_s: Number
    fact: Fact


class Brought(Value):
    """A small blob, and the index of the entry with which it came: whoever has that entry has the blob."""

    index: int
    digest: Digest
    data: bytes


class Tombstone(Value):
    """What stays of an application that was forgotten: late votes and submissions are answered with it. Times are
    seconds since 1970."""

    app: AppId
    name: str
    user: str
    status: str
    ended_at_s: Number
    buried_at_s: Number
    epoch: Epoch
