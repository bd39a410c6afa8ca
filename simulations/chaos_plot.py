"""What is going to happen in one small world, as data: who is there, what they want, and what goes wrong.

A plot is drawn from its seed alone; `chaos_aims` adds to it. It can be made smaller, since each of its parts stands for
itself: an episode undoes what it did, a task can go with all that others want of it, a fault of a node that is not
there does nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from attrs import frozen

from jcpeer.application.manifest import Dispatch, Placement, Takeover
from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.values import evolve
from simulations.faults import (
    SHAPES,
    Crash,
    Empty,
    Fault,
    Fill,
    Haste,
    Heal,
    Lossless,
    Lossy,
    Pause,
    Reset,
    Resume,
    Slow,
    Start,
    partition,
    shown,
)
from simulations.workloads import LARGE_BYTES

NODES = (4, 7)
TASKS = (1, 30)
TASK_S = ((0.02, 0.5), (0.1, 1.5), (0.5, 4.0))
"""The tasks of an application are short, middling or long."""
SMALL_BYTES = 100
FAULTY_S = (2.0, 5.0, 10.0)
"""Faults begin, and applications come, within one of these times."""
PREFIX = "@"
"""Begins the name of a role, which is some node's when the fault begins: "@coordinator a0"."""

Moment = Literal["accepted", "finished", "candidate", "elected", "taken over", "learner", "set change", "stalled"]
"""What can be seen of an application's protocol: it was accepted, a task finished, a replica asks for votes, has them,
its `TookOver` is acknowledged, a newcomer catches up, a set changes, it stands still."""
MOMENTS: tuple[Moment, ...] = (
    *("accepted", "finished", "candidate", "candidate", "elected", "elected", "elected", "taken over"),
    *("learner", "set change", "set change", "stalled"),
)
Role = Literal["coordinator", "successor", "candidate", "learner", "replica"]
ROLES: tuple[Role, ...] = ("coordinator", "coordinator", "coordinator", "successor", "candidate", "learner", "replica")


@frozen
class At:
    """So many seconds after the beginning."""

    at_s: float


@frozen
class When:
    """As soon as an application comes to this moment for the n-th time, from 1, and a little later."""

    application: str
    moment: Moment
    count: int
    later_s: float = 0.0


@frozen
class Recover:
    """The user of an application lets the copy on this node go on alone."""

    node: str
    application: str


Deed = Fault | Recover


@frozen
class Episode:
    """A fault, and what undoes it so much later."""

    begins: At | When
    lasting_s: float
    faults: tuple[Deed, ...]
    undone_by: tuple[Deed, ...]

    def told(self) -> str:
        """In one line, for a person."""
        what = "; ".join(map(deed_shown, self.faults))
        begins = self.begins
        if isinstance(begins, At):
            return f"at {begins.at_s:.2f} s for {self.lasting_s:.2f} s: {what}"
        later = f"{begins.later_s:.3f} s after " if begins.later_s else ""
        name, count = begins.application, begins.count
        return f"{later}moment {begins.moment!r} of {name}, number {count}, for {self.lasting_s:.2f} s: {what}"


def deed_shown(deed: Deed) -> str:
    """In words."""
    if isinstance(deed, Recover):
        return f"{deed.application} is to go on with the copy on {deed.node}"
    return shown(deed)


@frozen
class Wish:
    """An application that somebody hands over: at which node, when, and at which node somebody follows it as well.

    `cancelled_s`: the user takes it back so long after it was accepted.
    """

    name: str
    at_s: float
    node: str
    follower: str
    placement: Placement
    dispatch: Dispatch
    replicas: int
    takeover: Takeover
    shape: str
    tasks: tuple[Task, ...]
    cancelled_s: float | None = None

    @property
    def quorum(self) -> bool:
        """What is promised holds whatever happens to a minority of the copies."""
        return self.takeover == "quorum" or (self.takeover == "default" and self.replicas >= 3)

    def told(self) -> str:
        """In one line, for a person."""
        policies = f"{self.placement}, {self.dispatch}, {self.replicas} replicas, takeover {self.takeover}"
        cancelled = "" if self.cancelled_s is None else f", cancelled {self.cancelled_s:.2f} s later"
        where = f"at {self.node}, followed from {self.follower}"
        once = sum(each.once for each in self.tasks)
        tasks = f"{self.shape} of {len(self.tasks)}" + (f", {once} of them once" if once else "")
        return f"{self.name} at {self.at_s:.2f} s {where}: {tasks} ({policies}){cancelled}"

    def without(self, tasks: Collection[TaskId]) -> Wish:
        """Those tasks are not asked for; who would have waited for them does not."""
        return evolve(self, tasks=tuple(_without(each, tasks) for each in self.tasks if each.id not in tasks))


