"""Whether others can connect to this node, which it cannot know by itself: it asks some of them to try.

A node behind a firewall or an address translator that lets nothing in still takes part over the connections that it
opens. But it is no place for copies, nobody dials it in vain, and who needs it has it called (`CallBack`).

- Nobody on this machine is asked: what goes through a loopback says nothing. Those on the same local network are asked
  only while nobody else is there: what keeps others out may stand between networks.
- One success proves it. Two failures in a row, of different peers where there are several, are taken to disprove it.
- It is looked at again after a while, and at once when this machine has a new address.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

from attrs import frozen

from jcpeer.ids import NodeId

SETTLE_S = 2.0
"""After the first peer came: others may be on their way, and a first minute has better things to do."""
ANSWER_S = 10.0
FAILURES = 2
AGAIN_S = 1800.0
AGAIN_UNREACHED_S = 60.0


@frozen
class PeerCame:
    """A peer on another machine is connected."""

    peer: NodeId


@frozen
class PeerWent:
    peer: NodeId


@frozen
class Answered:
    peer: NodeId
    call: int
    reached: bool


@frozen
class Moved:
    """This machine has a new address."""


@frozen
class Tick:
    """Time passed."""


Event = PeerCame | PeerWent | Answered | Moved | Tick


@frozen
class Ask:
    """Have this peer try."""

    peer: NodeId
    call: int


@frozen
class Found:
    """What came of it."""

    dialable: bool


Effect = Ask | Found


class Dialability:
    """Feed every event to `handle`, perform the effects in order, tick at least when `wake_s` says so."""

    def __init__(self, *, is_nearby: Callable[[NodeId], bool] = lambda peer: False) -> None:
        """`is_nearby`: the peer was seen on the same local network."""
        self._is_nearby = is_nearby
        self._peers: dict[NodeId, None] = {}
        """The one that was asked least lately first."""
        self._due_s = math.inf
        self._asked: Ask | None = None
        self._calls = 0
        self._failures = 0
        self._dialable = True
        self._found_nearby = False
        """What was found last was found by one on the same local network."""

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case PeerCame():
                self._peers[event.peer] = None
                if self._due_s == math.inf:
                    self._due_s = now_s + SETTLE_S
                elif self._found_nearby and self._asked is None and not self._is_nearby(event.peer):
                    self._due_s = min(self._due_s, now_s + SETTLE_S)
                return []
            case PeerWent():
                self._peers.pop(event.peer, None)
                if self._asked is not None and self._asked.peer == event.peer:
                    self._asked, self._due_s = None, now_s
                if not self._peers:
                    self._due_s = math.inf
                return []
            case Answered():
                return self._hear(event, now_s)
            case Moved():
                self._failures = 0
                if self._peers and self._asked is None:
                    self._due_s = min(self._due_s, now_s + SETTLE_S)
                return []
            case Tick():
                return self._ask(now_s) if now_s >= self._due_s else []
            case _:
                assert_never(event)

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        return self._due_s

    def _ask(self, now_s: float) -> list[Effect]:
        peer = next((each for each in self._peers if not self._is_nearby(each)), next(iter(self._peers)))
        self._peers[peer] = self._peers.pop(peer)
        self._calls += 1
        self._asked = Ask(peer, self._calls)
        self._due_s = now_s + ANSWER_S  # who does not answer by then says nothing about us: the next is asked
        return [self._asked]

    def _hear(self, event: Answered, now_s: float) -> list[Effect]:
        if self._asked != Ask(event.peer, event.call):
            return []
        self._asked = None
        self._found_nearby = self._is_nearby(event.peer)
        if event.reached:
            self._failures = 0
            self._due_s = now_s + AGAIN_S
            return self._find(True)
        self._failures += 1
        if self._failures < FAILURES:
            self._due_s = now_s
            return []
        self._due_s = now_s + AGAIN_UNREACHED_S
        return self._find(False)

    def _find(self, dialable: bool) -> list[Effect]:
        if dialable == self._dialable:
            return []
        self._dialable = dialable
        return [Found(dialable)]
