"""What comes of each event: facts, promises, and attempts that begin or end, from the first batch to the end.

Durable state is what `ApplicationState` makes of the journal; what is beside it (participants, attempts under way,
holders of blobs) is soft, and is learnt again after a takeover. The order of things:

- Dispatch promises nothing and does not wait for commits (`recorder`), but for tasks marked `once` (`once`); who is
  given which task is for the application's policy (`dispatch`), of which nothing is known here.
- An outcome is a fact: the first valid one of an unfinished task stands, whichever epoch or attempt ordered it, if it
  names the very digests of the inputs that the journal knows. Other attempts of the task are then cancelled.
- An order bears this coordinator's epoch, and participants refuse a lower one than they have seen.

It leaves to others: the journal, fetching and storing blobs, checking signatures, who is alive.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import islice, zip_longest
from typing import assert_never

from jcpeer.coordinator.absences import Absences, Missed
from jcpeer.coordinator.attempts import NUMBER_MAX, Attempts
from jcpeer.coordinator.bringing import Bringing
from jcpeer.coordinator.dispatch import POLICIES, Policy
from jcpeer.coordinator.events import (
    BatchAdded,
    CancelRequested,
    Collected,
    CollectFailed,
    Committed,
    Effect,
    Event,
    FtcChanged,
    Heard,
    NodeLost,
    NodeSeen,
    Over,
    Quiet,
    SealReceived,
    Send,
    SetChanged,
    TellReplicas,
    Tick,
    Woke,
)
from jcpeer.coordinator.hands import Hands
from jcpeer.coordinator.inherited import SETTLE_S, Inherited
from jcpeer.coordinator.losses import LOST_ATTEMPTS_MAX, NOT_AGAIN, Losses
from jcpeer.coordinator.once import Once
from jcpeer.coordinator.orders import Orders
from jcpeer.coordinator.orphans import Orphans
from jcpeer.coordinator.reconciling import Reconciling
from jcpeer.coordinator.recorder import Acknowledgement, Recorder
from jcpeer.coordinator.rescue import Rescue
from jcpeer.coordinator.results import Results
from jcpeer.coordinator.room import Assigned, Participant
from jcpeer.coordinator.roster import Roster, beyond_room, slots_of
from jcpeer.coordinator.state import ApplicationState
from jcpeer.coordinator.supervision import Supervision
from jcpeer.coordinator.task_record import TaskRecord
from jcpeer.coordinator.underway import whole
from jcpeer.coordinator.yielding import Yielding
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.net.events import Proof
from jcpeer.values import evolve
from jcpeer.wire.facts import (
    AttemptLost,
    AttemptStarted,
    Cancelled,
    Ended,
    Failed,
    Finished,
    NotStarted,
    ReplicasChanged,
    Sealed,
    Submitted,
    TasksAdded,
    TookOver,
)
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import (
    Confirm,
    Decline,
    Engaged,
    Failure,
    Fetched,
    GivenBack,
    NodeRecord,
    Outcome,
    Release,
    Report,
    Started,
    Take,
)
from jcpeer.wire.replication import Alive, CannotKeep, Diverged, DivergedTaken, Suspect, Underway, UnderwayAttempt

ACKNOWLEDGE_AFTER_S = 0.1
"""Outcomes of short attempts are acknowledged many at a time."""
UNKNOWN_THERE = Missed("its node does not know of it", "refused")
GONE = Missed("its node was gone when another coordinator took over", "silent")
UNLIKE_THE_TASK = Failure("missing_output", "its node reports other outputs than the task declares", "update that node")


class Coordinator:
    """Feed every event to `handle`, in order, and perform the effects in order. Invariants: see `check`."""

    def __init__(
        self, state: ApplicationState, *, me: NodeId, now_s: float, clock_s: float, submitter: NodeId | None = None
    ) -> None:
        """Of an application that `state` knows (empty where `open` follows).

        Args:
            submitter: Whose node signed the submission, if it was another one.
            clock_s: Seconds since 1970 when `now_s` was read; entries bear such times, for showing only.
        """
        self.state = state
        self.roster = Roster(state.header)
        self._me = me
        self._attempts = Attempts(state, self.roster)
        self._recorder = Recorder(
            state,
            epoch=state.epoch or Epoch(1, me),
            clock_offset_s=clock_s - now_s,
            runnable=self._attempts.make_ready,
        )
        self._results = Results(self._recorder, me=me, submitter=submitter or me)
        self._rescue = Rescue(self._recorder, self._results)
        self._bringing = Bringing(state, self._attempts, self._results.holdings, me=me)
        self._absences = Absences()
        self._orders = Orders(self._recorder, self.roster, self._attempts, self._results, me=me)
        self._hands = Hands(self._recorder, self.roster, self._attempts, self._orders, self._absences)
        self._supervision = Supervision(self._recorder, self.roster, self._absences, self._results.holdings, me=me)
        self._once = Once(self._recorder, self.roster, self._attempts, self._orders)
        self._policy = self._chosen_policy()
        self._yielding = Yielding(state, self.roster, self._attempts, self._orders)
        self._inherited = Inherited(state, self._attempts)
        self._orphans = Orphans(state, self._attempts, self._results.holdings)
        self._losses = Losses()
        self._reconciling = Reconciling(state)
        self._predecessor: NodeId | None = None
        """Who coordinated before, as long as it has not been looked for."""
        self._to_look_over: Iterator[TaskRecord] | None = None
        self._to_meet: dict[NodeId, None] = {}
        """Nodes that worked for the application before a takeover, and do not know of it yet."""
        self._some_to_meet = False
        """There is one of these that is in reach, perhaps."""
        self._met: dict[NodeId, None] = {}
        """Those that do now."""
        self._early: dict[TaskId, tuple[NodeId, NodeId, Outcome]] = {}
        """Outcomes that came before those of their parents came again: sender, where it ran, outcome."""
        self._dispatch_from_s = self._settled_s = -math.inf
        self._acknowledge_s = math.inf
        self._now_s = now_s

    # --- beginnings

    def open(self, submitted: Submitted, *, now_s: float) -> list[Effect]:
        """The first entry of a new application."""
        effects = self._recorder.record(submitted, now_s=now_s)
        self.roster.header = self.state.header
        self._policy = self._chosen_policy()
        return [*effects, *self._tell_replicas_all()]

    def _chosen_policy(self) -> Policy:
        policy = POLICIES[self.state.header.dispatch]
        return policy(self._recorder, self.roster, self._attempts, self._orders, self._once)

    def look_over(self, tasks_max: int) -> bool:
        """Learn what the journal says of some more tasks, before `take_over`, which looks over those that are left: a
        node that looked at a million at once would be taken for dead. Returns whether any are left."""
        if self._to_look_over is None:
            self._to_look_over = iter(self.state.tasks.values())
        some = list(islice(self._to_look_over, tasks_max))
        for record in some:
            self._attempts.look_over(record)
            self._results.look_over(record)
        return bool(some)

    def take_over(
        self,
        *,
        now_s: float,
        epoch: Epoch,
        mandate: Mandate | None = None,
        predecessor: NodeId | None = None,
        after_s: float = 0.0,
        underway: Collection[UnderwayAttempt] | None = None,
        fallen: Collection[AttemptName] = (),
        absent: Collection[Digest] = (),
        unsure: bool = False,
    ) -> list[Effect]:
        """Go on with an application whose journal was read, in a new epoch.

        All who are in the directory are to be named by `NodeSeen` before the first `Quiet`.

        Args:
            predecessor: Who coordinated before, `after_s` ago.
            underway: Which attempts were at which participants, as far as the predecessor told; they are taken to be
                there until those speak, and all else is dispatched at once. None where nothing is known of it: then
                nothing is dispatched before participants had time to say what they have.
            fallen: Attempts that ran on this very node in its last run, and went with that.
            absent: Outputs that this node held before, and that did not outlive its last run.
            unsure: What was acknowledged last may be lost.
        """
        self._recorder.epoch = epoch
        effects = self._recorder.record(TookOver(epoch, mandate, predecessor, after_s, unsure), now_s=now_s)
        self._settled_s = now_s + SETTLE_S
        self._dispatch_from_s = now_s if underway is not None else self._settled_s
        self._inherited.take(underway or (), now_s=now_s)
        self._once.take_over(now_s=now_s)
        self._predecessor = predecessor
        self._to_meet = dict.fromkeys([*self.state.shares, *([predecessor] if predecessor is not None else [])])
        self._some_to_meet = True
        while self.look_over(len(self.state.tasks)):
            pass
        for name in fallen:
            if name.task in self.state.tasks:
                effects += self._lose_attempt(self._me, name, "its node was started anew", now_s=now_s)
        effects += self._results.learn_again(absent=absent, now_s=now_s)
        return [*effects, *self._tell_replicas_all()]

    @property
    def app(self) -> AppId:
        return self.state.app

    @property
    def epoch(self) -> Epoch:
        return self._recorder.epoch

    @property
    def over(self) -> bool:
        """Ended, and that is recorded; nothing is decided any more."""
        return self.state.ended is not None

    # --- events

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case BatchAdded():
                return self._add_batch(event, now_s=now_s)
            case SealReceived():
                return self._seal(event, now_s=now_s)
            case NodeSeen():
                return self._see_node(event.record, now_s=now_s)
            case NodeLost():
                return self._miss_node(event.node, Missed(event.why, event.proof), now_s=now_s)
            case Heard():
                return self._hear(event, now_s=now_s)
            case Committed():
                return [*self._recorder.keep_promises(event.index), *self._once.leave()]
            case Collected():
                self._results.collected(event.digest)
                self._bringing.ended(event.digest)
                return self._rescue.ended(event.digest)
            case CollectFailed():
                return self._not_collected(event, now_s=now_s)
            case CancelRequested():
                return self._cancel(event.task, now_s=now_s)
            case SetChanged():
                return self._change_set(event.fact, now_s=now_s)
            case FtcChanged():
                self._orders.ftc = event.node
                return self._supervision.appointed(event.node, now_s=now_s)
            case Woke():
                self._absences.woke(now_s=now_s)
                return []
            case Tick():
                return self._tick(now_s=now_s)
            case Quiet():
                self._now_s = now_s
                self.roster.look(now_s=now_s)
                if not self._recorder.owes:
                    self._acknowledge_s = math.inf
                elif self._acknowledge_s == math.inf:
                    self._acknowledge_s = now_s + ACKNOWLEDGE_AFTER_S
                return [
                    *self._look_for_predecessor(now_s=now_s),
                    *(self._give_up_stranded(now_s=now_s) if self._attempts.stranded or self._results.given_up else ()),
                    *(self._give_up_orphans(now_s=now_s) if self._orphans.are_due(now_s=now_s) else ()),
                    *self._call_up(now_s=now_s),
                    *(self._place(now_s=now_s) if self._may_dispatch(now_s) else ()),
                    *(() if self.over else self._results.copies.look(now_s=now_s)),
                    *self._end_if_complete(now_s=now_s),
                    *self._tell_replicas(),
                ]
            case _:
                assert_never(event)

    def _hear(self, event: Heard, *, now_s: float) -> list[Effect]:
        message = event.message
        match message:
            case Confirm():
                return self._confirm(event.node, message, now_s=now_s)
            case Decline():
                return self._decline(event.node, message, now_s=now_s)
            case Started():
                return self._note_started(event.node, message, now_s=now_s)
            case Engaged():
                return self._engage(event.node, message, now_s=now_s)
            case Take():
                return self._take(event.node, message, now_s=now_s)
            case Report():
                return self._take_report(event.node, message, now_s=now_s)
            case GivenBack():
                return self._take_back(event.node, message, now_s=now_s)
            case Fetched():
                self._results.holdings.add_if_known(event.node, message.blobs)
                self._results.copies.fetched(event.node, message.blobs, now_s=now_s)
                return []
            case Alive():
                self._supervision.alive(event.node, message)
                return []
            case Suspect():
                self._supervision.suspect(event.node, message, now_s=now_s)
                return []
            case Diverged():
                return self._reconcile(event.node, message, now_s=now_s)
            case CannotKeep():
                self._results.holdings.remove_each(event.node, message.blobs)
                self._results.copies.refused(event.node, message.blobs, message.why, now_s=now_s)
                return []
            case _:
                assert_never(message)

    def _tick(self, *, now_s: float) -> list[Effect]:
        effects = []
        for node, missed in self._absences.due(now_s=now_s).items():
            effects += self._lose_node(node, missed, now_s=now_s)
        for node in self._inherited.due(now_s=now_s):
            effects += self._not_heard_from(node, now_s=now_s)
        for node in self._once.due(now_s=now_s):
            effects += self._lose_awaited(node, GONE, now_s=now_s)
        if self._early and now_s >= self._settled_s:
            early, self._early = self._early, {}
            for each in early.values():
                effects += self._take_outcome(*each, now_s=now_s)
        if now_s >= self._acknowledge_s:
            effects += self._recorder.acknowledge()
        return effects + self._policy.look(now_s=now_s) if self._may_dispatch(now_s) else effects

    def wake_s(self) -> float:
        """When a `Tick`, and a `Quiet` after it, may have something to do if nothing else happens."""
        if self.over:
            return self._acknowledge_s
        return min(
            self._acknowledge_s,
            self._absences.wake_s(),
            self.roster.wake_s(),
            self._policy.wake_s(),
            self._yielding.wake_s(),
            self._inherited.wake_s(),
            self._once.wake_s(),
            self._orphans.wake_s(),
            self._results.copies.wake_s(),
            self._settled_s if self._settled_s > self._now_s or self._early else math.inf,
        )

    def _may_dispatch(self, now_s: float) -> bool:
        return self.state.whole and not self.over and now_s >= self._dispatch_from_s

    def _place(self, *, now_s: float) -> list[Effect]:
        effects = self._policy.place(now_s=now_s)
        return effects + self._yielding.placed(on_offer=self._policy.offers, now_s=now_s)

    # --- submission

    def _change_set(self, fact: ReplicasChanged, *, now_s: float) -> list[Effect]:
        if self.over:
            return []
        effects = self._recorder.record(fact, now_s=now_s)
        self._results.copies.seats_changed()
        return effects

    def _add_batch(self, event: BatchAdded, *, now_s: float) -> list[Effect]:
        batch = event.batch
        if batch.number in self.state.batches or self.state.sealed or self.over:
            return []
        if any(task.id in self.state.tasks for task in batch.tasks):
            return []  # of two batches that were checked at once the first stands
        effects = self._recorder.record(TasksAdded(batch.number, event.signed), now_s=now_s, batch=batch)
        for task in batch.tasks:  # by the names that the state keeps: another batch may name them as well
            self._results.add_inputs(self.state.tasks[task.id].spec.blobs())
        self._results.add_inputs(batch.blobs)
        return effects

    def _seal(self, event: SealReceived, *, now_s: float) -> list[Effect]:
        if self.state.sealed or self.over:
            return []
        return [*self._recorder.record(Sealed(event.seal), now_s=now_s), *self._results.sealed()]

    # --- participants

    def _call_up(self, *, now_s: float) -> list[Effect]:
        if self.over:
            return []
        some = self._some_to_meet or self._inherited or self._once.awaits
        effects = self._meet_again(now_s=now_s) if some else []
        if self.state.counts["pending"] == 0:
            return effects
        # Slots that wait for tasks that wait for others would be kept from those who could use them. After a takeover
        # all are asked who may still run something.
        if now_s < self._settled_s:
            wanted, ready = self.state.counts["pending"], None
        else:
            wanted, ready = self.state.runnable, (self.state.tasks[each].spec for each in self._policy.heads())
        asked = self.roster.call_up(slots_wanted=wanted, now_s=now_s, ready=ready)
        return [*effects, *self._orders.recruit(asked)]

    def _confirm(self, node: NodeId, message: Confirm, *, now_s: float) -> list[Effect]:
        if message.epoch != self.epoch:
            return []
        if self.over:
            return [Send(node, Release(self.app, self.epoch, ended=True))]
        known = node in self.roster.participants
        participant = self.roster.confirm(node, message.slots, message.why, message.retry_s, now_s=now_s)
        if participant is None:
            return []
        compared = self._compare(participant, message, now_s=now_s) if known else []
        effects = [*compared, *self._withdraw_excess(participant)] if known else []
        stale = []
        for name in message.known:
            record = self.state.tasks.get(name.task)
            if self._attempts.node_of(name) is not None:
                continue  # said twice, or by somebody else
            if record is None or record.standing != "pending" or not self._attempts.may_exist(name, self.epoch):
                stale.append(name)  # its outcome, if it is kept there, comes as a report and is acknowledged
                continue
            self._attempts.note_number(name.task, name.number)
            effects += self._take_back_for(name.task)
            if record.spec.once and (record.started is None or record.started.attempt != name):
                effects += self._recorder.record(AttemptStarted(node, name), now_s=now_s)  # the fact was lost
            attempt = Assigned(name, slots_of(record.spec.needs), 0.0, "running", once=record.spec.once)
            self._attempts.give(participant, attempt)
        self._inherited.spoke(node)
        self._orphans.spoke(node)
        effects += self._lose_awaited(node, UNKNOWN_THERE, now_s=now_s) if self._once.awaits else []
        return [*effects, *self._orders.stop(node, stale)]

    def _take_back_for(self, task: TaskId) -> list[Effect]:
        """An attempt of this task was met that nobody knew of: what was ordered since and has not begun is in vain."""
        effects: list[Effect] = []
        for name, node in self._attempts.of(task).items():
            attempt = self.roster.participants[node].assigned[name]
            if attempt.state == "assigned":
                attempt.state = "withdrawing"
                effects += self._orders.withdraw(node, [name])
        return effects

    def _engage(self, node: NodeId, message: Engaged, *, now_s: float) -> list[Effect]:
        """It was handed attempts by another participant."""
        if self.over:
            return [Send(node, Release(self.app, self.epoch, ended=True))]
        known = node in self.roster.participants
        at_work = message.epoch == self.epoch
        participant = self.roster.confirm(node, message.slots, now_s=now_s) if at_work else None
        if participant is None:  # not in the directory, or in an earlier epoch: its confirmation tells what it has
            return self._orders.recruit(self.roster.ask_again(node, now_s=now_s))
        effects = [] if known else self._orders.recruit([node])
        for name in message.attempts:
            effects += self._hands.has(participant, name, now_s=now_s)
        return effects

    def _take(self, node: NodeId, message: Take, *, now_s: float) -> list[Effect]:
        if message.epoch != self.epoch or not self._may_dispatch(now_s):
            return []
        return self._policy.take(node, message.tasks, now_s=now_s)

    def _see_node(self, record: NodeRecord, *, now_s: float) -> list[Effect]:
        node = record.node
        effects: list[Effect] = []
        if (missed := self._absences.end(node)) is not None:
            candidate = self.roster.candidates.get(node)
            if candidate is not None and candidate.record.incarnation != record.incarnation:
                effects = self._lose_node(node, missed, now_s=now_s)
            elif (participant := self.roster.participants.get(node)) is not None:
                # The same process as before. What we sent last may be lost, which its answer will show.
                self._orders.forget_sent(node)
                self._absences.doubt(participant, participant.assigned)
                effects = self._orders.recruit([node])
        self.roster.see(record)
        self._some_to_meet |= node in self._to_meet
        self._results.copies.seen(node)
        return effects

    def _compare(self, participant: Participant, message: Confirm, *, now_s: float) -> list[Effect]:
        """What a participant has of the attempts that we gave it before it was out of reach."""
        node = participant.record.node
        absent, to_cancel = self._absences.compare(participant, message.known)
        effects: list[Effect] = []
        for name in absent:
            if participant.assigned[name].once:
                self._attempts.forget(name)
                effects += self._end_once(node, name, UNKNOWN_THERE, now_s=now_s)
            else:
                self._attempts.free(name)
        return [*effects, *self._orders.stop(node, to_cancel)]

    def _withdraw_excess(self, participant: Participant) -> list[Effect]:
        """What waits beyond a number of slots that has shrunk runs elsewhere, or waits here."""
        names = beyond_room(participant, self._attempts.mean_run_s)
        for name in names:
            participant.assigned[name].state = "withdrawing"
        return self._orders.withdraw(participant.record.node, names)

    def _decline(self, node: NodeId, message: Decline, *, now_s: float) -> list[Effect]:
        if message.epoch != self.epoch:
            return []
        self._policy.lost(node)
        participant = self.roster.refuse(node, message, now_s=now_s)
        effects: list[Effect] = []
        if message.idle and self._once.awaits:
            effects += self._lose_awaited(node, UNKNOWN_THERE, now_s=now_s)
        for name, attempt in list(participant.assigned.items()) if participant else ():
            if attempt.once:
                self._attempts.forget(name)
                unstarted = name in message.refused
                effects += self._end_once(node, name, message.reason, unstarted=unstarted, awaited=True, now_s=now_s)
            else:
                self._attempts.free(name)
        self._inherited.spoke(node)
        self._orphans.spoke(node)
        return [*effects, *(self._rescue.begin(node) if message.leaving else ())]

    def _miss_node(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect]:
        self._orders.forget_sent(node)
        held: list[Effect] = []
        for name in self._once.held_for(node):  # it would be lost on the way, and its task with it
            self._attempts.forget(name)
            held += self._end_once(node, name, missed, now_s=now_s)
        return [*held, *self._miss(node, missed, now_s=now_s)]

    def _miss(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect]:
        asked = self._supervision.miss(node, missed, now_s=now_s)
        effects = self._lose_node(node, missed, now_s=now_s) if asked is None else asked
        if node == self._supervision.ftc:
            effects += self.handle(FtcChanged(None), now_s=now_s)  # until another is appointed
        return effects

    def _lose_node(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect]:
        effects = self._lose_inherited(node, missed, now_s=now_s)
        effects += self._lose_awaited(node, missed, now_s=now_s) if self._once.awaits else []
        self._orders.forget_sent(node)
        self._policy.lost(node)
        self._rescue.gone(node)
        participant = self.roster.lose(node)
        if participant is not None:
            suspects = participant.may_have_started()
            attempts = list(participant.assigned.values())
            for attempt in attempts:
                self._attempts.forget(attempt.name)
            counted: set[TaskId] = set()  # one death is one loss of a task, however many attempts it was said to run
            for attempt in attempts:  # none is under way there any more, so that giving up finds nothing to cancel
                suspect = attempt.name in suspects and attempt.state != "cancelling"
                if attempt.once:
                    effects += self._end_once(node, attempt.name, missed, now_s=now_s)
                elif suspect and attempt.name.task not in counted:
                    counted.add(attempt.name.task)
                    effects += self._lose_attempt(node, attempt.name, missed.why, missed.proof, now_s=now_s)
                else:
                    self._attempts.close(attempt.name)
                    self._attempts.requeue(attempt.name.task)
        effects += self._results.lose_holder(node, missed.why, now_s=now_s)
        self._results.copies.lost(node)
        return effects

    def _lose_attempt(
        self,
        node: NodeId,
        name: AttemptName,
        why: str,
        proof: Proof = "refused",
        *,
        unstarted: bool = False,
        now_s: float,
    ) -> list[Effect]:
        record = self.state.tasks[name.task]
        if record.standing != "pending":
            return []
        if record.past_of(name) and (unstarted or not record.spec.once):
            # It came back after a break, and is lost once more: one attempt, which felled one node at most.
            self._attempts.requeue(name.task)
            return []
        counts = self._losses.counts(name.task, proof, now_s=now_s)
        final = counts and record.losses + 1 >= LOST_ATTEMPTS_MAX
        if record.spec.once and not unstarted and not self._attempts.of(name.task):
            final, why = True, f"{why}; {NOT_AGAIN}"
        effects = self._recorder.record(AttemptLost(node, name, why, final, counts), now_s=now_s)
        return [*effects, *self._after_giving_up(record.spec.id)] if final else effects

    # --- tasks marked `once`

    def _end_once(
        self,
        node: NodeId,
        name: AttemptName,
        why: Missed | str,
        *,
        unstarted: bool = False,
        awaited: bool = False,
        now_s: float,
    ) -> list[Effect]:
        """An attempt that must not run twice is under way there no more. `unstarted`: it never started, for certain;
        `awaited`: otherwise its node is to be asked, and not taken at its word."""
        missed = Missed(why, "refused") if isinstance(why, str) else why
        record = self.state.tasks[name.task]
        self._attempts.close(name)
        unstarted |= self._once.take_back(name)
        if record.standing != "pending":
            return []
        if unstarted:
            effects = self._recorder.record(NotStarted(node, name, missed.why), now_s=now_s)
            self._attempts.requeue(name.task)
            return effects + self._results.restore_inputs(record, missed.why, now_s=now_s)
        if awaited:
            self._once.await_word(node, name)
            return []
        return self._lose_attempt(node, name, missed.why, missed.proof, now_s=now_s)

    def _lose_awaited(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect]:
        """This node is to be heard of no more, or has said all that it has."""
        effects: list[Effect] = []
        for name in self._once.spoke(node):
            if self._attempts.node_of(name) is None:
                effects += self._end_once(node, name, missed, now_s=now_s)
        return effects

    def _give_up_stranded(self, *, now_s: float) -> list[Effect]:
        """What should have been seen to already, and those that lost what they left."""
        effects: list[Effect] = []
        stranded, self._attempts.stranded = self._attempts.stranded, {}
        for task in stranded:
            started = self.state.tasks[task].started
            if started is not None and self._attempts.is_stranded(task) and not self._once.keeps(task):
                why = "nothing is known of what became of it"
                effects += self._end_once(started.node, started.attempt, why, now_s=now_s)
        given_up, self._results.given_up = self._results.given_up, []
        for task in given_up:
            effects += self._after_giving_up(task)
        return effects

    # --- after a takeover

    def _meet_again(self, *, now_s: float) -> list[Effect]:
        """Call up who worked for the application before, or may still: they are to know who coordinates it now. Who was
        out of reach is called up when it is back, be it late: what it still runs may have been done by others."""
        self._some_to_meet = False
        nodes = [each for each in (*self._inherited.nodes, *self._to_meet) if each in self.roster.candidates]
        nodes += self._once.to_ask()
        for node in nodes:
            self._to_meet.pop(node, None)
            self._met[node] = None
        return self._orders.recruit(self.roster.ask(list(dict.fromkeys(nodes)), now_s=now_s))

    def _look_for_predecessor(self, *, now_s: float) -> list[Effect]:
        """What ran on its node has gone with it, unless it is still there. What it held others may have by now: that
        is seen to when they have spoken."""
        node, self._predecessor = self._predecessor, None
        if node is None:
            return []
        for seat in self.state.replica_set.nodes:
            if seat != self._me and seat not in self.roster.candidates:
                self._results.copies.lost(seat)  # before anybody is asked to keep a result: it would be waited for
        awaited = [each for each in (*self._inherited.nodes, *self._to_meet) if each in self.roster.candidates]
        self._orphans.take((*self.roster.candidates, self._me), awaited=awaited, now_s=now_s)
        if node == self._me or node in self.roster.candidates:
            return []
        return self._lose_inherited(node, GONE, now_s=now_s)

    def _give_up_orphans(self, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for node in sorted(self._orphans.due()):
            effects += self._results.lose_holder(node, GONE.why, now_s=now_s)
        self._orphans.let_go()
        return effects

    def _not_heard_from(self, node: NodeId, *, now_s: float) -> list[Effect]:
        """It said nothing of what it was given in an earlier epoch."""
        if node not in self.roster.candidates:
            return self._lose_inherited(node, GONE, now_s=now_s)
        self._inherited.spoke(node)
        self._orphans.spoke(node)
        return []

    def _lose_inherited(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for name in self._inherited.lost(node) if self._inherited else ():
            effects += self._lose_attempt(node, name, missed.why, missed.proof, now_s=now_s)
        return effects

    @property
    def _alone(self) -> bool:
        return len(self.state.replica_set.seats) < 2

    def _tell_replicas_all(self) -> list[Effect]:
        return [] if self._alone else [TellReplicas(each) for each in self.whole_underway()]

    def _tell_replicas(self) -> list[Effect]:
        if self._alone:
            self._attempts.news.drop()
            return []
        index, committed = self.state.last_index, self._recorder.committed
        news = self._attempts.news.take(self.app, self.epoch, last_index=index, committed=committed)
        return [TellReplicas(each) for each in news]

    def whole_underway(self) -> list[Underway]:
        """All that is under way, in as many messages as needed: for a replica whose connection is new."""
        return whole(self.app, self.epoch, (*self._inherited.all(), *self._attempts.all()))

    # --- attempts

    def _note_started(self, node: NodeId, message: Started, *, now_s: float) -> list[Effect]:
        participant = self.roster.participants.get(node)
        if participant is None:
            # It was out of reach for a while. What it runs may as well be waited for, or else is to be stopped.
            return [] if self.over else self._orders.recruit(self.roster.ask_again(node, now_s=now_s))
        for name in message.attempts:
            attempt = participant.assigned.get(name)
            if attempt is not None and attempt.state in ("assigned", "withdrawing"):
                attempt.state = "running"
        return []

    def _take_back(self, node: NodeId, message: GivenBack, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        to_bring = [each for each in message.missing if self._bringing.helps(each)]
        tasks: list[TaskId] = []
        for name in message.attempts:
            mine = self._attempts.node_of(name) == node
            attempt = self._attempts.forget(name) if mine else None
            if attempt is None:
                if self._inherited.ended(name, node) and message.lost:
                    effects += self._lose_attempt(node, name, message.reason, now_s=now_s)
                elif self._once.ended(name, node):
                    effects += self._end_once(node, name, message.reason, unstarted=message.unstarted, now_s=now_s)
                continue
            tasks.append(name.task)
            if attempt.once:
                effects += self._take_back_once(node, attempt, message, shun=not to_bring, now_s=now_s)
                continue
            if message.lost and attempt.state != "cancelling":
                effects += self._lose_attempt(node, name, message.reason, now_s=now_s)
            elif attempt.state not in ("withdrawing", "cancelling") and not to_bring:
                self._attempts.shun(name.task, node)
            self._attempts.close(name)
            self._attempts.requeue(name.task)
        for digest in message.missing if tasks else ():  # from somebody who had none of them it is no news
            if digest in to_bring:
                effects += self._bringing.bring(digest, tasks)
            else:
                effects += self._results.doubt(digest, tasks, message.reason, now_s=now_s)
        return effects

    def _take_back_once(
        self, node: NodeId, attempt: Assigned, message: GivenBack, *, shun: bool, now_s: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        name = attempt.name
        if message.unstarted and message.lost:
            effects += self._lose_attempt(node, name, message.reason, unstarted=True, now_s=now_s)
        elif shun and attempt.state not in ("withdrawing", "cancelling"):
            self._attempts.shun(name.task, node)
        return [*effects, *self._end_once(node, name, message.reason, unstarted=message.unstarted, now_s=now_s)]

    def _not_collected(self, event: CollectFailed, *, now_s: float) -> list[Effect]:
        tasks = self._bringing.ended(event.digest)
        self._results.copies.not_collected(event.digest)
        rescued = self._rescue.ended(event.digest)
        if rescued and not tasks and not self._results.collects(event.digest):
            return rescued  # its holder counts until it is gone
        if self._results.collects(event.digest) or not tasks:
            return [*rescued, *self._results.collect_elsewhere(event, now_s=now_s)]
        why = "its holder gave it neither to others nor to us"
        return [*rescued, *self._results.doubt(event.digest, tasks, why, now_s=now_s)]

    def _take_report(self, sender: NodeId, report: Report, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        finished: set[TaskId] = set()
        for outcome, ran_by in zip_longest(report.outcomes, report.ran_by[: len(report.outcomes)]):
            count = self.state.counts["finished"]
            effects += self._take_outcome(sender, ran_by or sender, outcome, now_s=now_s)
            if self.state.counts["finished"] > count:
                finished.add(outcome.task)
        if self.over:
            return effects
        for hand in report.in_hand:
            effects += self._hands.told(hand, sender=sender, finished=finished, now_s=now_s)
        for name in report.left:
            if self._attempts.node_of(name) == sender:
                self._attempts.free(name)
        if report.claims and self._may_dispatch(now_s):
            effects += self._policy.claimed(sender, report.claims, now_s=now_s)
        return effects

    def _take_outcome(self, sender: NodeId, node: NodeId, outcome: Outcome, *, now_s: float) -> list[Effect]:
        """What ran at a node, by its own word or by that of whoever went on from there."""
        record = self.state.tasks.get(outcome.task)
        if record is None:
            return []
        acknowledge = Acknowledgement(sender, outcome.attempt)
        if not 0 < outcome.number <= NUMBER_MAX:
            return self._recorder.promise(acknowledge)  # nobody was given such an attempt: forget it
        if self._inherited:
            self._inherited.ended(outcome.attempt, node)
        if self._once.awaits:
            self._once.ended(outcome.attempt, node)
        if record.started is not None and record.missing and record.standing == "pending":
            self._attempts.forget(outcome.attempt)
            self._once.early[outcome.task] = (sender, node, outcome)
            return []
        if record.missing and record.standing == "pending" and now_s < self._settled_s:
            # Its parents' outcomes were with the coordinator before, and are told again by whoever has them.
            self._early[outcome.task] = (sender, node, outcome)
            return []
        self._attempts.forget(outcome.attempt)
        if record.standing != "pending":
            return self._recorder.promise(acknowledge)  # it, or another end, stands already: forget it
        if record.missing or self.state.consumed(outcome.task) != outcome.consumed:
            # Computed from a result that did not survive, or that is about to be made anew.
            effects = []
            if record.spec.once:
                effects = self._end_once(node, outcome.attempt, "an input was lost and is another now", now_s=now_s)
            self._attempts.requeue(outcome.task)
            return [*effects, *self._recorder.promise(acknowledge)]
        if outcome.failure is None and {each.name for each in outcome.outputs} != set(record.spec.outputs):
            outcome = evolve(outcome, failure=UNLIKE_THE_TASK, outputs=())
        if outcome.failure is not None:
            if any(each.outcome is not None for each in record.past_of(outcome.attempt)):
                self._attempts.requeue(outcome.task)
                return self._recorder.promise(acknowledge)  # told again after a break: it counts once
            return [*self._fail(node, outcome, record, now_s=now_s), *self._recorder.promise(acknowledge)]
        effects = [*self._finish(node, outcome, record, now_s=now_s), *self._recorder.promise(acknowledge)]
        if node not in (sender, self._me) and node not in self.roster.candidates:
            # It went before it could report, with whatever it held.
            effects += self._results.lose_holder(node, "its node was gone when it was told", now_s=now_s)
        return effects

    def _finish(self, node: NodeId, outcome: Outcome, record: TaskRecord, *, now_s: float) -> list[Effect]:
        self._attempts.ran(outcome.ran_s)
        effects = self._recorder.record(Finished(node, outcome), now_s=now_s)
        self._attempts.recorded(record)
        effects += self._orders.cancel(outcome.task)
        effects += self._results.finished(record)
        for early in (self._early, self._once.early):
            for child in record.children if early else ():
                if child in early and not self.state.tasks[child].missing:
                    effects += self._take_outcome(*early.pop(child), now_s=now_s)
        return effects

    def _fail(self, node: NodeId, outcome: Outcome, record: TaskRecord, *, now_s: float) -> list[Effect]:
        assert outcome.failure is not None
        final = record.failures >= record.spec.retries
        effects = self._recorder.record(Failed(node, outcome, final), now_s=now_s)
        return [*effects, *self._after_giving_up(record.spec.id)] if final else effects

    def _after_giving_up(self, task: TaskId) -> list[Effect]:
        """A task failed for good: with `on_failure = stop` everything else was cancelled with it."""
        return self._orders.cancel(None if self.state.header.on_failure == "stop" else task)

    # --- cancelling

    def _cancel(self, task: TaskId | None, *, now_s: float) -> list[Effect]:
        if self.over or self.state.cancelled:
            return []
        if task is not None:
            record = self.state.tasks.get(task)
            if record is None or record.standing != "pending":
                return []
        effects = self._recorder.record(Cancelled(task), now_s=now_s)
        return effects + self._orders.cancel(task)

    # --- what another coordinated meanwhile

    def _reconcile(self, node: NodeId, message: Diverged, *, now_s: float) -> list[Effect]:
        """Take what fits of what was journalled elsewhere. Once all of it is recorded here it may go there, before it
        is committed: that may have to wait for this very copy, which drops what it has in exchange for our journal and
        what we took in it."""
        if message.epoch != self.epoch:
            return []
        effects: list[Effect] = []
        taken = Send(node, DivergedTaken(self.app, self.epoch))
        if self.over:
            return [taken] if message.last else []
        for each in self._reconciling.compare(node, message):
            effects += self._take_outcome(each.node, each.node, each.outcome, now_s=now_s)
            if each.outcome.failure is None and not self.state.tasks[each.outcome.task].has_result:
                self._reconciling.refused(node, each.outcome.task)
        for task in message.cancelled:
            effects += self._cancel(task, now_s=now_s)
        if message.last:
            fact = self._reconciling.conclude(node)
            effects += self._recorder.record(fact, now_s=now_s) if fact is not None else []
            effects.append(taken)
        return effects

    # --- the end

    def _end_if_complete(self, *, now_s: float) -> list[Effect]:
        if self.over or not self.state.complete or (self._results.on_their_way and not self.state.cancelled):
            return []
        if self._attempts:
            return []  # what was cancelled still runs; the end says that nothing does
        status = self.state.verdict()
        if status == "ok" and not self._results.copies.results_kept(now_s=now_s):
            return []
        effects = self._recorder.record(Ended(status), now_s=now_s)
        release = Release(self.app, self.epoch, ended=True)
        return [
            *effects,
            *self._recorder.promise(
                *(Send(node, release) for node in {**self.roster.participants, **self._met}),
                Over(status),
            ),
        ]

    # --- for people

    def under_way(self, task: TaskId) -> dict[AttemptName, tuple[NodeId, str]]:
        """The attempts of a task that have not ended, each with its node and state."""
        return {
            name: (node, self.roster.participants[node].assigned[name].state)
            for name, node in self._attempts.of(task).items()
        }

    def running_by_node(self) -> dict[NodeId, int]:
        """How many attempts each participant's slots are busy with, as far as is known here."""
        return {
            node: max(min(each.slots, len(each.assigned)), each.known_running)
            for node, each in self.roster.participants.items()
            if each.slots or each.assigned
        }

    def holders(self, digest: Digest) -> frozenset[NodeId]:
        """Of a blob that the journal has not."""
        return self._results.holdings.of(digest)

    @property
    def inputs_kept(self) -> bool:
        """All large inputs that were added are on enough nodes of the replica set, as far as that is promised."""
        return self._results.copies.inputs_kept

    def shortage(self) -> tuple[int, dict[NodeId, str]]:
        """How many blobs are on fewer nodes than promised, and which nodes cannot keep them, and why."""
        return self._results.copies.shortage()

    def start_held(self, name: AttemptName) -> bool:
        """The attempt waits for the commit of its start."""
        return self._once.holds(name)

    def awaited_at(self, task: TaskId) -> NodeId | None:
        """Who is to say what became of a task that must not start twice, and is not known to be under way."""
        return self._once.awaited_at(task)

    def input_on_its_way(self, task: TaskId) -> bool:
        """The task waits because an input of it is being brought here, for a participant that could not reach it."""
        return self._bringing.waits(task)

    def counts(self) -> dict[str, int]:
        """Tasks by state: those that are pending, divided by what is under way."""
        counts = {str(key): value for key, value in self.state.counts.items() if key != "pending" and value}
        under_way = len(self._attempts)
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
        self._recorder.check()
        self._attempts.check(self._policy.holds)
        self.roster.check()
        self._results.holdings.check()
        self._once.check()
        for task in self.state.tasks:
            if self._attempts.is_stranded(task) and not self.over:
                assert self._once.keeps(task) or task in self._attempts.stranded, task
