"""Who is suspected, who is given up, and how soon? Run: python -m simulations.detector --seed 7

World:       the machines of `net.detector` and `net.deaths` alone, as one node runs them that watches all the others,
             with the default settings. A heartbeat is lost with the given probability, as TCP shows it: it and all
             behind it come after a retransmission, 0.2 to 1 s later, and after twice the wait again if that is lost,
             too. Some nodes, and the one that watches, stand still for `stall s` at random intervals; each node's
             machine vanishes without a word every `vanish h` or so, and is back two minutes later. Who was cut off
             dials 0, 1, 3 and 7 s after it finds out; four round trips make a connection, and every packet of them can
             be lost.
Expectation: suspicions are many, since 5 s of standing still are more than the 3 s after which a takeover must begin,
             and cost nothing; of nodes that live at most 1 in 1,000 node-hours is given up. Who vanished is
             suspected within 4 s in 99 of 100 cases, and given up in the end.
Reading:     "false" are of nodes that were there; "vanished" those of which it was true, with the seconds from the last
             moment at which they were. Where the watcher itself stands still, its peers close their connections to
             it, which is no suspicion of its own and must not be the death of any.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial

import trio
from attrs import field, frozen

from jcpeer.config import Config
from jcpeer.ids import NodeId
from jcpeer.net.deaths import Deaths
from jcpeer.net.detector import Detector, Suspicion
from simulations.report import Findings, Table, quantile
from simulations.scenario import Options, main, numbers, option

CONFIG = Config()
TICKS_A_BEAT = 4
TICK_S = CONFIG.heartbeat_s / TICKS_A_BEAT
RETRANSMIT_S = (0.2, 1.0)
KNOCK_AGAIN_S = 1.0
"""Until TCP sends the first packet of a connection again."""
DIALS_S = (0.0, 1.0, 3.0, 7.0)
PACKETS = 8
GONE_S = 120.0
FALSE_DEATHS_MAX = 1.0
"""In 1,000 node-hours."""
SUSPECTED_S_MAX = 4.0
HOUR_S = 3600.0


@frozen
class DetectorOptions(Options):
    nodes: int = option(100, "that are watched by one", at_least=1)
    node_hours: int = option(10_000, "in all", at_least=1)
    loss: float = option(2.0, "of 100 packets")
    stalled: int = option(10, "of 100 nodes stand still now and then")
    stall_s: float = option(5.0, "for how long they stand still")
    every_s: str = option("60,600", "least and most seconds from one such stop to the next", list_of=float)
    vanish_h: float = option(10.0, "hours until a node vanishes, on average", at_least=0.1)

    def fault(self) -> str | None:
        if self.loss > 50:
            return "--loss: beyond 50 of 100 there is no connection to speak of"
        least_and_most = numbers(self.every_s, float)
        if len(least_and_most) != 2 or not self.stall_s < least_and_most[0] <= least_and_most[1]:
            return f"--every-s: {self.every_s!r} is not the least and the most, both longer than --stall-s"
        return None


@frozen
class Counted:
    """What became of one limit: how often it was wrong, and how long it took where it was right."""

    wrong: list[NodeId] = field(factory=list)
    took_s: list[float] = field(factory=list)

    def count(self, node: NodeId, vanished_s: float | None, now_s: float) -> None:
        if vanished_s is None:
            self.wrong.append(node)
        else:
            self.took_s.append(now_s - vanished_s)

    def row(self, name: str, node_hours: float) -> tuple[str, int, float, int, float, float]:
        took_s = self.took_s
        wrong = len(self.wrong)
        return name, wrong, wrong / node_hours * 1000, len(took_s), quantile(took_s, 0.5), quantile(took_s, 0.99)


class Watch:
    """One node that watches the others, beat by beat. Those of which nothing is to be told beat in step with the clock;
    whoever is held up leaves their ranks until it is heard again."""

    def __init__(self, options: DetectorOptions) -> None:
        self.suspected = Counted()
        self.given_up = Counted()
        self.vanished = 0
        self.told = hashlib.sha256()
        self.lines = 0
        self._options = options
        self._draw = random.Random(options.seed)
        self._detector = Detector(silence_s=CONFIG.silence_s, tick_s=TICK_S)
        self._deaths = Deaths(silence_s=CONFIG.silence_s, tick_s=CONFIG.heartbeat_s)
        self._now_s = 0.0
        self._asleep_until_s = 0.0
        self._nodes = [NodeId(f"node{number}") for number in range(options.nodes)]
        self._phase = {node: number % TICKS_A_BEAT for number, node in enumerate(self._nodes)}
        self._in_step: list[dict[NodeId, None]] = [{} for _ in range(TICKS_A_BEAT)]
        self._up: dict[NodeId, int] = {}  # connection by its number
        self._vanished_s: dict[NodeId, float] = {}
        self._still_until_s: dict[NodeId, float] = {}
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._beats_to_loss = self._draw_beats_to_loss()
        for node in self._nodes:
            self._connect(node)
            self._plan_vanishing(node)
        for node in self._draw.sample(self._nodes, options.nodes * options.stalled // 100):
            self._plan_stall(partial(self._stand_still, node))
        if options.stalled:
            self._plan_stall(self._fall_asleep)

    def run(self, for_s: float) -> None:
        start_s = self._now_s
        for step in range(int(for_s / TICK_S)):
            self._now_s = now_s = start_s + step * TICK_S
            while self._agenda and self._agenda[0][0] <= now_s:
                heapq.heappop(self._agenda)[2]()
            in_step = self._in_step[step % TICKS_A_BEAT]
            self._beats_to_loss -= len(in_step)
            if self._beats_to_loss < 0:
                self._lose_some(in_step)
            if now_s < self._asleep_until_s:
                continue
            for node in in_step:
                self._detector.heard(node, now_s)
            self._look()

    def check(self) -> None:
        self._detector.check()
        self._deaths.check()

    # --- what the machines say

    def _look(self) -> None:
        for each in self._detector.tick(self._now_s):
            if isinstance(each, Suspicion):
                self._tell("suspects", each.peer)
                self.suspected.count(each.peer, self._vanished_s.get(each.peer), self._now_s)
                self._close(each.peer)
                self._deaths.down(each.peer, self._now_s, silent_s=each.silent_s)
                self._come_back(each.peer)
        if self._now_s >= self._deaths.wake_s():
            for node in self._deaths.tick(self._now_s):
                self._tell("gives up", node)
                self.given_up.count(node, self._vanished_s.get(node), self._now_s)

    def _tell(self, what: str, node: NodeId) -> None:
        self.told.update(f"{self._now_s} {what} {node}\n".encode())
        self.lines += 1

    # --- what happens to nodes

    def _stand_still(self, node: NodeId) -> None:
        self._still_until_s[node] = until_s = self._now_s + self._options.stall_s
        if node in self._up:
            self._hold_up(node, until_s)

    def _vanish(self, node: NodeId) -> None:
        self.vanished += 1
        self._vanished_s[node] = self._now_s
        self._in_step[self._phase[node]].pop(node, None)
        if node in self._up:
            self._up[node] = next(self._numbers)  # whatever was on its way does not come
        self._at(self._now_s + GONE_S, lambda: self._return(node))

    def _return(self, node: NodeId) -> None:
        del self._vanished_s[node]
        self._plan_vanishing(node)
        self._come_back(node)

    def _fall_asleep(self) -> None:
        """The one that watches stands still itself. Its peers give up their connections to it, as far as they hear of
        it in time: it finds them closed, and is told that they are down where its redial does not succeed at once."""
        self._asleep_until_s = self._now_s + self._options.stall_s
        if self._options.stall_s > CONFIG.silence_s:
            self._at(self._asleep_until_s, self._wake)

    def _wake(self) -> None:
        for node in [*self._up]:
            self._close(node)
            self._at(self._now_s + CONFIG.redial_s, partial(self._miss, node))
            self._come_back(node)

    def _miss(self, node: NodeId) -> None:
        if node not in self._up:
            self._deaths.down(node, self._now_s)

    # --- connections

    def _connect(self, node: NodeId) -> None:
        self._up[node] = next(self._numbers)
        self._in_step[self._phase[node]][node] = None
        self._detector.heard(node, self._now_s)
        self._deaths.up(node, self._now_s)

    def _close(self, node: NodeId) -> None:
        self._in_step[self._phase[node]].pop(node, None)
        self._up.pop(node, None)
        self._detector.forget(node)

    def _come_back(self, node: NodeId) -> None:
        """It dials us as soon as it finds out, if it is there."""
        begins_s = max(self._now_s, self._still_until_s.get(node, 0.0))
        took_s = min(dial_s + self._handshake_s() for dial_s in DIALS_S)

        def dial() -> None:
            if node not in self._up and node not in self._vanished_s:
                if self._now_s < self._asleep_until_s:
                    self._at(self._asleep_until_s, dial)
                else:
                    self._connect(node)

        self._at(begins_s + took_s, dial)

    def _hold_up(self, node: NodeId, until_s: float) -> None:
        """Nothing is heard of it until then."""
        self._in_step[self._phase[node]].pop(node, None)
        connection = self._up[node]

        def go_on() -> None:
            if self._up.get(node) != connection:
                return
            free_s = max(self._still_until_s.get(node, 0.0), self._asleep_until_s)
            if self._now_s < free_s:
                self._at(free_s, go_on)
            else:
                self._detector.heard(node, self._now_s)
                self._in_step[self._phase[node]][node] = None

        self._at(until_s, go_on)

    # --- chance

    def _lose_some(self, in_step: dict[NodeId, None]) -> None:
        beating = [*in_step]
        while self._beats_to_loss < 0:
            self._hold_up(beating[self._beats_to_loss], self._now_s + self._retransmission_s())
            self._beats_to_loss += self._draw_beats_to_loss()

    def _draw_beats_to_loss(self) -> int:
        """How many arrive until one does not, that one included."""
        if not self._options.loss:
            return 1 << 62
        beats = 1
        while not self._lost():
            beats += 1
        return beats

    def _lost(self) -> bool:
        return self._draw.random() * 100 < self._options.loss

    def _retransmission_s(self, first_s: float | None = None) -> float:
        """From a packet that was lost to the one in its place that is not."""
        wait_s = self._draw.uniform(*RETRANSMIT_S) if first_s is None else first_s
        took_s = wait_s
        while self._lost():
            wait_s *= 2
            took_s += wait_s
        return took_s

    def _handshake_s(self) -> float:
        lost = [number for number in range(PACKETS) if self._lost()]
        return sum(self._retransmission_s(KNOCK_AGAIN_S if number < 2 else None) for number in lost)

    def _plan_stall(self, stall: Callable[[], None]) -> None:
        least_s, most_s = numbers(self._options.every_s, float)

        def come() -> None:
            stall()
            self._at(self._now_s + self._draw.uniform(least_s, most_s), come)

        self._at(self._now_s + self._draw.uniform(0, most_s), come)

    def _plan_vanishing(self, node: NodeId) -> None:
        in_s = self._draw.expovariate(1 / (self._options.vanish_h * HOUR_S))
        self._at(self._now_s + GONE_S + in_s, lambda: self._vanish(node))

    def _at(self, when_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when_s, next(self._numbers), do))


async def simulate(options: DetectorOptions) -> Findings:
    """The whole scenario."""
    watch = Watch(options)
    for_s = options.node_hours / options.nodes * HOUR_S
    watch.run(for_s)
    watch.check()
    await trio.lowlevel.checkpoint()
    rows = (
        watch.suspected.row("suspected", options.node_hours),
        watch.given_up.row("given up", options.node_hours),
    )
    columns = ("limit", "false", "in 1,000 node-hours", "vanished", "p50 s", "p99 s")
    problems = []
    if rows[1][2] > FALSE_DEATHS_MAX:
        problems.append(f"{rows[1][1]} nodes were given up that lived")
    if rows[0][5] > SUSPECTED_S_MAX:
        problems.append(f"it took up to {rows[0][5]:.1f} s to suspect who had vanished")
    unnoticed = watch.vanished - len(watch.given_up.took_s)
    if unnoticed > 0:
        problems.append(f"{unnoticed} nodes that had vanished were not given up")
    table = Table("limits", columns, rows)
    return Findings(watch.told.hexdigest(), watch.lines, (table,), problems=problems)


if __name__ == "__main__":
    main(__doc__, DetectorOptions, simulate)