def _without(task: Task, gone: Collection[TaskId]) -> Task:
    inputs = tuple(each for each in task.inputs if not (isinstance(each.source, OutputOf) and each.source.task in gone))
    return evolve(task, inputs=inputs, after=tuple(each for each in task.after if each not in gone))


@frozen
class Plot:
    seed: int
    nodes: tuple[str, ...]
    wishes: tuple[Wish, ...]
    episodes: tuple[Episode, ...]
    loss: float = 0.0
    """The part of messages that comes late, all the time."""

    def told(self) -> list[str]:
        """For a person, line by line."""
        nodes = f"nodes {' '.join(self.nodes)}" + (f", {self.loss:.0%} of messages late" if self.loss else "")
        return [nodes, *(each.told() for each in self.wishes), *(each.told() for each in self.episodes)]


# --- drawing


def losses_of(wishes: Sequence[Wish]) -> int:
    """So many disks may be lost, or lose what was not synced, and every quorum still holds."""
    return min((each.replicas - 1 for each in wishes if each.quorum), default=2) // 2


def chance_plot(seed: int) -> Plot:
    """What chance alone brings."""
    draw = random.Random(f"plot {seed}")
    nodes = tuple(f"n{each}" for each in range(draw.randint(*NODES)))
    within_s, names = draw.choice(FAULTY_S), [f"a{each}" for each in range(draw.choice([1, 1, 1, 2, 2, 3]))]
    wishes = tuple(_drawn_wish(draw, name, nodes, within_s) for name in names)
    episodes = _drawn_episodes(draw, nodes, wishes, within_s, losses=losses_of(wishes))
    return Plot(seed, nodes, wishes, episodes, loss=draw.choice([0.0, 0.0, 0.0, 0.02]))


def _drawn_wish(draw: random.Random, name: str, nodes: Sequence[str], within_s: float) -> Wish:
    shape, tasks = _drawn_graph(draw)
    replicas = draw.choice([1, 3, 3, 3, 3, 5])
    takeover = draw.choice(["default"] * 6 + ["quorum", "available"]) if replicas > 1 else "default"
    return Wish(
        name,
        at_s=draw.choice([0.0, 0.0, draw.uniform(0.0, within_s)]),
        node=draw.choice(nodes),
        follower=draw.choice(nodes),
        placement=draw.choice(["local", "rdv"]),
        dispatch=draw.choice(["assign", "assign", "grab", "relay"]),
        replicas=replicas,
        takeover=takeover,  # type: ignore[arg-type]
        shape=shape,
        tasks=tasks,
        cancelled_s=draw.uniform(0.0, 10.0) if draw.random() < 0.08 else None,
    )


