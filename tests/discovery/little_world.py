"""A grid of directories and connections and nothing else: one heap of what happens when, no trio, no bytes.

The carrier keeps the contract of `net.network`: order within a connection, a lost suffix, silence that is noticed after
`SILENCE_S`, a process that is known to be gone because its redial is refused. Invariants are checked as nodes go on, of
all in turns, since that costs more than all else: what broke stays broken until it is that node's turn.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from random import Random

from attrs import define, field

from jcpeer.discovery import connections as reached
from jcpeer.discovery import directory as found
from jcpeer.discovery.connections import Connections
from jcpeer.discovery.dialling import Dial
from jcpeer.discovery.directory import Directory
from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId
from jcpeer.net.events import PARTED, DialFailed, NetworkEvent, PeerDown, PeerUp, Proof, Received
from jcpeer.wire.messages import Need, NodeRecord
from jcpeer.wire.peer import PeerMessage
from tests.discovery.people import GRID, checked, record_of, signed, up_of

SILENCE_S = 3.0
"""Until silence is noticed, and until a dial that nobody answers is given up."""
STEPS_PER_CHECK = 7
SPIN_MAX = 50
"""Ticks at one instant; a machine that wants more goes round in circles."""


@define(eq=False)
class Link:
    """One connection. A broken one carries nothing, and neither end need have noticed."""

    ends: tuple[Host, Host]
    broken: bool = False
    parted: bool = False
    arrives_s: dict[NodeId, float] = field(factory=dict)

    def other(self, host: Host) -> Host:
        return self.ends[1] if host is self.ends[0] else self.ends[0]


class Host:
    """One start of a node."""

    def __init__(self, world: World, record: NodeRecord) -> None:
        self.world = world
        self.id = record.node
        self.record = record
        self.alive = True
        self.directory = Directory(record, sign=signed, read=checked)
        self.connections = Connections(record.node)
        self.links: dict[NodeId, Link] = {}
        self.dials: set[tuple[str, NodeId | None]] = set()
        self.book: dict[NodeId, NodeRecord] = {}
        self.left: list[tuple[float, NodeId, str]] = []
        self._wakes_s = math.inf
        self._spun_s, self._spun = -1.0, 0

    @property
    def members(self) -> dict[NodeId, int]:
        return {each.node: each.incarnation for each in self.directory.records()}

    def take(self, event: NetworkEvent) -> None:
        """As the node does: connections first, then the directory."""
        now_s = self.world.now_s
        if isinstance(event, Received):
            if isinstance(event.message, Need):
                self.connections.needed(event.peer, event.message.needed, now_s=now_s)
                return self._settle()
            self.connections.used(event.peer, now_s=now_s)
            self.tell(event)
        else:
            self.perform(self.connections.handle(event, now_s=now_s))
            if isinstance(event, PeerUp | PeerDown):
                self.tell(event)
        return self._settle()

    def sight(self, sighting: Sighting) -> None:
        self.perform(self.connections.handle(sighting, now_s=self.world.now_s))
        self._settle()

    def tell(self, event: found.Event) -> None:
        now_s = self.world.now_s
        for effect in self.directory.handle(event, now_s=now_s):
            match effect:
                case found.Tell():
                    self.perform(self.connections.send(effect.peer, effect.message, now_s=now_s))
                case found.Joined(record) | found.Changed(record):
                    self.book[record.node] = record
                    self.perform(self.connections.met(record.node, record.addresses, record.incarnation, now_s=now_s))
                case found.Left():
                    self.left.append((now_s, effect.node, effect.why))
                    self.connections.lost_sight(effect.node)
                case found.Neighbours():
                    self.perform(self.connections.hold("neighbours", effect.nodes, now_s=now_s))
                case found.Disconnect():
                    raise AssertionError(f"{effect} in a world of honest nodes")
                case found.Publish():
                    pass

    def perform(self, effects: list[reached.Effect]) -> None:
        for effect in effects:
            match effect:
                case reached.Transmit():
                    self.world.send(self, effect.peer, effect.message)
                case Dial():
                    self.world.dial(self, effect)
                case reached.Part():
                    self.world.part(self, effect.peer)
                case reached.Unreached():
                    self.tell(effect)
                case _:
                    pass

    def check(self) -> None:
        self.directory.check()
        self.connections.check()

    def _settle(self) -> None:
        self.world.steps += 1
        if self.world.steps % STEPS_PER_CHECK == 0:
            self.check()
        wakes_s = max(min(self.directory.wake_s(), self.connections.wake_s()), self.world.now_s)
        if wakes_s < self._wakes_s:
            self._wakes_s = wakes_s
            self.world.at(wakes_s, lambda: self._wake(wakes_s))

    def _wake(self, at_s: float) -> None:
        if not self.alive or at_s != self._wakes_s:
            return
        now_s = self.world.now_s
        self._spun = self._spun + 1 if self._spun_s == now_s else 0
        self._spun_s = now_s
        assert self._spun < SPIN_MAX, "goes round in circles"
        self._wakes_s = math.inf
        if self.connections.wake_s() <= now_s:
            self.perform(self.connections.handle(reached.Tick(), now_s=now_s))
        if self.directory.wake_s() <= now_s:
            self.tell(found.Tick())
        self._settle()


class World:
    """Who is alive, who can reach whom, and what is on its way."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_s = 1000.0
        self.alive: dict[NodeId, Host] = {}
        self.last: dict[NodeId, Host] = {}
        self.sides: dict[NodeId, int] = {}
        self.frames = 0
        self.steps = 0
        self._silent: set[str] = set()
        """Addresses of machines that are off: nobody refuses a dial there."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._pushed = 0

    # --- time

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at_s, self._pushed, what))

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, what)

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._heap)
            what()
        self.now_s = until_s

    def run_until(self, what: Callable[[], bool], *, within_s: float) -> float:
        """Seconds that passed until it is so; infinity where it is not in time."""
        began_s = self.now_s
        while not what():
            if self.now_s >= began_s + within_s:
                return math.inf
            self.run(0.5)
        for host in self.alive.values():
            host.check()
        return self.now_s - began_s

    # --- what befalls nodes

    def start(self, node: NodeId, address: str, *, named: tuple[str, ...] = (), seen: bool = False) -> Host:
        """A node starts, for the first time or anew; it dials what was named to it and what its address book has."""
        before = self.last.get(node)
        host = Host(self, record_of(node, address, incarnation=before.record.incarnation + 1 if before else 1))
        self.alive[node] = self.last[node] = host
        self._silent.discard(address)
        if named:
            host.sight(Sighting("bootstrap", None, named))
        host.book = dict(before.book) if before is not None else {}
        for each in list(host.book.values()):
            host.sight(Sighting("book", each.node, each.addresses, grid=GRID))
        if seen:
            for other in list(self.alive.values()):
                if other is not host and self.joined(host, other):
                    self._sight_soon(other, host)
                    self._sight_soon(host, other)
        return host

    def kill(self, node: NodeId) -> None:
        """Its process is gone; its machine refuses dials."""
        self._end(node, "refused", 0.05)

    def leave(self, node: NodeId) -> None:
        self._end(node, "left", 0.01)

    def vanish(self, node: NodeId) -> None:
        """Its machine is off."""
        self._silent.update(self.alive[node].record.addresses)
        self._end(node, "silent", SILENCE_S)

    def cut(self, sides: dict[NodeId, int]) -> None:
        """Only nodes of one side reach each other; who is not named is on side 0."""
        self.sides = sides
        for host in list(self.alive.values()):
            for link in list(host.links.values()):
                if not link.broken and not self.joined(*link.ends):
                    self._break(link, "silent", self.random.uniform(SILENCE_S, SILENCE_S + 1.0))

    def heal(self) -> None:
        self.sides = {}

    def joined(self, a: Host, b: Host) -> bool:
        return self.sides.get(a.id, 0) == self.sides.get(b.id, 0)

    def differing(self) -> dict[NodeId, str]:
        """Whose view is not that of those who live, and in what."""
        truth = {host.id: host.record.incarnation for host in self.alive.values()}
        views = {host.id: host.members for host in self.alive.values()}
        return {
            node: f"lacks {sorted(truth.items() - view.items())}, has {sorted(view.items() - truth.items())}"
            for node, view in views.items()
            if view != truth
        }

    # --- the carrier

    def send(self, host: Host, peer: NodeId, message: PeerMessage) -> None:
        self.frames += 1
        if (link := host.links.get(peer)) is not None:
            self._deliver(link, host, lambda: self._emit(link.other(host), Received(host.id, message)))

    def dial(self, host: Host, dial: Dial) -> None:
        key = (dial.address, dial.expected)
        if key in host.dials or dial.expected in host.links:
            return
        host.dials.add(key)
        self.after(self._latency_s(host.id, dial.address) * 3, lambda: self._answer(host, dial))

    def part(self, host: Host, peer: NodeId) -> None:
        link = host.links.pop(peer, None)
        if link is None:
            return
        link.parted = True
        self._emit(host, PeerDown(peer, "parted", PARTED))
        other = link.other(host)
        self._deliver(link, host, lambda: self._down(other, link, "parted"))

    def _answer(self, host: Host, dial: Dial) -> None:
        key = (dial.address, dial.expected)
        if not host.alive or key not in host.dials:
            return
        host.dials.discard(key)
        target = next((each for each in self.alive.values() if dial.address in each.record.addresses), None)

        def failed(why: str) -> None:
            host.dials.discard(key)
            if dial.expected is None or dial.expected not in host.links:
                self._emit(host, DialFailed(dial.address, dial.expected, why))

        if dial.address in self._silent or (target is not None and not self.joined(host, target)):
            host.dials.add(key)
            self.after(SILENCE_S, lambda: failed("no answer"))
        elif target is None:
            failed("refused")
        elif target is host or dial.expected not in (None, target.id):
            failed("another node")
        elif target.id not in host.links:
            if (old := target.links.get(host.id)) is not None:  # not heard of its end yet
                self._down(target, old, "parted" if old.parted else "silent")
            self._connect(host, target)
        elif host.links[target.id].broken:
            self._down(host, host.links[target.id], "silent")
            failed("no answer")

    def _connect(self, host: Host, target: Host) -> None:
        link = Link((host, target))
        host.links[target.id] = target.links[host.id] = link
        host.dials = {each for each in host.dials if each[1] != target.id}
        target.dials = {each for each in target.dials if each[1] != host.id}
        self._emit(target, up_of(host.record))
        self._emit(host, up_of(target.record))

    def _deliver(self, link: Link, sender: Host, what: Callable[[], None]) -> None:
        """In order, unless the connection breaks before, or the other end has closed it."""
        other = link.other(sender)
        at_s = max(self.now_s + self._latency_s(sender.id, other.id), link.arrives_s.get(sender.id, 0.0))
        link.arrives_s[sender.id] = at_s
        self.at(at_s, lambda: what() if not link.broken and other.links.get(sender.id) is link else None)

    def _emit(self, host: Host, event: NetworkEvent) -> None:
        self.at(self.now_s, lambda: host.take(event) if host.alive else None)

    def _down(self, host: Host, link: Link, proof: Proof) -> None:
        other = link.other(host)
        if host.links.get(other.id) is link:
            del host.links[other.id]
            self._emit(host, PeerDown(other.id, proof, f"test: {proof}"))

    def _break(self, link: Link, proof: Proof, noticed_s: float) -> None:
        link.broken = True
        for host in link.ends:
            self.after(noticed_s, lambda host=host: self._down(host, link, proof))  # type: ignore[misc]

    def _end(self, node: NodeId, proof: Proof, noticed_s: float) -> None:
        host = self.alive.pop(node)
        host.alive = False
        for link in list(host.links.values()):
            self._break(link, proof, noticed_s + self.random.uniform(0.0, 0.3))

    def _sight_soon(self, host: Host, other: Host) -> None:
        record = other.record
        sighting = Sighting("mdns", record.node, record.addresses, grid=GRID, incarnation=record.incarnation)
        self.after(self.random.uniform(0.01, 0.2), lambda: host.sight(sighting) if host.alive else None)

    def _latency_s(self, a: str, b: str) -> float:
        return 0.005 + 0.045 * (hash_of(*sorted((a, b))) % 1000) / 1000


def hash_of(*parts: str) -> int:
    value = 0
    for letter in " ".join(parts):
        value = (value * 31 + ord(letter)) % (2**31 - 1)
    return value


def restless(seed: int, *, nodes_max: int = 60) -> World:
    """A grid to which all sorts of things happened, at the moment when they end: cuts healed, named nodes up again."""
    world = World(seed)
    random = world.random
    count = random.choice([random.randint(5, 14), random.randint(20, 30), random.randint(25, nodes_max)])
    ids = [NodeId(f"n{number:03}" * 3) for number in range(count)]
    addresses = {node: f"/ip4/192.0.2.1/tcp/{number + 1}" for number, node in enumerate(ids)}
    by_name = random.random() < 0.5
    named = tuple(addresses[node] for node in ids[:3]) if by_name else ()

    def start(node: NodeId) -> None:
        world.start(node, addresses[node], named=named, seen=not by_name)

    for node in ids[: random.randint(3, count)]:
        start(node)
        if random.random() < 0.3:
            world.run(random.expovariate(2.0))
    cut_s = 0.0
    for _ in range(random.randint(5, 40)):
        world.run(random.choice([0.0, 0.02, random.expovariate(1.0), random.uniform(0.0, 10.0)]))
        if world.sides and world.now_s > cut_s + 40.0:
            world.heal()
        living = sorted(world.alive)
        dead = [node for node in ids if node not in world.alive]
        match random.choices(["start", "kill", "leave", "vanish", "cut", "heal"], [6, 2, 1, 2, 1, 1])[0]:
            case "start" if dead:
                for node in random.sample(dead, min(len(dead), random.choice([1, 1, 5]))):
                    start(node)
            case "kill" | "leave" | "vanish" as how if len(living) > 3:
                for node in random.sample(living, min(len(living) - 2, random.choice([1, 1, 1, 3, 8]))):
                    getattr(world, how)(node)
            case "cut" if not world.sides:
                world.cut({node: random.randint(0, 1) for node in ids})
                cut_s = world.now_s
            case "heal":
                world.heal()
            case _:
                pass
    world.heal()
    for node in ids[:3]:
        if node not in world.alive:
            start(node)
    return world
