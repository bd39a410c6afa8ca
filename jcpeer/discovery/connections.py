"""Which connections a node has, which it wants, and what waits to be said over one that is not there yet.

In a small grid everybody is connected to everybody. In a large one a node keeps its neighbours
(`discovery.neighbours`), whom it works with, and whomever it has just asked something:

- A connection is *held* for as long as somebody here needs it; the other end is told so (`Need`). One that neither
  end needs, and over which nothing was said for `IDLE_S`, is closed.
- What is sent to a node without a connection waits for one, for `WAITING_S` at most; then it is `Undelivered`. Nothing
  that was sent over a connection is sent again.
- Who cannot be dialled is asked to dial us (`CallFor`), by way of those who are connected to it, again and again while
  somebody here wants it. It is dialled only where it was seen on the same local network, for what keeps others out may
  stand between networks. Two that cannot be dialled do not look for each other.
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
from jcpeer.wire.messages import Need
from jcpeer.wire.peer import PeerMessage

IDLE_S = 15.0
"""A lookup asks the same nodes several times within seconds, and a new connection costs a tenth of a second of CPU."""
WAITING_S = 6.0
"""Longer than a dial of two addresses takes, shorter than anybody waits for an answer."""
WAITING_MAX = 1000
"""Messages that wait for one node; those that come on top are undelivered."""
CALL_AGAIN_S = 2.0
CALL_AGAIN_S_MAX = 30.0
"""A call goes by way of two nodes, and they may have lost it from sight; the time between calls doubles up to this."""
CALLED_IN_VAIN = 2
"""One that is needed and was called so often should have come."""
NEARBY = ("machine", "mdns", "simulated")
"""Sightings of the local network. Anybody there can announce any number of nodes."""
NEARBY_MAX = 4096


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
    """Have this node, which cannot be dialled, dial us; `turn` counts how often it was called in vain."""

    node: NodeId
    turn: int = 0


@frozen
class Unreached:
    """Somebody here needs a connection to this node, and just now it was found at none of its addresses, or it did not
    come when it was called."""

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
class _Call:
    """A node that cannot be dialled was asked to dial us."""

    again_s: float
    turn: int = 0


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
        self._nearby: dict[NodeId, None] = {}
        """Who was seen on the same local network."""
        self._dialable = True
        self._calls: dict[NodeId, _Call] = {}
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
                return self._sighted(event, now_s)
            case Farewell():
                self._nearby.pop(event.node, None)
                self._dialling.said_farewell(event.node, event.incarnation)
                return []
            case Tick():
                return [
                    *self._dialling.due(now_s),
                    *self._call_again(now_s),
                    *self._give_up(now_s),
                    *self._part_with_idle(now_s),
                ]
            case _:
                assert_never(event)

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        waiting_s = next(iter(self._waiting.values())).since_s + WAITING_S if self._waiting else math.inf
        idle_s = self._idle[0][0] if self._idle else math.inf
        call_s = min((each.again_s for each in self._calls.values()), default=math.inf)
        return min(self._dialling.wake_s(), waiting_s, idle_s, call_s)

    @property
    def up(self) -> Collection[NodeId]:
        """The peers to whom a connection stands."""
        return self._up.keys()

    def is_nearby(self, node: NodeId) -> bool:
        """It was seen on the same local network."""
        return node in self._nearby

    def is_hopeless(self, node: NodeId) -> bool:
        """There is no connection to this node, and neither of us can be dialled by the other."""
        return node not in self._up and not self._dialable and not self._can_dial(node)

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
            if not begun and not self._dialling.seeks(node) and node not in self._calls:
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
            return []
        if not self._can_dial(node):
            self._dialling.forget(node)
        return self._seek(node, now_s) if self._is_wanted(node) else []

    def found_dialable(self, dialable: bool, *, now_s: float) -> list[Effect]:
        """Whether others can connect to this node."""
        self._dialable = dialable
        self._calls.clear()
        wanted = sorted({*self._holders, *self._waiting} - self._up.keys())
        return [each for node in wanted if not self._can_dial(node) for each in self._call(node, now_s)]

    def lost_sight(self, node: NodeId) -> None:
        """The directory no longer has this node."""
        self._met.pop(node, None)
        self._calls.pop(node, None)
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
        assert not self._calls.keys() & self._up.keys(), "who is connected need not be called"
        assert self._dialable or not self._calls, "nobody can answer the call of one that cannot be dialled"
        for node, connection in self._up.items():
            assert connection.watched or self._is_needed(node, connection), "an idle connection is forgotten"
        self._dialling.check()

    # --- connections that come and go

    def _sighted(self, event: Sighting, now_s: float) -> list[Effect]:
        effects: list[Effect] = [*self._dialling.sighted(event, now_s)]
        node = event.node
        if node is None or event.source not in NEARBY or node in self._nearby or len(self._nearby) >= NEARBY_MAX:
            return effects
        could_dial = self._can_dial(node)
        self._nearby[node] = None
        if not could_dial and node not in self._up and self._is_wanted(node):
            effects += self._seek(node, now_s)
        return effects

    def _peer_up(self, event: PeerUp, now_s: float) -> list[Effect]:
        node = event.peer
        addresses = tuple(dict.fromkeys(each for each in (event.address, *event.hello.addresses) if each))
        self._dialling.connected(node, addresses, event.hello.incarnation)
        self._calls.pop(node, None)
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
        can_dial = self._can_dial(event.peer)
        dials = self._dialling.lost(event.peer, now_s, incarnation=connection.incarnation, left=left or not can_dial)
        call = not can_dial and not left and event.peer in self._holders
        return [*dials, *(self._call(event.peer, now_s) if call else ())]

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
        if not self._can_dial(node):
            return self._call(node, now_s)
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

    # --- who cannot be dialled

    def _can_dial(self, node: NodeId) -> bool:
        return self._met.get(node, _Met()).dialable or node in self._nearby

    def _call(self, node: NodeId, now_s: float) -> list[Effect]:
        if not self._dialable or node in self._calls:
            return []
        self._calls[node] = _Call(now_s + CALL_AGAIN_S)
        return [CallFor(node)]

    def _call_again(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for node, call in list(self._calls.items()):
            if call.again_s > now_s:
                continue
            if self._can_dial(node) or not self._is_wanted(node):
                del self._calls[node]
                continue
            call.turn += 1
            call.again_s = now_s + min(CALL_AGAIN_S * 2.0 ** min(call.turn, 30), CALL_AGAIN_S_MAX)
            effects.append(CallFor(node, call.turn))
            if call.turn >= CALLED_IN_VAIN and node in self._holders:
                effects.append(Unreached(node))
        return effects

    # --- needs

    def _is_wanted(self, node: NodeId) -> bool:
        return node in self._holders or node in self._waiting

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
