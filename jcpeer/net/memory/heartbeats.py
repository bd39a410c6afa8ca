"""Who can no longer be heard: by heartbeats that are sent, or by a model of them that costs nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, assert_never

from jcpeer.net.detector import DOUBT, Detector, Doubt, Suspicion
from jcpeer.net.memory.schedule import ABOUT_PER_S
from jcpeer.wire.messages import Heartbeat

if TYPE_CHECKING:
    from jcpeer.net.memory.link import End
    from jcpeer.net.memory.node import MemoryNetwork
    from jcpeer.net.memory.world import MemoryWorld

HEARTBEAT = Heartbeat()
HEARTBEAT_BYTES = 256


class Heartbeats(Protocol):
    """What the world does about silence. A node is told whom it should doubt or suspect by `doubt` and `silent`."""

    def opened(self, node: MemoryNetwork) -> None:
        """From now on it has peers."""

    def ended(self, node: MemoryNetwork) -> None:
        """Its process is gone."""

    def heard(self, end: End) -> None:
        """A sign of life arrived at an end that is up."""

    def dropped(self, end: End) -> None:
        """This end no longer stands."""

    def look(self, end: End) -> None:
        """Whether the peer can be heard may have changed."""


class ModelledHeartbeats:
    """None is sent; a peer that cannot be heard is doubted and suspected after the times that the detector would
    take."""

    def __init__(self, world: MemoryWorld) -> None:
        self._schedule = world.schedule
        self._silence_s = world.config.silence_s

    def opened(self, node: MemoryNetwork) -> None: ...

    def ended(self, node: MemoryNetwork) -> None: ...

    def heard(self, end: End) -> None: ...

    def dropped(self, end: End) -> None: ...

    def look(self, end: End) -> None:
        if end.state != "up" or end.node.stopped or not end.deaf:
            end.suspicion = None
        elif end.suspicion is None:
            suspicion = end.suspicion = object()

            def doubt() -> None:
                if end.suspicion is suspicion:
                    end.node.doubt(end)

            def suspect() -> None:
                if end.suspicion is suspicion:
                    end.node.silent(end, self._silence_s)

            self._schedule.at(self._schedule.now_s + DOUBT * self._silence_s, doubt)
            self._schedule.at(self._schedule.now_s + self._silence_s, suspect)


class SentHeartbeats:
    """Each is a message. All nodes beat together, with one entry in the schedule, and each asks its own detector.

    Heartbeats leave where nothing else did for as long, and pass by the queues of messages: they may overtake and be
    overtaken, which nobody can notice. Only where nothing gets through they queue as all else does.
    """

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self._tick_s = world.config.heartbeat_s / 2
        self._idle_s = world.config.heartbeat_s - self._tick_s / 2
        self._detectors: dict[MemoryNetwork, Detector] = {}
        self._bursts: dict[float, list[End]] = {}
        self._beating = False

    def opened(self, node: MemoryNetwork) -> None:
        self._detectors[node] = Detector(silence_s=self._world.config.silence_s, tick_s=self._tick_s)
        if not self._beating:
            self._beat()

    def ended(self, node: MemoryNetwork) -> None:
        self._detectors.pop(node, None)

    def heard(self, end: End) -> None:
        self._detectors[end.node].heard(end.peer, self._world.schedule.now_s)

    def dropped(self, end: End) -> None:
        if (detector := self._detectors.get(end.node)) is not None:
            detector.forget(end.peer)

    def look(self, end: End) -> None: ...

    def _beat(self) -> None:
        now_s = self._world.schedule.now_s
        self._beating = bool(self._detectors)
        if self._beating:
            self._world.schedule.at(now_s + self._tick_s, self._beat)
        idle_since_s = now_s - self._idle_s
        for node, detector in self._detectors.items():
            if node.stopped:
                continue
            for end in node.ends.values():
                if end.sent_s < idle_since_s:
                    end.sent_s = now_s
                    self._send(end)
            for each in detector.tick(now_s):
                if (quiet := node.ends.get(each.peer)) is None:
                    continue
                match each:
                    case Doubt():
                        node.doubt(quiet)
                    case Suspicion(silent_s=silent_s):
                        node.silent(quiet, silent_s)
                    case _:
                        assert_never(each)

    def _send(self, end: End) -> None:
        # In bursts of the whole world: they are many, and nothing depends on the instant of one.
        arrives_s = math.ceil(end.way.path.arrival_s(HEARTBEAT_BYTES) * ABOUT_PER_S) / ABOUT_PER_S
        burst = self._bursts.get(arrives_s)
        if burst is None:
            burst = self._bursts[arrives_s] = []
            self._world.schedule.at(arrives_s, lambda: self._arrive(arrives_s))
        burst.append(end)

    def _arrive(self, at_s: float) -> None:
        burst = self._bursts.pop(at_s)
        self._world.traffic.count(HEARTBEAT, times=len(burst))
        for end in burst:
            if end.state == "closed" or (there := end.other).state != "up":
                continue
            if end.way.path.blocked:
                end.way.put(HEARTBEAT, size=HEARTBEAT_BYTES)
                continue
            self._detectors[there.node].heard(there.peer, at_s)
            there.node.pulse(there)
