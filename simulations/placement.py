"""Do coordinators spread over the nodes as hashing promises? Run: python -m simulations.placement --nodes 50

World:       nodes of 2 cores, at sites of 50; small applications with placement rdv, submitted at random nodes at
             random times, so that each lives at the members whose keys are closest to its own.
Expectation: each is kept by exactly the three closest members, coordinated by the first of them, and ends "ok"; no
             node coordinates more of them than chance explains, given how much of the keys is closest to it.
Reading:     `expected` is the number of applications times that share. `bound` is what the node stays below with
             all but a chance of one in a million.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import trio
from attrs import frozen

from jcpeer.ids import KEY_BITS, AppId, NodeId, app_key, closest_set, node_key
from jcpeer.net.memory import MemoryWorld
from simulations.arrivals import arrive
from simulations.checkers import application_problems, machine_problems, rest_problems
from simulations.grid import SimulatedGrid, open_grid
from simulations.report import Findings, Table
from simulations.scenario import Options, main, option
from simulations.sites import Sites
from simulations.workloads import bag

ROWS = 8
CHANCE = 1e-6
REPLICAS = 3
"""Of each application; the default."""


@frozen
class PlacementOptions(Options):
    nodes: int = option(50, "in the grid", at_least=1)
    applications: int = option(300, "of two tasks of a second each", at_least=1)
    within_s: float = option(120.0, "all are submitted within so many seconds")


async def simulate(options: PlacementOptions) -> Findings:
    sites = Sites()
    world = MemoryWorld(options.seed, latency_s=sites.latency_s)
    async with open_grid(world, sites=sites) as grid:
        await arrive(grid, options.nodes)
        await trio.sleep(60)
        accepted = await _run_all(grid, options)
        await trio.sleep(30)
        homes = {app: _home(grid, app) for app in accepted}
        shares = _shares(grid, homes)
        problems = [
            *machine_problems(grid),
            *application_problems(grid, accepted),
            *rest_problems(grid),
            *home_problems(homes, [each.id for each in grid.running]),
            *(f"{name} coordinates {has}, more than chance explains" for name, has, _, bound in shares if has > bound),
        ]
    row = (len(accepted), options.nodes, len(accepted) / options.nodes, shares[0][1], max(each[2] for each in shares))
    columns = ("applications", "nodes", "mean", "busiest has", "largest expected")
    busiest = Table("busiest", ("node", "coordinates", "expected", "bound"), tuple(shares[:ROWS]))
    return Findings(world.trace.digest, world.trace.length, (Table("balance", columns, (row,)), busiest), (), problems)


@frozen
class Home:
    """Who coordinates an application, or did to its end, and who has copies of it."""

    coordinators: tuple[NodeId, ...]
    kept: frozenset[NodeId]


def _home(grid: SimulatedGrid, app: AppId) -> Home:
    copies = {each.id: copy for each in grid.running if (copy := each.running.copies.get(app)) is not None}
    return Home(tuple([node for node, copy in copies.items() if copy.reigns]), frozenset(copies))


def home_problems(homes: Mapping[AppId, Home], members: Sequence[NodeId], *, replicas: int = REPLICAS) -> list[str]:
    """Each application lives at those members that are closest to its key, and the closest of them coordinates it."""
    problems = []
    for app, home in homes.items():
        nearest = closest_set(app_key(app), members, k=replicas)
        if home.coordinators != nearest[:1]:
            problems.append(f"application {app[:12]} has {len(home.coordinators)} coordinators, not the closest alone")
        if home.kept != frozenset(nearest):
            problems.append(f"application {app[:12]} is kept by {len(home.kept)} nodes, not by the {replicas} closest")
    return problems


def _shares(grid: SimulatedGrid, homes: Mapping[AppId, Home]) -> list[tuple[str, int, float, float]]:
    """Of each node: how many it coordinates, how many are expected, and the bound; the busiest first."""
    loads = Counter(node for home in homes.values() for node in home.coordinators)
    parts = zones({each.id: node_key(each.id) for each in grid.running})
    expected = {each: len(homes) * parts[each.id] for each in grid.running}
    rows = [(each.name, loads[each.id], mean, load_max(mean, len(parts))) for each, mean in expected.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


async def _run_all(grid: SimulatedGrid, options: PlacementOptions) -> list[AppId]:
    draw = random.Random(options.seed)
    began_s = trio.current_time()
    nodes = list(grid.running)
    accepted: list[AppId] = []

    async def one(number: int, node: str, at_s: float) -> None:
        await trio.sleep_until(began_s + at_s)
        session = grid.nodes[node].client.session
        header = grid.header(f"app{number}", placement="rdv")
        app = (await session.submit(bag(f"app{number}", [1.0, 1.0]), header)).app
        accepted.append(app)
        await session.wait(app)

    async with trio.open_nursery() as nursery:
        for number in range(options.applications):
            nursery.start_soon(one, number, draw.choice(nodes).name, draw.uniform(0.0, options.within_s))
    return accepted


def zones(keys: Mapping[NodeId, int]) -> dict[NodeId, float]:
    """The part of all keys to which each node is the closest by XOR.

    Where both branches of the trie of node keys have nodes, each is the nearer one for half of the keys; where one has
    none, its keys fall to the other.
    """
    found: dict[NodeId, float] = {}
    stack = [(list(keys), KEY_BITS - 1, 1.0)]
    while stack:
        nodes, bit, share = stack.pop()
        if len(nodes) == 1:
            found[nodes[0]] = share
            continue
        branches = [[each for each in nodes if keys[each] >> bit & 1 == side] for side in (0, 1)]
        taken = [each for each in branches if each]
        stack += [(each, bit - 1, share / len(taken)) for each in taken]
    return found


def load_max(expected: float, nodes: int) -> float:
    """No more than this, but for a chance of CHANCE / nodes: Chernoff's bound of a binomial with that mean,
    P(load >= mean + x) <= exp(-x^2 / (2 mean + x)), solved for x."""
    rarity = math.log(nodes / CHANCE)
    return expected + (rarity + math.sqrt(rarity * rarity + 8 * expected * rarity)) / 2


if __name__ == "__main__":
    main(__doc__, PlacementOptions, simulate)
