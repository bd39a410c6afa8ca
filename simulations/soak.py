"""Does a node grow with time? Run: python -m simulations.soak --hours 24

World:       4 nodes of 2 cores on a LAN. Every half hour one of them, in turn, is handed an application of 20 tasks of
             1 s, which is forgotten when it has ended; then one, in turn, crashes and comes back.
Expectation: what all of them hold together is at the end what it was after the first half, but for the stones by
             which forgotten applications are known for 90 days: no more than 8 KiB for each, on four disks.
Reading:     objects that Python has, and the bytes that it allocated for them since the beginning, after each eighth of
             the time, once what is remembered to save time alone, within bounds, was dropped. The world itself is among
             them, with all disks.
"""

from __future__ import annotations

import functools
import gc
import tracemalloc

import trio
from attrs import frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from simulations.checkers import machine_problems
from simulations.grid import SimulatedGrid, open_grid
from simulations.report import Findings, Table
from simulations.scenario import Options, main, option

EVERY_S = 1800.0
AWAY_S = 60.0
PARTS = 8
STONE_MIB_MAX = 8 / 1024
JUDGED_H = 12.0
"""In less time what nodes learn at the beginning is more than what they are not to gather."""
TASKS = tuple(Task(TaskId(f"t{each}"), Timed(1.0)) for each in range(20))


@frozen
class SoakOptions(Options):
    hours: float = option(24.0, "of virtual time", at_least=4)
    nodes: int = option(4, "of 2 cores each", at_least=4)


async def simulate(options: SoakOptions) -> Findings:
    world = MemoryWorld(options.seed)
    looks: list[tuple[float, int, float]] = []
    tracemalloc.start(1)
    try:
        async with open_grid(world) as grid, trio.open_nursery() as nursery:
            names = [(await grid.start(f"node{number}")).name for number in range(options.nodes)]
            nursery.start_soon(_live, grid, names)
            for _ in range(PARTS):
                await trio.sleep(options.hours * 3600.0 / PARTS - EVERY_S / 2 * (not looks))  # in the middle of a rest
                looks.append((trio.current_time() / 3600.0, *_held()))
            problems = machine_problems(grid)
            nursery.cancel_scope.cancel()
    finally:
        tracemalloc.stop()
    settled, last = looks[PARTS // 2 - 1], looks[-1]
    forgotten = (last[0] - settled[0]) * 3600.0 / EVERY_S
    if options.hours >= JUDGED_H and (last[2] - settled[2]) / forgotten > STONE_MIB_MAX:
        problems.append(f"what is held grew from {settled[2]:.2f} to {last[2]:.2f} MiB")
    table = Table("held", ("after h", "objects", "MiB"), tuple(looks))
    return Findings(world.trace.digest, world.trace.length, (table,), problems=problems)


async def _live(grid: SimulatedGrid, names: list[str]) -> None:
    turn = 0
    while True:
        session = grid.nodes[names[turn % len(names)]].client.session
        app = (await session.submit(LoadedApplication("app", TASKS), grid.header("app"))).app
        await session.wait_ok(app)
        await session.forget(app)
        falls = names[(turn + 1) % len(names)]
        grid.crash(falls)
        await trio.sleep(AWAY_S)
        await grid.start(falls)
        turn += 1
        await trio.sleep(EVERY_S - AWAY_S)


def _held() -> tuple[int, float]:
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper):
            each.cache_clear()
    gc.collect()
    return len(gc.get_objects()), tracemalloc.get_traced_memory()[0] / 2**20


if __name__ == "__main__":
    main(__doc__, SoakOptions, simulate)
