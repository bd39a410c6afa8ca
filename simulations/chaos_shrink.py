"""The shortest history that still goes wrong: parts of a plot are left out for as long as the same rule is broken.

Delta debugging (Zeller and Hildebrandt 2002, ddmin), first over episodes, then applications, tasks and nodes, again
until nothing more can go. A plot has the same ending each time, so that what is found is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from jcpeer.values import evolve
from simulations.chaos_plot import PREFIX, Deed, Episode, Plot, Wish
from simulations.faults import Cut, Heal, Lossless, Lossy, Reset

RUNS_MAX = 250

Part = str
"""A node by its name, an episode as e and its number, an application by its name, a task as name.task."""


def parts_of(plot: Plot) -> list[list[Part]]:
    """By kind, in the order in which they are tried."""
    return [
        [f"e{at}" for at in range(len(plot.episodes))],
        [wish.name for wish in plot.wishes],
        [f"{wish.name}.{task.id}" for wish in plot.wishes for task in wish.tasks],
        [*plot.nodes],
    ]


def reduced(plot: Plot, kept: Collection[Part]) -> Plot:
    """The plot with these parts alone. A client whose node is gone is at another one."""
    nodes = tuple(each for each in plot.nodes if each in kept) or plot.nodes[:1]
    gone = set(plot.nodes) - set(nodes)
    wishes = tuple(_reduced(each, kept, nodes) for each in plot.wishes if each.name in kept)
    episodes = tuple(_without(each, gone) for at, each in enumerate(plot.episodes) if f"e{at}" in kept)
    return evolve(plot, nodes=nodes, wishes=wishes, episodes=episodes)


def _reduced(wish: Wish, kept: Collection[Part], nodes: Sequence[str]) -> Wish:
    gone = {task.id for task in wish.tasks if f"{wish.name}.{task.id}" not in kept}
    if len(gone) == len(wish.tasks):
        gone.discard(wish.tasks[0].id)
    left = wish.without(gone)
    return evolve(
        left,
        node=wish.node if wish.node in nodes else nodes[0],
        follower=wish.follower if wish.follower in nodes else nodes[-1],
    )


def _without(episode: Episode, gone: Collection[str]) -> Episode:
    """Nothing happens to those who are not there."""

    def concerns(fault: Deed) -> bool:
        if isinstance(fault, Cut | Heal | Lossy | Lossless):
            return True
        names = (fault.node, fault.other) if isinstance(fault, Reset) else (fault.node,)
        return all(each.startswith(PREFIX) or each not in gone for each in names)

    return evolve(
        episode,
        faults=tuple(filter(concerns, episode.faults)),
        undone_by=tuple(filter(concerns, episode.undone_by)),
    )


def shrunk(plot: Plot, fails: Callable[[Plot], bool]) -> list[Part]:
    """Parts that suffice for `fails`; the whole plot does. At most RUNS_MAX runs."""
    groups, runs = parts_of(plot), 0

    def enough(at: int, group: Sequence[Part]) -> bool:
        nonlocal runs
        if runs >= RUNS_MAX:
            return False
        runs += 1
        kept = {part for number, each in enumerate(groups) for part in (group if number == at else each)}
        return fails(reduced(plot, kept))

    before: list[list[Part]] = []
    while before != groups and runs < RUNS_MAX:
        before = [*groups]
        for at in range(len(groups)):
            groups[at] = _least(groups[at], lambda group, at=at: enough(at, group))  # type: ignore[misc]
    return [part for group in groups for part in group]


def _least(parts: list[Part], enough: Callable[[Sequence[Part]], bool]) -> list[Part]:
    """A part of these that is enough, and of which no single one can be left out (if there were runs for it)."""
    if parts and enough([]):
        return []
    pieces = 2
    while len(parts) > 1:
        size = -(-len(parts) // pieces)
        for start in range(0, len(parts), size):
            rest = parts[:start] + parts[start + size :]
            if rest and enough(rest):
                parts, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(parts), 2 * pieces)
    return parts
