"""What a node does for the coordinators that called it up: which attempts it takes, when each starts, what it answers.

Invariants (`check`): running attempts never take more slots, memory or GPUs than the node offers, and no GPU is given
to two; an attempt is in exactly one state; an outcome is kept from the attempt's end until a coordinator of the
application acknowledges it, the application ends, or `OUTCOME_KEPT_S` has passed. An order of a lower epoch than the
highest seen changes nothing.

It leaves to others: checking that a call-up is signed by a member, fetching blobs, running processes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never

from jcpeer.application.task import Command, Task
from jcpeer.coordinator.matching import refusal
from jcpeer.coordinator.roster import mean_run_s, prefetch_slots
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId
from jcpeer.values import evolve
from jcpeer.wire.messages import (
    Acknowledge,
    AttemptOrder,
    CancelAttempts,
    ClaimRefused,
    Confirm,
    Decline,
    Engaged,
    GivenBack,
    Gone,
    NotNeeded,
    Offer,
    Policy,
    Probe,
    ProbeAnswer,
    Release,
    Signed,
    Started,
    Stay,
    Supervised,
    Taken,
    Withdraw,
    Yield,
)
from jcpeer.work.claims import Claims
from jcpeer.work.engagement import Attempt, Engagement, Kept, name_of, slots_of
from jcpeer.work.events import (
    Assigned,
    AttemptKey,
    CalledUp,
    DiskMeasured,
    Drain,
    DropBlobs,
    Effect,
    Event,
    Fetch,
    Found,
    Handed,
    InputsHere,
    InputsMissing,
    Kill,
    Killed,
    Leave,
    NotReached,
    Ordered,
    PolicyChanged,
    Quiet,
    Ran,
    Reunited,
    Send,
    Start,
    Tick,
    Told,
    Unstarted,
)
from jcpeer.work.farewell import Farewell
from jcpeer.work.grabbing import Grabbing
from jcpeer.work.leases import LEASE_S, Leases
from jcpeer.work.relaying import Relaying
from jcpeer.work.reporting import Reporting
from jcpeer.work.rights import NO_RIGHTS, Rights
from jcpeer.work.room import Room

TELL_STARTED_AFTER_S = 0.1
"""An attempt that is over sooner is not announced: its outcome says all."""

BRIEF_S = 0.002
"""Attempts that are over so soon, on the whole, are run in lines."""
LINE_S = 0.01
"""A line is to take no longer than this: its first outcome waits for the last, and others for its slot."""
LINE_MAX = 64

FENCED_MAX = 10_000


class ParticipantMachine:
    """Feed every event to `handle`, in order, and perform the effects in order."""

    def __init__(
        self,
        *,
        user: str,
        slots: int,
        memory_bytes: int,
        trust_grid: bool,
        gpus: tuple[str, ...] = (),
        offers: Callable[[Task], bool] = lambda task: True,
        share_half_life_s: float = 600.0,
    ) -> None:
        """`offers`: whether the node has what such a task needs beyond slots, memory and GPUs."""
        self._user = user
        self._room = Room(slots=slots, memory_bytes=memory_bytes, gpus=gpus)
        self._trust_grid = trust_grid
        self._policy = Policy()
        self._opens_in_s: float | None = None
        self._claims = Claims(slots, half_life_s=share_half_life_s)
        self._engagements: dict[AppId, Engagement] = {}
        self._unserved: dict[AppId, None] = {}
        """Those of which no attempts came here, so that there are no blobs of them, either."""
        self._queued: dict[AppId, None] = {}
        """Applications with a queue."""
        self._closed: str | None = None
        self._to_tell: deque[tuple[float, AttemptKey]] = deque()
        """Attempts that were not told as started, and when they are to be if they still run."""
        self._reporting = Reporting()
        self._relaying = Relaying(self, self._engagements, self._reporting)
        self._grabbing = Grabbing()
        self._leases = Leases()
        self.farewell = Farewell()
        self._offers = offers
        self._mean_run_s: float | None = None
        self._fenced: dict[AppId, Epoch] = {}
        """The highest epoch seen of applications that have released us; the latest of them."""

    @property
    def slots_used(self) -> int:
        return self._room.slots_used

    @property
    def engaged(self) -> bool:
        """Has attempts: what the directory calls the state `participant`."""
        return any(each.attempts for each in self._engagements.values())

    @property
    def closed(self) -> bool:
        """The node leaves, and has said so."""
        return self._closed is not None

    @property
    def idle(self) -> bool:
        """Nothing runs, waits, or is kept for a coordinator."""
        return not any(each.attempts or each.kept for each in self._engagements.values())

    @property
    def coordinators(self) -> frozenset[NodeId]:
        """For whom the node works, or keeps something."""
        return frozenset(each.coordinator for each in self._engagements.values())

    def works_for(self, coordinator: NodeId, app: AppId) -> bool:
        """It has attempts, or outcomes, that it was given by this coordinator of the application."""
        engagement = self._engagements.get(app)
        return engagement is not None and engagement.coordinator == coordinator

    @property
    def supervisors(self) -> frozenset[NodeId]:
        """Those beside the coordinators who are to hear that the node lives, while something runs for them."""
        return frozenset(each.ftc for each in self._engagements.values() if each.ftc is not None)

    def attempt_of(self, app: AppId, name: AttemptName) -> Attempt | None:
        engagement = self._engagements.get(app)
        return engagement.attempts.get(name) if engagement else None

    def has(self, app: AppId, name: AttemptName) -> bool:
        """An attempt of this name is here, was here, or is looked after from here: there is no second one."""
        engagement = self._engagements.get(app)
        known = engagement is not None and (name in engagement.attempts or name in engagement.kept)
        return known or name in self._relaying.in_hand(app)

    def coordinator_by_application(self) -> dict[AppId, NodeId]:
        """For whom the node works, or keeps something, application by application."""
        return {app: each.coordinator for app, each in self._engagements.items()}

    def placed_of(self, app: AppId) -> Signed | None:
        """The application as its submitter signed it."""
        engagement = self._engagements.get(app)
        return engagement.placed if engagement else None

    def coordinator_of(self, app: AppId) -> NodeId | None:
        engagement = self._engagements.get(app)
        return engagement.coordinator if engagement else None

    def epoch_of(self, app: AppId) -> Epoch | None:
        """The highest seen, where it works for the application."""
        engagement = self._engagements.get(app)
        return engagement.epoch if engagement else None

    def user_of(self, app: AppId) -> str:
        engagement = self._engagements.get(app)
        return engagement.header.user if engagement else ""

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:  # what comes most often first
            case Quiet():
                while self._to_tell and self.attempt_of(self._to_tell[0][1].app, self._to_tell[0][1].name) is None:
                    self._to_tell.popleft()  # it was over sooner: its outcome says all
                if self._leases.slots:
                    self._leases.end_old(now_s=now_s)
                return [
                    *self._start_what_fits(now_s=now_s),
                    *self._grab(now_s=now_s),
                    *self._reporting.report_due(self._engagements, now_s=now_s),
                    *self._tell_grants(),
                ]
            case Ran():
                return self._keep(event, now_s=now_s)
            case CalledUp():
                return self._consider(event, now_s=now_s)
            case Assigned():
                return self._take(event, now_s=now_s)
            case Ordered():
                return self._obey(event, now_s=now_s)
            case InputsHere():
                self._enqueue(event.key)
                return []
            case InputsMissing():
                return self._give_up_inputs(event, now_s=now_s)
            case Killed():
                return self._stopped(event.key, now_s=now_s)
            case Unstarted():
                return self._queue_again(event.key, now_s=now_s)
            case Reunited():
                return self._tell_again(event.node)
            case Found():
                return self._relaying.found(event.search, event.nodes, now_s=now_s)
            case Told():
                return self._hear(event, now_s=now_s)
            case Handed():
                return self._accept(event, now_s=now_s)
            case NotReached():
                return self._relaying.not_reached(event.node, now_s=now_s)
            case Leave():
                return self._leave(event.reason, now_s=now_s)
            case Drain():
                return self._drain(event.reason, now_s=now_s)
            case DiskMeasured():
                self._room.disk_bytes_free = event.free_bytes
                return []
            case PolicyChanged():
                self._follow_policy(event, now_s=now_s)
                return []
            case Tick():
                self._claims.tick(now_s=now_s)
                return [*self._tell_started(now_s=now_s), *self._relaying.look(now_s=now_s)]
            case _:
                assert_never(event)

    # --- orders

    def _consider(self, event: CalledUp, *, now_s: float) -> list[Effect]:
        app, epoch, recruit = event.recruit.app, event.recruit.epoch, event.recruit

        engagement = self._engagements.get(app)
        at_work = engagement is not None and bool(engagement.attempts or engagement.kept)

        def decline(reason: str, retry_s: float | None = None) -> list[Effect]:
            return [Send(event.node, Decline(app, epoch, reason, retry_s, idle=not at_work))]

        if self._closed:
            return self._leave_again(event) or decline(self._closed)
        if event.header.user != self._user and not self._trust_grid:
            return decline(f"runs tasks of its own user only ({self._user}); start it with --trust-grid")
        highest = engagement.epoch if engagement else self._fenced.get(app)
        if highest is not None and epoch < highest:
            return decline(f"epoch {highest.counter} of {highest.node} is known")
        if not at_work and (reason := refusal(self._policy, event.header)) is not None:
            return decline(reason, self._opens_in_s)
        if engagement is None:
            engagement = Engagement(event.node, epoch, recruit.placed, event.header)
            self._engagements[app] = engagement
            self._unserved[app] = None
        if epoch != engagement.epoch:
            self._relaying.end(app, tell=False, now_s=now_s)
        engagement.coordinator, engagement.epoch, engagement.ftc = event.node, epoch, recruit.ftc
        self._reporting.repeat(app, engagement)
        self._claim(app, engagement, slots=recruit.slots, at_once=recruit.at_once, now_s=now_s)
        self._claims.told(app)
        if not at_work and not self._claims.granted(app):
            return decline(self._claims.holders(app))  # it hears from us when there are slots for it
        return [self._grant(app, engagement)]

    def _confirm(self, app: AppId, engagement: Engagement) -> list[Effect]:
        """Say that we take part, and all that we have."""
        self._reporting.repeat(app, engagement)
        return [self._grant(app, engagement)]

    def _claim(self, app: AppId, engagement: Engagement, *, slots: int, at_once: int, now_s: float) -> None:
        header = engagement.header
        self._claims.claim(app, user=header.user, name=header.name, slots=slots, at_once=at_once, now_s=now_s)

    def _grant(self, app: AppId, engagement: Engagement, why: str = "", retry_s: float | None = None) -> Send:
        """How many slots the application has now."""
        slots = self._claims.granted(app)
        # Those of which more will be heard, and no others: the rest was reported.
        known = (*engagement.attempts, *self._reporting.unsent(app), *self._relaying.in_hand(app))
        why = why or ("" if slots else self._claims.holders(app))
        return Send(engagement.coordinator, Confirm(app, engagement.epoch, slots, known, why, retry_s))

    def _tell_grants(self) -> list[Effect]:
        """What changed; and who neither has nor wants anything any more is forgotten."""
        effects: list[Effect] = []
        for change in self._claims.take_changes():
            if (engagement := self._engagements.get(change.app)) is not None and not self._closed:
                effects.append(self._grant(change.app, engagement, change.why, change.retry_s))
        for app in [app for app in self._unserved if app not in self._claims]:
            del self._unserved[app]
            self._reporting.drop(app, self._engagements.pop(app))
        return effects

    def _follow_policy(self, event: PolicyChanged, *, now_s: float) -> None:
        self._policy, self._opens_in_s = event.policy, event.opens_in_s
        if event.policy.closed:
            self._claims.close(event.policy.closed, event.opens_in_s, now_s=now_s)
        else:
            self._claims.reopen(now_s=now_s)

    def _engagement_for(self, node: NodeId, app: AppId, epoch: Epoch) -> Engagement | None:
        """The engagement that an order is about, if it comes from its coordinator and is not fenced off."""
        engagement = self._engagements.get(app)
        if engagement is None or epoch != engagement.epoch or node != engagement.coordinator:
            return None
        return engagement

    def _take(self, event: Assigned, *, now_s: float) -> list[Effect]:
        assign = event.assign
        engagement = self._engagement_for(event.node, assign.app, assign.epoch)
        if engagement is None:
            refused = tuple(name_of(order, assign.epoch) for order in assign.orders)
            why = "not called up in this epoch"
            return [Send(event.node, Decline(assign.app, assign.epoch, why, refused=refused))]
        if closed := self._closed or self._policy.closed:
            names = tuple(name_of(order, assign.epoch) for order in assign.orders)
            return [Send(event.node, GivenBack(assign.app, names, closed, unstarted=True))]
        effects: list[Effect] = []
        for order in assign.orders:
            name = name_of(order, assign.epoch)
            if self.has(assign.app, name):
                continue
            if (lack := self._room.lack(order.needs)) is not None:
                effects.append(Send(event.node, GivenBack(assign.app, (name,), lack, unstarted=True)))
                continue
            rights = Rights(order.rights, event.absent) if order.rights or event.absent else NO_RIGHTS
            attempt = Attempt(_without_rights(order), assign.epoch, now_s, "fetching", rights=rights)
            effects += self.begin(AttemptKey(assign.app, name), engagement, attempt)
        self._grabbing.gone(assign.app, (order.task for order in assign.orders))
        return effects

    def _obey(self, event: Ordered, *, now_s: float) -> list[Effect]:
        message = event.message
        if isinstance(message, Release):
            return self._release(event.node, message, now_s=now_s)
        engagement = self._engagement_for(event.node, message.app, message.epoch)
        if engagement is None:
            return []
        match message:
            case Withdraw():
                return self._withdraw(engagement, message, now_s=now_s)
            case CancelAttempts():
                return self._cancel(engagement, message.app, message.attempts, now_s=now_s)
            case Acknowledge():
                for name in message.attempts:
                    engagement.kept.pop(name, None)
                return []
            case ClaimRefused():
                return []  # nothing here waits for it
            case Yield():
                self._claims.give_way(message.app, now_s=now_s)
                return []
            case Supervised():
                engagement.ftc = message.ftc
                return []
            case Offer():
                self._grabbing.offered(event.node, message, now_s=now_s)
                return []
            case Gone():
                self._grabbing.gone(message.app, message.tasks)
                return []
            case Stay():
                self.farewell.told(message)
                return []
            case _:
                assert_never(message)

    def _withdraw(self, engagement: Engagement, message: Withdraw, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        given_back = []
        for name in message.attempts:
            attempt = engagement.attempts.get(name)
            if attempt is None and (dropped := self._relaying.withdraw(message.app, name, now_s=now_s)) is not None:
                effects += dropped
            elif attempt is None or attempt.state in ("running", "stopping"):
                if attempt is not None:
                    attempt.wanted_back = True  # it may be in a line and not have begun
                continue  # its outcome is the answer, or the word of whom it was handed to
            else:
                effects += self._abandon(engagement, message.app, name, now_s=now_s)
            given_back.append(name)
        if given_back:
            withdrawn = GivenBack(message.app, tuple(given_back), "withdrawn", unstarted=True)
            effects.append(Send(engagement.coordinator, withdrawn))
        return effects

    def _cancel(
        self, engagement: Engagement, app: AppId, names: tuple[AttemptName, ...], *, now_s: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        gone = []
        for name in names:
            attempt = engagement.attempts.get(name)
            if attempt is not None and attempt.state == "running":
                attempt.state = "stopping"
                effects.append(Kill(AttemptKey(app, name)))
            elif attempt is not None and attempt.state != "stopping":
                effects += self._abandon(engagement, app, name, now_s=now_s)
                gone.append(name)
            elif attempt is None:
                effects += self._relaying.withdraw(app, name, now_s=now_s) or ()
                if name not in self._relaying.in_hand(app):  # or else whom it was handed to will be told
                    gone.append(name)
        if gone:
            effects.append(Send(engagement.coordinator, GivenBack(app, tuple(gone), "cancelled")))
        return effects

    def _release(self, node: NodeId, message: Release, *, now_s: float) -> list[Effect]:
        engagement = self._engagements.get(message.app)
        if engagement is None or node != engagement.coordinator or message.epoch < engagement.epoch:
            return []
        effects: list[Effect] = []
        self._relaying.end(message.app, tell=False, now_s=now_s)
        self._grabbing.end(message.app)
        self.farewell.released(message.app)
        for name, attempt in list(engagement.attempts.items()):
            if attempt.state == "running":
                attempt.state = "stopping"
                effects.append(Kill(AttemptKey(message.app, name)))
            elif attempt.state != "stopping":
                effects += self._abandon(engagement, message.app, name, now_s=now_s)
        self._claims.release(message.app, now_s=now_s)
        self._reporting.drop(message.app, engagement)
        self._fenced.pop(message.app, None)
        self._fenced[message.app] = message.epoch
        if len(self._fenced) > FENCED_MAX:
            del self._fenced[next(iter(self._fenced))]
        if not engagement.attempts:
            del self._engagements[message.app]
            self._unserved.pop(message.app, None)
        return [*effects, DropBlobs(message.app)]

    def _abandon(self, engagement: Engagement, app: AppId, name: AttemptName, *, now_s: float) -> list[Effect]:
        """Forget an attempt that does not run; what is being fetched for it is no longer wanted."""
        attempt = engagement.remove(name)
        if attempt is None:
            return []
        self._claims.left(app, slots_of(attempt.order), now_s=now_s)
        return [Kill(AttemptKey(app, name))] if attempt.state == "fetching" else []

    def _leave(self, reason: str, *, now_s: float) -> list[Effect]:
        self._closed = reason
        self._claims.close(reason, None, now_s=now_s)
        effects: list[Effect] = []
        for app, engagement in self._engagements.items():
            waiting = [name for name, each in engagement.attempts.items() if each.state not in ("running", "stopping")]
            for name in waiting:
                effects += self._abandon(engagement, app, name, now_s=now_s)
            running = tuple(engagement.attempts)
            for name, attempt in engagement.attempts.items():
                attempt.state = "stopping"
                effects.append(Kill(AttemptKey(app, name)))
            self._relaying.end(app, tell=True, now_s=now_s)
            self._grabbing.end(app)
            effects += self._reporting.report(app, engagement)
            if waiting:
                effects.append(Send(engagement.coordinator, GivenBack(app, tuple(waiting), reason, unstarted=True)))
            if running:
                effects.append(Send(engagement.coordinator, GivenBack(app, running, reason)))
            # Or it would go on sending orders until the goodbye, and count those on their way as lost.
            effects.append(self.farewell.say(app, engagement, reason))
        return effects

    def _drain(self, reason: str, *, now_s: float) -> list[Effect]:
        self._follow_policy(PolicyChanged(evolve(self._policy, closed=reason)), now_s=now_s)
        effects: list[Effect] = []
        for app, engagement in self._engagements.items():
            waiting = [name for name, each in engagement.attempts.items() if each.state not in ("running", "stopping")]
            for name in waiting:
                effects += self._abandon(engagement, app, name, now_s=now_s)
            self._relaying.end(app, tell=True, now_s=now_s)
            self._grabbing.end(app)
            if waiting:
                effects.append(Send(engagement.coordinator, GivenBack(app, tuple(waiting), reason, unstarted=True)))
        return effects

    def _leave_again(self, event: CalledUp) -> list[Effect]:
        """To the successor of a coordinator that was told already."""
        engagement = self._engagements.get(event.recruit.app)
        if engagement is None or event.recruit.epoch <= engagement.epoch or self._closed is None:
            return []
        engagement.coordinator, engagement.epoch = event.node, event.recruit.epoch
        self._reporting.repeat(event.recruit.app, engagement)
        return [self.farewell.say(event.recruit.app, engagement, self._closed)]

    # --- other participants

    def _hear(self, event: Told, *, now_s: float) -> list[Effect]:
        message = event.message
        match message:
            case Probe():
                return self._answer_probe(event.node, message, now_s=now_s)
            case NotNeeded():
                self._leases.end(event.node, message.app, message.search)
                return []
            case ProbeAnswer():
                return self._relaying.answered(event.node, message, now_s=now_s)
            case Taken():
                return self._relaying.taken(event.node, message, now_s=now_s)
            case _:
                assert_never(message)

    def _answer_probe(self, node: NodeId, probe: Probe, *, now_s: float) -> list[Effect]:
        reason = self._objection(probe.app, probe.epoch) or self._room.lack(probe.needs)
        slots = max(1, probe.needs.cpus)
        idle = min(self.slots_idle(), self._claims.room(probe.app) - self._leases.held_for(probe.app))
        room = 0 if reason else max(0, min(probe.wanted, idle // slots))
        if room:
            self._leases.hold(node, probe.app, probe.search, room * slots, now_s=now_s)
            return [Send(node, ProbeAnswer(probe.app, probe.search, room, LEASE_S))]
        return [Send(node, ProbeAnswer(probe.app, probe.search, 0, reason=reason or "has no free slot"))]

    def _objection(self, app: AppId, epoch: Epoch) -> str | None:
        """Why nothing of this application is taken from another participant in that epoch."""
        engagement = self._engagements.get(app)
        if self._closed:
            return self._closed
        if self._policy.closed:
            return self._policy.closed
        if engagement is not None and engagement.epoch != epoch:
            return f"works in epoch {engagement.epoch.counter}"
        if app in self._fenced and epoch <= self._fenced[app]:
            return "was released"
        return None

    def _accept(self, event: Handed, *, now_s: float) -> list[Effect]:
        """Take what another participant hands over, as far as there is room, and tell the coordinator."""
        hand = event.hand
        self._leases.end(event.node, hand.app, hand.search)
        taken: list[AttemptName] = []
        effects: list[Effect] = []
        trusted = event.header.user == self._user or self._trust_grid
        if trusted and (self._objection(hand.app, hand.epoch) or refusal(self._policy, event.header)) is None:
            engagement = self._engagements.get(hand.app) or Engagement(
                hand.coordinator, hand.epoch, hand.placed, event.header
            )
            parent: AttemptName | None = None
            for order in hand.orders:
                name = name_of(order, hand.epoch)
                if self.has(hand.app, name):
                    taken.append(name)  # said twice
                    continue
                idle = min(self.slots_idle(), self._claims.room(hand.app))
                if self._room.lack(order.needs) is not None or slots_of(order) > idle:
                    continue
                if not taken:
                    if hand.app not in self._engagements:
                        self._engagements[hand.app] = engagement
                        self._unserved[hand.app] = None
                    parent = self._reporting.keep_passed(
                        hand.app, engagement, hand.ancestors, sender=event.node, now_s=now_s
                    )
                    if self.has(hand.app, name):
                        continue  # handed over as done, and to be done
                rights = Rights(order.rights, event.absent)
                attempt = Attempt(
                    _without_rights(order), hand.epoch, now_s, "fetching", rights=rights, parent=parent, by_right=True
                )
                effects += self.begin(AttemptKey(hand.app, name), engagement, attempt)
                taken.append(name)
        answers: list[Effect] = [Send(event.node, Taken(hand.app, hand.search, tuple(taken)))]
        if taken:
            engaged = Engaged(hand.app, hand.epoch, self._claims.granted(hand.app), tuple(taken))
            answers.append(Send(self._engagements[hand.app].coordinator, engaged))
        return [*answers, *effects]

    def _grab(self, *, now_s: float) -> list[Effect]:
        if self._closed or not self._grabbing:
            return []
        room = self.slots_idle() + self._prefetch()
        return [Send(node, take) for node, take in self._grabbing.take(room, now_s=now_s)]

    # --- room

    def suits(self, task: Task) -> bool:
        return not self._closed and self._room.lack(task.needs) is None and self._offers(task)

    def slots_idle(self) -> int:
        waiting = sum(each.slots_waiting for each in self._engagements.values())
        return self._room.slots - self._room.slots_used - self._leases.slots - waiting

    def queue_room(self) -> int:
        return self.slots_idle() + self._prefetch()

    def _prefetch(self) -> int:
        return prefetch_slots(self._room.slots, self._mean_run_s)

    # --- attempts

    def begin(self, key: AttemptKey, engagement: Engagement, attempt: Attempt, *, first: bool = False) -> list[Effect]:
        engagement.add(key.name, attempt)
        self._unserved.pop(key.app, None)
        if key.app not in self._claims:
            self._claim(key.app, engagement, slots=1, at_once=1, now_s=attempt.came_s)
        self._claims.came(key.app, slots_of(attempt.order), now_s=attempt.came_s)
        if absent := attempt.rights.absent(key.name):
            return [Fetch(key, absent)]
        self._queue(key, engagement, attempt, first=first)
        return []

    def _enqueue(self, key: AttemptKey) -> None:
        engagement = self._engagements.get(key.app)
        attempt = engagement.attempts.get(key.name) if engagement else None
        if engagement is None or attempt is None or attempt.state != "fetching":
            return
        self._queue(key, engagement, attempt)

    def _queue(self, key: AttemptKey, engagement: Engagement, attempt: Attempt, *, first: bool = False) -> None:
        attempt.state = "queued"
        if first:
            engagement.queue.appendleft(key.name)
        else:
            engagement.queue.append(key.name)
        self._queued[key.app] = None

    def _give_up_inputs(self, event: InputsMissing, *, now_s: float) -> list[Effect]:
        engagement = self._engagements.get(event.key.app)
        attempt = engagement.remove(event.key.name) if engagement else None
        if engagement is None or attempt is None:
            return []
        self._claims.left(event.key.app, slots_of(attempt.order), now_s=now_s)
        # What this node cannot take counts as lost: with no other node to go to, it would come back again and again.
        lost = not event.digests
        given_back = GivenBack(event.key.app, (event.key.name,), event.why, event.digests, lost, unstarted=True)
        return [Send(engagement.coordinator, given_back)]

    def _start_what_fits(self, *, now_s: float) -> list[Effect]:
        """Each application its oldest attempt, as far as its grant goes; the one first that is furthest behind its
        share. One that needs more than is free waits, and lets others pass."""
        effects: list[Effect] = []
        while (found := self._next_to_start()) is not None:
            app, engagement, name = found
            attempt = engagement.attempts[name]
            engagement.queue.popleft()
            engagement.start(attempt, now_s=now_s)
            self._claims.started(app, slots_of(attempt.order), now_s=now_s)
            self._room.occupy(attempt)
            line = self._line_up(engagement, name, attempt)
            for _, each in line:
                engagement.start(each, now_s=now_s)
                each.behind = True
            effects.append(self._start(app, name, attempt, now_s=now_s, behind=line))
        return effects

    def _start(
        self,
        app: AppId,
        name: AttemptName,
        attempt: Attempt,
        *,
        now_s: float,
        behind: Sequence[tuple[AttemptName, Attempt]] = (),
    ) -> Start:
        key = AttemptKey(app, name)
        if not attempt.behind:
            self._to_tell.append((now_s + TELL_STARTED_AFTER_S, key))
        others = tuple([self._start(app, other, each, now_s=now_s) for other, each in behind])
        return Start(key, attempt.epoch, attempt.order, now_s - attempt.came_s, attempt.gpus, others)

    def _line_up(self, engagement: Engagement, name: AttemptName, first: Attempt) -> list[tuple[AttemptName, Attempt]]:
        """Attempts that are to follow this one in its slot: to start and to end each by itself would cost more than
        they do. Those that other slots could run meanwhile are left to them."""
        mean_s = engagement.mean_run_s
        if mean_s is None or mean_s > BRIEF_S or not _may_line_up(first):
            return []
        slots = 1 + self._room.slots - self._room.slots_used
        most = min(LINE_MAX, round(LINE_S / max(mean_s, 1e-6)), -(-(len(engagement.queue) + 1) // slots))
        found: list[tuple[AttemptName, Attempt]] = []
        while len(found) + 1 < most and (following := engagement.next_queued()) is not None:
            attempt = engagement.attempts[following]
            if attempt.order.needs != first.order.needs or not _may_line_up(attempt):
                break
            engagement.queue.popleft()
            found.append((following, attempt))
        if found:
            line = deque([name, *(each for each, _ in found)])
            for attempt in (first, *(each for _, each in found)):
                attempt.line = line
        return found

    def _next_to_start(self) -> tuple[AppId, Engagement, AttemptName] | None:
        if self._room.slots_used == self._room.slots:
            return None
        for app in self._claims.in_turn(self._queued):
            engagement = self._engagements.get(app)
            name = engagement.next_queued() if engagement else None
            if engagement is None or name is None:
                del self._queued[app]
                continue
            attempt = engagement.attempts[name]
            may_start = self._claims.may_start(app, slots_of(attempt.order))
            if may_start and self._room.fits(attempt, reserved=self._leases.slots):
                return app, engagement, name
        return None

    def _end(self, key: AttemptKey, *, now_s: float) -> tuple[Engagement, Attempt] | None:
        engagement = self._engagements.get(key.app)
        attempt = engagement.remove(key.name) if engagement else None
        if engagement is None or attempt is None:
            return None
        passed_on = self._leave_line(engagement, key, attempt, now_s=now_s)
        if attempt.takes_room and not passed_on:
            self._claims.ended(key.app, slots_of(attempt.order), now_s=now_s)
            self._room.vacate(attempt)
        else:
            self._claims.left(key.app, slots_of(attempt.order), now_s=now_s)
        if key.app in self._fenced and not engagement.attempts and self._fenced[key.app] >= engagement.epoch:
            self._reporting.drop(key.app, engagement)
            del self._engagements[key.app]
        return engagement, attempt

    def _leave_line(self, engagement: Engagement, key: AttemptKey, attempt: Attempt, *, now_s: float) -> bool:
        """Whether another has taken over the room that it took."""
        line, attempt.line = attempt.line, None
        if line is None:
            return False
        line.remove(key.name)
        if attempt.behind or not line:
            return False
        following = engagement.attempts[line[0]]
        following.behind, following.started_s = False, now_s
        self._to_tell.append((now_s + TELL_STARTED_AFTER_S, AttemptKey(key.app, line[0])))
        return True

    def _queue_again(self, key: AttemptKey, *, now_s: float) -> list[Effect]:
        """It goes on with the next slot that is free."""
        engagement = self._engagements.get(key.app)
        attempt = engagement.attempts.get(key.name) if engagement else None
        if engagement is None or attempt is None:
            return []
        if attempt.state == "stopping":
            return self._stopped(key, now_s=now_s)
        passed_on = self._leave_line(engagement, key, attempt, now_s=now_s)
        if attempt.takes_room and not passed_on:
            self._claims.put_back(key.app, slots_of(attempt.order), now_s=now_s)
            self._room.vacate(attempt)
        attempt.behind = False
        engagement.put_back(attempt)
        self._queue(key, engagement, attempt, first=True)
        if attempt.wanted_back:
            return self._withdraw(engagement, Withdraw(key.app, engagement.epoch, (key.name,)), now_s=now_s)
        return []

    def _keep(self, event: Ran, *, now_s: float) -> list[Effect]:
        ended = self._end(event.key, now_s=now_s)
        if ended is None or event.key.app not in self._engagements:
            return []
        (engagement, attempt), outcome = ended, event.outcome
        kept = Kept(outcome, now_s, parent=attempt.parent)
        self._reporting.keep(event.key.app, engagement, event.key.name, kept)
        engagement.outputs |= {
            each.blob.digest: f"{each.name} of {outcome.task}" for each in outcome.outputs if not each.carried
        }
        self._mean_run_s = mean_run_s(self._mean_run_s, outcome.ran_s)
        engagement.mean_run_s = mean_run_s(engagement.mean_run_s, outcome.ran_s)
        if outcome.failure is not None or attempt.state == "stopping" or self._closed:
            return []
        return self._relaying.succeeded(event.key.app, engagement, attempt, outcome, now_s=now_s)

    def _stopped(self, key: AttemptKey, *, now_s: float) -> list[Effect]:
        ended = self._end(key, now_s=now_s)
        if ended is None or self._closed:
            return []  # forgotten, or handed back already
        engagement, attempt = ended
        if attempt.state != "stopping":
            return [Send(engagement.coordinator, GivenBack(key.app, (key.name,), "cut short", lost=True))]
        return [Send(engagement.coordinator, GivenBack(key.app, (key.name,), "cancelled"))]

    # --- reports

    def wake_s(self) -> float:
        """When a `Tick` and a `Quiet` are due at the latest: outcomes wait, grants end, starts are to be told."""
        return min(
            self._reporting.wake_s(self._engagements),
            self._relaying.wake_s(),
            self._grabbing.wake_s(),
            self._leases.wake_s(),
            self._claims.wake_s(),
            self._to_tell[0][0] if self._to_tell else math.inf,
        )

    def _tell_again(self, coordinator: NodeId) -> list[Effect]:
        """What we run and what we keep. If the application has ended meanwhile, the answer is our release."""
        effects: list[Effect] = []
        for app, engagement in self._engagements.items():
            if engagement.coordinator == coordinator:
                self._reporting.repeat(app, engagement)
                self._to_tell.extendleft((-math.inf, AttemptKey(app, name)) for name in engagement.attempts)
                if any(each.by_right for each in engagement.attempts.values()) or self._relaying.in_hand(app):
                    effects += self._confirm(app, engagement)  # nobody but us may have told of these
        return effects

    def _tell_started(self, *, now_s: float) -> list[Effect]:
        started: dict[AppId, list[AttemptName]] = {}
        while self._to_tell and self._to_tell[0][0] <= now_s:
            _, key = self._to_tell.popleft()
            attempt = self.attempt_of(key.app, key.name)
            if attempt is None or attempt.state != "running":
                continue
            if now_s >= attempt.started_s + TELL_STARTED_AFTER_S:
                started.setdefault(key.app, []).append(key.name)
        self._reporting.forget_old(self._engagements, now_s=now_s)
        return [Send(self._engagements[app].coordinator, Started(app, tuple(names))) for app, names in started.items()]

    def check(self) -> None:
        """Assert what holds after each event."""
        active = [
            attempt
            for engagement in self._engagements.values()
            for attempt in engagement.attempts.values()
            if attempt.takes_room
        ]
        self._room.check(active)
        self._reporting.check(self._engagements)
        self._relaying.check()
        self._claims.check()
        busy = {
            app: sum(slots_of(each.order) for each in engagement.attempts.values() if each.takes_room)
            for app, engagement in self._engagements.items()
        }
        assert {each.app: each.busy for each in self._claims if each.busy} == {app: n for app, n in busy.items() if n}
        self._leases.check()
        assert self._unserved.keys() <= self._engagements.keys()
        for engagement in self._engagements.values():
            engagement.check()


def _may_line_up(attempt: Attempt) -> bool:
    """Others may wait behind it, and it behind others: it takes a slot and no more, and has no time of its own."""
    order = attempt.order
    plain = order.timeout_s is None and order.needs.gpus == 0 and slots_of(order) == 1
    return plain and not order.once and not isinstance(order.work, Command)


def _without_rights(order: AttemptOrder) -> AttemptOrder:
    """They are kept beside it, in a form that is quick to look things up in."""
    return evolve(order, rights=()) if order.rights else order
