"""When a participant that fell silent counts as lost: not before the FTC, which hears it too, has missed it as well.

A death that is proven (its process is gone, or it said goodbye) counts at once. Silence is a guess: the FTC is asked.
As long as that one hears the participant it goes on, though it is out of our reach; if it does not, or does not
answer, or nobody supervises beside us, the participant is lost after `GRACE_S`. A suspicion of the FTC about somebody
whom we hear changes nothing. Nothing new is given to whoever is missed.
"""

from __future__ import annotations

import math

from jcpeer.coordinator.absences import Absences, Missed
from jcpeer.coordinator.events import Effect, Send
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.roster import Roster
from jcpeer.ids import NodeId
from jcpeer.wire.messages import Supervised
from jcpeer.wire.replication import Alive, AskAlive, Suspect

GRACE_S = 5.0
"""Silence is told after 3 s at the soonest, so a participant is silent for 8 s before it is lost: one that is held up
for 5 s loses nothing."""
PROVEN = ("refused", "left")


class Supervision:
    """Asks the FTC about participants that are missed, and listens to it."""

    def __init__(
        self, recorder: Recorder, roster: Roster, absences: Absences, holdings: Holdings, *, me: NodeId
    ) -> None:
        self.ftc: NodeId | None = None
        self._recorder = recorder
        self._roster = roster
        self._absences = absences
        self._holdings = holdings
        self._me = me

    def appointed(self, node: NodeId | None, *, now_s: float) -> list[Effect]:
        """This one is the FTC from now on. Participants are told, and it is asked what the one before was."""
        if node == self.ftc:
            return []
        self.ftc = node if node != self._me else None
        supervised = Supervised(self._recorder.app, self._recorder.epoch, self.ftc)
        effects: list[Effect] = [Send(each, supervised) for each in self._roster.participants]
        for each in self._absences.vouched:
            self._absences.await_until(each, now_s + GRACE_S)
        for each in self._absences.missed:
            effects += self._ask(each)
        return effects

    def miss(self, node: NodeId, missed: Missed, *, now_s: float) -> list[Effect] | None:
        """This node is out of reach. None where it is lost at once."""
        until_s = self._absences.excused_until_s
        if missed.proof not in PROVEN and (self._roster.takes_part(node) or self._holdings.at(node)):
            until_s = max(until_s, now_s + GRACE_S)
        if until_s <= now_s:
            return None
        self._absences.excuse(node, missed, until_s)
        self._roster.set_aside(node, missed.why, now_s=now_s)
        return self._ask(node)

    def alive(self, node: NodeId, message: Alive) -> None:
        """The FTC hears it, and says so when it no longer does."""
        if node == self.ftc and message.epoch == self._recorder.epoch:
            self._absences.await_until(message.node, math.inf)

    def suspect(self, node: NodeId, message: Suspect, *, now_s: float) -> None:
        """The FTC misses it, too."""
        if node != self.ftc or message.epoch != self._recorder.epoch:
            return
        if message.proof in PROVEN:
            self._absences.await_until(message.node, now_s)
        elif message.node in self._absences.vouched:
            self._absences.await_until(message.node, now_s + GRACE_S)

    def _ask(self, node: NodeId) -> list[Effect]:
        if self.ftc is None or node == self.ftc:
            return []
        return [Send(self.ftc, AskAlive(self._recorder.app, self._recorder.epoch, node))]
