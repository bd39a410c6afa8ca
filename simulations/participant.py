"""Does an application survive its participants? Run: python -m simulations.participant --seed 7

World:       5 nodes of 2 cores on a LAN, links of 0.5 to 2 ms; a graph of 200 tasks of 0.1 to 1 s in 10 layers is
             submitted at the first node; a participant crashes when a third is done, and stays away.
Expectation: the application ends "ok"; the crashed node's attempts run elsewhere, and what it had finished runs again
             where somebody still needs it.
Reading:     the table says what each node did, the lines below which attempts came to nothing; the digest is over all
             that any node was told by the network, and is the same for the same seed.
"""

from __future__ import annotations

from contextlib import aclosing

import trio
from attrs import frozen

from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.requests import Happened
from simulations.checkers import application_problems, directory_problems, machine_problems, rest_problems
from simulations.faults import Crash, Injector
from simulations.grid import open_grid
from simulations.report import Findings, Table
from simulations.scenario import Options, main, option
from simulations.workloads import layered


@frozen
class ParticipantOptions(Options):
    nodes: int = option(5, "of 2 cores each", at_least=3)
    tasks: int = option(200, "in 10 layers", at_least=10)


async def simulate(options: ParticipantOptions) -> Findings:
    world = MemoryWorld(options.seed)
    async with open_grid(world) as grid:
        nodes = [await grid.start(f"node{number}") for number in range(options.nodes)]
        injector = Injector(grid)
        await trio.sleep(1)
        client = nodes[0].client
        application = layered(options.seed, width=options.tasks // 10)
        app = (await client.session.submit(application, grid.header("layered"))).app
        finished = 0
        async with aclosing(client.session.events(app)) as events:
            async for event in events:
                if isinstance(event, Happened) and event.kind == "finished":
                    finished += 1
                    if finished == options.tasks // 3:
                        await injector.inject(Crash(nodes[-2].name))
        status = await client.session.status(app)
        await trio.sleep(5)
        problems = [
            *machine_problems(grid),
            *application_problems(grid, [app]),
            *rest_problems(grid),
            *directory_problems(grid),
        ]
        ended = Table(
            "application",
            ("state", "finished", "attempts", "seconds"),
            ((status.summary.state, status.summary.tasks["finished"], status.attempts, status.seconds),),
        )
        shares = Table(
            "shares",
            ("node", "finished", "lost", "busy s"),
            tuple((each.node.name, each.finished, each.lost, each.busy_s) for each in status.shares),
        )
        lines = (*injector.history, *status.failures)
        return Findings(world.trace.digest, world.trace.length, (ended, shares), lines, problems)


if __name__ == "__main__":
    main(__doc__, ParticipantOptions, simulate)
