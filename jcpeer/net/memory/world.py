"""The simulated world: who is where, how long everything takes, and what goes wrong.

Everything random comes from one seeded generator, and everything that happens goes through one schedule, so that the
same seed gives the same trace. (For the children of the nodes to run in the same order too, trio must be told:
`simulations.virtual_time`.)

Nothing is lost for good while a connection stands: loss is delay. A connection ends by `disconnect`, by `crash`, by a
limit, or because one end hears nothing for too long; then the contract in `net.network` says what each node is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Literal, NoReturn

import trio
from attrs import frozen

from jcpeer.config import Config
from jcpeer.errors import ConfigError
from jcpeer.ids import NodeId
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.net.events import NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.net.memory.link import End, Link
from jcpeer.net.memory.node import MemoryNetwork
from jcpeer.net.memory.schedule import Schedule
from jcpeer.net.memory.trace import Trace

EPOCH_S = 1_750_000_000.0
"""What the clocks on the wall say, in seconds since 1970, when the simulation's clock says 0."""

GRAIN_S = 1 / 4096
"""Arrivals fall on multiples of this: each instant at which anything happens costs a round of trio's scheduler."""


class MemoryWorld:
    """Every node of a simulation, and all that is between them. One child of the scenario runs `run`.

    Args:
        seed: Of everything random here.
        latency_s: The least and the most that a message takes.
        loss: The part of messages that is sent again, `retransmit_s` later, holding up all behind them.
        bandwidth: Bytes a second out of each node; None is no limit.
        heartbeats: "modelled" finds a peer silent after `config.silence_s` at no cost; "messages" sends them and asks
            the detector, which takes up to one heartbeat less, or half of one more. Either way the peer is then looked
            for, for `config.redial_s`, before its node is told.
        encode: Send every message through the wire's codec instead of by reference.
        config: For its heartbeat, silence, redial and queue settings.
        keep_trace: Keep the lines, not only their digest.
    """

    def __init__(
        self,
        seed: int,
        *,
        latency_s: tuple[float, float] = (0.0005, 0.002),
        loss: float = 0.0,
        retransmit_s: float = 0.2,
        bandwidth: float | None = None,
        heartbeats: Literal["modelled", "messages"] = "modelled",
        encode: bool = False,
        config: Config | None = None,
        dial_timeout_s: float = 5.0,
        keep_trace: bool = False,
    ) -> None:
        self.schedule = Schedule()
        self.trace = Trace(keep=keep_trace)
        self.config = config or Config()
        self.heartbeats = heartbeats
        self.encode = encode
        self.dial_timeout_s = dial_timeout_s
        self.random = random.Random(seed)
        self.latency_s = latency_s
        self.loss = loss
        self.retransmit_s = retransmit_s
        self.bandwidth = bandwidth
        self._machines: dict[NodeId, int] = {}
        self._names: dict[NodeId, str] = {}
        self._open: dict[NodeId, MemoryNetwork] = {}
        self._last_at: dict[str, MemoryNetwork] = {}
        self._links: dict[Link, None] = {}
        self._pairs: dict[tuple[NodeId, NodeId], Link] = {}
        self._cuts: set[tuple[NodeId, NodeId]] = set()  # asked, never iterated: its order is not the seed's

    @property
    def wall_s(self) -> float:
        """Seconds since 1970 by every clock of this world."""
        return EPOCH_S + self.schedule.now_s

    async def run(self) -> NoReturn:
        """Let things happen, until cancelled."""
        await self.schedule.run()

    @asynccontextmanager
    async def open_node(
        self,
        identity: Identity,
        membership_of: Callable[[], Membership],
        *,
        name: str,
        incarnation: int,
        address: str | None = None,
    ) -> AsyncIterator[MemoryNetwork]:
        """A node on this carrier; on leaving it says goodbye, unless it crashed before.

        Args:
            membership_of: Asked in each handshake, so a node can move to another grid.
            name: Also its name in the trace.
            address: Where it listens; by default always at the same place of a machine of its own.

        Raises:
            ConfigError: the node is open already, or another one listens there.
        """
        address = address or self._home(identity.node)
        there = self._last_at.get(address)
        if identity.node in self._open or (there is not None and there.open):
            raise ConfigError(f"node {name!r} cannot listen at {address}: a node with that key or address does")
        async with trio.open_nursery() as nursery:
            network = MemoryNetwork(
                self,
                identity,
                membership_of,
                name=name,
                incarnation=incarnation,
                address=address,
                nursery=nursery,
            )
            self._open[network.me] = self._last_at[address] = network
            self._names[network.me] = name
            try:
                yield network
            finally:
                if network.open:
                    network.leave()
                    self._end(network, tell=True)
                nursery.cancel_scope.cancel()

    # --- faults, for scenarios

    def crash(self, node: NodeId, *, machine: bool = False) -> None:
        """The process ends without a word; its peers are refused when they redial. What ran in it is the scenario's to
        cancel.

        Args:
            machine: It goes with the process, so nobody refuses anything: to its peers it falls silent.
        """
        network = self._open[node]
        network.paused = False
        network.dark = machine
        self._end(network, tell=not machine)
        self._look_around()

    def pause(self, node: NodeId) -> None:
        """Nothing leaves it and nothing enters, as if the process was stopped, until `resume`.

        Its code runs on, since it shares ours, but what it sends waits and no event reaches it.
        """
        self._open[node].paused = True
        self._look_around()

    def resume(self, node: NodeId) -> None:
        """What waited goes on its way, where the connection still stands."""
        self._open[node].resume()
        self._look_around()

    def cut(self, from_nodes: Iterable[NodeId], to_nodes: Iterable[NodeId], *, one_way: bool = False) -> None:
        """Nothing goes between these nodes any more; with `one_way` nothing from the first to the second."""
        to_nodes = tuple(to_nodes)
        for one in from_nodes:
            for other in to_nodes:
                self._cuts.add((one, other))
                if not one_way:
                    self._cuts.add((other, one))
        self._look_around()

    def heal(self) -> None:
        """Undo every cut."""
        self._cuts.clear()
        self._look_around()

    def disconnect(self, one: NodeId, other: NodeId) -> None:
        """Reset the connection between two nodes, if there is one: what is on its way is lost, and both redial."""
        link = self._pairs.get(_pair(one, other))
        if link is None:
            return
        were_up = [end for end in link.ends if end.state == "up"]
        link.abandon()
        for end in were_up:
            end.node.lost(end, "the connection was reset")

    # --- for nodes, links and dials

    def path(self, source: MemoryNetwork, target: MemoryNetwork) -> MemoryPath:
        return MemoryPath(self, source, target)

    def cut_between(self, source: NodeId, target: NodeId) -> bool:
        return (source, target) in self._cuts

    def last_at(self, address: str) -> MemoryNetwork | None:
        """The node that listens at this address, or was the last to."""
        return self._last_at.get(address)

    def link_between(self, one: MemoryNetwork, other: MemoryNetwork) -> Link | None:
        """The newest connection of two nodes that one of them has not closed."""
        return self._pairs.get(_pair(one.me, other.me))

    def add_link(self, link: Link) -> None:
        self._links[link] = None
        self._pairs[_pair_of(link)] = link

    def remove_link(self, link: Link) -> None:
        self._links.pop(link, None)
        if self._pairs.get(_pair_of(link)) is link:
            del self._pairs[_pair_of(link)]

    def listen_for(self, end: End) -> None:
        """Suspect a peer that can no longer be heard, after the time that the detector would take."""
        if self.heartbeats == "messages":
            return
        if end.state != "up" or end.node.paused or not end.deaf:
            end.suspicion = None
        elif end.suspicion is None:
            suspicion = end.suspicion = object()

            def suspect() -> None:
                if end.suspicion is suspicion:
                    end.node.lost(end, "it fell silent")

            self.schedule.at(self.schedule.now_s + self.config.silence_s, suspect)

    def record(self, node: MemoryNetwork, event: NetworkEvent) -> None:
        """Write down what a node is told."""
        match event:
            case Received(peer, message):
                what = f"{self._name(peer)} > {node.name} {type(message).__name__}"
            case PeerUp(peer):
                what = f"{node.name} PeerUp {self._name(peer)}"
            case PeerDown(peer, proof):
                what = f"{node.name} PeerDown {self._name(peer)} {proof}"
            case _:
                what = f"{node.name} DialFailed {event.address}"
        self.trace.add(self.schedule.now_s, what)

    # --- within

    def _home(self, node: NodeId) -> str:
        """An address that looks as those of real nodes do, since others read and sort them."""
        number = self._machines.setdefault(node, len(self._machines) + 1)
        return f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/4001"

    def _end(self, network: MemoryNetwork, *, tell: bool) -> None:
        """Its process is gone; what the kernel then does for it."""
        del self._open[network.me]
        network.die()
        for link in [*self._links]:
            for end in link.ends:
                if end.node is network:
                    end.close(tell=tell)

    def _look_around(self) -> None:
        """After a fault came or went: what can go on does, and who hears nothing begins to wonder."""
        ends = [end for link in self._links for end in link.ends]
        for end in ends:
            end.resume()
        for end in ends:
            self.listen_for(end)

    def _name(self, node: NodeId) -> str:
        return self._names.get(node, node)


