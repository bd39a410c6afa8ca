"""Who works for an application, and who might: candidates, call-ups, participants, refusals.

Each event costs what it changes: neither candidates nor participants are looked through (`waiting_list`, `room`).

A node is *called up* with `Recruit`, which claims slots of it; only its `Confirm` makes it a participant, with as many
slots as that says, and only those count. It may say another number at any time; a participant without slots still has
the attempts that run there, and may be called up again. A call-up that is not answered within its lease, or is
declined, makes room for the next candidate and is tried again later.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator

from jcpeer.application.manifest import Header
from jcpeer.application.task import Needs, Task
from jcpeer.coordinator.matching import NOT_ASKED, NeedsKey, Prospect, needs_key, refusal, same_offer, unmet_need
from jcpeer.coordinator.room import Assigned, Participant, Room
from jcpeer.coordinator.waiting_list import Candidate, Refused, WaitingList
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.wire.messages import Decline, NodeRecord

CALL_UP_LEASE_S = 3.0
DECLINED_FOR_S = 5.0
REFUSED_FOR_S_MAX = 60.0
"""A node that says it will be long is asked again sooner: what it says may change."""
PREFETCH_S = 0.05
"""Work kept queued at a participant, in seconds a slot: hides one round trip and the writes on the way."""
PREFETCH_TASKS_MAX = 64


class Roster:
    """The candidates and participants of one application."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.candidates: dict[NodeId, Candidate] = {}
        self.participants: dict[NodeId, Participant] = {}
        self.room = Room(self.participants)
        self.slots = 0
        """What participants have for us in all."""
        self.spare: dict[NodeId, Participant] = {}
        """Participants with slots that nothing was given to."""
        self.overfull: dict[NodeId, Participant] = {}
        """Participants with more than their slots hold."""
        self.claims: dict[NodeId, None] = {}
        """Nodes where a claim of ours stands, granted or not."""
        self.unused: dict[NodeId, None] = {}
        """Those where slots are granted that nothing was given to."""
        self.waiting: dict[NodeId, None] = {}
        """Those where none are granted yet."""
        self.stirring: dict[NodeId, None] = {}
        """Participants that were given something though no claim stands there any more."""
        self.version = 0
        """Another number whenever a participant has slots, or none any more, or offers something else."""
        self._offered = 0
        """The slots of participants, and of those that are asked."""
        self._list = WaitingList(self.candidates)
        self._calls: deque[tuple[float, NodeId]] = deque()
        """When each call-up ends that waits for its answer."""
        self._refusals: list[tuple[float, NodeId]] = []
        """When each may be asked again; the earliest first."""
        self._looked: dict[NeedsKey, int] = {}
        """Up to whom it is known who can run such tasks."""
        self._numbers = itertools.count()

    # --- the directory

    def see(self, record: NodeRecord) -> None:
        """A node is in the directory, or its record changed."""
        known = self.candidates.get(record.node)
        other_offer = known is None or not same_offer(known.record, record)
        if known is None:
            known = self.candidates[record.node] = Candidate(record, next(self._numbers))
        else:
            if known.record.incarnation != record.incarnation:
                known.refused = known.asked_until_s = None
            if known.record.policy != record.policy:
                known.refused = None
            known.record = record
        if (participant := self.participants.get(record.node)) is not None:
            participant.record = record
            self.version += other_offer
        self._file(known, anew=other_offer)

    def lose(self, node: NodeId) -> Participant | None:
        """A node left the directory; returns it as the participant that it was."""
        candidate = self.candidates.pop(node, None)
        if candidate is not None:
            self._list.remove(candidate)
            self._offered -= candidate.counted
        return self._part_with(node)

    def _part_with(self, node: NodeId) -> Participant | None:
        participant = self.participants.pop(node, None)
        if participant is not None:
            self._offered -= participant.counted
            self.slots -= participant.slots
            self.version += 1
        for each in (self.spare, self.overfull, self.claims, self.unused, self.waiting, self.stirring):
            each.pop(node, None)
        return participant

    # --- answers

    def confirm(
        self, node: NodeId, slots: int, why: str = "", retry_s: float | None = None, *, now_s: float
    ) -> Participant | None:
        """A node says how many of its slots are ours; None if it is not in the directory (its word outlived it)."""
        candidate = self.candidates.get(node)
        if candidate is None:
            return None
        candidate.asked_until_s = candidate.refused = None
        participant = self.participants.get(node)
        if participant is None:
            participant = self.participants[node] = Participant(candidate.record, 0, next(self._numbers))
        self.version += (participant.slots > 0) != (slots > 0)
        self.slots += slots - participant.slots
        participant.slots = slots
        self._recount(participant)
        if slots == 0:
            self._note_refusal(candidate, why, retry_s, now_s=now_s)
        self._file(candidate)
        return participant

    def refuse(self, node: NodeId, message: Decline, *, now_s: float) -> Participant | None:
        """A node declined; returns it as the participant that it was."""
        claims = node in self.claims
        participant = self._part_with(node)
        if (candidate := self.candidates.get(node)) is not None:
            self._note_refusal(candidate, message.reason, message.retry_s, now_s=now_s)
            if claims:
                self.claim([node])  # it may hear from us when there are slots for us
        return participant

    def _note_refusal(self, candidate: Candidate, reason: str, retry_s: float | None, *, now_s: float) -> None:
        candidate.asked_until_s = None
        wait_s = DECLINED_FOR_S if retry_s is None else min(max(retry_s, 0.0), REFUSED_FOR_S_MAX)
        candidate.refused = Refused(reason, now_s + wait_s)
        heapq.heappush(self._refusals, (now_s + wait_s, candidate.record.node))
        self._file(candidate)

    def set_aside(self, node: NodeId, why: str, *, now_s: float) -> None:
        """It is out of reach: it keeps what it was given, and is given nothing more until it confirms again."""
        if (participant := self.participants.get(node)) is not None:
            for name in participant.may_have_started():
                if participant.assigned[name].state == "assigned":
                    participant.assigned[name].state = "running"
            self.confirm(node, 0, why, REFUSED_FOR_S_MAX, now_s=now_s)

    def is_full(self, mean_run_s: float | None) -> bool:
        """Nobody has room for anything, be it only to wait there."""
        return self.room.least_loaded(lambda each: True, below=full_load(mean_run_s)) is None

    @property
    def arrivals(self) -> int:
        """Another number whenever somebody may be asked who could not, or offers something else."""
        return self._list.arrivals

    def takes_part(self, node: NodeId) -> bool:
        """It has slots for us."""
        participant = self.participants.get(node)
        return participant is not None and participant.slots > 0

    # --- attempts

    def give(self, participant: Participant, attempt: Assigned) -> None:
        participant.assigned[attempt.name] = attempt
        participant.slots_given += attempt.slots
        if participant.record.node not in self.claims:
            self.stirring[participant.record.node] = None
        self._recount(participant)

    def take_back(self, participant: Participant, name: AttemptName) -> Assigned | None:
        attempt = participant.assigned.pop(name, None)
        if attempt is not None:
            participant.slots_given -= attempt.slots
            if participant.record.node in self.participants:
                self._recount(participant)
        return attempt

    def _recount(self, participant: Participant) -> None:
        node, free = participant.record.node, participant.slots_free
        offered = participant.slots or participant.slots_given
        self._offered += offered - participant.counted
        participant.counted = offered
        if free >= 0:
            self.overfull.pop(node, None)
        else:
            self.overfull[node] = participant
        if free <= 0:
            self.spare.pop(node, None)
        else:
            self.spare[node] = participant
        if node in self.claims:
            self._note_need(node)
        self.room.note(participant)

    # --- claims

    def claim(self, nodes: Iterable[NodeId]) -> None:
        """They are told that we could use their slots."""
        for node in nodes:
            self.claims[node] = None
            self._note_need(node)

    def unclaim(self, node: NodeId) -> None:
        """It is told that others may have what we do not use."""
        self.claims.pop(node, None)
        self._note_need(node)

    def _note_need(self, node: NodeId) -> None:
        participant = self.participants.get(node)
        claimed = node in self.claims
        for nodes, belongs in (
            (self.unused, claimed and node in self.spare),
            (self.waiting, claimed and (participant is None or not participant.slots)),
        ):
            if belongs:
                nodes[node] = None
            else:
                nodes.pop(node, None)

    # --- call-ups

    def look(self, *, now_s: float) -> None:
        """Time has passed: who does not answer makes room for others, and who refused may be asked again."""
        while self._calls and self._calls[0][0] <= now_s:
            until_s, node = self._calls.popleft()
            candidate = self.candidates.get(node)
            if candidate is not None and candidate.asked_until_s == until_s:
                self._note_refusal(candidate, "has not answered the call-up", None, now_s=now_s)
        while self._refusals and self._refusals[0][0] <= now_s:
            until_s, node = heapq.heappop(self._refusals)
            candidate = self.candidates.get(node)
            if candidate is not None and candidate.refused is not None and candidate.refused.until_s == until_s:
                candidate.refused = None
                self._file(candidate)

    def wake_s(self) -> float:
        """When `look` has something to do."""
        ends = (self._calls[0][0] if self._calls else math.inf, self._refusals[0][0] if self._refusals else math.inf)
        return min(ends)

    def call_up(self, *, slots_wanted: int, now_s: float, ready: Iterable[Task] | None = None) -> list[NodeId]:
        """Whom to ask now so that the participants and those already asked offer that many slots.

        `ready` are tasks that stand for all that wait to be placed; slots that none of them can use are left to others.
        Where it is not given, everybody is asked.
        """
        self.look(now_s=now_s)
        missing = slots_wanted - self._offered
        if missing <= 0 or not self._list:
            return []
        ready = None if ready is None else list(ready)

        def suits(candidate: Candidate) -> bool:
            # Who had slots for us and lost them, unused, is asked for a task; others may relieve participants.
            if ready is None or (not ready and candidate.record.node not in self.participants):
                return True
            return any(unmet_need(each, candidate.record) is None for each in ready)

        wanted: frozenset[Hashable] = frozenset(
            map(needs_key, ready) if ready else ("all" if ready is None else "relief",)
        )
        self._list.want(wanted)
        asked = []
        while missing > 0:
            found = self._list.take(wanted, suits=suits, barred=lambda each: self._is_barred(each, now_s=now_s))
            if found is None:
                break
            missing -= found.record.slots
            asked.append(found.record.node)
        return self.ask(asked, now_s=now_s)

    def call_up_all_for(self, task: Task, *, now_s: float) -> list[NodeId]:
        """Whom to ask now so that all are asked that may be, and could run this task."""
        self.look(now_s=now_s)
        key = needs_key(task)
        arrived, self._looked[key] = self._list.arrived_since(self._looked.get(key, 0))
        able = [
            each for each in arrived if not self._is_barred(each, now_s=now_s) and unmet_need(task, each.record) is None
        ]
        return self.ask([each.record.node for each in sorted(able, key=lambda each: each.order)], now_s=now_s)

    def others_for(self, task: Task, *, avoid: frozenset[NodeId], now_s: float) -> list[NodeId]:
        """Nodes that could run this task, have no slots for us yet, and may still be won for it. It looks at all
        candidates, so it is for tasks that have failed somewhere."""
        return [
            node
            for node, each in self.candidates.items()
            if not self.takes_part(node)
            and node not in avoid
            and self.objection(each, now_s=now_s) is None
            and unmet_need(task, each.record) is None
        ]

    def ask(self, nodes: list[NodeId], *, now_s: float) -> list[NodeId]:
        """Call these up; returns those who were not asked yet."""
        fresh = [node for node in nodes if self.candidates[node].asked_until_s is None]
        for node in fresh:
            candidate = self.candidates[node]
            candidate.asked_until_s = now_s + CALL_UP_LEASE_S
            self._calls.append((candidate.asked_until_s, node))
            self._file(candidate)
        return fresh

    def ask_again(self, node: NodeId, *, now_s: float) -> list[NodeId]:
        """Call this one up, which works for us though it is no participant; none if it was asked, or is not known."""
        return self.ask([node], now_s=now_s) if node in self.candidates else []

    def _file(self, candidate: Candidate, *, anew: bool = False) -> None:
        """Whether it may be asked, and what it counts for, follows from how things are with it."""
        asked = candidate.asked_until_s is not None
        offered = candidate.record.slots if asked else 0
        self._offered += offered - candidate.counted
        candidate.counted = offered
        if asked or candidate.refused is not None or self.takes_part(candidate.record.node):
            self._list.remove(candidate)
        else:
            self._list.add(candidate, anew=anew)

    def _is_barred(self, candidate: Candidate, *, now_s: float) -> bool:
        return self.objection(candidate, now_s=now_s) is not None

    def objection(self, candidate: Candidate, *, now_s: float) -> str | None:
        """Why this node is not asked, in words; None if it may be."""
        record = candidate.record
        if record.user != self.header.user and not record.trusts_grid:
            return f"runs tasks of its own user only ({record.user}); start it with --trust-grid"
        if record.slots == 0:
            return "offers no slots"
        if (reason := refusal(record.policy, self.header)) is not None:
            return reason
        if candidate.refused is not None and candidate.refused.until_s > now_s:
            return candidate.refused.reason
        return None

    def check(self) -> None:
        """Assert what holds after each event; for tests and simulations, since it looks at everybody."""
        everybody = self.participants.values()
        asked = [each for each in self.candidates.values() if each.asked_until_s is not None]
        assert self._offered == sum(each.slots or each.slots_given for each in everybody) + sum(
            each.record.slots for each in asked
        )
        assert self.slots == sum(each.slots for each in everybody)
        assert self.spare.keys() == {node for node, each in self.participants.items() if each.slots_free > 0}
        assert self.overfull.keys() == {node for node, each in self.participants.items() if each.slots_free < 0}
        for node, each in self.candidates.items():
            may_be_asked = each.asked_until_s is None and each.refused is None and not self.takes_part(node)
            assert may_be_asked == (each.place != ""), (node, each)

    def prospects(self, *, now_s: float) -> Iterator[Prospect]:
        """Each candidate, as one sees it who wonders why a task is not there."""
        for node, candidate in self.candidates.items():
            participant = self.participants.get(node)
            if participant is not None and participant.slots > 0:
                yield Prospect(candidate.record, busy=participant.slots_free <= 0)
            else:
                yield Prospect(candidate.record, objection=self.objection(candidate, now_s=now_s) or NOT_ASKED)


