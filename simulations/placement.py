"""Do coordinators spread over the nodes as hashing promises? Run: python -m simulations.placement --nodes 50

World:       nodes of 2 cores, at sites of 50; small applications with placement rdv, submitted at random nodes at
             random times, so that each lives at the member whose key is closest to its own.
Expectation: each is coordinated by exactly the closest member, ends "ok", and no node has more of them than chance
             explains, given how much of the keys is closest to it.
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
        homes = {app: _homes(grid, app) for app in accepted}
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


def _homes(grid: SimulatedGrid, app: AppId) -> list[NodeId]:
    return [each.id for each in grid.running if each.running.applications.get(app) is not None]


def home_problems(homes: Mapping[AppId, Sequence[NodeId]], members: Sequence[NodeId]) -> list[str]:
    """Each application lives at the one member closest to its key."""
    wrong = [app for app, found in homes.items() if tuple(found) != closest_set(app_key(app), members, k=1)]
    return [f"application {each[:12]} lives on {len(homes[each])} nodes, not on the closest alone" for each in wrong]


def _shares(grid: SimulatedGrid, homes: Mapping[AppId, Sequence[NodeId]]) -> list[tuple[str, int, float, float]]:
    """Of each node: how many it coordinates, how many are expected, and the bound; the busiest first."""
    loads = Counter(node for found in homes.values() for node in found)
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
