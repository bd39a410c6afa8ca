"""Nodes that only find each other by key, over the simulated network: carrier, `node.reach` and `node.finding`.

Dials, handshakes, connections that are closed for want of use, and peers that fall silent are those of whole nodes;
gossip and the directory are left out, for finding has to hold without their help. Whoever is connected is watched.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from jcpeer.dht.machine import Find, Found, KeyMessage
from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId, node_key
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership, MemoryGrid
from jcpeer.net.events import DialFailed, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.net.memory import MemoryNetwork, MemoryWorld
from jcpeer.node.finding import Finding
from jcpeer.node.reach import Reach
from jcpeer.wire.messages import (
    Contact,
    FindNode,
    FoundNodes,
    Ping,
    Pong,
    RecordStored,
    StoreRecord,
)
from jcpeer.wire.peer import PeerMessage
from simulations.key_world import JOIN_S, LATENCY_S, judge_by_number


@define(eq=False)
class NetworkNode:
    """One node: what it is made of, and what it found."""

    identity: Identity
    network: MemoryNetwork
    born_s: float
    reach: Reach = field(init=False)
    finding: Finding = field(init=False)
    join_requests: int = 0
    alive: bool = True
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    ended: dict[int, tuple[float, Found]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.reach = Reach(self.network, undelivered=lambda node, message: self.finding.unreached(node))
        self.finding = Finding(self.contact, self._send, judge=judge_by_number)

    @property
    def id(self) -> NodeId:
        return self.network.me

    @property
    def key(self) -> int:
        return node_key(self.network.me)

    @property
    def contact(self) -> Contact:
        return Contact(self.network.me, self.network.addresses)

    def found(self) -> dict[int, tuple[float, Found]]:
        return self.ended

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.reach.run)
                nursery.start_soon(self.finding.run)
                task_status.started()
                async for event in self.network.events:
                    self._take(event)

    def _send(self, contact: Contact, message: KeyMessage) -> None:
        if isinstance(message, FindNode) and trio.current_time() < self.born_s + JOIN_S:
            self.join_requests += 1
        self.reach.send_to(contact.node, contact.addresses, message)

    def _take(self, event: NetworkEvent) -> None:
        if self.reach.take(event):
            return
        match event:
            case PeerUp(peer, _, hello):
                self.finding.seen(Contact(peer, hello.addresses))
            case PeerDown(peer, "parted"):
                self.finding.unwatched(peer)
            case PeerDown(peer):
                self.finding.gone(peer)
            case Received(peer, message):
                self._hear(peer, message)
            case DialFailed():
                pass

    def _hear(self, peer: NodeId, message: PeerMessage) -> None:
        match message:
            case Ping() | Pong() | FindNode() | FoundNodes() | StoreRecord() | RecordStored():
                self.finding.heard(peer, message)
            case _:
                pass


class KeyNetwork:
    """All nodes of one simulated network (`simulations.lookups.World`). Made by `open_key_network`."""

    def __init__(self, seed: int, nursery: trio.Nursery) -> None:
        self.random = random.Random(seed)
        self.nodes: dict[NodeId, NetworkNode] = {}
        self.world = MemoryWorld(seed, latency_s=LATENCY_S)
        self._members = MemoryGrid(str(seed))
        self._nursery = nursery
        self._calls = 0

    @property
    def now_s(self) -> float:
        return trio.current_time()

    @property
    def told(self) -> tuple[str, int]:
        """The digest of all that any node was told, and how many events it is over."""
        return self.world.trace.digest, self.world.trace.length

    @property
    def living(self) -> list[NetworkNode]:
        return [node for node in self.nodes.values() if node.alive]

    async def add(self, name: str, *, by: Iterable[NetworkNode] = ()) -> NetworkNode:
        """A node that joins by others whose addresses it was told."""
        identity = self._members.identity(name)
        node: NetworkNode = await self._nursery.start(self._run, identity, self._members.admit(identity), name)
        for other in by:
            node.reach.sighted(Sighting("bootstrap", None, other.network.addresses))
        return node

    async def _run(
        self,
        identity: Identity,
        membership: Membership,
        name: str,
        *,
        task_status: trio.TaskStatus[NetworkNode] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with self.world.open_node(identity, lambda: membership, name=name, incarnation=1) as network:
            node = self.nodes[network.me] = NetworkNode(identity, network, self.now_s)
            async with trio.open_nursery() as nursery:
                await nursery.start(node.run)
                task_status.started(node)

    async def run(self, for_s: float) -> None:
        """Let so many seconds pass."""
        await trio.sleep(for_s)

    def find(self, node: NetworkNode, key: int) -> int:
        self._calls += 1
        self._nursery.start_soon(self._find, node, key, self._calls)
        return self._calls

    async def _find(self, node: NetworkNode, key: int, call: int) -> None:
        found = await node.finding.call(lambda number: Find(number, key))
        node.ended[call] = (self.now_s, found)

    def crash(self, nodes: Iterable[NetworkNode]) -> None:
        """They are gone, and so are their machines: nobody refuses anything."""
        for node in nodes:
            node.alive = False
            self.world.crash(node.id, machine=True)
            node.scope.cancel()

    def divide(self, one_side: Iterable[NetworkNode]) -> None:
        """These hear the others no more, until `heal`."""
        side = [node.id for node in one_side]
        taken = set(side)
        self.world.cut(side, [node for node in self.nodes if node not in taken])

    def heal(self) -> None:
        self.world.heal()


@asynccontextmanager
async def open_key_network(seed: int) -> AsyncIterator[KeyNetwork]:
    """A network without nodes; leaving the block ends those that were added."""
    async with trio.open_nursery() as nursery:
        network = KeyNetwork(seed, nursery)
        nursery.start_soon(network.world.run)
        yield network
        nursery.cancel_scope.cancel()
