"""What goes wrong, and when: a plan of faults drawn from a seed, and the injector that carries it out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

import trio
from attrs import frozen

from jcpeer.ids import NodeId
from simulations.grid import COMMIT_S, Disk, SimulatedGrid


@frozen
class Crash:
    """See `SimulatedGrid.crash`."""

    node: str
    disk: Disk = "kept"
    machine: bool = False


@frozen
class Leave:
    """As by SIGTERM: it hands over what it has, and says goodbye. The fault is over when it is gone."""

    node: str


@frozen
class BackUp:
    """A copy of its disk is kept, for a crash in which that is "restored"."""

    node: str


@frozen
class Start:
    """One that had crashed comes back, or a newcomer comes late."""

    node: str


@frozen
class Pause:
    """Its process is stopped, as by SIGSTOP."""

    node: str


@frozen
class Resume:
    """It goes on; if it `slept`, as a suspended machine, its clock shows so much more."""

    node: str
    slept_s: float = 0.0


@frozen
class Cut:
    """Nothing goes between these nodes; with `one_way` nothing from the first to the second."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    one_way: bool = False


@frozen
class Heal:
    """Undo every cut."""


@frozen
class Reset:
    """The connection of two nodes breaks, and what is on its way is lost; both dial again at once."""

    node: str
    other: str


@frozen
class Lossy:
    """From now on this part of all messages is sent again, and so comes late, as does all behind it."""

    part: float


@frozen
class Lossless:
    """As before the first `Lossy`."""


@frozen
class Slow:
    """Its disk takes so long for a group."""

    node: str
    delay_s: float


@frozen
class Haste:
    """Its disk is as fast as before."""

    node: str


@frozen
class Fill:
    """Its disk takes nothing any more."""

    node: str


@frozen
class Empty:
    """There is room on its disk again."""

    node: str


Fault = (
    Crash
    | Leave
    | BackUp
    | Start
    | Pause
    | Resume
    | Cut
    | Heal
    | Reset
    | Lossy
    | Lossless
    | Slow
    | Haste
    | Fill
    | Empty
)
LOST: dict[Disk, str] = {
    "kept": "",
    "unsynced": ", what was not synced is lost",
    "lost": ", its disk is lost",
    "restored": ", its disk is restored from a copy",
}
Plan = tuple[tuple[float, Fault], ...]
"""Faults in order of time, each so many seconds after the injector began."""

Shape = Literal["halves", "island", "bridge", "ring", "deaf", "mute"]
SHAPES: tuple[Shape, ...] = ("halves", "island", "bridge", "ring", "deaf", "mute")


def partition(shape: Shape, nodes: Sequence[str], draw: random.Random, *, first: str | None = None) -> list[Cut]:
    """The cuts that make a partition of this shape; `first` is the one that is alone, where one is.

    "halves": two sides. "island": one node is alone. "bridge": two sides that one node still reaches, both of them.
    "ring": each reaches its two neighbours only. "deaf": one node can send and hears nobody; "mute": the reverse.
    """
    mixed = draw.sample(nodes, len(nodes))
    if first is not None:
        mixed.sort(key=lambda each: each != first)
    first, others, middle = mixed[0], tuple(mixed[1:]), len(mixed) // 2
    match shape:
        case "halves":
            return [Cut(tuple(mixed[:middle]), tuple(mixed[middle:]))]
        case "island":
            return [Cut((first,), others)]
        case "bridge":
            return [Cut(others[: middle or 1], others[middle or 1 :])]
        case "ring":
            size = len(mixed)
            pairs = ((one, other) for one in range(size) for other in range(one + 2, size))
            return [Cut((mixed[one],), (mixed[other],)) for one, other in pairs if (one, other) != (0, size - 1)]
        case "deaf":
            return [Cut(others, (first,), one_way=True)]
        case "mute":
            return [Cut((first,), others, one_way=True)]
        case _:
            assert_never(shape)


