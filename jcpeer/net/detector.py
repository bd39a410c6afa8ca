"""The failure detector: from silence to suspicion, peer by peer.

It decides for how long each peer may be silent, and which ones were silent for longer. Invariants: see `check`. What
follows from a suspicion (closing the connection, a redial, telling those above) is left to the carrier.

The limit is that of an accrual detector. With silences taken as normally distributed, phi(t) = -log10 P(silence > t)
reaches 8 at mean + 5.6 standard deviations, so

    limit = mean + 5.6 deviation, but no less than silence_s and no more than 3 silence_s

and a peer that often falls silent for a while is given more time, within bounds. Mean and variance are exponential
averages of the silences worth the name; the short gaps of a busy connection say nothing about a quiet one.

A detector that was itself held up must not take its own pause for the silence of others. So it lives by a clock of its
own, which stands still from the moment when its next tick was due until it is called again: a late tick, a stalled
process or a stopped one costs no peer anything.

Source: Hayashibara et al., The phi accrual failure detector (2004); the awareness of one's own slowness follows the
idea of Dadgar, Phillips and Currey, Lifeguard (2018).
"""

from __future__ import annotations

import math

from jcpeer.ids import NodeId

DEVIATIONS = 5.6
"""Standard deviations at which phi reaches 8: one wrong suspicion in 10^8 silences, were they normal."""
CEILING = 3.0
"""The most that a restless peer is given, in units of silence_s."""
NOTABLE = 0.1
"""A gap below this part of silence_s is no silence."""
WEIGHT = 1 / 16
"""Of the newest silence in the averages."""


class _Pulse:
    """What is known of one peer's rhythm, on the detector's own clock."""

    __slots__ = ("heard_s", "mean_s", "variance")

    def __init__(self, heard_s: float) -> None:
        self.heard_s = heard_s
        self.mean_s = 0.0
        self.variance = 0.0


class Detector:
    """Who has been silent for too long.

    Call `heard` whenever a peer gave a sign of life (the first call makes it known), `tick` every `tick_s`, and
    `forget` when its connection is gone. A suspect is forgotten and named once. The cost of `heard` is constant, that
    of `tick` grows with the peers that have been silent for silence_s.
    """

    def __init__(self, *, silence_s: float, tick_s: float) -> None:
        self._silence_s = silence_s
        self._tick_s = tick_s
        self._pulses: dict[NodeId, _Pulse] = {}  # longest silent first
        self._called_s: float | None = None
        self._excused_s = 0.0

    def heard(self, peer: NodeId, now_s: float) -> None:
        """A sign of life arrived now."""
        awake_s = self._awake(now_s)
        pulse = self._pulses.pop(peer, None)
        if pulse is None:
            pulse = _Pulse(awake_s)
        gap_s = awake_s - pulse.heard_s
        if gap_s > NOTABLE * self._silence_s:
            surprise_s = gap_s - pulse.mean_s
            pulse.mean_s += WEIGHT * surprise_s
            pulse.variance += WEIGHT * (surprise_s * surprise_s * (1 - WEIGHT) - pulse.variance)
        pulse.heard_s = awake_s
        self._pulses[peer] = pulse  # behind all others

    def forget(self, peer: NodeId) -> None:
        """No longer watch a peer; unknown ones are fine."""
        self._pulses.pop(peer, None)

    def tick(self, now_s: float) -> tuple[NodeId, ...]:
        """The peers that now have been silent for longer than their limit, longest silent first."""
        awake_s = self._awake(now_s)
        suspects = []
        for peer, pulse in self._pulses.items():
            silent_s = awake_s - pulse.heard_s
            if silent_s <= self._silence_s:
                break  # and so are all that follow
            if silent_s > self._limit_s(pulse):
                suspects.append(peer)
        for peer in suspects:
            del self._pulses[peer]
        return tuple(suspects)

    def limit_s(self, peer: NodeId) -> float:
        """For how long this peer may be silent; an unknown one as long as any newcomer."""
        pulse = self._pulses.get(peer)
        return self._silence_s if pulse is None else self._limit_s(pulse)

    def check(self) -> None:
        """Assert the invariants."""
        heard = [pulse.heard_s for pulse in self._pulses.values()]
        assert heard == sorted(heard), "peers stand in the order in which they were last heard"
        assert self._excused_s >= 0, "no pause gives time back"
        assert all(self._silence_s <= self.limit_s(peer) <= CEILING * self._silence_s for peer in self._pulses)

    def _limit_s(self, pulse: _Pulse) -> float:
        wanted_s = pulse.mean_s + DEVIATIONS * math.sqrt(pulse.variance)
        return min(max(wanted_s, self._silence_s), CEILING * self._silence_s)

    def _awake(self, now_s: float) -> float:
        """The time on the detector's own clock, which leaves out whatever came late.

        Every call counts as a sign that we are awake, so after a pause the first of them, be it a peer's word or a
        tick, sets the clock right before any silence is measured.
        """
        if self._called_s is not None:
            self._excused_s += max(0.0, now_s - self._called_s - self._tick_s)
        self._called_s = now_s
        return now_s - self._excused_s
