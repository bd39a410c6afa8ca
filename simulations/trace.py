"""How long would a recorded run take on this grid? Run: python -m simulations.trace FILE... --nodes 4 --cores 8

World:       for each file a grid of its own, N nodes of M cores on a LAN. A task takes its recorded time (times the
             slowness of its node) on as many cores as it used, at most those of one node. What it makes has its
             recorded size; files that no task made cost nothing.
Bytes:       outputs are really held in memory, so those of an application are scaled down to 256 MiB in all
             (`--bytes-scale` says otherwise), and the links with them: transfers take as long as the recorded sizes
             would. Control messages are not smaller, so there they weigh more than they should.
Expectation: each application ends "ok"; its makespan is not far above the bound, which is the critical path or the work
             over all cores, whichever is longer.
Reading:     `ratio` is makespan over bound; `recorded` is the makespan in the file, made on other machines than these,
             and with the waits of the system of then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import trio
from attrs import frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import Task, Timed
from jcpeer.application.wfformat import load_wfformat
from jcpeer.net.memory import MemoryWorld
from simulations.checkers import application_problems, machine_problems, rest_problems
from simulations.grid import Hardware, open_grid
from simulations.report import Cell, Findings, Table
from simulations.scenario import Options, joint_digest, main, numbers, option

BYTES_HELD_MAX = 256 * 2**20


@frozen
class TraceOptions(Options):
    files: tuple[Path, ...] = option((), "recorded runs in WfFormat", positional=Path)
    nodes: int = option(4, "in the grid", at_least=1)
    cores: int = option(8, "of each node", at_least=1)
    dispatch: str = option("assign", "who decides which node runs a task", choices=("assign", "grab", "relay"))
    slowness: str = option(
        "1", "factors on recorded times, with commas; the nodes take them in turn", at_least=0.01, list_of=float
    )
    bandwidth: float = option(125e6, "bytes a second out of each node; 0 is no limit")
    bytes_scale: float = option(0.0, "factor on recorded sizes; 0 is 1, or less where an application has too much")


async def simulate(options: TraceOptions) -> Findings:
    rows, problems, worlds = [], [], []
    for path in options.files:
        scale = options.bytes_scale or fitting_scale(path)
        application = load_wfformat(path, bytes_scale=scale, cpus_max=options.cores)
        world = MemoryWorld(options.seed, bandwidth=options.bandwidth * scale or None, encode=True)
        row, found = await replay(application, world, options)
        rows.append((path.stem, *row, scale))
        problems += [f"{path.stem}: {each}" for each in found]
        worlds.append(world)
    table = Table("traces", COLUMNS, tuple(rows))
    return Findings(*joint_digest(worlds), (table,), problems=problems)


COLUMNS = (
    *("file", "tasks", "makespan s", "critical path s", "work/cores s", "recorded s", "ratio"),
    *("attempts", "messages", "bytes scale"),
)


async def replay(
    application: LoadedApplication, world: MemoryWorld, options: TraceOptions
) -> tuple[tuple[Cell, ...], list[str]]:
    """One application on a grid of its own: what the table says of it, and what the checkers object to."""
    slowness = numbers(options.slowness, float)
    machines = [Hardware(options.cores, slowness=slowness[at % len(slowness)]) for at in range(options.nodes)]
    async with open_grid(world) as grid:
        for number, hardware in enumerate(machines):
            await grid.start(f"node{number}", hardware=hardware)
        await trio.sleep(2)
        session = grid.nodes["node0"].client.session
        dispatch = cast(Literal["assign", "grab", "relay"], options.dispatch)
        before = world.traffic.messages_in_all
        app = (await session.submit(application, grid.header(application.name, dispatch=dispatch))).app
        status = await session.wait(app)
        messages = world.traffic.messages_in_all - before
        await trio.sleep(5)
        problems = [*machine_problems(grid), *application_problems(grid, [app]), *rest_problems(grid)]
    path_s = critical_path_s(application.tasks) * min(slowness)
    work_s = sum(_seconds(each) * each.needs.cpus for each in application.tasks)
    shared_s = work_s / sum(each.cpus / each.slowness for each in machines)
    ratio = status.seconds / max(path_s, shared_s)
    recorded_s = application.recorded_makespan_s
    row = (len(application.tasks), status.seconds, path_s, shared_s, recorded_s, ratio, status.attempts, messages)
    return row, problems


def fitting_scale(path: Path) -> float:
    """1, or what brings all that the tasks of this file make down to `BYTES_HELD_MAX`."""
    made = (_bytes(each) for each in load_wfformat(path, bytes_scale=1.0).tasks)
    return min(1.0, BYTES_HELD_MAX / max(1, sum(made)))


def critical_path_s(tasks: tuple[Task, ...]) -> float:
    """The longest chain of recorded times."""
    by_id = {each.id: each for each in tasks}
    until_s: dict[str, float] = {}
    stack = list(by_id)
    while stack:
        task = by_id[stack[-1]]
        waiting = [each for each in task.parents() if each not in until_s]
        if waiting:
            stack += waiting
            continue
        until_s[stack.pop()] = _seconds(task) + max((until_s[each] for each in task.parents()), default=0.0)
    return max(until_s.values(), default=0.0)


def _seconds(task: Task) -> float:
    return task.work.seconds if isinstance(task.work, Timed) else 0.0


def _bytes(task: Task) -> int:
    return sum(task.work.output_bytes.values()) if isinstance(task.work, Timed) else 0


if __name__ == "__main__":
    main(__doc__, TraceOptions, simulate)
