"""How long until everybody knows everybody, and what does it cost? Run: python -m simulations.join --nodes 200

World:       nodes at several sites: multicast and links of 0.5 to 2 ms within one, links of 10 to 50 ms and no
             multicast between them; the first node of each site was told the address of the very first node, the others
             nothing. They come all at once, in waves, or one after another; then they rest, then look up keys.
Expectation: every directory is complete within a minute of the last start; the degree stays bounded however many there
             are, and so does what each node sends at rest.
Reading:     `complete s` counts from the last start. Messages and bytes are those sent by a node in a second, first
             from the first start until all is complete, then at rest (heartbeats are modelled, and not among them);
             bytes are estimated from samples.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio
from attrs import frozen

from jcpeer.ids import KEY_BITS, closest_set
from jcpeer.net.memory import MemoryWorld
from simulations.arrivals import SITE_NODES, arrive
from simulations.checkers import directory_problems, machine_problems
from simulations.grid import SimulatedGrid, open_grid
from simulations.report import Findings, Table, quantile
from simulations.scenario import Options, main, option
from simulations.sites import Sites

LOOK_S = 0.25
"""Between looks at whether all is complete."""
COMPLETE_S_MAX = 600.0
CLOSEST = 3
"""Of the members closest to a key, so many must be the true ones."""


COARSE_ABOVE = 200
COARSE_GRAINS_PER_S = 64
"""In a world of more nodes everything arrives at one of so many instants a second, which makes it quicker."""


@frozen
class JoinOptions(Options):
    nodes: int = option(100, "in all", at_least=2)
    sites: int = option(0, f"that they stand at in turn; 0 is one for {SITE_NODES} nodes")
    how: str = option("once", "they come", choices=("once", "waves", "one-by-one"))
    wave: int = option(10, "nodes in a wave", at_least=1)
    gap_s: float = option(1.0, "between waves, or between one and the next")
    rest_s: float = option(30.0, "of rest, over which its cost is measured", at_least=1)
    lookups: int = option(50, "of random keys, from random nodes, one after another")


async def simulate(options: JoinOptions) -> Findings:
    sites = Sites()
    grains_per_s = COARSE_GRAINS_PER_S if options.nodes > COARSE_ABOVE else None
    world = MemoryWorld(options.seed, latency_s=sites.latency_s, grains_per_s=grains_per_s)
    async with open_grid(world, sites=sites) as grid:
        wave = {"once": None, "waves": options.wave, "one-by-one": 1}[options.how]
        await arrive(grid, options.nodes, sites=options.sites, wave=wave, gap_s=options.gap_s)
        last_s = trio.current_time()
        is_complete = await _until_complete(grid)
        complete_s = trio.current_time()
        joining = _Cost(world, complete_s)
        degrees = [_degrees(grid)]
        await trio.sleep(10)  # until what joining opened is closed again
        before = world.traffic.messages_in_all, world.traffic.bytes_in_all
        await trio.sleep(options.rest_s)
        resting = _Cost(world, options.rest_s, *before)
        degrees.append(_degrees(grid))
        lookups = await _look_up(grid, options)
        problems = [*machine_problems(grid), *directory_problems(grid)]
        if not is_complete:
            problems.append(f"not every directory was complete within {COMPLETE_S_MAX:.0f} s")
        row = (
            *(options.nodes, complete_s - last_s, world.traffic.connections / options.nodes),
            *(*joining.a_node(options.nodes), *resting.a_node(options.nodes)),
            *(*degrees[0], *degrees[1], trio.current_time()),
        )
        table = Table("join", COLUMNS, (row,))
        return Findings(world.trace.digest, world.trace.length, (table, lookups), problems=problems)


COLUMNS = (
    *("nodes", "complete s", "connections", "joining: messages/s", "bytes/s", "resting: messages/s", "bytes/s at rest"),
    *("degree then", "most", "degree at rest", "most at rest", "virtual s"),
)


class _Cost:
    """What was sent in a span of time."""

    def __init__(self, world: MemoryWorld, span_s: float, messages_before: int = 0, bytes_before: int = 0) -> None:
        self._messages = (world.traffic.messages_in_all - messages_before) / span_s
        self._bytes = (world.traffic.bytes_in_all - bytes_before) / span_s

    def a_node(self, nodes: int) -> tuple[float, float]:
        return self._messages / nodes, self._bytes / nodes


async def _until_complete(grid: SimulatedGrid) -> bool:
    """True once every directory is; False if that takes too long."""
    incomplete = list(grid.running)
    size = len(incomplete)
    with trio.move_on_after(COMPLETE_S_MAX):
        while True:
            while incomplete and len(incomplete[-1].running.directory) == size:
                incomplete.pop()
            if not incomplete:
                return True
            await trio.sleep(LOOK_S)
    return False


async def _look_up(grid: SimulatedGrid, options: JoinOptions) -> Table:
    """Each finds the members closest to a key, and is compared with the truth."""
    draw, traffic, living = random.Random(options.seed), grid.world.traffic, [each.id for each in grid.running]
    nodes = list(grid.running)
    exact, took_s, costs = 0, [], []
    for _ in range(options.lookups):
        key, node = draw.getrandbits(KEY_BITS), draw.choice(nodes)
        began_s, before = trio.current_time(), traffic.messages_in_all
        nearest = await node.running.finder.nearest(key, count=CLOSEST)
        took_s.append(trio.current_time() - began_s)
        costs.append(traffic.messages_in_all - before)
        found = closest_set(key, (each.node for each in nearest.candidates), k=CLOSEST)
        exact += found == closest_set(key, living, k=CLOSEST)
    row = (options.lookups, exact, quantile(took_s, 0.5), quantile(took_s, 0.95), sum(costs) / max(1, len(costs)))
    return Table("lookups", ("lookups", f"first {CLOSEST} exact", "median s", "95 % s", "messages each"), (row,))


def _degrees(grid: SimulatedGrid) -> tuple[float, int]:
    """The mean, and the most."""
    degrees: Sequence[int] = [grid.world.degree(each.id) for each in grid.running]
    return sum(degrees) / len(degrees), max(degrees)


if __name__ == "__main__":
    main(__doc__, JoinOptions, simulate)