def slots_of(needs: Needs) -> int:
    """A task takes one slot a CPU."""
    return max(1, needs.cpus)


def prefetch_slots(slots: int, mean_run_s: float | None) -> int:
    """How many slots' worth of work may wait at a participant beyond what its slots run.

    One a slot for work that lasts, so that the next attempt's inputs are there when a slot falls free; as many as fill
    `PREFETCH_S` for work that is over at once.
    """
    if mean_run_s is None:
        return slots
    return slots * max(1, min(PREFETCH_TASKS_MAX, round(PREFETCH_S / max(mean_run_s, 1e-6))))


def full_load(mean_run_s: float | None) -> float:
    """Whoever has been given so much by slot has no room for a task of any width (`has_room`)."""
    return 1.0 + prefetch_slots(1, mean_run_s)


def mean_run_s(mean_s: float | None, seconds: float) -> float | None:
    """How long attempts ran of late, now that one has run for so long."""
    if not 0 <= seconds < math.inf:
        return mean_s
    return seconds if mean_s is None else 0.8 * mean_s + 0.2 * seconds


def has_room(participant: Participant, wanted: int, mean_run_s: float | None) -> bool:
    """Whether a task of so many slots may be given to this participant, if only to wait there.

    One that is wider than the slots that we have there may wait for more of them: that it waits is how the participant
    hears that more are needed. Only one does at a time.
    """
    if participant.slots < wanted <= participant.record.slots:
        return participant.slots_free >= 0
    return participant.slots_free + prefetch_slots(participant.slots, mean_run_s) >= wanted


def beyond_room(participant: Participant, mean_run_s: float | None) -> list[AttemptName]:
    """The attempts that wait though they are more than may, since the participant has fewer slots for us than it had;
    in the order in which they are best taken back."""
    excess = participant.slots_given - participant.slots - prefetch_slots(participant.slots, mean_run_s)
    names = []
    for attempt in reversed(participant.assigned.values()):
        if excess <= 0:
            break
        if attempt.state == "assigned" and not 0 < participant.slots < attempt.slots:
            names.append(attempt.name)
            excess -= attempt.slots
    return names


def queued_last_first(participant: Participant) -> Iterator[TaskId]:
    """The attempts that wait behind others, in the order in which they are best taken back."""
    last_first = reversed(participant.assigned.values())
    return (each.name.task for each in last_first if each.state == "assigned" and not each.once)
