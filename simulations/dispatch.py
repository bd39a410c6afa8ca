"""What do the dispatch policies make of distance? Run: python -m simulations.dispatch --seed 7

World:       a node of 1 core that submits and coordinates, and others of 2 cores, which each task takes; links of 20 to
             25 ms; chains, a tree and layers of shared tasks, most of them short, under each policy in turn.
Expectation: each task runs once whatever the policy; a chain under `relay` goes on without waiting for the coordinator.
Reading:     seconds from submission to the end, and attempts, by shape and policy.
"""

from __future__ import annotations

from typing import get_args

import trio
from attrs import frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Dispatch
from jcpeer.application.task import Needs
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from simulations.checkers import application_problems, machine_problems
from simulations.grid import Hardware, open_grid
from simulations.report import Findings, Table
from simulations.scenario import Options, main, option
from simulations.workloads import chains, layered, tree

LATENCY_S = (0.020, 0.025)
SECONDS = 0.02
"""A task takes."""
SMALL_BYTES = 100


@frozen
class DispatchOptions(Options):
    nodes: int = option(5, "that run tasks, of 2 cores each", at_least=1)
    length: int = option(50, "of chains", at_least=1)


async def simulate(options: DispatchOptions) -> Findings:
    world = MemoryWorld(options.seed, latency_s=LATENCY_S)
    rows: list[tuple[str, str, int, int, float]] = []
    problems: list[str] = []
    async with open_grid(world) as grid:
        home = await grid.start("home", hardware=Hardware(cpus=1))
        for number in range(options.nodes):
            await grid.start(f"node{number}")
        await trio.sleep(1)
        session = home.client.session
        for shape, loaded in _shapes(options).items():
            for dispatch in get_args(Dispatch):
                app = (await session.submit(loaded, grid.header(shape, placement="local", dispatch=dispatch))).app
                status = await session.wait(app)
                rows.append((shape, dispatch, len(loaded.tasks), status.attempts, status.seconds))
                problems += application_problems(grid, [app])
        problems += machine_problems(grid)
    problems += [
        f"{shape} under {policy}: {n} attempts of {tasks} tasks" for shape, policy, tasks, n, _ in rows if n != tasks
    ]
    table = Table("policies", ("shape", "dispatch", "tasks", "attempts", "seconds"), tuple(rows))
    return Findings(world.trace.digest, world.trace.length, (table,), (), problems)


def _shapes(options: DispatchOptions) -> dict[str, LoadedApplication]:
    shapes = {
        "one chain": chains(1, options.length, seconds=SECONDS, output_bytes=SMALL_BYTES),
        "chains": chains(options.nodes, options.length, seconds=SECONDS, output_bytes=SMALL_BYTES),
        "a tree": tree(4, 3, seconds=SECONDS, output_bytes=SMALL_BYTES),
        "layers": layered(options.seed, layers=5, width=options.nodes, output_bytes=SMALL_BYTES),
    }
    return {name: _apart(each) for name, each in shapes.items()}


def _apart(loaded: LoadedApplication) -> LoadedApplication:
    """The same for nodes of 2 cores only, so that the coordinator's runs none of it."""
    return evolve(loaded, tasks=tuple(evolve(each, needs=Needs(cpus=2)) for each in loaded.tasks))


if __name__ == "__main__":
    main(__doc__, DispatchOptions, simulate)
