"""The simulated world: who is where, how long everything takes, and what goes wrong.

Everything random comes from one seeded generator, and everything that happens goes through one schedule, so that the
same seed gives the same trace. (For the children of the nodes to run in the same order too, trio must be told:
`simulations.virtual_time`.)

Nothing is lost for good while a connection stands: loss is delay. A connection ends by `disconnect`, by `crash`, by a
limit, or because one end hears nothing for too long; then the contract in `net.network` says what each node is told.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Literal, NoReturn

import trio

from jcpeer.config import Config
from jcpeer.errors import ConfigError
from jcpeer.ids import NodeId
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.net.events import NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.net.memory.cuts import Cuts
from jcpeer.net.memory.heartbeats import Heartbeats, ModelledHeartbeats, SentHeartbeats
from jcpeer.net.memory.link import Link
from jcpeer.net.memory.node import MemoryNetwork
from jcpeer.net.memory.schedule import Schedule
from jcpeer.net.memory.trace import Trace
from jcpeer.net.memory.traffic import Traffic
from jcpeer.wire.messages import Heartbeat

EPOCH_S = 1_750_000_000.0
"""What the clocks on the wall say, in seconds since 1970, when the simulation's clock says 0."""

Latency = tuple[float, float]
"""The least and the most that a message takes, in seconds."""


class MemoryWorld:
    """Every node of a simulation, and all that is between them. One child of the scenario runs `run`.

    Args:
        seed: Of everything random here.
        latency_s: The least and the most that a message takes, or a function that says so of (source, target); it is
            asked once for each connection.
        grains_per_s: Everything arrives at one of so many instants a second, the next one; by default as many as fit
            the latencies. Where much happens, fewer are faster.
        loss: The part of messages that is sent again, `retransmit_s` later, holding up all behind them.
        bandwidth: Bytes a second out of each node; None is no limit.
        heartbeats: "modelled" finds a peer silent after `config.silence_s` at no cost; "messages" sends them and asks
            the detector, which takes up to one heartbeat less, or half of one more. Either way the peer is looked for
            meanwhile, and its node told when that time is over.
        encode: Send every message through the wire's codec instead of by reference.
        config: For its heartbeat, silence, redial and queue settings.
        keep_trace: Keep the lines, not only their digest. Heartbeats are no lines.
    """

    def __init__(
        self,
        seed: int,
        *,
        latency_s: Latency | Callable[[NodeId, NodeId], Latency] = (0.0005, 0.002),
        grains_per_s: int | None = None,
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
        self.encode = encode
        self.dial_timeout_s = dial_timeout_s
        self.random = random.Random(seed)
        self.grains_per_s = grains_per_s
        self.loss = loss
        self.retransmit_s = retransmit_s
        self.bandwidth = bandwidth
        self.traffic = Traffic()
        self.cuts = Cuts()
        self.heartbeats: Heartbeats = ModelledHeartbeats(self) if heartbeats == "modelled" else SentHeartbeats(self)
        self._latency_s = latency_s
        self._firewalls: set[NodeId] = set()
        self._machines: dict[NodeId, int] = {}
        self._names: dict[NodeId, str] = {}
        self._open: dict[NodeId, MemoryNetwork] = {}
        self._last_at: dict[str, MemoryNetwork] = {}
        self._pairs: dict[tuple[NodeId, NodeId], Link] = {}

    @property
    def wall_s(self) -> float:
        """Seconds since 1970 by every clock of this world."""
        return EPOCH_S + self.schedule.now_s

    async def run(self) -> NoReturn:
        """Let things happen, until cancelled."""
        await self.schedule.run()

    def degree(self, node: NodeId) -> int:
        """How many peers are up at an open node."""
        return len(self._open[node].ends)

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
            self.heartbeats.opened(network)
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
        network.stopped = machine
        self._end(network, tell=not machine)
        self._look_around([network])

    def pause(self, node: NodeId) -> None:
        """Nothing leaves it and nothing enters, as if the process was stopped, until `resume`.

        Its code runs on, since it shares ours, but what it sends waits and no event reaches it.
        """
        self._open[node].stopped = True
        self._look_around([self._open[node]])

    def resume(self, node: NodeId) -> None:
        """What waited goes on its way, where the connection still stands."""
        self._open[node].resume()
        self._look_around([self._open[node]])

    def cut(self, from_nodes: Iterable[NodeId], to_nodes: Iterable[NodeId], *, one_way: bool = False) -> None:
        """Nothing goes between these nodes any more; with `one_way` nothing from the first to the second."""
        from_nodes, to_nodes = tuple(from_nodes), tuple(to_nodes)
        self.cuts.add(from_nodes, to_nodes)
        if not one_way:
            self.cuts.add(to_nodes, from_nodes)
        self._look_around(self._at_a_cut())

    def heal(self) -> None:
        """Undo every cut."""
        affected = self._at_a_cut()
        self.cuts.clear()
        self._look_around(affected)

    def firewall(self, node: NodeId) -> None:
        """From now on nobody can dial this node, after a restart neither: a knock is lost. It can dial others."""
        self._firewalls.add(node)

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

    def latency_of(self, source: NodeId, target: NodeId) -> Latency:
        return self._latency_s(source, target) if callable(self._latency_s) else self._latency_s

    def behind_firewall(self, node: NodeId) -> bool:
        return node in self._firewalls

    def last_at(self, address: str) -> MemoryNetwork | None:
        """The node that listens at this address, or was the last to."""
        return self._last_at.get(address)

    def link_between(self, one: MemoryNetwork, other: MemoryNetwork) -> Link | None:
        """The newest connection of two nodes that one of them has not closed."""
        return self._pairs.get(_pair(one.me, other.me))

    def add_link(self, link: Link) -> None:
        for end in link.ends:
            end.node.links[link] = None
        self._pairs[_pair_of(link)] = link

    def remove_link(self, link: Link) -> None:
        for end in link.ends:
            end.node.links.pop(link, None)
        if self._pairs.get(_pair_of(link)) is link:
            del self._pairs[_pair_of(link)]

    def record(self, node: MemoryNetwork, event: NetworkEvent) -> None:
        """Write down what a node is told."""
        if isinstance(event, Received):  # nearly all are
            message = type(event.message)
            if message is Heartbeat:
                return  # they would be most of the lines, and say nothing that another one does not
            what = f"{self._name(event.peer)} > {node.name} {message.__name__}"
        elif isinstance(event, PeerUp):
            what = f"{node.name} PeerUp {self._name(event.peer)}"
        elif isinstance(event, PeerDown):
            what = f"{node.name} PeerDown {self._name(event.peer)} {event.proof}"
        else:
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
        self.heartbeats.ended(network)
        for link in [*network.links]:
            for end in link.ends:
                if end.node is network:
                    end.close(tell=tell)

    def _at_a_cut(self) -> list[MemoryNetwork]:
        return [network for network in self._open.values() if self.cuts.touch(network.me)]

    def _look_around(self, networks: Iterable[MemoryNetwork]) -> None:
        """After a fault came or went here: what can go on does, and who hears nothing begins to wonder."""
        links = dict.fromkeys(link for network in networks for link in network.links)
        ends = [end for link in links for end in link.ends]
        for end in ends:
            end.resume()
        for end in ends:
            self.heartbeats.look(end)

    def _name(self, node: NodeId) -> str:
        return self._names.get(node, node)


def _pair(one: NodeId, other: NodeId) -> tuple[NodeId, NodeId]:
    return (one, other) if one < other else (other, one)


def _pair_of(link: Link) -> tuple[NodeId, NodeId]:
    return _pair(link.dialler.node.me, link.listener.node.me)
