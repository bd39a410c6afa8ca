"""What an application durably is: the facts of its journal, applied in order.

Whoever applies the same facts gets the same state: the coordinator as it records them, a replica as they arrive, a
node that restarts as it reads them. Nothing here is known of participants that have not reported, nor of time.

Invariants (`check`): a task's `missing` is the number of its parents that are not finished; no task has more than one
result; `counts` and `blocked` agree with the tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, assert_never

from attrs import define

from jcpeer.application.manifest import Batch, Header, Placed, ReplicaSet
from jcpeer.application.task import OutputOf, Task
from jcpeer.coordinator.sharing import share_parts
from jcpeer.coordinator.task_record import PastAttempt, TaskRecord, TaskStanding
from jcpeer.ids import AppId, Digest, Epoch, NodeId, TaskId
from jcpeer.wire.codec import unpack
from jcpeer.wire.facts import (
    AttemptLost,
    AttemptStarted,
    Cancelled,
    Ended,
    Entry,
    Failed,
    Finished,
    NotStarted,
    OutputLost,
    Reconciled,
    ReplicasChanged,
    Sealed,
    Submitted,
    TasksAdded,
    TookOver,
)
from jcpeer.wire.messages import Output

TROUBLES_MAX = 200
FEW_OUTPUTS = 8


@define
class NodeShare:
    """What one node did for the application."""

    node: NodeId
    finished: int = 0
    failed: int = 0
    lost: int = 0
    busy_s: float = 0.0


class ApplicationState:
    """The table of an application's tasks at an index of its journal."""

    def __init__(self) -> None:
        self.app = AppId("")
        self.header = Header("", 0.0, b"")
        self.placed: Submitted | None = None
        self.replica_set = ReplicaSet(0, (), quorum=False)
        """The latest, whether or not the change to it is committed."""
        self.epoch: Epoch | None = None
        self.last_index = 0
        self.tasks: dict[TaskId, TaskRecord] = {}
        self._outputs: dict[TaskId, dict[str, Output]] = {}
        """Of tasks that left many, by name, where they have been asked for."""
        self.counts: Counter[TaskStanding] = Counter()
        self.blocked = 0
        """How many pending tasks wait for parents."""
        self.batches: dict[int, int] = {}
        """By number the index of the entry that has it."""
        self.sealed = False
        self.ended: str | None = None
        self.cancelled = False
        self.ended_at_s = 0.0
        self.ended_index = 0
        self.takeovers = 0
        self.reconciled: list[Reconciled] = []
        self.attempts = 0
        self.shares: dict[NodeId, NodeShare] = {}
        self.troubles: list[tuple[TaskId, PastAttempt]] = []
        """The latest attempts that came to something other than a result, oldest first."""

    # --- reading

    @property
    def whole(self) -> bool:
        """All of it has come, or it has no end for as long as its client lives. Nothing of any other is begun: it is
        not accepted yet, and while it comes its home has enough to do."""
        return self.sealed or self.header.open_ended

    @property
    def complete(self) -> bool:
        """Nothing will change any more but the end itself."""
        return (self.sealed or self.cancelled) and self.counts["pending"] == 0

    @property
    def runnable(self) -> int:
        """How many tasks are ready or under way, or started once and are awaited."""
        return self.counts["pending"] - self.blocked

    @property
    def stopped(self) -> bool:
        """Nothing runs any more that has not begun: it was cancelled, or a task failed where that is to stop all."""
        return self.cancelled or (self.header.on_failure == "stop" and self.counts["failed"] > 0)

    def verdict(self) -> Literal["ok", "failed", "cancelled"]:
        """The status that a complete application ends with."""
        if self.cancelled:
            return "cancelled"
        if self.counts["failed"]:
            return "failed"
        return "cancelled" if self.counts["cancelled"] or self.counts["skipped"] else "ok"

    def spec(self, task: TaskId) -> Task | None:
        """What the task is, if there is one of this name."""
        record = self.tasks.get(task)
        return record.spec if record else None

    def output(self, source: OutputOf) -> Output | None:
        """What the producing task left under that name, if its result stands."""
        record = self.tasks[source.task]
        outputs = record.outputs
        if len(outputs) <= FEW_OUTPUTS:
            return next((each for each in outputs if each.name == source.output), None)
        if source.task not in self._outputs:  # once, lest each of as many children looks through all of them
            self._outputs[source.task] = {each.name: each for each in outputs}
        return self._outputs[source.task].get(source.output)

    def consumed(self, task: TaskId) -> tuple[Digest, ...] | None:
        """The digests that a valid outcome of this task names, in the order of its inputs; None while a parent's
        result is missing."""
        digests = []
        for each in self.tasks[task].spec.inputs:
            source = each.source
            if isinstance(source, OutputOf):
                output = self.output(source)
                if output is None:
                    return None
                digests.append(output.blob.digest)
            else:
                digests.append(source.digest)
        return tuple(digests)

    def final_tasks(self) -> Iterator[TaskRecord]:
        """The tasks whose outputs are the application's results. It looks at all tasks, for people and for the end."""
        return (each for each in self.tasks.values() if each.is_final)

    # --- applying

    def apply(self, entry: Entry, *, batch: Batch | None = None) -> list[TaskId]:
        """Take the next fact; returns the tasks that became runnable by it, in the order of the graph.

        `batch` spares unpacking the one that is being added, where it is at hand.
        """
        self.last_index = entry.index
        fact = entry.fact
        match fact:
            case Submitted():
                placed = unpack(fact.placed.payload, Placed)
                self.placed, self.app, self.header = fact, placed.app, placed.header
                self.replica_set, self.epoch = placed.first_set, entry.epoch
                return []
            case TasksAdded():
                self.batches[fact.number] = entry.index
                return self._add(batch or unpack(fact.batch.payload, Batch))
            case Sealed():
                self.sealed = True
                return []
            case Finished():
                return self._finish(fact)
            case Failed():
                return self._fail(fact)
            case AttemptLost():
                return self._lose(fact)
            case AttemptStarted():
                self.tasks[fact.attempt.task].started = fact
                return []
            case NotStarted():
                return self._unstart(fact)
            case OutputLost():
                return self._unfinish(fact)
            case Cancelled():
                self._cancel(fact)
                return []
            case TookOver():
                self.epoch = fact.epoch
                self.takeovers += 1
                return []
            case ReplicasChanged():
                self.replica_set = fact.replica_set
                return []
            case Reconciled():
                self.reconciled.append(fact)
                return []
            case Ended():
                self.ended, self.ended_at_s, self.ended_index = fact.status, entry.at_s, entry.index
                return []
            case _:
                assert_never(fact)

    def _stand(self, record: TaskRecord, standing: TaskStanding) -> None:
        self.counts[record.standing] -= 1
        self.counts[standing] += 1
        self.blocked -= record.blocked
        record.standing = standing
        self.blocked += record.blocked

    def _miss(self, record: TaskRecord, change: int) -> None:
        """So many more, or fewer, of its parents are not finished."""
        self.blocked -= record.blocked
        record.missing += change
        self.blocked += record.blocked

    def _add(self, batch: Batch) -> list[TaskId]:
        runnable = []
        before: Task | None = None
        for task in batch.tasks:
            if before is not None:
                share_parts(task, before)
            before = task
            self.tasks[task.id] = TaskRecord(task, 0, batch.number)
        self.counts["pending"] += len(batch.tasks)
        stopped = self.stopped
        for task in batch.tasks:  # a second pass: tasks of one batch may come in any order
            record = self.tasks[task.id]
            parents = task.parents()
            sources = task.sources() if parents else ()
            for parent_id in parents:
                parent = self.tasks[parent_id]
                if isinstance(parent.children, list):
                    parent.children.append(record.spec.id)
                else:  # most have none, or few
                    parent.children = [record.spec.id]
                parent.readers += parent_id in sources
                self._miss(record, parent.standing != "finished")
                if parent.standing in ("failed", "cancelled", "skipped"):
                    self._skip(task.id)
            if stopped and record.standing == "pending":
                self._stand(record, "cancelled")
            if record.runnable:
                runnable.append(task.id)
        return runnable

    def _finish(self, fact: Finished) -> list[TaskId]:
        outcome = fact.outcome
        record = self.tasks[outcome.task]
        share = self._share_of(fact.node)
        epoch = self.epoch if outcome.epoch == self.epoch and self.epoch is not None else outcome.epoch
        record.take_result(share.node, epoch, outcome)
        self._stand(record, "finished")
        share.finished += 1
        share.busy_s += outcome.ran_s
        self.attempts += 1
        runnable = []
        for child_id in record.children:
            child = self.tasks[child_id]
            self._miss(child, -1)
            if child.runnable:
                runnable.append(child_id)
        return runnable

    def _share_of(self, node: NodeId) -> NodeShare:
        if node not in self.shares:
            self.shares[node] = NodeShare(node)
        return self.shares[node]

    def _unfinish(self, fact: OutputLost) -> list[TaskId]:
        record = self.tasks[fact.task]
        result = record.result
        assert result is not None
        outcome = result.outcome
        self._remember(record, PastAttempt(outcome.number, outcome.epoch.counter, result.node, outcome, fact.reason))
        record.drop_result()
        self._outputs.pop(fact.task, None)
        self._stand(record, "pending")
        for child_id in record.children:
            self._miss(self.tasks[child_id], +1)
        if any(self.tasks[each].standing in ("failed", "cancelled", "skipped") for each in record.spec.parents()):
            self._skip(fact.task)  # a parent ran again, too, and came to nothing
        return self._retry_or_give_up(record, fact.final)

    def _unstart(self, fact: NotStarted) -> list[TaskId]:
        record = self.tasks[fact.attempt.task]
        if record.started is None or record.started.attempt != fact.attempt:
            return []
        record.started = None
        return [record.spec.id] if record.runnable else []

    def _fail(self, fact: Failed) -> list[TaskId]:
        outcome = fact.outcome
        record = self.tasks[outcome.task]
        failure = outcome.failure
        text = failure.text if failure else "failed"
        record.failures += 1
        self._remember(record, PastAttempt(outcome.number, outcome.epoch.counter, fact.node, outcome, text))
        share = self._share_of(fact.node)
        share.failed += 1
        share.busy_s += outcome.ran_s
        self.attempts += 1
        return self._retry_or_give_up(record, fact.final)

    def _lose(self, fact: AttemptLost) -> list[TaskId]:
        record = self.tasks[fact.attempt.task]
        record.losses += fact.counts
        self._remember(record, PastAttempt(fact.attempt.number, fact.attempt.epoch, fact.node, None, fact.reason))
        self._share_of(fact.node).lost += 1
        self.attempts += 1
        return self._retry_or_give_up(record, fact.final)

    def _retry_or_give_up(self, record: TaskRecord, final: bool) -> list[TaskId]:
        if record.standing != "pending":
            return []
        if not final:
            return [record.spec.id] if record.runnable else []
        self._stand(record, "failed")
        for child in record.children:
            self._skip(child)
        if self.header.on_failure == "stop":
            self._cancel_pending()
        return []

    def _cancel(self, fact: Cancelled) -> None:
        if fact.task is None:
            self.cancelled = True
            self._cancel_pending()
            return
        record = self.tasks[fact.task]
        if record.standing == "pending":
            self._stand(record, "cancelled")
            for child in record.children:
                self._skip(child)

    def _cancel_pending(self) -> None:
        # The one scan of all tasks: it happens once, since afterwards none is pending.
        for record in self.tasks.values():
            if record.standing == "pending":
                self._stand(record, "cancelled")

    def _skip(self, task: TaskId) -> None:
        stack = [task]
        while stack:
            record = self.tasks[stack.pop()]
            if record.standing == "pending":
                self._stand(record, "skipped")
                stack.extend(record.children)

    def _remember(self, record: TaskRecord, attempt: PastAttempt) -> None:
        record.past = (*record.past, attempt)
        self.troubles.append((record.spec.id, attempt))
        del self.troubles[:-TROUBLES_MAX]

    # --- invariants

    def check(self) -> None:
        """Assert what holds after each fact; for tests and simulations, since it looks at every task."""
        for task, record in self.tasks.items():
            unfinished = sum(self.tasks[each].standing != "finished" for each in record.spec.parents())
            assert record.missing == unfinished, (task, record.missing, unfinished)
            assert record.has_result == (record.standing == "finished"), task
        assert self.blocked == sum(each.blocked for each in self.tasks.values())
        assert +self.counts == Counter(each.standing for each in self.tasks.values())
