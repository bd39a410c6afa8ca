"""The failure detector: from silence to doubt to suspicion, peer by peer.

It decides for how long each peer may be silent, and which ones were silent for longer. Invariants: see `check`. What
follows is left to the carrier: it looks for a peer that is in doubt while the connection stands, and closes the
connection of a suspect. So a redial adds nothing to the time after which silence is told. That a suspect is dead is for
others to decide, later: see `net.deaths`.

The limit is that of an accrual detector. With silences taken as normally distributed, phi(t) = -log10 P(silence > t)
reaches 8 at mean + 5.6 standard deviations, so

    limit = mean + 5.6 deviations, but no less than silence_s and no more than 2 silence_s

and a peer that often falls silent for a while is given more time, within bounds. In doubt it is from half its limit.
Mean and variance are exponential averages of the silences worth the name; the short gaps of a busy connection say
nothing about a quiet one. All is measured on a clock that stands still while this node is held up (`net.awake`).

Source: Hayashibara et al., The phi accrual failure detector (2004).
"""

from __future__ import annotations

import math

from attrs import frozen

from jcpeer.ids import NodeId
from jcpeer.net.awake import AwakeClock

DEVIATIONS = 5.6
"""Standard deviations at which phi reaches 8: one wrong suspicion in 10^8 silences, were they normal."""
CEILING = 2.0
"""The most that a restless peer is given, in units of silence_s: a takeover waits for it."""
DOUBT = 0.5
"""The part of its limit after which a peer is in doubt."""
NOTABLE = 0.1
"""A gap below this part of silence_s is no silence."""
WEIGHT = 1 / 16
"""Of the newest silence in the averages."""


@frozen
class Doubt:
    """It may be gone, or its connection: look for it."""

    peer: NodeId


@frozen
class Suspicion:
    """It was silent for longer than its limit."""

    peer: NodeId
    silent_s: float


class _Pulse:
    """What is known of one peer's rhythm, on the clock of one who is awake."""

    __slots__ = ("doubted", "heard_s", "mean_s", "variance")

    def __init__(self, heard_s: float) -> None:
        self.heard_s = heard_s
        self.mean_s = 0.0
        self.variance = 0.0
        self.doubted = False


class Detector:
    """Who has been silent for too long.

    Call `heard` whenever a peer gave a sign of life (the first call makes it known), `tick` every `tick_s`, and
    `forget` when its connection is gone. A doubt is told once a silence; a suspect is named once, and forgotten. The
    cost of `heard` is constant, that of `tick` grows with the peers that have been silent for half of silence_s.
    """

    def __init__(self, *, silence_s: float, tick_s: float) -> None:
        self._silence_s = silence_s
        self._clock = AwakeClock(tick_s=tick_s)
        self._pulses: dict[NodeId, _Pulse] = {}  # longest silent first

    def heard(self, peer: NodeId, now_s: float) -> None:
        """A sign of life arrived now."""
        awake_s = self._clock.read(now_s)
        pulse = self._pulses.pop(peer, None)
        if pulse is None:
            pulse = _Pulse(awake_s)
        gap_s = awake_s - pulse.heard_s
        if gap_s > NOTABLE * self._silence_s:
            surprise_s = gap_s - pulse.mean_s
            pulse.mean_s += WEIGHT * surprise_s
            pulse.variance += WEIGHT * (surprise_s * surprise_s * (1 - WEIGHT) - pulse.variance)
        pulse.heard_s = awake_s
        pulse.doubted = False
        self._pulses[peer] = pulse  # behind all others

    def forget(self, peer: NodeId) -> None:
        """No longer watch a peer; unknown ones are fine."""
        self._pulses.pop(peer, None)

    def tick(self, now_s: float) -> list[Doubt | Suspicion]:
        """Who has now been silent for longer than this is given, longest silent first."""
        awake_s = self._clock.read(now_s)
        found: list[Doubt | Suspicion] = []
        for peer, pulse in self._pulses.items():
            silent_s = awake_s - pulse.heard_s
            if silent_s <= DOUBT * self._silence_s:
                break  # and so are all that follow
            limit_s = self._limit_s(pulse)
            if silent_s > limit_s:
                found.append(Suspicion(peer, silent_s))
            elif silent_s > DOUBT * limit_s and not pulse.doubted:
                pulse.doubted = True
                found.append(Doubt(peer))
        for each in found:
            if isinstance(each, Suspicion):
                del self._pulses[each.peer]
        return found

    def limit_s(self, peer: NodeId) -> float:
        """For how long this peer may be silent; an unknown one as long as any newcomer."""
        pulse = self._pulses.get(peer)
        return self._silence_s if pulse is None else self._limit_s(pulse)

    def check(self) -> None:
        """Assert the invariants."""
        heard = [pulse.heard_s for pulse in self._pulses.values()]
        assert heard == sorted(heard), "peers stand in the order in which they were last heard"
        self._clock.check()
        assert all(self._silence_s <= self.limit_s(peer) <= CEILING * self._silence_s for peer in self._pulses)

    def _limit_s(self, pulse: _Pulse) -> float:
        wanted_s = pulse.mean_s + DEVIATIONS * math.sqrt(pulse.variance)
        return min(max(wanted_s, self._silence_s), CEILING * self._silence_s)
