"""How the nodes of a grid come: at sites that only the first node of each connects, at once or by and by."""

from __future__ import annotations

import trio

from simulations.grid import Place, SimulatedGrid

SITE_NODES = 50
"""At one site, where nothing else is said."""


def sites_for(nodes: int) -> int:
    """How many sites so many nodes stand at."""
    return -(-nodes // SITE_NODES)


async def arrive(
    grid: SimulatedGrid, nodes: int, *, sites: int | None = None, wave: int | None = None, gap_s: float = 0.0
) -> None:
    """Start `node0` and so on, which take the sites in turn. The first of each site was told the address of the very
    first node; the others find each other by multicast.

    Args:
        sites: How many; None is `sites_for` the nodes.
        wave: So many start at once, and the next ones `gap_s` later; None is all.
    """
    sites, wave = sites or sites_for(nodes), wave or nodes
    for number in range(nodes):
        if number and number % wave == 0:
            await trio.sleep(gap_s)
        told = ("node0",) if 0 < number < sites else ()
        await grid.start(f"node{number}", place=Place(site=f"site{number % sites}", bootstrap=told))
