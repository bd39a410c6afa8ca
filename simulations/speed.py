"""How fast is the simulated world? Run: python -m simulations.speed

World:       20 nodes and 20 applications; 200 nodes whose heartbeats are messages, and 10 applications; 200 nodes whose
             heartbeats are modelled, and 100 applications; each a bag of 2 to 128 parallel tasks of 1 to 500 s,
             submitted within an hour (of 1 to 20 s, within 30 s, where heartbeats are messages). Then 20 graphs of 100
             tasks of half a second on 20 nodes, within 100 s. Last 1,000 nodes that join, then look up 200 keys.
Expectation: 100, 5 and 50 times as fast as real time; the last within 60 s.
Reading:     seconds of processor time, and virtual seconds in each of them, for what follows once the nodes have
             settled (but in the last row). It is a benchmark: nothing is checked, and each run differs.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Literal

import structlog
import trio

from jcpeer.application.loaded import LoadedApplication
from jcpeer.net.memory import MemoryWorld
from simulations.grid import SimulatedGrid, open_grid
from simulations.join import JoinOptions
from simulations.join import simulate as join
from simulations.report import Table, shown
from simulations.scenario import few_collections, run
from simulations.virtual_time import run_seeded
from simulations.workloads import drawn_bag, layered

SETTLE_S = 300.0
"""Newcomers look around in the space of keys, and less and less often."""

Row = tuple[str, float, float, float, str]


async def _bring_up(grid: SimulatedGrid, nodes: int) -> None:
    for number in range(nodes):
        await grid.start(f"node{number}")
    await trio.sleep(SETTLE_S)


async def _run_all(grid: SimulatedGrid, applications: Sequence[LoadedApplication], *, within_s: float) -> None:
    """Submitted one after another, from any nodes."""
    draw = random.Random(1)
    began_s = trio.current_time()

    async def one(number: int, application: LoadedApplication) -> None:
        await trio.sleep_until(began_s + within_s * number / len(applications))
        session = draw.choice(list(grid.nodes.values())).client.session
        await session.wait((await session.submit(application, grid.header(application.name))).app)

    async with trio.open_nursery() as nursery:
        for number, application in enumerate(applications):
            nursery.start_soon(one, number, application)


def bags(count: int, *, seconds_max: float = 500.0) -> list[LoadedApplication]:
    draw = random.Random(1)
    return [drawn_bag(draw, f"app{number}", seconds_max=seconds_max) for number in range(count)]


def row(
    name: str,
    nodes: int,
    applications: Sequence[LoadedApplication],
    within_s: float,
    *,
    wanted: str,
    heartbeats: Literal["modelled", "messages"] = "modelled",
) -> Row:
    """What a grid at work costs."""

    async def measure() -> tuple[float, float]:
        world = MemoryWorld(1, heartbeats=heartbeats)
        async with open_grid(world) as grid:
            await _bring_up(grid, nodes)
            began_s, began = trio.current_time(), time.process_time()
            await _run_all(grid, applications, within_s=within_s)
            return trio.current_time() - began_s, time.process_time() - began

    with few_collections():
        virtual_s, took_s = run_seeded(measure, seed=1)
    return name, virtual_s, took_s, virtual_s / took_s, wanted


def rows() -> Iterator[Row]:
    yield row("20 nodes, 20 bags", 20, bags(20), 3600.0, wanted="100")
    yield row("200 nodes, heartbeats", 200, bags(10, seconds_max=20.0), 30.0, wanted="5", heartbeats="messages")
    yield row("200 nodes, 100 bags", 200, bags(100), 3600.0, wanted="50")
    graphs = [layered(number, width=10) for number in range(20)]
    yield row("20 nodes, 20 graphs", 20, graphs, 100.0, wanted="-")
    began = time.process_time()
    findings = run(join, JoinOptions(nodes=1000, rest_s=5.0, lookups=200))
    took_s = time.process_time() - began
    virtual_s = findings.table("join")[0]["virtual s"]
    assert isinstance(virtual_s, float)
    yield "1,000 nodes join, 200 lookups", virtual_s, took_s, virtual_s / took_s, "in 60 s"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    columns = ("world", "virtual s", "took s", "times real time", "wanted")
    found = []
    for each in rows():
        print(f"… {each[0]}: {shown(each[3])}", file=sys.stderr, flush=True)
        found.append(each)
    print("\n".join(Table("speed", columns, tuple(found)).lines()))


if __name__ == "__main__":
    main()
