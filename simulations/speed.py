"""How fast is the simulated world? Run: python -m simulations.speed

World:       four grids: 20 nodes that run applications; 200 nodes that send each other heartbeats; 200 nodes whose
             heartbeats are modelled, with 100 applications; 1,000 nodes that join, then look up 200 keys.
Expectation: at least 100, 5 and 50 times as fast as real time; the last within 60 s of real time.
Reading:     seconds of processor time and virtual seconds a second of it, for what follows once all nodes know each
             other (but in the last row). It is a benchmark: nothing here is checked, and each run differs.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog
import trio

from jcpeer.net.memory import MemoryWorld
from simulations.grid import SimulatedGrid, open_grid
from simulations.join import JoinOptions
from simulations.join import simulate as join
from simulations.report import Table
from simulations.scenario import few_collections, run
from simulations.virtual_time import run_seeded
from simulations.workloads import layered

Row = tuple[str, float, float, float, str]


async def _bring_up(grid: SimulatedGrid, nodes: int) -> None:
    for number in range(nodes):
        await grid.start(f"node{number}")
    await trio.sleep(30)


async def _run_applications(grid: SimulatedGrid, count: int, *, within_s: float, seed: int) -> None:
    """Graphs of 100 tasks of half a second, from as many nodes."""
    draw = random.Random(seed)
    began_s = trio.current_time()

    async def one(number: int) -> None:
        await trio.sleep_until(began_s + within_s * number / count)
        session = draw.choice(list(grid.nodes.values())).client.session
        header = grid.header(f"app{number}")
        await session.wait((await session.submit(layered(number, width=10), header)).app)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)


async def measure(
    nodes: int, heartbeats: Literal["modelled", "messages"], applications: int, lasting_s: float
) -> tuple[float, float]:
    """Virtual seconds, and seconds of processor time, of a grid at work."""
    world = MemoryWorld(1, heartbeats=heartbeats)
    async with open_grid(world) as grid:
        await _bring_up(grid, nodes)
        began_s, began = trio.current_time(), time.process_time()
        if applications:
            await _run_applications(grid, applications, within_s=lasting_s, seed=1)
        await trio.sleep_until(max(trio.current_time(), began_s + lasting_s))
        return trio.current_time() - began_s, time.process_time() - began


def row(name: str, target: str, measured: Callable[[], Awaitable[tuple[float, float]]]) -> Row:
    with few_collections():
        virtual_s, took_s = run_seeded(measured, seed=1)
    return name, virtual_s, took_s, virtual_s / took_s, target


def rows() -> list[Row]:
    found = [
        row("20 nodes, 20 applications", "100", lambda: measure(20, "modelled", 20, 100.0)),
        row("200 nodes, heartbeats as messages", "5", lambda: measure(200, "messages", 0, 30.0)),
        row("200 nodes, 100 applications", "50", lambda: measure(200, "modelled", 100, 300.0)),
    ]
    began = time.process_time()
    findings = run(join, JoinOptions(nodes=1000, rest_s=5.0, lookups=200))
    took_s = time.process_time() - began
    virtual_s = findings.table("join")[0]["virtual s"]
    assert isinstance(virtual_s, float)
    return [*found, ("1,000 nodes join, 200 lookups", virtual_s, took_s, virtual_s / took_s, "in 60 s")]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    columns = ("world", "virtual s", "took s", "times real time", "wanted")
    print("\n".join(Table("speed", columns, tuple(rows())).lines()))


if __name__ == "__main__":
    main()