@frozen
class MemoryPath:
    """From one node to another, as things stand."""

    _world: MemoryWorld
    _source: MemoryNetwork
    _target: MemoryNetwork

    @property
    def schedule(self) -> Schedule:
        return self._world.schedule

    @property
    def source(self) -> NodeId:
        return self._source.me

    @property
    def blocked(self) -> bool:
        source, target = self._source, self._target
        return (
            source.paused
            or target.paused
            or source.dark
            or target.dark
            or self._world.cut_between(source.me, target.me)
        )

    def arrival_s(self, size: int) -> float:
        world = self._world
        departs_s = world.schedule.now_s
        if world.bandwidth is not None:
            departs_s = max(departs_s, self._source.uplink_free_s) + size / world.bandwidth
            self._source.uplink_free_s = departs_s
        latency_s = world.random.uniform(*world.latency_s)
        while world.loss and world.random.random() < world.loss:
            latency_s += world.retransmit_s
        return math.ceil((departs_s + latency_s) / GRAIN_S) * GRAIN_S


def _pair(one: NodeId, other: NodeId) -> tuple[NodeId, NodeId]:
    return (one, other) if one < other else (other, one)


def _pair_of(link: Link) -> tuple[NodeId, NodeId]:
    return _pair(link.dialler.node.me, link.listener.node.me)