def _drawn_graph(draw: random.Random) -> tuple[str, tuple[Task, ...]]:
    shape = draw.choice(["a bag", "a chain", "layers", "a tangle", "a tangle", "an hourglass"])
    size = draw.randint(*TASKS) if draw.random() < 0.5 else draw.randint(TASKS[0], 8)
    takes_s = draw.choice(TASK_S)
    parents: Callable[[int], list[int]]
    match shape:
        case "a bag":
            parents = lambda at: []  # noqa: E731
        case "a chain":
            parents = lambda at: [at - 1] if at else []  # noqa: E731
        case "layers":
            width = draw.randint(2, 5)
            parents = lambda at: draw.sample(range(at // width * width), k=2)[:2] if at >= width else []  # noqa: E731
        case "an hourglass":
            waist = size // 2
            parents = lambda at: list(range(waist)) if at == waist else [waist] if at > waist else []  # noqa: E731
        case _:
            parents = lambda at: draw.sample(range(at), k=min(at, draw.choice([0, 1, 1, 2, 3])))  # noqa: E731
    return shape, tuple(_drawn_task(draw, at, parents(at), takes_s) for at in range(size))


def _drawn_task(draw: random.Random, at: int, parents: Sequence[int], takes_s: tuple[float, float]) -> Task:
    reads = [each for each in parents if draw.random() < 0.9]
    return Task(
        TaskId(f"t{at}"),
        Timed(draw.uniform(*takes_s), output_bytes={"out": draw.choice([0, SMALL_BYTES, SMALL_BYTES, LARGE_BYTES])}),
        tuple(Input(f"in{each}", OutputOf(TaskId(f"t{each}"), "out")) for each in reads),
        ("out",),
        tuple(TaskId(f"t{each}") for each in parents if each not in reads),
        keep=draw.random() < 0.1,
    )


def _drawn_episodes(
    draw: random.Random, nodes: Sequence[str], wishes: Sequence[Wish], within_s: float, *, losses: int
) -> tuple[Episode, ...]:
    """`losses`: so many disks may be lost, or lose what was not synced."""
    found: list[Episode] = []
    for number in range(draw.choice([1, 2, 3, 3, 4, 5, 6])):
        begins: At | When = At(draw.uniform(0.0, within_s))
        one: str = draw.choice(nodes)
        if draw.random() < 0.6:
            wish = draw.choice(wishes).name
            begins = When(
                wish, draw.choice(MOMENTS), draw.choice([1, 1, 1, 2, 3]), draw.choice([0.0, draw.random() / 20])
            )
            one = draw.choice([one, f"{PREFIX}{draw.choice(ROLES)} {wish}", f"{PREFIX}{draw.choice(ROLES)} {wish}"])
        lasting_s = draw.choice([draw.uniform(0.05, 2.0), draw.uniform(2.0, 15.0)])
        disks = "lost" if losses else "kept"
        faults, undone_by = _drawn_fault(draw, one, nodes, number, disks=disks)
        if any(isinstance(each, Crash) and each.disk != "kept" for each in faults):
            losses -= 1
        found.append(Episode(begins, lasting_s, faults, undone_by))
        if draw.random() < 0.2:  # and a second fault in the middle of it
            other = draw.choice(nodes)
            faults, undone_by = _drawn_fault(draw, other, nodes, number + 100, disks="kept")
            found.append(Episode(begins, draw.uniform(0.05, 15.0), faults, undone_by))
    return tuple(found)


def _drawn_fault(
    draw: random.Random, node: str, nodes: Sequence[str], number: int, *, disks: str
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """What happens, mostly to this node, and what undoes it."""
    kind = draw.choice(
        [
            *(
                "crash",
                "crash",
                "crash",
                "machine",
                "reboot",
                "lost",
                "pause",
                "suspend",
                "cut",
                "cut",
                "alone",
                "alone",
            ),
            *("reset", "late", "slow", "full", "all", "join", "pulse"),
        ]
    )
    if disks == "kept" and kind in ("reboot", "lost"):
        kind = "crash"
    match kind:
        case "crash":
            return (Crash(node),), (Start(node),)
        case "machine":
            return (Crash(node, machine=True),), (Start(node),)
        case "reboot":
            return (Crash(node, "unsynced", machine=True),), (Start(node),)
        case "lost":
            return (Crash(node, "lost"),), (Start(node),)
        case "pause":
            return (Pause(node),), (Resume(node),)
        case "suspend":
            return (Pause(node),), (Resume(node, slept_s=draw.uniform(2.0, 100.0)),)
        case "cut":
            return tuple(partition(draw.choice(SHAPES), nodes, draw)), (Heal(),)
        case "alone":
            others = tuple(each for each in nodes if each != node)
            return tuple(partition(draw.choice(["island", "deaf", "mute"]), (node, *others), draw, first=node)), (
                Heal(),
            )
        case "reset":
            others = tuple(each for each in nodes if each != node)
            some = draw.sample(others, k=draw.randint(1, len(others)))
            return tuple(Reset(node, each) for each in some), ()
        case "pulse":  # it cannot be heard for a moment, again and again
            return (Pause(node), Reset(node, draw.choice(nodes)), Resume(node)), ()
        case "late":
            return (Lossy(draw.choice([0.2, 0.5, 0.8])),), (Lossless(),)
        case "slow":
            return (Slow(node, draw.choice([0.1, 0.5, 3.0])),), (Haste(node),)
        case "full":
            return (Fill(node),), (Empty(node), Start(node))
        case "all":
            return tuple(Crash(each) for each in nodes), tuple(Start(each) for each in draw.sample(nodes, len(nodes)))
        case _:
            return (Start(f"m{number}"),), ()
