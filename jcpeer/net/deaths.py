"""From suspicion to death: who of those that fell silent is given up.

Suspicion (`net.detector`) costs little: votes are asked for, a connection is made anew. Death costs work, for all that
ran on a dead node runs again. So it comes later, by a limit of its own:

    limit = 1.5 times the longest remembered pause, but no less than 2.7 and no more than 8 silence_s

A pause is a silence that a node came back from. Those of the last hour are remembered, up to eight a node, whether the
node was given up meanwhile or not; not those beyond the ceiling, since a cut of a minute or a closed lid is no habit
that waiting would cover. Suspicion comes within 2 silence_s, thus always before death.

It decides who is given up for silence alone. A proof of death (a refused redial) or a goodbye needs no limit: `forget`
the node. What being given up means is left to whoever asks. Time is that of a clock which stands still while this node
is held up (`net.awake`). Invariants: see `check`.
"""

from __future__ import annotations

import math

from attrs import define

from jcpeer.ids import NodeId
from jcpeer.net.awake import AwakeClock

FLOOR = 2.7
CEILING = 8.0
"""The least and the most that a node is given, in units of silence_s: by default 8.1 s and 24 s."""
MARGIN = 1.5
"""What a node is given, in units of its longest pause."""
PAUSES_MAX = 8
REMEMBERED_S = 3600.0


@define
class _Silence:
    since_s: float
    given_up: bool = False


class Deaths:
    """Who has been out of reach for so long that it is given up.

    Call `down` when a node is lost to silence, `up` when it is back, `forget` when its end is known otherwise, and
    `tick` at `wake_s`, which is every `tick_s` while somebody is missed and never while nobody is. Each silence is
    named once at most.
    """

    def __init__(self, *, silence_s: float, tick_s: float) -> None:
        self._silence_s = silence_s
        self._clock = AwakeClock(tick_s=tick_s)
        self._silences: dict[NodeId, _Silence] = {}
        self._pauses: dict[NodeId, list[tuple[float, float]]] = {}  # (until, how long), oldest first

    def down(self, node: NodeId, now_s: float, *, silent_s: float = 0.0) -> None:
        """It is out of reach, after it had already been silent for so long: see `PeerDown`."""
        self._silences.setdefault(node, _Silence(self._clock.read(now_s) - silent_s))

    def up(self, node: NodeId, now_s: float) -> None:
        """It is in reach again, or was never missed."""
        silence = self._silences.pop(node, None)
        if silence is None:
            return
        pause_s = self._clock.read(now_s) - silence.since_s
        if pause_s <= CEILING * self._silence_s:
            self._pauses[node] = [*self._pauses.get(node, ()), (now_s, pause_s)][-PAUSES_MAX:]

    def forget(self, node: NodeId) -> None:
        """It is known to be gone, or is nobody's concern any more; unknown ones are fine."""
        self._silences.pop(node, None)
        self._pauses.pop(node, None)

    def tick(self, now_s: float) -> tuple[NodeId, ...]:
        """Whom to give up now, in the order in which they were missed."""
        awake_s = self._clock.read(now_s)
        given_up = []
        for node, silence in [*self._silences.items()]:
            silent_s = awake_s - silence.since_s
            if not silence.given_up and silent_s > self.limit_s(node, now_s):
                silence.given_up = True
                given_up.append(node)
            if silent_s > CEILING * self._silence_s:
                del self._silences[node]  # whatever pause it may come back from, it teaches nothing
        return tuple(given_up)

    def limit_s(self, node: NodeId, now_s: float) -> float:
        """For how long this node may be silent before it is given up."""
        remembered = [pause_s for until_s, pause_s in self._pauses.get(node, ()) if until_s > now_s - REMEMBERED_S]
        wanted_s = MARGIN * max(remembered, default=0.0)
        return min(max(wanted_s, FLOOR * self._silence_s), CEILING * self._silence_s)

    def wake_s(self) -> float:
        """When `tick` is due next."""
        due_s = self._clock.due_s
        return due_s if self._silences and due_s is not None else math.inf

    def check(self) -> None:
        """Assert the invariants."""
        self._clock.check()
        for pauses in self._pauses.values():
            assert 0 < len(pauses) <= PAUSES_MAX
            assert all(pause_s <= CEILING * self._silence_s for _, pause_s in pauses)
