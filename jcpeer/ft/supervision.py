"""What the FTC of an application does: it holds connections to participants that run attempts, tells the coordinator
whom it misses, and answers for those whom the coordinator misses.

It decides nothing: a suspicion ends no attempt, the coordinator alone does. Where attempts run it knows from the stream
that every replica gets (`Underway`). A participant is held for a while after its last attempt, since the next is
likely to come.

It leaves to others: whether this node is the FTC (the shell feeds this machine only then), and the connections.
"""

from __future__ import annotations

import math
from typing import assert_never

from attrs import frozen

from jcpeer.coordinator.underway import UnderwayMemory
from jcpeer.ids import AppId, Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.wire.replication import Alive, AskAlive, Suspect, Underway

ASKED_S = 0.8
"""A participant about which the coordinator asks, and that is not connected yet, is waited for so long."""
HELD_S = 10.0
"""So long after its last attempt a connection is kept."""

# --- events


@frozen
class Told:
    """The coordinator says what is under way."""

    message: Underway


@frozen
class Asked:
    """The coordinator misses a participant."""

    coordinator: NodeId
    message: AskAlive


@frozen
class Up:
    node: NodeId


@frozen
class Down:
    """`proof` as in `PeerDown`."""

    node: NodeId
    proof: Proof


@frozen
class Tick:
    """Time passed."""


Event = Told | Asked | Up | Down | Tick

# --- effects


@frozen
class Hold:
    """Keep connections to exactly these for the sake of this application; `Up` and `Down` are told of them."""

    nodes: frozenset[NodeId]


@frozen
class Send:
    node: NodeId
    message: Alive | Suspect


Effect = Hold | Send


class Supervisor:
    """Of one application. Feed every event to `handle`, in order, and perform the effects in order."""

    def __init__(self, app: AppId, *, me: NodeId, up: frozenset[NodeId] = frozenset()) -> None:
        """`up`: who is connected already."""
        self._app = app
        self._me = me
        self._epoch: Epoch | None = None
        self._memory = UnderwayMemory()
        self._up = set(up)
        self._down: dict[NodeId, Proof] = {}
        """How those that are out of reach went."""
        self._held: dict[NodeId, float] = {}
        """When each was last given an attempt, or asked about."""
        self._asked: dict[NodeId, float] = {}
        """Until when an answer about these waits for a connection."""

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case Told():
                return self._told(event.message, now_s=now_s)
            case Asked():
                return self._answer(event, now_s=now_s)
            case Up():
                self._up.add(event.node)
                self._down.pop(event.node, None)
                answered = self._asked.pop(event.node, None) is not None
                return self._say(event.node) if answered else []
            case Down():
                self._up.discard(event.node)
                if event.proof == "parted":
                    return []
                self._down[event.node] = event.proof
                self._asked.pop(event.node, None)
                return self._say(event.node) if event.node in self._held else []
            case Tick():
                return self._tick(now_s=now_s)
            case _:
                assert_never(event)

    def wake_s(self) -> float:
        """When a `Tick` is due."""
        oldest_s = min(self._held.values(), default=math.inf)
        return min(oldest_s + HELD_S, min(self._asked.values(), default=math.inf))

    def _told(self, message: Underway, *, now_s: float) -> list[Effect]:
        self._memory.heard(message)
        if message.whole and message.epoch != self._epoch:
            self._epoch = message.epoch
            self._asked.clear()
        return self._hold([each.node for each in message.given], now_s=now_s)

    def _answer(self, event: Asked, *, now_s: float) -> list[Effect]:
        message = event.message
        if message.epoch != self._epoch or event.coordinator != message.epoch.node:
            return []
        if message.node in self._up or message.node in self._down:
            return [*self._hold([message.node], now_s=now_s), *self._say(message.node)]
        self._asked.setdefault(message.node, now_s + ASKED_S)
        return self._hold([message.node], now_s=now_s)

    def _tick(self, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for node in [each for each, until_s in self._asked.items() if until_s <= now_s]:
            del self._asked[node]
            effects += self._say(node)
        old = [node for node, since_s in self._held.items() if since_s + HELD_S <= now_s]
        for node in old:
            if self._memory.busy(node):
                self._held[node] = now_s
            else:
                del self._held[node]
                self._down.pop(node, None)
        if any(node not in self._held for node in old):
            effects.append(Hold(frozenset(self._held)))
        return effects

    def _hold(self, nodes: list[NodeId], *, now_s: float) -> list[Effect]:
        known = len(self._held)
        for node in nodes:
            if node not in (self._me, self._coordinator):
                self._held[node] = now_s
        return [Hold(frozenset(self._held))] if len(self._held) > known else []

    def _say(self, node: NodeId) -> list[Effect]:
        """How it is with this participant."""
        if self._epoch is None or self._coordinator is None:
            return []
        if node in self._up:
            return [Send(self._coordinator, Alive(self._app, self._epoch, node))]
        return [Send(self._coordinator, Suspect(self._app, self._epoch, node, self._down.get(node, "silent")))]

    @property
    def _coordinator(self) -> NodeId | None:
        return self._epoch.node if self._epoch is not None else None