def drawn_plan(
    draw: random.Random,
    nodes: Sequence[str],
    *,
    faults: int,
    within_s: float,
    lasting_s: tuple[float, float] = (2.0, 30.0),
    disks_lost: bool = False,
    partitions: bool = True,
) -> Plan:
    """So many faults, each of which passes: what crashed comes back, what was paused goes on, what was cut heals.

    Args:
        nodes: Those to which it may happen; two faults may overlap, also at one node.
        within_s: The last begins before that.
        lasting_s: The least and the most that a fault lasts.
        disks_lost: Some crashes take the disk along.
        partitions: Some faults are cuts.
    """
    plan: list[tuple[float, Fault]] = []
    kinds = ["crash", "crash", "machine", "pause", *(["cut", "cut"] if partitions else [])]
    for _ in range(faults):
        at_s = draw.uniform(0.0, within_s)
        until_s = at_s + draw.uniform(*lasting_s)
        node = draw.choice(nodes)
        match draw.choice(kinds):
            case "pause":
                plan += [(at_s, Pause(node)), (until_s, Resume(node))]
            case "cut":
                plan += [(at_s, cut) for cut in partition(draw.choice(SHAPES), nodes, draw)]
                plan.append((until_s, Heal()))
            case kind:
                disk: Disk = "lost" if disks_lost and draw.random() < 0.5 else "kept"
                plan += [(at_s, Crash(node, disk, machine=kind == "machine")), (until_s, Start(node))]
    return tuple(sorted(plan, key=lambda each: each[0]))


class Injector:
    """Makes faults happen in a grid; `history` says what it did, line by line."""

    def __init__(self, grid: SimulatedGrid) -> None:
        self._grid = grid
        self._loss = grid.world.loss
        self._paused: set[str] = set()
        self.history: list[str] = []

    async def carry_out(self, plan: Plan) -> None:
        """Everything in the plan in its time; returns after the last."""
        began_s = trio.current_time()
        for at_s, fault in plan:
            await trio.sleep_until(began_s + at_s)
            await self.inject(fault)

    async def inject(self, fault: Fault) -> None:
        """One fault, now. What cannot be, since plans overlap (a crash of what does not run), does nothing."""
        grid, world = self._grid, self._grid.world
        node = None if isinstance(fault, Cut | Heal | Lossy | Lossless) else grid.nodes.get(fault.node)
        runs = node is not None and node.node is not None
        match fault:
            case Crash() if runs:
                self._paused.discard(fault.node)
                grid.crash(fault.node, disk=fault.disk, machine=fault.machine)
            case Leave() if runs and fault.node not in self._paused:
                await grid.stop(fault.node)
            case BackUp() if node is not None:
                grid.back_up(fault.node)
            case Start() if not runs:
                self._paused.discard(fault.node)
                await grid.start(fault.node)
            case Pause() if node is not None and runs and fault.node not in self._paused:
                self._paused.add(fault.node)
                node.stopped_at_s = world.wall_s
                world.pause(node.id)
            case Resume() if node is not None and fault.node in self._paused:
                self._paused.remove(fault.node)
                node.stopped_at_s = None
                node.ahead_s += fault.slept_s
                if runs:
                    world.resume(node.id)
            case Reset() if runs:
                world.disconnect(*self._ids((fault.node, fault.other)))
            case Lossy():
                world.loss = fault.part
            case Lossless():
                world.loss = self._loss
            case Slow() if node is not None:
                node.disk.delay_s = fault.delay_s
            case Haste() if node is not None:
                node.disk.delay_s = COMMIT_S
            case Fill() if node is not None:
                node.disk.full = True
            case Empty() if node is not None:
                node.disk.full = False
            case Cut():
                world.cut(self._ids(fault.first), self._ids(fault.second), one_way=fault.one_way)
            case Heal():
                world.heal()
            case _:
                return
        self.history.append(f"{trio.current_time():8.1f} s  {shown(fault)}")

    def _ids(self, names: Iterable[str]) -> list[NodeId]:
        return [self._grid.nodes[name].id for name in names if name in self._grid.nodes]


def shown(fault: Fault) -> str:
    """In words."""
    match fault:
        case Crash(node, disk, machine):
            return f"{'the machine of ' if machine else ''}{node} crashes{LOST[disk]}"
        case Leave(node):
            return f"{node} leaves"
        case BackUp(node):
            return f"a copy is made of the disk of {node}"
        case Start(node):
            return f"{node} starts"
        case Pause(node):
            return f"{node} is paused"
        case Resume(node, slept_s):
            return f"{node} goes on" + (f", {slept_s:.0f} s later by its clock" if slept_s else "")
        case Reset(node, other):
            return f"the connection of {node} and {other} is reset"
        case Lossy(part):
            return f"{part:.0%} of all messages come late"
        case Lossless():
            return "messages come in time again"
        case Slow(node, delay_s):
            return f"the disk of {node} takes {delay_s:g} s"
        case Haste(node):
            return f"the disk of {node} is fast again"
        case Fill(node):
            return f"the disk of {node} is full"
        case Empty(node):
            return f"there is room on the disk of {node}"
        case Cut(first, second, one_way):
            return f"{' '.join(first)} cut from {' '.join(second)}{', one way' * one_way}"
        case Heal():
            return "every cut heals"
        case _:
            assert_never(fault)
