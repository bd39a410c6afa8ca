"""Which connections a node has, which it wants, and what waits to be said over one that is not there yet.

In a small grid everybody is connected to everybody. In a large one a node keeps its neighbours
(`discovery.neighbours`), whom it works with, and whomever it has just asked something:

- A connection is *held* for as long as somebody here needs it; the other end is told so (`Need`). One that neither
  end needs, and over which nothing was said for `IDLE_S`, is closed.
- What is sent to a node without a connection waits for one, for `WAITING_S` at most; then it is `Undelivered`. Nothing
  that was sent over a connection is sent again.
- Who cannot be dialled is asked to dial us (`CallFor`), by way of those who are connected to it.
- A held connection that is lost is dialled again, until nobody holds it or the directory gives the node up.

Whom to dial, at which address and when, is `discovery.dialling`'s to decide; who is alive, the directory's.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from typing import assert_never

from attrs import define, field, frozen

from jcpeer.discovery.dialling import Dial, Dialling
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.net.events import DialFailed, PeerDown, PeerUp
from jcpeer.wire.messages import Need, PeerMessage

IDLE_S = 15.0
"""A lookup asks the same nodes several times within seconds, and a new connection costs a tenth of a second of CPU."""
WAITING_S = 6.0
"""Longer than a dial of two addresses takes, shorter than anybody waits for an answer."""
WAITING_MAX = 1000
"""Messages that wait for one node; those that come on top are undelivered."""


@frozen
class Tick:
    """Time passed."""


Event = PeerUp | PeerDown | DialFailed | Sighting | Farewell | Tick

# --- effects, beside `Dial`


@frozen
class Transmit:
    """Give this to the carrier: the connection stands."""

    peer: NodeId
    message: PeerMessage


@frozen
class Part:
    """Close a connection that nobody needs."""

    peer: NodeId


@frozen
class Undelivered:
    """This was never sent: the node cannot be reached."""

    node: NodeId
    message: PeerMessage


@frozen
class CallFor:
    """Have this node, which cannot be dialled, dial us."""

    node: NodeId


@frozen
class Unreached:
    """Somebody here needs a connection to this node, and just now it was found at none of its addresses."""

    node: NodeId


@frozen
class TurnedAway:
    """This node is no member any more, or does not take us for one."""

    node: NodeId


@frozen
class Notice:
    """One line for a person."""

    text: str


Effect = Dial | Transmit | Part | Undelivered | Unreached | CallFor | TurnedAway | Notice


@define(eq=False)
class _Connection:
    """One that stands. `needed_there` is what the peer said, `said` what we told it of our need."""

    used_s: float
    incarnation: int
    needed_there: bool = False
    said: bool = False
    watched: bool = False
    """Has a place in the heap of those that may be idle."""


@frozen
class _Met:
    """What the directory says of a node."""

    addresses: tuple[str, ...] = ()
    incarnation: int = 0
    dialable: bool = True


@define(eq=False)
class _Waiting:
    since_s: float
    messages: list[PeerMessage] = field(factory=list)


class Connections:
    """Feed every event to `handle`, in order; perform the effects in order; tick at least when `wake_s` says so.
    Invariants: see `check`."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._dialling = Dialling(me)
        self._up: dict[NodeId, _Connection] = {}
        self._held: dict[str, frozenset[NodeId]] = {}
        self._holders: dict[NodeId, int] = {}
        self._met: dict[NodeId, _Met] = {}
        self.dialable = True
        """Whether others can connect to this node."""
        self._waiting: dict[NodeId, _Waiting] = {}
        self._idle: list[tuple[float, int, NodeId, _Connection]] = []
        self._watched = 0

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case PeerUp():
                return self._peer_up(event, now_s)
            case PeerDown():
                return self._peer_down(event, now_s)
            case DialFailed():
                return self._dial_failed(event, now_s)
            case Sighting():
                return [*self._dialling.sighted(event, now_s)]
            case Farewell():
                self._dialling.said_farewell(event.node, event.incarnation)
                return []
            case Tick():
                return [*self._dialling.due(now_s), *self._give_up(now_s), *self._part_with_idle(now_s)]
            case _:
                assert_never(event)

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        waiting_s = next(iter(self._waiting.values())).since_s + WAITING_S if self._waiting else math.inf
        idle_s = self._idle[0][0] if self._idle else math.inf
        return min(self._dialling.wake_s(), waiting_s, idle_s)

    @property
    def up(self) -> Collection[NodeId]:
        """The peers to whom a connection stands."""
        return self._up.keys()

    # --- what the node wants

    def send(
        self, node: NodeId, message: PeerMessage, *, addresses: tuple[str, ...] = (), now_s: float
    ) -> list[Effect]:
        """Say this to a node, connected or not; `addresses` where it may be, if the directory does not know it."""
        if (connection := self._up.get(node)) is not None:
            connection.used_s = now_s
            return [Transmit(node, message)]
        begun = self._seek(node, now_s, addresses=addresses) if node not in self._waiting else []
        waiting = self._waiting.get(node)
        if waiting is None:
            if not begun and not self._dialling.seeks(node):
                return [Undelivered(node, message)]
            waiting = self._waiting[node] = _Waiting(now_s)
        if len(waiting.messages) >= WAITING_MAX:
            return [*begun, Undelivered(node, message)]
        waiting.messages.append(message)
        return begun

    def reach(self, node: NodeId, *, now_s: float) -> list[Effect]:
        """Have a connection to a node soon, if it can be had."""
        return [] if node in self._up else self._seek(node, now_s)

    def hold(self, holder: str, nodes: frozenset[NodeId], *, now_s: float) -> list[Effect]:
        """From now on this holder needs connections to these nodes, and to none that it needed before."""
        before = self._held.get(holder, frozenset())
        if nodes == before:
            return []
        if nodes:
            self._held[holder] = nodes
        else:
            self._held.pop(holder, None)
        effects: list[Effect] = []
        for node in sorted(nodes - before):
            self._holders[node] = self._holders.get(node, 0) + 1
            if self._holders[node] == 1:
                effects += self._begin_to_need(node, now_s)
        for node in sorted(before - nodes):
            self._holders[node] -= 1
            if not self._holders[node]:
                del self._holders[node]
                effects += self._no_longer_need(node, now_s)
        return effects

    def used(self, peer: NodeId, *, now_s: float) -> bool:
        """Something is said over the connection to this peer; False where there is none."""
        connection = self._up.get(peer)
        if connection is None:
            return False
        connection.used_s = now_s
        return True

    def needed(self, peer: NodeId, needed: bool, *, now_s: float) -> None:
        """The peer said whether it needs the connection."""
        if (connection := self._up.get(peer)) is not None:
            connection.needed_there = needed
            connection.used_s = now_s
            self._watch(peer, connection)

    # --- what the directory knows

    def met(
        self, node: NodeId, addresses: tuple[str, ...], incarnation: int, *, dialable: bool = True, now_s: float
    ) -> list[Effect]:
        """The directory has this node, at these addresses."""
        met = _Met(addresses, incarnation, dialable)
        if self._met.get(node) == met:
            return []
        self._met[node] = met
        self._dialling.meet(node, incarnation)
        if node in self._up:
            self._dialling.reachable_at(node, addresses, incarnation)
        elif node in self._holders or node in self._waiting:
            return self._seek(node, now_s)
        return []

    def lost_sight(self, node: NodeId) -> None:
        """The directory no longer has this node."""
        self._met.pop(node, None)
        self._dialling.lose_sight(node)

    def moved(self, *, now_s: float) -> list[Effect]:
        """This machine has a new address."""
        return [*self._dialling.hurry(now_s)]

    def check(self) -> None:
        """Asserts the invariants."""
        counted: dict[NodeId, int] = {}
        for nodes in self._held.values():
            for node in nodes:
                counted[node] = counted.get(node, 0) + 1
        assert counted == self._holders, "each holder counts once"
        assert not self._waiting.keys() & self._up.keys(), "nothing waits for a connection that stands"
        assert self._me not in self._up, "connected to itself"
        for node, connection in self._up.items():
            assert connection.watched or self._is_needed(node, connection), "an idle connection is forgotten"
        self._dialling.check()

    # --- connections that come and go

    def _peer_up(self, event: PeerUp, now_s: float) -> list[Effect]:
        node = event.peer
        addresses = tuple(dict.fromkeys(each for each in (event.address, *event.hello.addresses) if each))
        self._dialling.connected(node, addresses, event.hello.incarnation)
        connection = self._up[node] = _Connection(now_s, event.hello.incarnation)
        effects: list[Effect] = []
        if node in self._holders:
            connection.said = True
            effects.append(Transmit(node, Need(True)))
        waiting = self._waiting.pop(node, None)
        effects += [Transmit(node, message) for message in waiting.messages] if waiting else []
        self._watch(node, connection)
        return effects

    def _peer_down(self, event: PeerDown, now_s: float) -> list[Effect]:
        connection = self._up.pop(event.peer, None)
        if connection is None:
            return []
        if event.proof == "parted":
            self._dialling.parted(event.peer, now_s)
            if event.peer not in self._holders:
                return []
            return self._seek(event.peer, now_s)
        left = event.proof == "left"
        return [*self._dialling.lost(event.peer, now_s, incarnation=connection.incarnation, left=left)]

    def _dial_failed(self, event: DialFailed, now_s: float) -> list[Effect]:
        dials, news = self._dialling.failed(event.address, event.expected, now_s, turned=event.turned)
        effects: list[Effect] = [*dials, *self._give_up(now_s)]
        if event.turned and event.expected is not None:
            effects.append(TurnedAway(event.expected))
        if news and not event.turned:  # of that the carrier has told
            effects.append(Notice(f"no node of this grid at {event.address} yet, trying again: {event.why}"))
        return effects

    def _seek(self, node: NodeId, now_s: float, *, addresses: tuple[str, ...] = ()) -> list[Effect]:
        met = self._met.get(node, _Met())
        if not met.dialable:
            return [CallFor(node)] if self.dialable else []
        return [*self._dialling.want(node, met.addresses or addresses, met.incarnation, now_s)]

    def _give_up(self, now_s: float) -> list[Effect]:
        """On what waits for those who could not be reached."""
        gone = self._dialling.take_vain()
        effects: list[Effect] = [Unreached(node) for node in gone if node in self._holders]
        gone += [node for node, waiting in self._waiting.items() if now_s >= waiting.since_s + WAITING_S]
        for node in gone:
            waiting = self._waiting.pop(node, None)
            effects += [Undelivered(node, message) for message in waiting.messages] if waiting else []
            if node not in self._holders:
                self._dialling.no_longer_want(node)
        return effects

    # --- needs

    def _is_needed(self, node: NodeId, connection: _Connection) -> bool:
        return node in self._holders or connection.needed_there

    def _begin_to_need(self, node: NodeId, now_s: float) -> list[Effect]:
        connection = self._up.get(node)
        if connection is None:
            return self._seek(node, now_s)
        return self._say_need(node, connection, True)

    def _no_longer_need(self, node: NodeId, now_s: float) -> list[Effect]:
        connection = self._up.get(node)
        if connection is None:
            if node not in self._waiting:
                self._dialling.no_longer_want(node)
            return []
        self._dialling.no_longer_want(node)
        connection.used_s = now_s
        self._watch(node, connection)
        return self._say_need(node, connection, False)

    def _say_need(self, node: NodeId, connection: _Connection, needed: bool) -> list[Effect]:
        if connection.said == needed:
            return []
        connection.said = needed
        return [Transmit(node, Need(needed))]

    def _watch(self, node: NodeId, connection: _Connection) -> None:
        if not connection.watched and not self._is_needed(node, connection):
            connection.watched = True
            self._watched += 1
            heapq.heappush(self._idle, (connection.used_s + IDLE_S, self._watched, node, connection))

    def _part_with_idle(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._idle and self._idle[0][0] <= now_s:
            _, _, node, connection = heapq.heappop(self._idle)
            if self._up.get(node) is not connection:
                continue
            connection.watched = False
            if self._is_needed(node, connection):
                continue
            if connection.used_s + IDLE_S > now_s:
                self._watch(node, connection)
            else:
                connection.used_s = now_s  # should it be in use in a way that is not seen here, it is asked again
                self._watch(node, connection)
                effects.append(Part(node))
        return effects
