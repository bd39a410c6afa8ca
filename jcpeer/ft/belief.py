"""Whether the coordinator is believed to live, and when this copy may stand for its place.

A coordinator lives as long as the connection stands over which it said that it coordinates. A connection that broke
refutes that: if a redial was refused or it said goodbye, at once; if it fell silent, the carrier has waited its lease.
None of this is needed for safety, which rests on promises alone: a wrong belief costs a takeover or delays one.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from jcpeer.ft.state import CopyState
from jcpeer.ids import Epoch, NodeId
from jcpeer.net.events import Proof

RANK_DELAY_S = 0.15
"""Each who is to take over waits so long for the one before it."""
NEWS_S = 1.0
"""So long a copy that knows nothing waits for a coordinator to speak."""
KNOWN_S = 0.3
"""And so long once everybody's state is known: a coordinator among them would have spoken."""
GRANTED_S = 1.5
"""Whoever got a vote is given so long to make something of it."""
SILENCE_S = 15.0
"""Where one journal suffices, nobody else prevents two coordinators: silence must last."""

Faith = Literal["none", "alive", "doubted", "dead"]


class Belief:
    """Of one copy that does not coordinate itself."""

    def __init__(self, state: CopyState, *, now_s: float) -> None:
        self._state = state
        self._began_s = now_s
        self.coordinator: NodeId | None = None
        self.reign: Epoch | None = None
        """The highest that was heard of."""
        self.faith: Faith = "none"
        self.missed_s: float | None = None
        """Since when the coordinator has been missed."""
        self.stand_s = inf
        self._died_s = self._turn_s = inf
        self.successor: NodeId | None = None
        self.check_s = inf
        """By then the coordinator, of which somebody else thinks that it is lost, should have spoken."""

    @property
    def alive(self) -> bool:
        return self.faith == "alive"

    def know_nothing(self, *, now_s: float) -> None:
        """After a start, or a sleep: whoever coordinates will say so, or everybody is as ignorant."""
        self.faith = "none" if self.coordinator is None else "doubted"
        self._began_s = now_s
        self.stand_s = now_s + NEWS_S + self._delay_s()

    def hear(self, node: NodeId, epoch: Epoch, *, now_s: float) -> None:
        """This node coordinates, in that epoch."""
        self.coordinator = node
        self.reign = epoch
        self.successor = None
        self.check_s = inf
        if node in self._state.reach.up:
            self.faith, self.missed_s, self.stand_s = "alive", None, inf
        elif not self.alive:
            # A word of an earlier connection, on which nobody need follow it any more.
            self.doubt(now_s=now_s)

    def doubt(self, *, now_s: float) -> None:
        """It may coordinate no more: if it does, it will say so."""
        self.check_s = inf
        self.faith = "doubted"
        self.missed_s = now_s if self.missed_s is None else self.missed_s
        self.stand_s = now_s + NEWS_S + self._delay_s()

    def check(self, *, now_s: float) -> bool:
        """Somebody thinks that the coordinator is lost. Is it to be asked?"""
        if not self.alive or self.check_s < inf:
            return False
        self.check_s = now_s + NEWS_S
        return True

    def lose(self, proof: Proof, *, now_s: float) -> None:
        """The connection to it is gone."""
        if proof == "parted":
            return
        self._die(now_s=now_s)

    def pass_over(self, *, now_s: float) -> None:
        """One who may have been to take over before this copy is lost, too: there is nobody to wait for."""
        if self.faith == "dead" and self.stand_s == self._turn_s:
            self.stand_s = self._turn_s = max(now_s, min(self._turn_s, self._died_s + self._delay_s()))

    def retire(self, successor: NodeId, *, now_s: float) -> None:
        """It handed over."""
        self.successor = successor
        self._die(now_s=now_s)
        if successor == self._state.me.node:
            self.stand_s = now_s
        else:
            self.stand_s += RANK_DELAY_S

    def note_known(self, *, now_s: float) -> None:
        """Somebody's state became known; perhaps everybody's is."""
        reach = self._state.reach
        known = all(node in reach.up or reach.lost(node) for node in self._state.others)
        if known and self.faith == "none":
            self.stand_s = min(self.stand_s, now_s + KNOWN_S + self._delay_s())

    def wait(self, seconds: float, *, now_s: float) -> None:
        """Do not stand before that."""
        if not self.alive:
            self.stand_s = max(now_s + seconds, self.stand_s if self.stand_s < inf else 0.0)

    def may_stand_s(self) -> float:
        """From when on this copy may ask to coordinate; infinite while the coordinator lives."""
        state = self._state
        if not state.others:
            # Alone in its set it has nobody to wait for; beside its own lost journal it has nobody to ask.
            return -inf if state.seated and not self.alive else inf
        if state.log.latest.quorum or self.alive:
            return self.stand_s
        silent_s = [self._silent_until_s(node, self._began_s) for node in state.others]
        if (stranger := self.stranger) is not None:
            silent_s.append(self._silent_until_s(stranger, self._began_s if self.missed_s is None else self.missed_s))
        return max(self.stand_s, *silent_s)

    @property
    def stranger(self) -> NodeId | None:
        """Who coordinates, if it has no seat in the set of this copy's own journal: a side of a split that stands may
        be heard of before anything of its journal is here."""
        known = self.coordinator in (None, self._state.me.node, *self._state.others)
        return None if known else self.coordinator

    def _silent_until_s(self, node: NodeId, since_s: float) -> float:
        """`since_s`: since when it could have been heard, if it never was."""
        if node in self._state.reach.up:
            return -inf  # it is asked, and answers
        lost = self._state.reach.lost(node)
        if lost is None:
            return since_s + SILENCE_S
        return -inf if lost.proven else lost.since_s + SILENCE_S

    def _die(self, *, now_s: float) -> None:
        self.faith, self.check_s = "dead", inf
        self.missed_s = now_s if self.missed_s is None else self.missed_s
        self._died_s = now_s
        self.stand_s = self._turn_s = now_s + self._delay_s()

    def _delay_s(self) -> float:
        return RANK_DELAY_S * self._state.rank_after(self.coordinator)
