"""The injector does to a grid what its plan says, and plans are what their seed makes them."""

from __future__ import annotations

import itertools
import random

import pytest
import trio

from jcpeer.net.memory import MemoryWorld
from simulations.checkers import application_problems, directory_problems, machine_problems, rest_problems
from simulations.faults import (
    SHAPES,
    Crash,
    Cut,
    Heal,
    Injector,
    Pause,
    Resume,
    Shape,
    Start,
    drawn_plan,
    partition,
)
from simulations.grid import Place, SimulatedGrid, open_grid
from simulations.virtual_time import run_seeded
from simulations.workloads import layered

pytestmark = pytest.mark.long

NAMES = ("a", "b", "c", "d", "e")


def seen_by(grid: SimulatedGrid, name: str) -> str:
    """The initials of those whom a node sees beside itself."""
    view = grid.nodes[name].running.directory.view(trio.current_time())
    return "".join(sorted(each.record.name for each in view if not each.myself))


@pytest.mark.parametrize(
    ("shape", "ways"),
    [("halves", 8), ("island", 12), ("bridge", 12), ("ring", 10), ("deaf", 16), ("mute", 16)],
)
def test_a_partition_leaves_the_ways_of_its_shape_and_heals(shape: Shape, ways: int) -> None:
    """Of the 20 ways among five nodes."""

    async def whole() -> int:
        async with open_grid(MemoryWorld(seed=3)) as grid:
            for name in NAMES:
                await grid.start(name)
            await trio.sleep(2)
            injector = Injector(grid)
            left = set(itertools.permutations(NAMES, 2))
            for cut in partition(shape, NAMES, random.Random(3)):
                await injector.inject(cut)
                left -= set(itertools.product(cut.first, cut.second))
                left -= set() if cut.one_way else set(itertools.product(cut.second, cut.first))
            await trio.sleep(20)
            if shape in ("halves", "island"):
                assert len(directory_problems(grid)) == len(NAMES)
            await injector.inject(Heal())
            await trio.sleep(60)
            assert directory_problems(grid) == []
            return len(left)

    assert run_seeded(whole, seed=3) == ways


def test_a_plan_is_carried_out_in_its_time_and_what_cannot_be_does_nothing() -> None:
    async def whole() -> list[str]:
        async with open_grid(MemoryWorld(seed=1)) as grid:
            for name in ("a", "b"):
                await grid.start(name)
            injector = Injector(grid)
            await injector.carry_out(
                (
                    (1.0, Pause("a")),
                    (2.0, Pause("a")),
                    (3.0, Crash("b")),
                    (3.0, Crash("b")),
                    (3.5, Start("b")),
                    (4.0, Resume("a")),
                    (4.5, Resume("a")),
                    (5.0, Cut(("a",), ("b",), one_way=True)),
                    (6.0, Heal()),
                )
            )
            return injector.history

    assert [" ".join(each.split()) for each in run_seeded(whole, seed=1)] == [
        "1.0 s a is paused",
        "3.0 s b crashes",
        "3.5 s b starts",
        "4.0 s a goes on",
        "5.0 s a cut from b, one way",
        "6.0 s every cut heals",
    ]


def test_a_node_that_lost_its_disk_is_another_node_under_the_same_name() -> None:
    async def whole() -> None:
        async with open_grid(MemoryWorld(seed=1)) as grid:
            for name in ("a", "b"):
                await grid.start(name)
            await trio.sleep(2)
            before = grid.nodes["b"].id
            grid.crash("b")
            await grid.start("b")
            assert grid.nodes["b"].id == before
            grid.crash("b", disk="lost")
            await grid.start("b")
            assert grid.nodes["b"].id != before
            await trio.sleep(2)
            assert directory_problems(grid) == []

    run_seeded(whole, seed=1)


def test_sites_meet_by_bootstrap_alone_and_remember_each_other() -> None:
    async def whole() -> None:
        async with open_grid(MemoryWorld(seed=1)) as grid:
            await grid.start("a", place=Place(site="paris"))
            await grid.start("b", place=Place(site="tunis"))
            await trio.sleep(5)
            assert seen_by(grid, "a") == ""
            await grid.start("c", place=Place(site="tunis", bootstrap=("a",)))
            await trio.sleep(5)
            assert seen_by(grid, "a") == "bc"
            await grid.stop("b")
            await trio.sleep(1)
            assert seen_by(grid, "a") == "c"
            grid.nodes["b"].place = Place(site=None)
            await grid.start("b")
            await trio.sleep(5)
            assert seen_by(grid, "b") == "ac"

    run_seeded(whole, seed=1)


def test_a_drawn_plan_is_that_of_its_seed_and_everything_in_it_passes() -> None:
    plans = [drawn_plan(random.Random(seed), NAMES, faults=20, within_s=60, disks_lost=True) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    faults = [fault for _, fault in plans[0]]
    assert sum(isinstance(each, Crash) for each in faults) == sum(isinstance(each, Start) for each in faults) > 0
    assert sum(isinstance(each, Pause) for each in faults) == sum(isinstance(each, Resume) for each in faults) > 0
    assert {each.disk for each in faults if isinstance(each, Crash)} == {"kept", "lost"}
    assert {*SHAPES} == {"halves", "island", "bridge", "ring", "deaf", "mute"}


@pytest.mark.parametrize("seed", range(3))
def test_an_application_outlives_whatever_a_plan_does_to_all_nodes(seed: int) -> None:
    """Its coordinator's crashes too: the client waits for the node to come back."""

    async def whole() -> list[str]:
        async with open_grid(MemoryWorld(seed)) as grid:
            for name in NAMES:
                await grid.start(name)
            await trio.sleep(2)
            session = grid.nodes["a"].client.session
            app = (await session.submit(layered(seed, layers=30, width=10), grid.header("battered"))).app
            plan = drawn_plan(random.Random(seed), NAMES, faults=12, within_s=40)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Injector(grid).carry_out, plan)
                with trio.fail_after(600):
                    status = await session.wait(app)
            assert status.summary.state == "ok", status.failures
            await trio.sleep(60)
            checks = (machine_problems, rest_problems, directory_problems)
            return [*application_problems(grid, [app]), *(each for check in checks for each in check(grid))]

    assert run_seeded(whole, seed=seed) == []
