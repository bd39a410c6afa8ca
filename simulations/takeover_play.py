"""One run of `simulations.takeover`: a small grid, one application, one event, and what came of it."""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import Literal

import trio
from attrs import define, field, frozen

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header, application_key
from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import AppId, TaskId, app_key, closest_set
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.hosting import ApplicationHost
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import Ended, Entry, Finished
from jcpeer.wire.requests import Happened
from simulations.checkers import application_problems, machine_problems
from simulations.faults import Crash, Cut, Heal, Injector, Pause, Resume
from simulations.grid import SimulatedGrid, SimulatedNode, open_grid
from simulations.takeover_watch import Watch
from simulations.virtual_time import run_seeded
from simulations.workloads import LARGE_BYTES

Kind = Literal["kill", "stop", "cut", "leave", "replica", "two"]
KINDS: tuple[Kind, ...] = ("kill", "stop", "cut", "leave", "replica", "two")
LASTING: tuple[Kind, ...] = ("stop", "cut", "replica")
"""Of these the application must still run after half a minute."""
AWAY_S = 30.0
SMALL_BYTES = 100
LINKS: int = 8
LINK_S = 6.0
WITHIN_S = 300.0
"""Far more than any application takes here."""
SAME_S = 0.01
"""What was on its way when a coordinator was cut off has arrived by then."""
STALE_S = 10.0
"""After its return the old coordinator is looked at for so long."""


@define
class Ending:
    """What came of one run; seconds after the event, None where that never was."""

    kind: Kind
    seed: int
    state: str = "not at all"
    takeovers: int = 0
    reigned_s: float | None = None
    """Until the first successor began."""
    dispatched_s: float | None = None
    """Until the first attempt that a successor ordered."""
    ended_s: float | None = None
    """Until the application had ended."""
    gap_s: float | None = None
    """Without any coordinator."""
    lost: int = 0
    """Completions that were told, and are not in the journal that is left."""
    differ: int = 0
    """Events that were shown, and are others now."""
    again: int = 0
    """Executions of what had been made, and was there."""
    killed: int = 0
    """Executions on nodes that nothing happened to, ended though nobody had finished their task."""
    stale: int = 0
    """Executions elsewhere that were ordered by who did not coordinate any more, after its return."""
    shown_alone: int = 0
    """Events shown by a coordinator that was cut off."""
    stepped_down_s: float | None = None
    """After its return."""
    one_s: float | None = None
    """After the cut healed, until there was but one coordinator."""
    whole_s: float | None = None
    """Until there were as many copies as before, all up to date."""
    virtual_s: float = 0.0
    digest: str = ""
    events: int = 0
    problems: list[str] = field(factory=list)


def play(kind: Kind, seed: int, *, nodes: int = 10, tasks: int = 60) -> Ending:
    """The same for the same arguments."""
    return run_seeded(_played, kind, seed, nodes, tasks, seed=seed)


async def _played(kind: Kind, seed: int, nodes: int, tasks: int) -> Ending:
    world = MemoryWorld(seed)
    watch, ending = Watch(), Ending(kind, seed)
    with watch.looking():
        async with open_grid(world, executor_of=watch.executor) as grid, trio.open_nursery() as nursery:
            for number in range(nodes):
                await grid.start(f"node{number}")
            await trio.sleep(1)
            client, header = away_from(grid, replicas=5 if kind == "two" else 3)
            application = mixed(seed, tasks=tasks, lasting=kind in LASTING)
            app = (await client.client.session.submit(application, header)).app
            watch.look_at(grid, app)
            play = _Play(kind, seed, grid, app, watch, ending, nursery)
            await play.run(client)
            watch.close()
            nursery.cancel_scope.cancel()
    ending.virtual_s = trio.current_time()
    ending.digest, ending.events = world.trace.digest, world.trace.length
    return ending


@frozen
class Shown:
    """A client was told."""

    at_s: float
    event: Happened


