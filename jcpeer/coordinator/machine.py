"""Which task of one application runs where, from the first batch to the end.

Durable state is what `ApplicationState` makes of the journal; what is here beside it (participants, attempts under
way, holders of blobs) is soft, and is learnt again after a takeover. The order of things:

- `Record` yields an index at once; what promises something to somebody (an acknowledgement to a participant, an event
  to a client, the end) waits for that index to be committed. Dispatch promises nothing and does not wait.
- An outcome is a fact: the first valid one of an unfinished task stands, whichever epoch or attempt ordered it, if it
  names the very digests of the inputs that the journal knows. Other attempts of the task are then cancelled.
- An order bears this coordinator's epoch, and participants refuse a lower one than they have seen.

It leaves to others: the journal, fetching and storing blobs, checking signatures, who is alive.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Collection
from typing import assert_never

from attrs import evolve, frozen

from jcpeer.application.manifest import Batch
from jcpeer.application.task import BlobRef, OutputOf, Task
from jcpeer.coordinator.dispatch import ReadyQueue, ReadyQueues, able_to_run, choose
from jcpeer.coordinator.events import (
    BatchAdded,
    CancelRequested,
    Collect,
    Collected,
    CollectFailed,
    Committed,
    Effect,
    Event,
    Heard,
    NodeLost,
    NodeSeen,
    Over,
    Quiet,
    Record,
    SealReceived,
    Send,
    SendOrders,
    Tell,
    Tick,
    Woke,
)
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.roster import Assigned, Participant, Roster, queued_last_first, slots_of, unmet_need
from jcpeer.coordinator.state import ApplicationState, TaskRecord
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.wire.facts import (
    AttemptLost,
    Cancelled,
    Ended,
    Entry,
    Fact,
    Failed,
    Finished,
    OutputLost,
    Sealed,
    Submitted,
    TasksAdded,
    TookOver,
)
from jcpeer.wire.messages import (
    Acknowledge,
    AttemptOrder,
    CancelAttempts,
    Confirm,
    Decline,
    Failure,
    Fetched,
    GivenBack,
    NodeRecord,
    OrderedInput,
    Outcome,
    Recruit,
    Release,
    Report,
    Started,
    Withdraw,
)

LOST_ATTEMPTS_MAX = 3
"""A task whose attempts went with their nodes this often has probably felled them: it fails instead of going on."""
REBALANCE_AFTER_S = 0.25
"""An attempt that has waited this long behind others is taken back when somebody is idle."""
EXCUSED_S = 10.0
"""After this node was held up (stopped, suspended) it waits so long for others to be in reach again before it counts
them as lost, with all that they run and hold."""
SETTLE_S = 2.0
"""After a takeover, time for participants to say what they still run before it is given to others."""
ORDERS_PER_FRAME_MAX = 500
HOLDERS_TOLD_MAX = 4
"""Of a blob that many have. An order with thousands of inputs must still fit a frame."""
UNLIKE_THE_TASK = Failure("missing_output", "its node reports other outputs than the task declares", "update that node")


@frozen
class _Acknowledgement:
    """Due to a participant."""

    node: NodeId
    attempt: AttemptName


class Coordinator:
    """Feed every event to `handle`, in order, and perform the effects in order. Invariants: see `check`."""

    def __init__(self, state: ApplicationState, *, me: NodeId, now_s: float, clock_s: float) -> None:
        """Of an application that `state` knows (empty where `open` follows).

        Args:
            clock_s: Seconds since 1970 when `now_s` was read; entries bear such times, for showing only.
        """
        self.state = state
        self.roster = Roster(user=state.header.user)
        self._me = me
        self._clock_offset_s = clock_s - now_s
        self._epoch = state.epoch or Epoch(1, me)
        self._ready = ReadyQueues(self._is_ready)
        self._under_way: dict[TaskId, dict[AttemptName, NodeId]] = {}
        self._numbers: dict[TaskId, int] = {}
        self._promises: deque[tuple[int, Effect | _Acknowledgement]] = deque()
        self._acknowledgements: dict[NodeId, list[AttemptName]] = {}
        self._committed = state.last_index
        self._holdings = Holdings(me=me)
        self._sent_small: dict[NodeId, set[Digest]] = {}
        self._collecting: dict[Digest, TaskId] = {}
        self._finished_early: dict[TaskId, None] = {}
        """Tasks without children that had finished before the application was sealed."""
        self._shunned: dict[TaskId, set[NodeId]] = {}
        """Nodes that gave a task back of their own will: not asked again while another can run it."""
        self._dispatch_from_s = 0.0
        self._excused_until_s = -math.inf
        self._missed: dict[NodeId, str] = {}
        """Nodes that left the directory when we had just been held up ourselves, and why: they may be back at once."""
        self._to_compare: dict[NodeId, set[AttemptName]] = {}
        self._mean_run_s: float | None = None
        self._over = state.ended is not None

    # --- beginnings

    def open(self, submitted: Submitted, *, now_s: float) -> list[Effect]:
        """The first entry of a new application."""
        effects = self._record(submitted, now_s=now_s)
        self.roster = Roster(user=self.state.header.user)
        return effects

    def take_over(self, *, now_s: float, absent: Collection[Digest] = ()) -> list[Effect]:
        """Go on with an application whose journal was read: a new epoch, and a pause in which participants report.

        `absent` are outputs that this node held before, and that did not outlive its last run.
        """
        last = self.state.epoch or self._epoch
        self._epoch = Epoch(last.counter + 1, self._me)
        effects = self._record(TookOver(self._epoch), now_s=now_s)
        self._dispatch_from_s = now_s + SETTLE_S
        for record in self.state.tasks.values():
            self._numbers[record.spec.id] = record.last_number
            for each in record.spec.inputs:
                if isinstance(each.source, BlobRef):
                    self._holdings.add(self._me, each.source.digest)
            if record.runnable:
                self._make_ready(record.spec.id)
            if record.result is not None:
                self._note_holders(record.result)
        for digest in absent:
            self._holdings.remove((self._me,), digest)
        finished = [record for record in self.state.tasks.values() if record.result is not None]
        for record in finished:
            if absent and record.result and any(each.blob.digest in absent for each in record.result.outcome.outputs):
                why = "it was in the memory of a process that is gone"
                effects += self._restore_output_if_needed(record.spec.id, why, now_s=now_s)
        for record in finished:
            effects += self._collect_if_final(record)
        return effects

    @property
    def app(self) -> AppId:
        return self.state.app

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    @property
    def over(self) -> bool:
        """Ended, and that is recorded; nothing is decided any more."""
        return self._over

    # --- events

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case BatchAdded():
                return self._add_batch(event, now_s=now_s)
            case SealReceived():
                return self._seal(event, now_s=now_s)
            case NodeSeen():
                return self._see_node(event.record, now_s=now_s)
            case NodeLost() if now_s < self._excused_until_s:
                self._missed[event.node] = event.why
                return []
            case NodeLost():
                return self._lose_node(event.node, event.why, now_s=now_s)
            case Heard():
                return self._hear(event, now_s=now_s)
            case Committed():
                return self._keep_promises(event.index)
            case Collected():
                return self._collected(event.digest)
            case CollectFailed():
                return self._collect_elsewhere(event, now_s=now_s)
            case CancelRequested():
                return self._cancel(event.task, now_s=now_s)
            case Woke():
                self._excused_until_s = now_s + EXCUSED_S
                return []
            case Tick():
                return [*self._lose_missed(now_s=now_s), *self._acknowledge(), *self._rebalance(now_s=now_s)]
            case Quiet():
                return [
                    *self._call_up(now_s=now_s),
                    *self._dispatch(now_s=now_s),
                    *self._end_if_complete(now_s=now_s),
                ]
            case _:
                assert_never(event)

    def _hear(self, event: Heard, *, now_s: float) -> list[Effect]:
        message = event.message
        match message:
            case Confirm():
                return self._confirm(event.node, message)
            case Decline():
                return self._decline(event.node, message, now_s=now_s)
            case Started():
                return self._note_started(event.node, message, now_s=now_s)
            case Report():
                return [
                    effect
                    for outcome in message.outcomes
                    for effect in self._take_outcome(event.node, outcome, now_s=now_s)
                ]
            case GivenBack():
                return self._take_back(event.node, message, now_s=now_s)
            case Fetched():
                self._holdings.add_if_known(event.node, message.blobs)
                return []
            case _:
                assert_never(message)

    # --- journal and promises

    def _record(self, fact: Fact, *, now_s: float, batch: Batch | None = None) -> list[Effect]:
        entry = Entry(self._epoch, self.state.last_index + 1, now_s + self._clock_offset_s, fact)
        for task in self.state.apply(entry, batch=batch):
            self._make_ready(task)
        self._promises.append((entry.index, Tell(entry)))
        return [Record(entry)]

    def _promise(self, *promises: Effect | _Acknowledgement) -> list[Effect]:
        """Perform these once everything recorded so far is committed."""
        self._promises.extend((self.state.last_index, each) for each in promises)
        return self._keep_promises(self._committed)

    def _keep_promises(self, index: int) -> list[Effect]:
        self._committed = max(self._committed, index)
        kept: list[Effect] = []
        while self._promises and self._promises[0][0] <= self._committed:
            promise = self._promises.popleft()[1]
            if isinstance(promise, _Acknowledgement):
                self._acknowledgements.setdefault(promise.node, []).append(promise.attempt)
            else:
                kept.append(promise)
        return kept

    def _acknowledge(self) -> list[Effect]:
        """Tell the participants what they need not keep any longer: nobody waits for it, so a few times a second."""
        effects: list[Effect] = [
            Send(node, Acknowledge(self.app, self._epoch, tuple(attempts)))
            for node, attempts in self._acknowledgements.items()
        ]
        self._acknowledgements.clear()
        return effects

    # --- submission

    def _add_batch(self, event: BatchAdded, *, now_s: float) -> list[Effect]:
        batch = event.batch
        if batch.number in self.state.batches or self.state.sealed or self._over:
            return []
        if any(task.id in self.state.tasks for task in batch.tasks):
            return []  # of two batches that were checked at once the first stands
        for blob in batch.blobs:
            self._holdings.add(self._me, blob.digest)
        return self._record(TasksAdded(batch.number, event.signed), now_s=now_s, batch=batch)

    def _seal(self, event: SealReceived, *, now_s: float) -> list[Effect]:
        if self.state.sealed or self._over:
            return []
        effects = self._record(Sealed(event.seal), now_s=now_s)
        for task in self._finished_early:
            effects += self._collect_if_final(self.state.tasks[task])
        self._finished_early.clear()
        return effects

    # --- participants

    def _call_up(self, *, now_s: float) -> list[Effect]:
        wanted = self.state.counts["pending"]
        if self._over or wanted == 0:
            return []
        return self._recruit(self.roster.call_up(slots_wanted=wanted, now_s=now_s))

    def _recruit(self, nodes: list[NodeId]) -> list[Effect]:
        assert self.state.placed is not None
        recruit = Recruit(self.app, self._epoch, self.state.placed.placed)
        return [Send(node, recruit) for node in nodes]

    def _confirm(self, node: NodeId, message: Confirm) -> list[Effect]:
        if message.epoch != self._epoch:
            return []
        if self._over:
            return [Send(node, Release(self.app, self._epoch, ended=True))]
        known = node in self.roster.participants
        participant = self.roster.confirm(node, message.slots)
        if participant is None:
            return []
        if known:
            return self._compare(participant, message)
        stale = []
        for name in message.known:
            record = self.state.tasks.get(name.task)
            if name in self._under_way.get(name.task, ()):
                continue  # said twice, or by somebody else
            if record is None or record.standing != "pending":
                stale.append(name)  # its outcome, if it is kept there, comes as a report and is acknowledged
                continue
            self._numbers[name.task] = max(self._numbers.get(name.task, 0), name.number)
            self._give(participant, Assigned(name, slots_of(record.spec.needs), given_s=0.0, state="running"))
        return [Send(node, CancelAttempts(self.app, self._epoch, tuple(stale)))] if stale else []

    def _see_node(self, record: NodeRecord, *, now_s: float) -> list[Effect]:
        node = record.node
        effects: list[Effect] = []
        if (why := self._missed.pop(node, None)) is not None:
            candidate = self.roster.candidates.get(node)
            if candidate is not None and candidate.record.incarnation != record.incarnation:
                effects = self._lose_node(node, why, now_s=now_s)
            elif (participant := self.roster.participants.get(node)) is not None:
                # The same process as before. What we sent last may be lost, which its answer will show.
                self._sent_small.pop(node, None)
                self._to_compare[node] = set(participant.assigned)
                effects = self._recruit([node])
        self.roster.see(record)
        return effects

    def _compare(self, participant: Participant, message: Confirm) -> list[Effect]:
        """What a participant has of the attempts that we gave it before it was out of reach."""
        node = participant.record.node
        to_cancel = []
        for name in sorted(self._to_compare.pop(node, set()) & participant.assigned.keys()):
            attempt = participant.assigned[name]
            if name not in message.known:
                self._free(name)
            elif attempt.state == "cancelling":
                to_cancel.append(name)
            else:
                attempt.state = "running"
        return [Send(node, CancelAttempts(self.app, self._epoch, tuple(to_cancel)))] if to_cancel else []

    def _lose_missed(self, *, now_s: float) -> list[Effect]:
        if not self._missed or now_s < self._excused_until_s:
            return []
        missed, self._missed = self._missed, {}
        return [effect for node, why in missed.items() for effect in self._lose_node(node, why, now_s=now_s)]

    def _decline(self, node: NodeId, message: Decline, *, now_s: float) -> list[Effect]:
        if message.epoch != self._epoch:
            return []
        participant = self.roster.refuse(node, message.reason, now_s=now_s)
        for name in list(participant.assigned) if participant else ():
            self._free(name)
        return []

    def _lose_node(self, node: NodeId, why: str, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        self._sent_small.pop(node, None)
        participant = self.roster.lose(node)
        if participant is not None:
            suspects = participant.may_have_started()
            attempts = list(participant.assigned.values())
            for attempt in attempts:
                self._forget_attempt(attempt.name)
            for attempt in attempts:  # none is under way there any more, so that giving up finds nothing to cancel
                if attempt.name in suspects and attempt.state != "cancelling":
                    effects += self._lose_attempt(node, attempt.name, why, now_s=now_s)
                else:
                    self._requeue(attempt.name.task)
        return effects + self._lose_holder(node, why, now_s=now_s)

    def _lose_attempt(self, node: NodeId, name: AttemptName, why: str, *, now_s: float) -> list[Effect]:
        record = self.state.tasks[name.task]
        if record.standing != "pending":
            return []
        if record.past_of(name):
            # It came back after a break, and is lost once more: one attempt, which felled one node at most.
            self._requeue(name.task)
            return []
        final = record.losses + 1 >= LOST_ATTEMPTS_MAX
        effects = self._record(AttemptLost(node, name, why, final), now_s=now_s)
        return [*effects, *self._after_giving_up(record.spec.id)] if final else effects

    # --- attempts

    def _is_ready(self, task: TaskId) -> bool:
        return self.state.tasks[task].runnable and task not in self._under_way

    def _make_ready(self, task: TaskId, *, first: bool = False) -> None:
        self._ready.add(self.state.tasks[task].spec, avoid=self._to_avoid(task), first=first)

    def _requeue(self, task: TaskId) -> None:
        if self._is_ready(task):
            self._make_ready(task, first=True)

    def _give(self, participant: Participant, attempt: Assigned) -> None:
        participant.give(attempt)
        self._under_way.setdefault(attempt.name.task, {})[attempt.name] = participant.record.node

    def _forget_attempt(self, name: AttemptName) -> Assigned | None:
        """The attempt is no longer under way; returns it as it was."""
        attempts = self._under_way.get(name.task)
        node = attempts.pop(name, None) if attempts else None
        if attempts is not None and not attempts:
            del self._under_way[name.task]
        participant = self.roster.participants.get(node) if node else None
        return participant.take_back(name) if participant else None

    def _free(self, name: AttemptName) -> None:
        """The attempt ended without telling anything of its task."""
        self._forget_attempt(name)
        self._requeue(name.task)

    def _note_started(self, node: NodeId, message: Started, *, now_s: float) -> list[Effect]:
        participant = self.roster.participants.get(node)
        if participant is None:
            # It was out of reach for a while. What it runs may as well be waited for, or else is to be stopped.
            return [] if self._over else self._recruit(self.roster.ask_again(node, now_s=now_s))
        for name in message.attempts:
            attempt = participant.assigned.get(name)
            if attempt is not None and attempt.state in ("assigned", "withdrawing"):
                attempt.state = "running"
        return []

    def _take_back(self, node: NodeId, message: GivenBack, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for name in message.attempts:
            mine = self._under_way.get(name.task, {}).get(name) == node
            attempt = self._forget_attempt(name) if mine else None
            if attempt is None:
                continue
            if message.lost and attempt.state != "cancelling":
                effects += self._lose_attempt(node, name, message.reason, now_s=now_s)
            elif attempt.state not in ("withdrawing", "cancelling"):
                self._shunned.setdefault(name.task, set()).add(node)
            self._requeue(name.task)
        for digest in message.missing:
            effects += self._doubt(digest, message.attempts, message.reason, now_s=now_s)
        return effects

    def _take_outcome(self, node: NodeId, outcome: Outcome, *, now_s: float) -> list[Effect]:
        record = self.state.tasks.get(outcome.task)
        if record is None:
            return []
        self._forget_attempt(outcome.attempt)
        acknowledge = _Acknowledgement(node, outcome.attempt)
        if record.standing != "pending":
            return self._promise(acknowledge)  # it, or another end, stands already: forget it
        if self.state.consumed(outcome.task) != outcome.consumed:
            # Computed from a result that did not survive, or that is about to be made anew.
            self._requeue(outcome.task)
            return self._promise(acknowledge)
        if outcome.failure is None and {each.name for each in outcome.outputs} != set(record.spec.outputs):
            outcome = evolve(outcome, failure=UNLIKE_THE_TASK, outputs=())
        if outcome.failure is not None:
            if any(each.outcome is not None for each in record.past_of(outcome.attempt)):
                self._requeue(outcome.task)
                return self._promise(acknowledge)  # told again after a break: it counts once
            return [*self._fail(node, outcome, record, now_s=now_s), *self._promise(acknowledge)]
        return [*self._finish(node, outcome, record, now_s=now_s), *self._promise(acknowledge)]

    def _finish(self, node: NodeId, outcome: Outcome, record: TaskRecord, *, now_s: float) -> list[Effect]:
        if 0 <= outcome.ran_s < math.inf:
            mean_s = outcome.ran_s if self._mean_run_s is None else self._mean_run_s
            self._mean_run_s = 0.8 * mean_s + 0.2 * outcome.ran_s
        effects = self._record(Finished(node, outcome), now_s=now_s)
        effects += self._cancel_under_way(outcome.task)
        assert record.result is not None
        self._note_holders(record.result)
        effects += self._collect_if_final(record)
        return effects

    def _fail(self, node: NodeId, outcome: Outcome, record: TaskRecord, *, now_s: float) -> list[Effect]:
        assert outcome.failure is not None
        final = record.failures >= record.spec.retries
        effects = self._record(Failed(node, outcome, final), now_s=now_s)
        return [*effects, *self._after_giving_up(record.spec.id)] if final else effects

    def _after_giving_up(self, task: TaskId) -> list[Effect]:
        """A task failed for good: with `on_failure = stop` everything else was cancelled with it."""
        if self.state.header.on_failure == "stop":
            return self._cancel_all_under_way()
        return self._cancel_under_way(task)

    # --- cancelling

    def _cancel(self, task: TaskId | None, *, now_s: float) -> list[Effect]:
        if self._over or self.state.cancelled:
            return []
        if task is not None:
            record = self.state.tasks.get(task)
            if record is None or record.standing != "pending":
                return []
        effects = self._record(Cancelled(task), now_s=now_s)
        effects += self._cancel_all_under_way() if task is None else self._cancel_under_way(task)
        return effects

    def _cancel_all_under_way(self) -> list[Effect]:
        return [effect for task in list(self._under_way) for effect in self._cancel_under_way(task)]

    def _cancel_under_way(self, task: TaskId) -> list[Effect]:
        effects: list[Effect] = []
        for name, node in self._under_way.get(task, {}).items():
            attempt = self.roster.participants[node].assigned[name]
            if attempt.state != "cancelling":
                attempt.state = "cancelling"
                effects.append(Send(node, CancelAttempts(self.app, self._epoch, (name,))))
        return effects

    # --- blobs: who holds what

    def _note_holders(self, result: Finished) -> None:
        for output in result.outcome.outputs:
            self._holdings.add(self._me if output.carried else result.node, output.blob.digest)

    def _lose_holder(self, node: NodeId, why: str, *, now_s: float) -> list[Effect]:
        lost = self._holdings.lose(node)
        concerned = [
            record.spec.id
            for record in self.state.tasks.values()
            if record.result is not None and any(each.blob.digest in lost for each in record.result.outcome.outputs)
        ]
        return [effect for task in concerned for effect in self._restore_output_if_needed(task, why, now_s=now_s)]

    def _restore_output_if_needed(self, task: TaskId, why: str, *, now_s: float) -> list[Effect]:
        """Run a finished task again if an output of it has no holder left and somebody still needs it; and, as the
        second run needs its own inputs, its ancestors as far as theirs are gone too."""
        effects: list[Effect] = []
        doubtful = [task]  # not by recursion: a chain of tasks may be longer than Python's stack
        while doubtful:
            record = self.state.tasks[doubtful.pop()]
            if record.result is None or self._over or self.state.stopped:
                continue
            gone = [each for each in record.result.outcome.outputs if not self._holdings.of(each.blob.digest)]
            if not any(self._is_needed(record, each.name) for each in gone):
                continue
            for each in gone:
                self._collecting.pop(each.blob.digest, None)
            effects += self._record(OutputLost(record.spec.id, why), now_s=now_s)
            doubtful += reversed(record.spec.parents())
        return effects

    def _is_needed(self, record: TaskRecord, output: str) -> bool:
        if record.is_final:
            return True
        source = OutputOf(record.spec.id, output)
        return any(
            self.state.tasks[child].standing == "pending"
            and any(each.source == source for each in self.state.tasks[child].spec.inputs)
            for child in record.children
        )

    def _doubt(self, digest: Digest, attempts: tuple[AttemptName, ...], why: str, *, now_s: float) -> list[Effect]:
        if not self._holdings.doubt(digest):
            return []
        return [
            effect
            for name in attempts
            if name.task in self.state.tasks
            for each in self.state.tasks[name.task].spec.inputs
            if isinstance(each.source, OutputOf)
            for effect in self._restore_output_if_needed(each.source.task, why, now_s=now_s)
        ]

    def _collect_if_final(self, record: TaskRecord) -> list[Effect]:
        """The application's results are brought here before it ends; those that reports carried are in the journal."""
        if record.result is None or not record.is_final:
            return []
        if not self.state.sealed and not self.state.header.open_ended:
            self._finished_early[record.spec.id] = None  # its children may still be on their way
            return []
        effects: list[Effect] = []
        for output in record.result.outcome.outputs:
            if output.carried or output.blob.digest in self._collecting:
                continue
            holders = self._holdings.of(output.blob.digest)
            if self._me not in holders:
                self._collecting[output.blob.digest] = record.spec.id
                effects.append(Collect(output.blob, tuple(sorted(holders))))
        return effects

    def _collected(self, digest: Digest) -> list[Effect]:
        self._holdings.add(self._me, digest)
        self._collecting.pop(digest, None)
        return []

    def _collect_elsewhere(self, event: CollectFailed, *, now_s: float) -> list[Effect]:
        task = self._collecting.pop(event.digest, None)
        self._holdings.remove(event.holders, event.digest)
        if task is None:
            return []
        if self._holdings.of(event.digest):
            return self._collect_if_final(self.state.tasks[task])
        return self._restore_output_if_needed(task, "no holder gave it", now_s=now_s)

    # --- the end

    def _end_if_complete(self, *, now_s: float) -> list[Effect]:
        if self._over or not self.state.complete or (self._collecting and not self.state.cancelled):
            return []
        if self._under_way:
            return []  # what was cancelled still runs; the end says that nothing does
        self._over = True
        status = self.state.verdict()
        effects = self._record(Ended(status), now_s=now_s)
        release = Release(self.app, self._epoch, ended=True)
        return [
            *effects,
            *self._promise(
                *(Send(node, release) for node in self.roster.participants),
                Over(status),
            ),
        ]

    # --- dispatch

    def _dispatch(self, *, now_s: float) -> list[Effect]:
        if self._over or now_s < self._dispatch_from_s:
            return []
        orders: dict[NodeId, list[AttemptOrder]] = {}
        effects: list[Effect] = []
        for queue in self._ready:
            able = self._able(queue, effects, now_s=now_s)
            while (task := queue.head()) is not None:
                spec = self.state.tasks[task].spec
                node = choose(spec, able, local_bytes=self._local_bytes, mean_run_s=self._mean_run_s)
                if node is None:
                    break
                orders.setdefault(node, []).append(self._order(spec, node, now_s=now_s))
        effects += [
            self._orders_for(node, tuple(batch[start : start + ORDERS_PER_FRAME_MAX]))
            for node, batch in orders.items()
            for start in range(0, len(batch), ORDERS_PER_FRAME_MAX)
        ]
        return effects

    def _able(self, queue: ReadyQueue, effects: list[Effect], *, now_s: float) -> dict[NodeId, Participant]:
        """Who may be given the tasks of this queue. Where none of the participants should, others are called up, and
        only when nobody else is left do nodes count where such a task failed."""
        task = queue.head()
        assert task is not None
        spec = self.state.tasks[task].spec
        for avoid in (queue.avoid, frozenset()):
            able = able_to_run(spec, self.roster.participants, avoid=avoid)
            if able:
                return able
            others = self.roster.others_for(spec, avoid=avoid, now_s=now_s)
            if others:
                effects += self._recruit(self.roster.ask(others, now_s=now_s))
                return {}
        return {}

    def _to_avoid(self, task: TaskId) -> frozenset[NodeId]:
        failed = (each.node for each in self.state.tasks[task].past)
        return frozenset((*failed, *self._shunned.get(task, ())))

    def _local_bytes(self, task: Task, node: NodeId) -> int:
        """How many bytes of the task's large inputs this node holds."""
        return sum(
            blob.size
            for each in task.inputs
            if not (blob := self._input_blob(each.source)).small and self._holdings.holds(node, blob.digest)
        )

    def _input_blob(self, source: BlobRef | OutputOf) -> BlobRef:
        if isinstance(source, BlobRef):
            return source
        output = self.state.output(source)
        assert output is not None, "a ready task's parents are finished, and a success has all declared outputs"
        return output.blob

    def _order(self, task: Task, node: NodeId, *, now_s: float) -> AttemptOrder:
        number = self._numbers[task.id] = self._numbers.get(task.id, 0) + 1
        name = AttemptName(task.id, self._epoch.counter, number)
        self._give(self.roster.participants[node], Assigned(name, slots_of(task.needs), given_s=now_s))
        inputs = []
        for each in task.inputs:
            blob = self._input_blob(each.source)
            holders = self._best_holders(self._holdings.of(blob.digest), node)
            inputs.append(OrderedInput(each.name, blob, holders, each.executable))
        return AttemptOrder(task.id, number, task.work, tuple(inputs), task.outputs, task.needs, task.timeout_s)

    def _best_holders(self, holders: frozenset[NodeId], node: NodeId) -> tuple[NodeId, ...]:
        """A few, and others for each node that asks, so that an order stays short and nobody is asked by all. They come
        before ourselves, so that bulk data does not all pass through the coordinator."""
        others = holders - {node, self._me}
        told = heapq.nsmallest(HOLDERS_TOLD_MAX, others, key=lambda each: (each < node, each))
        return (*told, self._me) if self._me in holders and node != self._me else tuple(told)

    def _orders_for(self, node: NodeId, orders: tuple[AttemptOrder, ...]) -> SendOrders:
        sent = self._sent_small.setdefault(node, set())
        attach = []
        for order in orders:
            for each in order.inputs:
                if each.blob.small and each.blob.digest not in sent:
                    sent.add(each.blob.digest)
                    attach.append(each.blob.digest)
        return SendOrders(node, orders, tuple(attach))

    def _rebalance(self, *, now_s: float) -> list[Effect]:
        """Take back attempts that wait behind others while somebody is idle and nothing else is ready."""
        if self._over or self._ready:
            return []
        idle = [each for each in self.roster.participants.values() if each.slots_free > 0]
        effects: list[Effect] = []
        for helper in idle:
            room = helper.slots_free
            for owner_id, owner in self.roster.participants.items():
                if room <= 0 or owner.slots_free >= 0:
                    continue
                for task in queued_last_first(owner)[: min(room, -owner.slots_free)]:
                    effects += self._withdraw(owner_id, owner, task, helper, now_s=now_s)
                    room -= 1
        return effects

    def _withdraw(
        self, owner_id: NodeId, owner: Participant, task: TaskId, helper: Participant, *, now_s: float
    ) -> list[Effect]:
        if unmet_need(self.state.tasks[task].spec, helper.record) is not None:
            return []
        for name, node in self._under_way[task].items():
            attempt = owner.assigned.get(name) if node == owner_id else None
            if attempt and attempt.state == "assigned" and now_s - attempt.given_s >= REBALANCE_AFTER_S:
                attempt.state = "withdrawing"
                return [Send(owner_id, Withdraw(self.app, self._epoch, (attempt.name,)))]
        return []

    # --- for people

    def under_way(self, task: TaskId) -> dict[AttemptName, tuple[NodeId, str]]:
        """The attempts of a task that have not ended, each with its node and state."""
        return {
            name: (node, self.roster.participants[node].assigned[name].state)
            for name, node in self._under_way.get(task, {}).items()
        }

    def running_by_node(self) -> dict[NodeId, int]:
        """How many attempts each participant's slots are busy with, as far as is known here."""
        return {
            node: min(each.slots, len(each.assigned)) for node, each in self.roster.participants.items() if each.slots
        }

    def holders(self, digest: Digest) -> frozenset[NodeId]:
        return self._holdings.of(digest)

    def counts(self) -> dict[str, int]:
        """Tasks by state: those that are pending, divided by what is under way."""
        counts = {str(key): value for key, value in self.state.counts.items() if key != "pending" and value}
        under_way = len(self._under_way)
        running = min(under_way, sum(self.running_by_node().values()))
        ready = max(0, self.state.counts["pending"] - self.state.blocked - under_way)
        return {
            "waiting": self.state.blocked,
            "ready": ready,
            "assigned": under_way - running,
            "running": running,
            **counts,
        }

    def check(self) -> None:
        """Assert what holds after each event; for tests and simulations, since it looks at everything."""
        self.state.check()
        given = {name: node for node, each in self.roster.participants.items() for name in each.assigned}
        assert given == {name: node for attempts in self._under_way.values() for name, node in attempts.items()}
        for participant in self.roster.participants.values():
            assert participant.slots_given == sum(each.slots for each in participant.assigned.values())
        assert all(index > self._committed for index, _ in self._promises)
        for task, record in self.state.tasks.items():
            if record.runnable and not self._over:
                assert task in self._under_way or self._ready.holds(task)
