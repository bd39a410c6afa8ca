"""Does an application survive its participants? Run: python -m simulations.participant --seed 7

World:       5 nodes of 2 cores on a LAN, links of 0.5 to 2 ms; a graph of 200 tasks of 0.1 to 1 s in 10 layers is
             submitted at the first node; a participant crashes when a third is done, and stays away.
Expectation: the application ends "ok"; the crashed node's attempts run elsewhere, and what it had finished runs again
             where somebody still needs it.
Reading:     the table says what each node did; the digest is over all that any node was told by the network, and is
             the same for the same seed.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
from contextlib import aclosing

import structlog
import trio

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header
from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.requests import Happened, Status
from simulations.grid import SimulatedGrid
from simulations.virtual_time import run_seeded

OUTPUT_BYTES = 100_000
"""Too large for a report: the crashed node's outputs go with it."""


def layered(seed: int, *, layers: int = 10, width: int = 20) -> LoadedApplication:
    """A graph in which each task reads the outputs of two of the layer before."""
    draw = random.Random(seed)
    tasks: list[Task] = []
    for layer in range(layers):
        for index in range(width):
            parents = draw.sample(range(width), 2) if layer else []
            tasks.append(
                Task(
                    TaskId(f"t{layer}.{index}"),
                    Timed(draw.uniform(0.1, 1.0), output_bytes={"out": OUTPUT_BYTES}),
                    inputs=tuple(
                        Input(f"in{each}", OutputOf(TaskId(f"t{layer - 1}.{each}"), "out")) for each in parents
                    ),
                    outputs=("out",),
                )
            )
    return LoadedApplication("layered", tuple(tasks))


async def simulate(seed: int) -> tuple[Status, MemoryWorld]:
    """One run, in virtual time; returns what became of the application, and the world."""
    world = MemoryWorld(seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery)
        nodes = [await grid.start(f"node{number}") for number in range(5)]
        await trio.sleep(1)
        client = nodes[0].client
        header = Header("layered", world.wall_s, world.random.randbytes(16))
        app = (await client.session.submit(layered(seed), header)).app
        finished = 0
        async with aclosing(client.session.events(app)) as events:
            async for event in events:
                if isinstance(event, Happened) and event.kind == "finished":
                    finished += 1
                    if finished == 70:
                        grid.crash("node3")
        for each in nodes:
            if each.node is not None:
                each.node.participation.machine.check()
        status = await client.session.status(app)
        nursery.cancel_scope.cancel()
    return status, world


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if not chosen.json:
        print(f"seed {chosen.seed}, 5 nodes of 2 cores, 200 tasks")
    status, world = run_seeded(simulate, chosen.seed, seed=chosen.seed)
    if chosen.json:
        counts = {"finished": status.summary.tasks["finished"], "attempts": status.attempts}
        print(json.dumps({"status": status.summary.state, **counts, "digest": world.trace.digest}))
        return
    print(f"{status.summary.state} after {status.seconds:.1f} virtual s; {status.attempts} attempts for 200 tasks")
    for share in status.shares:
        print(f"  {share.node.name}: finished {share.finished:3}, lost {share.lost}, busy {share.busy_s:5.1f} s")
    for line in status.failures:
        print(f"  {line}")
    print(f"digest {world.trace.digest[:16]} over {world.trace.length} events")


if __name__ == "__main__":
    main()