class _Play:
    def __init__(
        self,
        kind: Kind,
        seed: int,
        grid: SimulatedGrid,
        app: AppId,
        watch: Watch,
        ending: Ending,
        nursery: trio.Nursery,
    ) -> None:
        self._kind = kind
        self._draw = random.Random(seed)
        self._grid = grid
        self._app = app
        self._watch = watch
        self._ending = ending
        self._nursery = nursery
        self._injector = Injector(grid)
        self._shown: list[Shown] = []
        self._shown_there: list[Shown] = []
        """By the coordinator itself, on its own machine."""
        self._since_s = 0.0
        self._hit: set[str] = set()
        """Nodes to which something happens."""

    async def run(self, client: SimulatedNode) -> None:
        self._nursery.start_soon(self._follow, client, self._shown)
        with trio.move_on_after(WITHIN_S):
            while sum(each.event.kind == "finished" for each in self._shown) < self._from:
                await trio.sleep(0.03)
            await trio.sleep(self._draw.uniform(0.0, 0.1))
            self._nursery.start_soon(self._follow, self._coordinator, self._shown_there)
            await trio.sleep(0.05)
            await self._happen()
            while not self._shown or self._shown[-1].event.kind != "ended":
                await trio.sleep(0.05)
            await trio.sleep(1.0)
        if self._shown and self._shown[-1].event.kind == "ended":
            self._ending.state = self._shown[-1].event.text
            self._ending.ended_s = self._shown[-1].at_s - self._since_s
        else:
            self._ending.problems.append("the application did not end")
        self._conclude()

    async def _follow(self, node: SimulatedNode, shown: list[Shown]) -> None:
        try:
            async with aclosing(node.client.session.events(self._app)) as events:
                async for event in events:
                    if isinstance(event, Happened):
                        shown.append(Shown(trio.current_time(), event))
        except Exception as error:  # of a node that went away
            if node.name not in self._hit:
                self._ending.problems.append(f"a client on {node.name} was told: {error!r}")

    @property
    def _from(self) -> int:
        """So many tasks have finished before the event."""
        return 5 + self._ending.seed % 30

    @property
    def _hosts(self) -> list[tuple[SimulatedNode, ApplicationHost]]:
        """Whoever coordinates, or thinks so; the latest last."""
        found = [(each, host) for each in self._grid.running if (host := each.running.applications.get(self._app))]
        return sorted(
            [(each, host) for each, host in found if not host.machine.over and not host.deposed],
            key=lambda pair: pair[1].machine.epoch,
        )

    @property
    def _coordinator(self) -> SimulatedNode:
        return self._hosts[-1][0]

    # --- what happens

    async def _happen(self) -> None:
        node, host = self._hosts[-1]
        epoch, since_s = host.machine.epoch, trio.current_time()
        seats = len(host.copy.replica_set.seats)
        self._since_s = since_s
        if self._kind == "replica":
            lost = self._draw.choice([each for each in host.copy.replica_set.nodes if each != node.id])
            node = next(each for each in self._grid.running if each.id == lost)
        self._hit.add(node.name)
        self._watch.away.add(node.name)
        match self._kind:
            case "kill":
                await self._crash(node)
            case "two":
                await self._crash(node)
                while not any(each.epoch > epoch for each in self._watch.reigns):
                    await trio.sleep(0.001)
                await trio.sleep(self._draw.uniform(0.0, 0.3))
                second = next(each for each in self._grid.running if each.id == self._watch.reigns[-1].node)
                epoch, since_s = self._watch.reigns[-1].epoch, trio.current_time()
                self._hit.add(second.name)
                self._watch.away.add(second.name)
                await self._crash(second)
            case "leave":
                self._nursery.start_soon(self._grid.stop, node.name)
            case "stop":
                await self._injector.inject(Pause(node.name))
                await trio.sleep(AWAY_S)
                await self._injector.inject(Resume(node.name))
                await self._back(node, since_s)
            case "cut":
                others = tuple(name for name in self._grid.nodes if name != node.name)
                await self._injector.inject(Cut((node.name,), others))
                await trio.sleep(AWAY_S)
                await self._injector.inject(Heal())
                await self._back(node, since_s)
            case "replica":
                await self._crash(node)
        if self._kind == "replica":
            await self._until_whole(seats, since_s)
            return
        while not self._over and self._watch.dispatched_s(epoch, since_s) is None:
            await trio.sleep(0.05)
        self._measure(epoch, since_s)

    async def _crash(self, node: SimulatedNode) -> None:
        self._watch.left(node.id)
        await self._injector.inject(Crash(node.name))

    async def _back(self, node: SimulatedNode, since_s: float) -> None:
        """It is there again: what does it do?"""
        woke_s = trio.current_time()
        self._ending.shown_alone = sum(since_s + SAME_S < each.at_s < woke_s for each in self._shown_there)
        several_s = woke_s
        while trio.current_time() < woke_s + STALE_S:
            hosts = [each.name for each, _ in self._hosts]
            if len(hosts) > 1:
                several_s = trio.current_time()
            if self._ending.stepped_down_s is None and node.name not in hosts:
                self._ending.stepped_down_s = trio.current_time() - woke_s
                self._watch.away.discard(node.name)  # until now it went on alone, with its own slots
            await trio.sleep(0.02)
        self._ending.one_s = several_s - woke_s if several_s < trio.current_time() - 0.05 else None
        outdone = {
            id(order)
            for at_s, _, each in self._watch.ordered
            if at_s >= woke_s and any(later.epoch > each.epoch and later.from_s < at_s for later in self._watch.reigns)
            for order in each.orders
        }
        executed = [each for each in self._watch.executed if each.node is not node]
        self._ending.stale = sum(id(each.order) in outdone for each in executed)

    async def _until_whole(self, seats: int, since_s: float) -> None:
        while not self._over and trio.current_time() < since_s + 45.0:
            for _, host in self._hosts[-1:]:
                copy = host.copy
                if (
                    len(copy.replica_set.seats) >= seats
                    and not copy.machine.missing
                    and not self._hit & self._seated(host)
                ):
                    self._ending.whole_s = trio.current_time() - since_s
                    return
            await trio.sleep(0.05)

    def _seated(self, host: ApplicationHost) -> set[str]:
        nodes = host.copy.replica_set.nodes
        return {each.name for each in self._grid.nodes.values() if each.id in nodes}

    @property
    def _over(self) -> bool:
        return bool(self._shown) and self._shown[-1].event.kind == "ended"

    # --- what came of it

    def _measure(self, epoch: object, since_s: float) -> None:
        ending, watch = self._ending, self._watch
        later = [each for each in watch.reigns if each.epoch > epoch]  # type: ignore[operator]
        if later:
            ending.reigned_s = later[0].from_s - since_s
            left = [each.until_s for each in watch.reigns if each.epoch <= epoch and each.until_s is not None]  # type: ignore[operator]
            if left:
                ending.gap_s = max(0.0, later[0].from_s - max(left))
        at_s = watch.dispatched_s(epoch, since_s)  # type: ignore[arg-type]
        ending.dispatched_s = None if at_s is None else at_s - since_s

    def _conclude(self) -> None:
        ending, watch = self._ending, self._watch
        entries = self._journal()
        ending.takeovers = sum(each.epoch.counter > 1 for each in watch.reigns)
        told = {each.event.index: each.event for each in self._shown}
        for each in (*self._shown, *self._shown_there):
            entry = entries.get(each.event.index)
            if each.event.kind == "finished" and not _is_finish(entry, each.event):
                ending.lost += 1
            first = told.setdefault(each.event.index, each.event)
            ending.differ += _essence(first) != _essence(each.event)
        finished_s: dict[TaskId, float] = {}
        for run in watch.executed:
            if run.ended_s is not None:
                finished_s.setdefault(run.task, run.ended_s)
        for run in watch.executed:
            ending.again += run.made_before
            if run.killed_s is not None and run.node.name not in self._hit:
                ending.killed += finished_s.get(run.task, trio.current_time()) > run.killed_s
        ending.problems += application_problems(self._grid, [self._app])
        ending.problems += machine_problems(self._grid)

    def _journal(self) -> dict[int, Entry]:
        """What is left: the journal that has the end."""
        for simulated in self._grid.running:
            entries = list(simulated.disk.read(self._app, after_index=0))
            if any(isinstance(each.fact, Ended) for each in entries):
                return {each.index: each for each in entries}
        return {}


