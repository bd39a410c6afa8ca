"""What do many coordinators on shared nodes cost each other? Run: python -m simulations.contention --applications 50

World:       20 nodes of 2 cores on a LAN, owned by 4 users who trust the grid. Each application is a bag of 2 to 128
             parallel tasks of one length between 1 and 500 s, submitted at a node of its user at a random time within
             an hour; the same ones then run one after another on the same grid, each alone. `--faults` breaks nodes,
             cuts and pauses them, and lets it pass. With `--demand equal` each user has one application instead, with
             more work than all slots can do: what each has had after `--within-s` seconds is its share.
Expectation: every application ends, and ends "ok" unless faults took a task three times; nobody waits for long while
             cores are free.
Reading:     the delay of an application is its time in the crowd less its time alone; one is delayed if that is more
             than a second. Slot-seconds in contention are those while every user had an unfinished application: equal
             shares of it are fair shares. Utilisation is that of all slots from the first submission to the last end.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import trio
from attrs import frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.config import Config
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId
from jcpeer.net.memory import MemoryWorld
from jcpeer.wire.facts import Finished
from simulations.checkers import application_problems, machine_problems, rest_problems
from simulations.faults import Injector, drawn_plan
from simulations.grid import Hardware, Place, SimulatedGrid, open_grid
from simulations.report import Findings, Table, quantile
from simulations.scenario import Options, joint_digest, main, option
from simulations.workloads import bag, drawn_bag

DELAYED_S = 1.0
EQUAL_SECONDS = 5.0
"""Of a task, about, where demand is equal."""
ARRIVAL_S = 10.0
"""From one user to the next there."""
QUIET_S = 120.0
"""After the last end, before the checkers look: what crashed late is back by then."""


@frozen
class ContentionOptions(Options):
    nodes: int = option(20, "in the grid", at_least=1)
    cores: int = option(2, "of each node", at_least=1)
    applications: int = option(50, "submitted", at_least=1)
    users: int = option(4, "who submit them in turn, each at nodes of their own", at_least=1)
    within_s: float = option(3600.0, "all are submitted within so many seconds")
    seconds_max: float = option(500.0, "of the longest tasks", at_least=1)
    tasks_max: int = option(128, "of the largest applications", at_least=2)
    placement: str = option("local", "where coordinators live", choices=("local", "rdv"))
    dispatch: str = option("assign", "who decides which node runs a task", choices=("assign", "grab", "relay"))
    demand: str = option("drawn", "of the users: bags of all sizes, or as much as there is", choices=("drawn", "equal"))
    faults: int = option(0, "crashes, pauses and partitions meanwhile")

    def fault(self) -> str | None:
        return "--users: there must be a node for each" if self.users > self.nodes else None


@frozen
class Submission:
    """One application of the crowd."""

    application: LoadedApplication
    user: str
    node: str
    at_s: float


@frozen
class Run:
    """What became of one."""

    app: AppId
    user: str
    submitted_s: float
    ended_s: float
    attempts: tuple[tuple[float, float], ...]
    """When each attempt that counted began, and how long it took."""

    @property
    def took_s(self) -> float:
        return self.ended_s - self.submitted_s


async def simulate(options: ContentionOptions) -> Findings:
    return await (_simulate_equal_demand if options.demand == "equal" else _simulate_crowd)(options)


async def _simulate_crowd(options: ContentionOptions) -> Findings:
    draw = random.Random(options.seed)
    submissions = drawn_submissions(draw, options)
    crowd, alone = MemoryWorld(options.seed), MemoryWorld(options.seed)
    history: list[str] = []
    async with open_grid(crowd, config=Config(trust_grid=True)) as grid:
        await _start_nodes(grid, options)
        async with trio.open_nursery() as nursery:
            if options.faults:
                injector = Injector(grid)
                history = injector.history
                plan = drawn_plan(draw, list(grid.nodes), faults=options.faults, within_s=options.within_s)
                nursery.start_soon(injector.carry_out, plan)
            together = await _run_together(grid, submissions, options)
        await trio.sleep(QUIET_S)
        accepted = [each.app for each in together]
        # A task whose attempts were lost three times has failed: faults can do that, and nothing else.
        statuses = ("ok", "failed") if options.faults else ("ok",)
        problems = [
            *machine_problems(grid),
            *application_problems(grid, accepted, statuses=statuses),
            *rest_problems(grid),
        ]
    async with open_grid(alone, config=Config(trust_grid=True)) as grid:
        await _start_nodes(grid, options)
        undisturbed = [await _run(grid, each, options) for each in submissions]
    tables = (_delays(together, undisturbed, options), _shares(together, undisturbed))
    return Findings(*joint_digest([crowd, alone]), tables, tuple(history), problems)


async def _simulate_equal_demand(options: ContentionOptions) -> Findings:
    """Users come one after the other; shares are counted from the moment when all are there."""
    draw = random.Random(options.seed)
    world = MemoryWorld(options.seed)
    slots = options.nodes * options.cores
    async with open_grid(world, config=Config(trust_grid=True)) as grid:
        await _start_nodes(grid, options)
        apps: dict[AppId, str] = {}
        for number in range(options.users):
            count = 1 + int(2 * slots * (options.within_s + ARRIVAL_S * options.users) / EQUAL_SECONDS)
            tasks = bag(f"app{number}", [EQUAL_SECONDS * draw.uniform(0.5, 1.5) for _ in range(count)])
            session = grid.nodes[f"node{number}"].client.session
            apps[(await session.submit(tasks, grid.header(tasks.name))).app] = f"user{number}"
            await trio.sleep(ARRIVAL_S)
        from_s = grid.world.wall_s
        await trio.sleep(options.within_s + 2 * EQUAL_SECONDS)  # what ran until the end has been told by then
        until_s = from_s + options.within_s
        used = {user: _overlap(_attempts(grid, app), from_s, until_s) for app, user in apps.items()}
        problems = machine_problems(grid)
    mean = sum(used.values()) / len(used)
    rows = tuple((user, seconds, 100.0 * seconds / mean) for user, seconds in used.items())
    utilisation = sum(used.values()) / (slots * options.within_s)
    tables = (
        Table("shares", ("user", "slot s", "% of an equal share"), rows),
        Table("slots", ("slots", "utilisation"), ((slots, utilisation),)),
    )
    return Findings(*joint_digest([world]), tables, problems=problems)


def drawn_submissions(draw: random.Random, options: ContentionOptions) -> list[Submission]:
    """In the order of their times."""
    found = []
    for number in range(options.applications):
        user = number % options.users
        homes = range(user, options.nodes, options.users)
        found.append(
            Submission(
                drawn_bag(draw, f"app{number}", tasks_max=options.tasks_max, seconds_max=options.seconds_max),
                f"user{user}",
                f"node{draw.choice(homes)}",
                draw.uniform(0.0, options.within_s),
            )
        )
    return sorted(found, key=lambda each: each.at_s)


async def _start_nodes(grid: SimulatedGrid, options: ContentionOptions) -> None:
    for number in range(options.nodes):
        place = Place(user=f"user{number % options.users}")
        await grid.start(f"node{number}", hardware=Hardware(options.cores), place=place)
    await trio.sleep(5)


async def _run_together(
    grid: SimulatedGrid, submissions: Sequence[Submission], options: ContentionOptions
) -> list[Run]:
    began_s = trio.current_time()
    runs: dict[int, Run] = {}

    async def run_in_time(at: int, submission: Submission) -> None:
        await trio.sleep_until(began_s + submission.at_s)
        runs[at] = await _run(grid, submission, options)

    async with trio.open_nursery() as nursery:
        for at, submission in enumerate(submissions):
            nursery.start_soon(run_in_time, at, submission)
    return [runs[at] for at in range(len(submissions))]


async def _run(grid: SimulatedGrid, submission: Submission, options: ContentionOptions) -> Run:
    submitted_s = grid.world.wall_s
    session = grid.nodes[submission.node].client.session
    header = grid.header(
        submission.application.name,
        placement=cast(Literal["local", "rdv"], options.placement),
        dispatch=cast(Literal["assign", "grab", "relay"], options.dispatch),
    )
    app = (await session.submit(submission.application, header)).app
    await session.wait(app)
    ended_s = grid.world.wall_s
    await trio.sleep(1.0)  # its journal is written
    return Run(app, submission.user, submitted_s, ended_s, _attempts(grid, app))


def _attempts(grid: SimulatedGrid, app: AppId) -> tuple[tuple[float, float], ...]:
    """From whichever disk has the journal."""
    for simulated in grid.nodes.values():
        state = ApplicationState()
        for entry in simulated.disk.read(app, after_index=0):
            state.apply(entry)
        if state.placed is not None:
            finishes: list[Finished] = [each.result for each in state.tasks.values() if each.result is not None]
            return tuple((each.outcome.started_s, each.outcome.ran_s) for each in finishes)
    return ()


def _delays(together: Sequence[Run], alone: Sequence[Run], options: ContentionOptions) -> Table:
    late = [crowd.took_s - quiet.took_s for crowd, quiet in zip(together, alone, strict=True)]
    delayed = [each for each in late if each > DELAYED_S]
    makespan_s = max(each.ended_s for each in together) - min(each.submitted_s for each in together)
    used_s = sum(seconds for run in together for _, seconds in run.attempts)
    row = (
        *(len(together), len(delayed), len(delayed) / len(together)),
        *(quantile(delayed, 0.5), quantile(delayed, 0.95), max(delayed, default=0.0)),
        *(makespan_s, used_s, used_s / (makespan_s * options.nodes * options.cores)),
    )
    delays = ("applications", "delayed", "share", "median s", "95 % s", "longest s")
    columns = (*delays, "all took s", "slot s", "utilisation")
    return Table("delays", columns, (row,))


def _shares(together: Sequence[Run], alone: Sequence[Run]) -> Table:
    contended = slot_seconds_in_contention(together)
    rows = []
    for user in sorted({each.user for each in together}):
        pairs = [pair for pair in zip(together, alone, strict=True) if pair[0].user == user]
        stretch = [crowd.took_s / quiet.took_s for crowd, quiet in pairs]
        slots = sum(seconds for run, _ in pairs for _, seconds in run.attempts)
        rows.append((user, len(pairs), slots, contended[user], sum(stretch) / len(stretch), max(stretch)))
    columns = ("user", "applications", "slot s", "slot s in contention", "mean stretch", "largest stretch")
    return Table("users", columns, tuple(rows))


def slot_seconds_in_contention(runs: Sequence[Run]) -> Mapping[str, float]:
    """Of each user, while every user had an unfinished application."""
    users = sorted({each.user for each in runs})
    changes = sorted(
        change for each in runs for change in ((each.submitted_s, each.user, 1), (each.ended_s, each.user, -1))
    )
    unfinished, spans = dict.fromkeys(users, 0), []
    for (at_s, user, change), (next_s, _, _) in itertools.pairwise(changes):
        unfinished[user] += change
        if all(unfinished.values()):
            spans.append((at_s, next_s))
    seconds = dict.fromkeys(users, 0.0)
    for run in runs:
        for start_s, ran_s in run.attempts:
            seconds[run.user] += sum(_overlap([(start_s, ran_s)], from_s, until_s) for from_s, until_s in spans)
    return seconds


def _overlap(attempts: Sequence[tuple[float, float]], from_s: float, until_s: float) -> float:
    """How long they ran within that time, in all."""
    return sum(max(0.0, min(until_s, start_s + ran_s) - max(from_s, start_s)) for start_s, ran_s in attempts)


if __name__ == "__main__":
    main(__doc__, ContentionOptions, simulate)
