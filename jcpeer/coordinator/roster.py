"""Who works for an application, and who might: candidates, call-ups, participants, refusals.

A node is *called up* with `Recruit`, which claims slots of it; only its `Confirm` makes it a participant, with as many
slots as that says, and only those count. It may say another number at any time; a participant without slots still has
the attempts that run there, and may be called up again. A call-up that is not answered within its lease, or is
declined, makes room for the next candidate and is tried again later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import define, field, frozen

from jcpeer.application.manifest import Header
from jcpeer.application.task import Needs, Task
from jcpeer.coordinator.matching import NOT_ASKED, Prospect, refusal, unmet_need
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.wire.messages import Decline, NodeRecord

CALL_UP_LEASE_S = 3.0
DECLINED_FOR_S = 5.0
REFUSED_FOR_S_MAX = 60.0
"""A node that says it will be long is asked again sooner: what it says may change."""
PREFETCH_S = 0.05
"""Work kept queued at a participant, in seconds a slot: hides one round trip and the writes on the way."""
PREFETCH_TASKS_MAX = 64


@define
class Assigned:
    """One attempt that a participant has been given and has not ended."""

    name: AttemptName
    slots: int
    given_s: float
    state: Literal["assigned", "running", "withdrawing", "cancelling"] = "assigned"


@define
class Participant:
    """A node that confirmed, with what it was given. `assigned` is in the order of assignment, as is its queue."""

    record: NodeRecord
    slots: int
    assigned: dict[AttemptName, Assigned] = field(factory=dict)
    slots_given: int = 0

    def give(self, attempt: Assigned) -> None:
        self.assigned[attempt.name] = attempt
        self.slots_given += attempt.slots

    def take_back(self, name: AttemptName) -> Assigned | None:
        attempt = self.assigned.pop(name, None)
        if attempt is not None:
            self.slots_given -= attempt.slots
        return attempt

    @property
    def slots_free(self) -> int:
        """Negative while attempts wait behind others."""
        return self.slots - self.slots_given

    @property
    def known_running(self) -> int:
        """How many attempts run as far as it was told; of short ones it never is."""
        return sum(each.state == "running" for each in self.assigned.values())

    def may_have_started(self) -> set[AttemptName]:
        """Attempts that are known to run, or were next in line: those that may have felled the participant."""
        running = {each.name for each in self.assigned.values() if each.state == "running"}
        return running | set(list(self.assigned)[: self.slots])


@frozen
class Refused:
    """Why a candidate is not asked for now."""

    reason: str
    until_s: float


@define
class Candidate:
    """A node in the directory. `asked_until_s` is the end of a call-up that waits for its answer."""

    record: NodeRecord
    asked_until_s: float | None = None
    refused: Refused | None = None


class Roster:
    """The candidates and participants of one application."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.candidates: dict[NodeId, Candidate] = {}
        self.participants: dict[NodeId, Participant] = {}

    def see(self, record: NodeRecord) -> None:
        """A node is in the directory, or its record changed."""
        known = self.candidates.get(record.node)
        if known is None:
            self.candidates[record.node] = Candidate(record)
        else:
            if known.record.incarnation != record.incarnation:
                known.refused = known.asked_until_s = None
            if known.record.policy != record.policy:
                known.refused = None
            known.record = record
        if (participant := self.participants.get(record.node)) is not None:
            participant.record = record

    def lose(self, node: NodeId) -> Participant | None:
        """A node left the directory; returns it as the participant that it was."""
        self.candidates.pop(node, None)
        return self.participants.pop(node, None)

    def confirm(
        self, node: NodeId, slots: int, why: str = "", retry_s: float | None = None, *, now_s: float
    ) -> Participant | None:
        """A node says how many of its slots are ours; None if it is not in the directory (its word outlived it)."""
        candidate = self.candidates.get(node)
        if candidate is None:
            return None
        candidate.asked_until_s = candidate.refused = None
        if slots == 0:
            self._note_refusal(candidate, why, retry_s, now_s=now_s)
        participant = self.participants.get(node)
        if participant is None:
            participant = self.participants[node] = Participant(candidate.record, slots)
        participant.slots = slots
        return participant

    def refuse(self, node: NodeId, message: Decline, *, now_s: float) -> Participant | None:
        """A node declined; returns it as the participant that it was."""
        if (candidate := self.candidates.get(node)) is not None:
            self._note_refusal(candidate, message.reason, message.retry_s, now_s=now_s)
        return self.participants.pop(node, None)

    def _note_refusal(self, candidate: Candidate, reason: str, retry_s: float | None, *, now_s: float) -> None:
        candidate.asked_until_s = None
        wait_s = DECLINED_FOR_S if retry_s is None else min(max(retry_s, 0.0), REFUSED_FOR_S_MAX)
        candidate.refused = Refused(reason, now_s + wait_s)

    def takes_part(self, node: NodeId) -> bool:
        """It has slots for us."""
        participant = self.participants.get(node)
        return participant is not None and participant.slots > 0

    def call_up(self, *, slots_wanted: int, now_s: float, ready: Sequence[Task] | None = None) -> list[NodeId]:
        """Whom to ask now so that the participants and those already asked offer that many slots.

        `ready` are tasks that stand for all that wait to be placed; slots that none of them can use are left to others.
        Where it is not given, everybody is asked.
        """
        offered = sum(each.slots or each.slots_given for each in self.participants.values())
        able = []
        for node, candidate in self.candidates.items():
            if candidate.asked_until_s is not None:
                if candidate.asked_until_s > now_s:
                    offered += candidate.record.slots
                    continue
                self._note_refusal(candidate, "has not answered the call-up", None, now_s=now_s)
            if offered < slots_wanted and not self.takes_part(node) and not self.objection(candidate, now_s=now_s):
                # Who had slots for us and lost them, unused, is asked for a task; others may relieve participants.
                relieves = not ready and node not in self.participants
                if ready is None or relieves or any(unmet_need(each, candidate.record) is None for each in ready):
                    able.append(candidate)
        able.sort(key=lambda each: each.record.slots_used >= each.record.slots)  # who has room, as far as it told
        asked = []
        for candidate in able:
            if offered < slots_wanted:
                offered += candidate.record.slots
                asked.append(candidate.record.node)
        return self.ask(asked, now_s=now_s)

    def others_for(self, task: Task, *, avoid: frozenset[NodeId], now_s: float) -> list[NodeId]:
        """Nodes that could run this task, have no slots for us yet, and may still be won for it."""
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
            self.candidates[node].asked_until_s = now_s + CALL_UP_LEASE_S
        return fresh

    def ask_again(self, node: NodeId, *, now_s: float) -> list[NodeId]:
        """Call this one up, which works for us though it is no participant; none if it was asked, or is not known."""
        return self.ask([node], now_s=now_s) if node in self.candidates else []

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


def queued_last_first(participant: Participant) -> list[TaskId]:
    """The attempts that wait behind others, in the order in which they are best taken back."""
    waiting = [each.name.task for each in participant.assigned.values() if each.state == "assigned"]
    return waiting[::-1]
