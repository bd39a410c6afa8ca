"""What chance alone seldom brings about.

Takeovers in takeovers and in changes of the set, two sides of a split that both go on, nodes that leave, disks that are
restored from copies, users who go on without a majority.

Drawn beside what `chaos_plot` draws, and added to it: what a seed found without aim it finds again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from jcpeer.application.task import Input, OutputOf, Task, Timed
from jcpeer.ids import TaskId
from jcpeer.values import evolve
from simulations.chaos_plot import PREFIX, At, Deed, Episode, Plot, Recover, When, Wish, chance_plot, losses_of
from simulations.faults import BackUp, Crash, Cut, Heal, Leave, Pause, Reset, Resume, Start

Aim = Callable[[random.Random, Plot], Plot]

LONG_TASK_S = (1.0, 3.0)


def drawn_plot(seed: int) -> Plot:
    """The plot of this seed."""
    chance, draw = chance_plot(seed), random.Random(f"aims {seed}")
    aims: tuple[Aim | None, ...] = (
        *(_takeovers_in_a_row, _takeovers_in_a_row, _takeover_in_a_change, _takeover_in_a_change),
        *(_split, _split, _leaving, _restored, _recovery, None),
    )
    aim = draw.choice(aims)
    plot = _some_brief(random.Random(f"brief {seed}"), chance) if aim is None else aim(draw, chance)
    return _some_once(random.Random(f"once {seed}"), plot)


def _some_brief(draw: random.Random, plot: Plot) -> Plot:
    """Some applications have tasks that are over at once, but for one here and there, and more of them."""
    wishes = []
    for wish in plot.wishes:
        tasks = wish.tasks
        if draw.random() < 0.5 and wish.shape == "a bag":
            tasks = tuple(_brief(draw, number, tasks[0]) for number in range(draw.randint(20, 200)))
        wishes.append(evolve(wish, tasks=tasks))
    return evolve(plot, wishes=tuple(wishes))


def _brief(draw: random.Random, number: int, like: Task) -> Task:
    seconds = draw.choice([0.0, 0.0005, 0.001] * 20 + [0.06, 2.0])
    return evolve(like, id=TaskId(f"t{number}"), work=Timed(seconds, output_bytes={"out": 10}))


def _some_once(draw: random.Random, plot: Plot) -> Plot:
    """Some applications have tasks that must not start twice."""
    wishes = []
    for wish in plot.wishes:
        part = draw.choice([0.0, 0.0, 0.0, 0.2, 0.5])
        tasks = tuple(evolve(each, once=draw.random() < part) for each in wish.tasks)
        wishes.append(evolve(wish, tasks=tasks))
    return evolve(plot, wishes=tuple(wishes))


def _takeovers_in_a_row(draw: random.Random, plot: Plot) -> Plot:
    """Whoever takes over is hit before, or just when, that is committed; and so may be the next."""
    plot, wish = _with_long(draw, plot, replicas=draw.choice([3, 3, 5]), size=draw.randint(4, 10))
    found = [
        Episode(
            When(wish.name, draw.choice(["accepted", "finished"]), 1, draw.uniform(0.0, 0.5)),
            draw.uniform(0.2, 4.0),
            *_blow(draw, f"{PREFIX}coordinator {wish.name}", plot.nodes),
        )
    ]
    for count in range(2, 2 + draw.choice([1, 2, 2, 3])):
        begins = When(wish.name, "elected", count, draw.choice([0.0, 0.0, draw.uniform(0.0, 0.02)]))
        blow = _blow(draw, f"{PREFIX}coordinator {wish.name}", plot.nodes)
        found.append(Episode(begins, draw.uniform(0.2, 4.0), *blow))
    return _with(plot, *found)


def _takeover_in_a_change(draw: random.Random, plot: Plot) -> Plot:
    """A replica is away for so long that it is replaced, and the coordinator is hit in the middle of that."""
    plot, wish = _with_long(draw, plot, replicas=3, size=draw.randint(10, 16))
    name = wish.name
    away = Episode(
        When(name, "accepted", 1),
        draw.uniform(11.0, 20.0),
        *_gone(draw, f"{PREFIX}replica {name}"),
    )
    found = [away]
    for count in range(1, 1 + draw.choice([1, 2, 3])):
        begins = When(
            name,
            draw.choice(["learner", "set change", "set change", "set change"]),
            count,
            draw.choice([0.0, draw.uniform(0.0, 0.01)]),
        )
        blow = _blow(draw, f"{PREFIX}coordinator {name}", plot.nodes)
        found.append(Episode(begins, draw.uniform(0.1, 3.0), *blow))
    return _with(plot, *found)


def _split(draw: random.Random, plot: Plot) -> Plot:
    """Two sides that cannot see each other, for so long that both go on, where that was wished; then they meet."""
    if draw.random() < 0.5:
        plot = evolve(plot, episodes=(), wishes=())
    nodes = plot.nodes
    plot, wish = _with_long(
        draw, plot, replicas=draw.choice([2, 2, 3]), size=draw.randint(30, 50), takeover="available"
    )
    some = draw.sample(nodes, k=draw.randint(0, len(nodes) - 2))
    first = (f"{PREFIX}coordinator {wish.name}", *some)
    second = (f"{PREFIX}successor {wish.name}", *nodes)
    begins = At(wish.at_s + draw.uniform(1.0, 6.0))
    return _with(plot, Episode(begins, draw.uniform(16.0, 40.0), (Cut(first, second),), (Heal(),)))


def _leaving(draw: random.Random, plot: Plot) -> Plot:
    """Nodes leave, one after another or several at once; most of them coordinate, and come back."""
    plot, wish = _with_long(draw, plot, replicas=draw.choice([1, 3, 3, 3, 5]), size=draw.randint(4, 12))
    name, found = wish.name, []
    for count in range(1, 1 + draw.choice([1, 2, 3])):
        role = draw.choice(["coordinator", "coordinator", "successor", "replica"])
        begins = When(name, draw.choice(["elected", "finished"]), count, draw.uniform(0.0, 1.0))
        found.append(Episode(begins, draw.uniform(0.0, 5.0), (Leave(one := f"{PREFIX}{role} {name}"),), (Start(one),)))
    return _with(plot, *found)


def _restored(draw: random.Random, plot: Plot) -> Plot:
    """A disk is copied, and the copy is what its node comes back with later: it may count for nothing."""
    lost = [each for one in plot.episodes for each in one.faults if isinstance(each, Crash) and each.disk != "kept"]
    if lost or not losses_of(plot.wishes):
        return plot
    plot, wish = _with_long(draw, plot, replicas=3, size=draw.randint(4, 12))
    node = draw.choice(
        [draw.choice(plot.nodes), *(f"{PREFIX}{each} {wish.name}" for each in ("coordinator", "replica"))]
    )
    times: list[At | When] = [At(draw.uniform(0.0, 3.0)), When(wish.name, "accepted", 1, draw.uniform(0.0, 2.0))]
    begins = draw.choice(times)
    copied = Episode(begins, draw.uniform(0.0, 4.0), (BackUp(node),), (Crash(node, "restored"), Start(node)))
    late = When(wish.name, draw.choice(["elected", "taken over"]), 2)
    return _with(
        plot,
        copied,
        Episode(late, draw.uniform(0.1, 3.0), *_blow(draw, f"{PREFIX}coordinator {wish.name}", plot.nodes)),
    )


def _recovery(draw: random.Random, plot: Plot) -> Plot:
    """The majority is gone, so the user lets the copy that is left go on; then the others are back."""
    plot, wish = _with_long(draw, plot, replicas=3, size=draw.randint(4, 12))
    name = wish.name
    gone = tuple(f"{PREFIX}{role} {name}" for role in ("coordinator", "successor"))
    crashes = tuple(Crash(each, machine=draw.random() < 0.3) for each in gone)
    begins = When(name, draw.choice(["accepted", "finished"]), 1, draw.uniform(0.0, 2.0))
    back: tuple[Deed, ...] = tuple(map(Start, gone))
    recover = Recover(f"{PREFIX}left {name}", name)
    return _with(plot, Episode(begins, draw.uniform(3.0, 15.0), crashes, (recover, *back)))


def _with(plot: Plot, *episodes: Episode) -> Plot:
    return evolve(plot, episodes=(*plot.episodes, *episodes))


def _with_long(
    draw: random.Random, plot: Plot, *, replicas: int, size: int, takeover: str = "default"
) -> tuple[Plot, Wish]:
    """One more application, which takes some time: a bag, or chains side by side."""
    apart = draw.choice([1, 2, size])
    tasks = []
    for at in range(size):
        inputs = (Input("in", OutputOf(TaskId(f"t{at - apart}"), "out")),) if at >= apart else ()
        work = Timed(draw.uniform(*LONG_TASK_S), output_bytes={"out": draw.choice([0, 100])})
        tasks.append(Task(TaskId(f"t{at}"), work, inputs, ("out",)))
    wish = Wish(
        name="long",
        at_s=0.0,
        node=draw.choice(plot.nodes),
        follower=draw.choice(plot.nodes),
        placement=draw.choice(["local", "rdv"]),
        dispatch=draw.choice(["assign", "assign", "grab", "relay"]),
        replicas=replicas,
        takeover=takeover,  # type: ignore[arg-type]
        shape="a bag" if apart == size else "chains",
        tasks=tuple(tasks),
    )
    return evolve(plot, wishes=(*plot.wishes, wish)), wish


def _blow(draw: random.Random, node: str, nodes: Sequence[str]) -> tuple[tuple[Deed, ...], tuple[Deed, ...]]:
    """To one that coordinates: it ends, or stands still, or is alone, or only loses its connections."""
    match draw.choice(["crash", "crash", "machine", "pause", "alone", "reset"]):
        case "crash":
            return (Crash(node),), (Start(node),)
        case "machine":
            return (Crash(node, machine=True),), (Start(node),)
        case "pause":
            return (Pause(node),), (Resume(node),)
        case "alone":
            return (Cut((node,), tuple(nodes)),), (Heal(),)
        case _:
            return tuple(Reset(node, each) for each in nodes), ()


def _gone(draw: random.Random, node: str) -> tuple[tuple[Deed, ...], tuple[Deed, ...]]:
    if draw.random() < 0.3:
        return (Pause(node),), (Resume(node),)
    return (Crash(node, machine=draw.random() < 0.3),), (Start(node),)
