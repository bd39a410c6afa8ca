"""This node as the FTC of applications: one supervising machine for each, fed while it is the next in rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NoReturn

import trio

from jcpeer.ft.supervision import Asked, Down, Event, Hold, Send, Supervisor, Tick, Told, Up
from jcpeer.ids import AppId, Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.net.network import Network
from jcpeer.node.alarm import Alarm
from jcpeer.wire.replication import AskAlive, Underway, UnderwayAttempt


class Supervision:
    """Owns the supervisors. A child runs `run`."""

    def __init__(
        self,
        network: Network,
        *,
        hold: Callable[[frozenset[NodeId]], None],
        up: Callable[[], Iterable[NodeId]],
    ) -> None:
        """`hold`: connections to these are needed; `up`: to whom there are some."""
        self._network = network
        self._hold = hold
        self._up = up
        self._supervisors: dict[AppId, Supervisor] = {}
        self._held: dict[AppId, frozenset[NodeId]] = {}
        self._alarm = Alarm(self._wake_s, self._ring)

    async def run(self) -> NoReturn:
        await self._alarm.run()

    def begin(self, app: AppId, epoch: Epoch, underway: Iterable[UnderwayAttempt]) -> None:
        """This node is the FTC from now on, and knows so much of what is under way."""
        if app not in self._supervisors:
            self._supervisors[app] = Supervisor(app, me=self._network.me, up=frozenset(self._up()))
        self._feed(app, Told(Underway(app, epoch, tuple(underway), whole=True)))

    def end(self, app: AppId) -> None:
        """Another one is, or the application is over."""
        if self._supervisors.pop(app, None) is not None:
            self._hold_for(app, frozenset())

    def told(self, message: Underway) -> None:
        """By the coordinator."""
        self._feed(message.app, Told(message))

    def asked(self, node: NodeId, message: AskAlive) -> None:
        self._feed(message.app, Asked(node, message))

    def peer_up(self, node: NodeId) -> None:
        for app in list(self._supervisors):
            self._feed(app, Up(node))

    def peer_down(self, node: NodeId, proof: Proof) -> None:
        for app in list(self._supervisors):
            self._feed(app, Down(node, proof))

    def _feed(self, app: AppId, event: Event) -> None:
        supervisor = self._supervisors.get(app)
        for effect in supervisor.handle(event, now_s=trio.current_time()) if supervisor is not None else ():
            match effect:
                case Hold():
                    self._hold_for(app, effect.nodes)
                case Send():
                    self._network.send(effect.node, effect.message)
        self._alarm.look()

    def _hold_for(self, app: AppId, nodes: frozenset[NodeId]) -> None:
        self._held[app] = nodes
        if not nodes:
            del self._held[app]
        self._hold(frozenset().union(*self._held.values()))

    def _wake_s(self) -> float:
        return min((each.wake_s() for each in self._supervisors.values()), default=math.inf)

    def _ring(self) -> None:
        now_s = trio.current_time()
        for app in [app for app, each in self._supervisors.items() if each.wake_s() <= now_s]:
            self._feed(app, Tick())