def _is_finish(entry: Entry | None, event: Happened) -> bool:
    if entry is None or not isinstance(entry.fact, Finished):
        return False
    outcome = entry.fact.outcome
    return outcome.task == event.task and [each.blob for each in outcome.outputs] == [
        each.blob for each in event.outputs
    ]


def _essence(event: Happened) -> tuple[object, ...]:
    """What of an event must stay what it was: not the names that its node knew then."""
    node = event.node.id if event.node else None
    return event.kind, event.task, event.attempt, node, event.final, tuple([each.blob for each in event.outputs])


def mixed(seed: int, *, tasks: int = 60, lasting: bool = False) -> LoadedApplication:
    """Three layers of short tasks, each of which reads what two of the layer before left, in turn small and large; if
    it is `lasting`, beside a chain of longer ones."""
    draw = random.Random(seed)
    chain = LINKS if lasting else 0
    width = (tasks - chain) // 3
    found: list[Task] = []
    for layer in range(3):
        for at in range(width):
            parents = sorted(draw.sample(range(width), 2)) if layer else []
            names = [f"t{layer - 1}.{each}" for each in parents]
            size = LARGE_BYTES if at % 2 else SMALL_BYTES
            found.append(_task(f"t{layer}.{at}", names, draw.uniform(0.1, 1.0), size))
    for at in range(chain):
        found.append(_task(f"c{at}", [f"c{at - 1}"] if at else [], LINK_S, LARGE_BYTES if at % 2 else SMALL_BYTES))
    return LoadedApplication("mixed", tuple(found))


def _task(name: str, parents: list[str], seconds: float, size: int) -> Task:
    inputs = tuple([Input(f"in{at}", OutputOf(TaskId(each), "out")) for at, each in enumerate(parents)])
    return Task(TaskId(name), Timed(seconds, output_bytes={"out": size}), inputs, ("out",))


def away_from(grid: SimulatedGrid, *, replicas: int) -> tuple[SimulatedNode, Header]:
    """A node, and a header that places the application on others."""
    ids = {each.id: each for each in grid.nodes.values()}
    while True:
        header = evolve(grid.header("mixed", placement="rdv"), user="user", replicas=replicas)
        near = closest_set(app_key(application_key(header, pack(header))), ids, k=replicas)
        for node, simulated in ids.items():
            if node not in near:
                return simulated, header
