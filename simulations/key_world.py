"""Nodes that only find each other by key, joined by a heap of deliveries: no network, no trio, thousands in seconds.

Whoever was not connected lately is dialled first, which takes two further round trips. Who died never answers, and
nobody is told. Nothing else is lost; messages between two sides of a division are.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count

from attrs import define, field

from jcpeer.dht.machine import (
    Effect,
    Event,
    Find,
    FindRecord,
    Found,
    Heard,
    Kademlia,
    Publish,
    Published,
    Seen,
    Send,
    Tick,
)
from jcpeer.dht.records import Judge, Rank
from jcpeer.dht.table import BUCKET_SIZE
from jcpeer.errors import RemoteProtocolError
from jcpeer.ids import NodeId
from jcpeer.wire.messages import Contact, FindNode, Signed

LATENCY_S = (0.010, 0.050)
IDLE_S = 30.0
"""After which an unused connection counts as closed."""
JOIN_S = 5.0
"""What a node asks this soon after its start belongs to its joining; upkeep begins later."""


def judge_by_number(key: str, record: Signed) -> Rank:
    """A judge for worlds without certificates: the payload is "key number lifetime", and what has no signature is
    forged."""
    if not record.signature:
        raise RemoteProtocolError("forged: it is not signed")
    named, number, lifetime_s = record.payload.decode().split()
    if named != key:
        raise RemoteProtocolError("a record of another key")
    return Rank((int(number),), float(lifetime_s))


@define(eq=False)
class KeyNode:
    """One node of the world.

    Attributes:
        side: Nodes of different sides do not hear each other.
        effects: Whatever it had to say to its callers, with the time.
        join_requests: What it asked in its first seconds.
    """

    contact: Contact
    machine: Kademlia
    born_s: float
    join_requests: int = 0
    alive: bool = True
    side: int = 0
    wakes_s: float = math.inf
    effects: list[tuple[float, Effect]] = field(factory=list)
    used_s: dict[NodeId, float] = field(factory=dict)

    @property
    def id(self) -> NodeId:
        return self.contact.node

    @property
    def key(self) -> int:
        return self.machine.key

    def found(self) -> dict[int, tuple[float, Found]]:
        """The answers to its callers, by call."""
        return {each.call: (at_s, each) for at_s, each in self.effects if isinstance(each, Found)}

    def published(self) -> list[Published]:
        return [each for _, each in self.effects if isinstance(each, Published)]


class KeyWorld:
    """All nodes and what is on its way between them.

    Args:
        check: Assert each machine's invariants after each step.
    """

    def __init__(
        self, seed: int, *, bucket_size: int = BUCKET_SIZE, judge: Judge = judge_by_number, check: bool = False
    ) -> None:
        self.now_s = 0.0
        self.nodes: dict[NodeId, KeyNode] = {}
        self.random = random.Random(seed)
        self.sent: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self._events = 0
        self._bucket_size = bucket_size
        self._judge = judge
        self._check = check
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._calls = count(1)

    @property
    def told(self) -> tuple[str, int]:
        """The digest of all that arrived, and how many messages it is over."""
        return self._digest.hexdigest(), self._events

    @property
    def living(self) -> list[KeyNode]:
        return [node for node in self.nodes.values() if node.alive]

    async def add(self, name: str, *, by: Iterable[KeyNode] = ()) -> KeyNode:
        """A node that joins by others whom it was told of."""
        number = len(self.nodes)
        contact = Contact(NodeId(name), (f"/ip4/10.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/4001",))
        node = self.nodes[contact.node] = KeyNode(
            contact, Kademlia(contact, self._judge, bucket_size=self._bucket_size), self.now_s
        )
        for other in by:
            self.tell(node, Seen(other.contact, watched=False))
        return node

    def tell(self, node: KeyNode, event: Event) -> None:
        """One event, and all that becomes of it now."""
        for effect in node.machine.handle(event, now_s=self.now_s):
            if isinstance(effect, Send):
                self._send(node, effect)
            else:
                node.effects.append((self.now_s, effect))
        if self._check:
            node.machine.check()
        self._arm(node)

    def find(self, node: KeyNode, key: int, *, count: int = BUCKET_SIZE, introduce: bool = False) -> int:
        call = next(self._calls)
        self.tell(node, Find(call, key, count, introduce))
        return call

    def find_record(self, node: KeyNode, key: int) -> int:
        call = next(self._calls)
        self.tell(node, FindRecord(call, key))
        return call

    def publish(self, node: KeyNode, key: int, number: int, *, lifetime_s: float = 300.0) -> None:
        self.tell(node, Publish(key, record_of(key, number, lifetime_s=lifetime_s)))

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._numbers), action))

    async def run(self, for_s: float) -> None:
        """Let so many seconds pass."""
        until_s = self.now_s + for_s
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
        self.now_s = until_s

    def exact(self, key: int, count: int = BUCKET_SIZE) -> list[NodeId]:
        """Who is nearest to a key among those who live, by looking at all of them."""
        return [node.id for node in heapq.nsmallest(count, self.living, key=lambda each: each.key ^ key)]

    def crash(self, nodes: Iterable[KeyNode]) -> None:
        """They are gone, and so are their machines: nobody refuses anything."""
        for node in nodes:
            node.alive = False

    def divide(self, one_side: Iterable[KeyNode]) -> None:
        """These hear the others no more, until `heal`."""
        for node in one_side:
            node.side = 1

    def heal(self) -> None:
        for node in self.nodes.values():
            node.side = 0

    # --- within

    def _send(self, source: KeyNode, effect: Send) -> None:
        message = effect.message
        self.sent[type(message).__name__] += 1
        source.join_requests += isinstance(message, FindNode) and self.now_s < source.born_s + JOIN_S
        target = self.nodes.get(effect.contact.node)
        if target is None:
            return
        legs = 1 if source.used_s.get(target.id, -math.inf) > self.now_s - IDLE_S else 5
        delay_s = sum(self.random.uniform(*LATENCY_S) for _ in range(legs))

        def arrive() -> None:
            if source.alive and target.alive and source.side == target.side:
                self._digest.update(f"{self.now_s} {source.id} {target.id} {type(message).__name__}".encode())
                self._events += 1
                source.used_s[target.id] = target.used_s[source.id] = self.now_s
                self.tell(target, Heard(source.id, message, source.contact.addresses))

        self.at(self.now_s + delay_s, arrive)

    def _arm(self, node: KeyNode) -> None:
        wake_s = node.machine.wake_s()
        if wake_s < node.wakes_s:
            node.wakes_s = wake_s
            self.at(wake_s, lambda: self._wake(node, wake_s))

    def _wake(self, node: KeyNode, when_s: float) -> None:
        if node.wakes_s != when_s or not node.alive:
            return
        node.wakes_s = math.inf
        if node.machine.wake_s() <= self.now_s:
            self.tell(node, Tick())
        else:
            self._arm(node)


def record_of(key: int, number: int, *, lifetime_s: float = 300.0) -> Signed:
    """A record that `judge_by_number` takes."""
    return Signed(f"{key:040x} {number} {lifetime_s}".encode(), b"signed")
