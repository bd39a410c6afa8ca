"""Are the nodes nearest to a key really found? Run: python -m simulations.lookups --seed 7

World:       nodes that only find each other by key, without multicast, gossip or address book; they join in waves of
             ten, each by a random member; links of 10 to 50 ms; whoever is not connected is dialled first. Then a part
             of them dies without a word, all at one moment. In further worlds all nodes join at one moment by the same
             node, or the world is divided into halves that give each other up, and heals.
Expectation: right after the deaths the first three nodes of an answer are exact in 99 % of lookups, and 95 % of
             lookups take at most 3 s; after a minute of upkeep the first three are in 99.9 %, and all eight in 99 %.
Reading:     each row is so many lookups from random nodes for random keys, compared with all living nodes sorted.
             Bytes are those of the requests and answers of one lookup; "join" is requests until a node has joined.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol, TypeVar

from attrs import frozen

from jcpeer.dht.machine import Found
from jcpeer.dht.table import BUCKET_SIZE
from jcpeer.ids import NodeId
from simulations.key_network import open_key_network
from simulations.key_world import KeyWorld
from simulations.report import Findings, Table, quantile
from simulations.scenario import Options, main, numbers, option

UPKEEP_S = 60.0
DIVIDED_S = 180.0
"""Long enough for everybody to give up everybody on the other side."""
WITHIN_S = 2.0
"""All lookups of a row begin within it."""
UNENDING_S = 60.0
"""A lookup that takes longer counts as wrong."""
REQUEST_BYTES = 856
"""A request, and an answer with eight real node ids and an address of each."""


class Someone(Protocol):
    @property
    def id(self) -> NodeId: ...
    @property
    def key(self) -> int: ...
    @property
    def join_requests(self) -> int: ...
    def found(self) -> dict[int, tuple[float, Found]]: ...


Node = TypeVar("Node", bound=Someone)


class World(Protocol[Node]):
    """What a carrier has to offer: `key_world` has machines alone, `key_network` the simulated network."""

    random: random.Random

    @property
    def now_s(self) -> float: ...
    @property
    def told(self) -> tuple[str, int]: ...
    @property
    def nodes(self) -> dict[NodeId, Node]: ...
    @property
    def living(self) -> list[Node]: ...
    async def add(self, name: str, *, by: Iterable[Node] = ()) -> Node: ...
    async def run(self, for_s: float) -> None: ...
    def find(self, node: Node, key: int) -> int: ...
    def crash(self, nodes: Iterable[Node]) -> None: ...
    def divide(self, one_side: Iterable[Node]) -> None: ...
    def heal(self) -> None: ...


@frozen
class Exactness:
    """Of many lookups: the parts whose first three, and whose whole answer, were exact; seconds and requests of one."""

    first_three: float
    whole: float
    mean_s: float
    p95_s: float
    requests: float


async def grow(world: World[Any], number: int, *, wave: int = 10, settle_s: float = 1.0) -> None:
    """So many nodes join in waves, each by a random member."""
    while len(world.nodes) < number:
        members = world.living
        for _ in range(min(wave if members else 1, number - len(world.nodes))):
            await world.add(f"node{len(world.nodes)}", by=[world.random.choice(members)] if members else [])
        await world.run(settle_s)


async def flash_join(world: World[Any], number: int) -> None:
    """So many nodes join at one moment by the same one."""
    first = await world.add("node0")
    for each in range(1, number):
        await world.add(f"node{each}", by=[first])


def kill(world: World[Any], percent: int) -> None:
    """So many of a hundred die."""
    world.crash(world.random.sample(world.living, len(world.living) * percent // 100))


async def divide_and_heal(world: World[Any]) -> None:
    """Two halves give each other up, and then hear each other again."""
    world.divide(world.random.sample(world.living, len(world.living) // 2))
    await world.run(DIVIDED_S)
    world.heal()


async def look_up(world: World[Any], lookups: int) -> Exactness:
    """Random keys from random nodes, all begun within `WITHIN_S`."""
    living = world.living
    begun: list[tuple[Someone, int, float, int]] = []
    for _ in range(lookups):
        node, key = world.random.choice(living), world.random.getrandbits(160)
        begun.append((node, key, world.now_s, world.find(node, key)))
        await world.run(WITHIN_S / lookups)
    until_s = world.now_s + UNENDING_S
    while world.now_s < until_s and any(call not in node.found() for node, _, _, call in begun[::-1][:100]):
        await world.run(1.0)
    await world.run(5.0)
    places = [(node.key, node.id) for node in living]
    found_by = {node.id: node.found() for node in living}
    first_three, whole, seconds, requests = 0, 0, [], 0
    for node, key, begun_s, call in begun:
        ended_s, found = found_by[node.id].get(call, (begun_s + UNENDING_S, Found(call, ())))
        told = [each.contact.node for each in found.nodes]
        true = nearest(key, places)
        first_three += told[:3] == true[:3]
        whole += told == true
        seconds.append(ended_s - begun_s)
        requests += found.requests
    return Exactness(
        first_three / lookups, whole / lookups, sum(seconds) / lookups, quantile(seconds, 0.95), requests / lookups
    )


def nearest(key: int, places: Sequence[tuple[int, NodeId]]) -> list[NodeId]:
    """By looking at all of them."""
    return [node for _, node in heapq.nsmallest(BUCKET_SIZE, places, key=lambda place: place[0] ^ key)]


# --- the table


@frozen
class LookupsOptions(Options):
    nodes: str = option("30,100,300,1000", "sizes of worlds", at_least=2, list_of=int)
    dead: str = option("0,20,40", "of a hundred nodes", list_of=int)
    lookups: int = option(3000, "in each row", at_least=1)
    together_max: int = option(300, "size of the largest world that joins at one moment, or is divided")
    carrier: str = option(
        "network", "the simulated network, or the machines alone, which takes a third", choices=("network", "machines")
    )

    def fault(self) -> str | None:
        return "--dead: somebody must live" if max(numbers(self.dead, int)) >= 100 else None


COLUMNS = ("world", "nodes", "dead %", "first three %", "whole %", "mean s", "p95 s", "requests", "bytes", "join")


class Measured:
    """Rows of the table, and what they fall short of."""

    def __init__(self, lookups: int) -> None:
        self.rows: list[tuple[str | int | float, ...]] = []
        self.problems: list[str] = []
        self._lookups = lookups

    async def measure(self, world: World[Any], what: str, nodes: int, dead: int, *, settled: bool) -> None:
        joins = [node.join_requests for node in world.nodes.values()]
        exact = await look_up(world, self._lookups)
        self.rows.append(
            (
                what,
                nodes,
                dead,
                100 * exact.first_three,
                100 * exact.whole,
                exact.mean_s,
                exact.p95_s,
                exact.requests,
                round(exact.requests * REQUEST_BYTES),
                sum(joins) / len(joins),
            )
        )
        where = f"{nodes} nodes, {dead} % dead, {what}"
        if exact.first_three < (0.999 if settled else 0.99):
            self.problems.append(f"{where}: the first three are exact in {exact.first_three:.2%} only")
        if settled and exact.whole < 0.99:
            self.problems.append(f"{where}: the whole answer is exact in {exact.whole:.2%} only")
        if exact.p95_s > 3.0:
            self.problems.append(f"{where}: 95 % of lookups take up to {exact.p95_s:.1f} s")


async def simulate(options: LookupsOptions) -> Findings:
    measured = Measured(options.lookups)
    digest, events = hashlib.sha256(), 0

    @asynccontextmanager
    async def world_of(*what: object) -> AsyncIterator[World[Any]]:
        nonlocal events
        seed = zlib.crc32(f"{options.seed} {what}".encode())
        opened: AbstractAsyncContextManager[World[Any]] = nullcontext(KeyWorld(seed))
        if options.carrier == "network":
            opened = open_key_network(seed)
        async with opened as world:
            yield world
            told, told_events = world.told
            digest.update(told.encode())
            events += told_events

    sizes = numbers(options.nodes, int)
    for nodes in sizes:
        for dead in numbers(options.dead, int):
            for upkeep_s in (0.0, UPKEEP_S):
                async with world_of(nodes, dead) as world:
                    await grow(world, nodes)
                    kill(world, dead)
                    await world.run(upkeep_s)
                    what = "after 60 s" if upkeep_s else "at once"
                    await measured.measure(world, what, nodes, dead, settled=upkeep_s > 0 or dead == 0)
    for nodes in [each for each in sizes if each <= options.together_max]:
        async with world_of(nodes, "flash") as world:
            await flash_join(world, nodes)
            await world.run(UPKEEP_S)
            await measured.measure(world, "60 s after a flash join", nodes, 0, settled=True)
        async with world_of(nodes, "divided") as world:
            await grow(world, nodes)
            await divide_and_heal(world)
            await world.run(UPKEEP_S)
            await measured.measure(world, "60 s after a division", nodes, 0, settled=True)
    table = Table("lookups", COLUMNS, tuple(measured.rows))
    return Findings(digest.hexdigest(), events, (table,), problems=measured.problems)


if __name__ == "__main__":
    main(__doc__, LookupsOptions, simulate)
