"""Whatever happens to a grid: once it is quiet, everybody knows who is there, and nobody else is."""

from __future__ import annotations

import math

import pytest

from jcpeer.discovery.neighbours import EVERYBODY_MAX
from jcpeer.ids import NodeId
from tests.discovery.little_world import World, restless

pytestmark = pytest.mark.long

NODES = [NodeId(f"n{number:03}" * 3) for number in range(40)]
ADDRESSES = {node: f"/ip4/192.0.2.1/tcp/{number + 1}" for number, node in enumerate(NODES)}


def grid_of(count: int, *, named: bool = False) -> World:
    """So many nodes that have met, by one whom all others name, or by sight."""
    world = World(seed=1)
    for node in NODES[:count]:
        world.start(node, ADDRESSES[node], named=(ADDRESSES[NODES[0]],) if named else (), seen=not named)
        world.run(0.1)
    assert world.run_until(lambda: not world.differing(), within_s=30.0) < math.inf
    world.run(30.0)
    return world


def agree(world: World, *, within_s: float) -> None:
    assert world.run_until(lambda: not world.differing(), within_s=within_s) < math.inf, world.differing()


@pytest.mark.parametrize("seed", range(24))
def test_after_a_restless_time_everybody_sees_those_who_live_and_nobody_else(seed: int) -> None:
    agree(restless(seed, nodes_max=40), within_s=60.0)


def test_a_large_grid_keeps_few_connections_and_is_silent_but_for_comparing() -> None:
    world = grid_of(40)
    assert sum(len(host.links) for host in world.alive.values()) / 40 <= 16
    frames = world.frames
    world.run(100.0)
    assert (world.frames - frames) / 40 / 100.0 < 0.2


def test_each_death_in_a_large_grid_is_known_to_all_in_seconds() -> None:
    world = grid_of(40)
    for die, within_s in ((world.leave, 5.0), (world.kill, 5.0), (world.vanish, 10.0)):
        die(next(iter(world.alive)))
        agree(world, within_s=within_s)


def test_half_of_a_large_grid_that_vanishes_is_missed_by_the_other_half() -> None:
    world = grid_of(40)
    for node in NODES[::2]:
        world.vanish(node)
    agree(world, within_s=30.0)


@pytest.mark.parametrize("side_of", [lambda number: number % 2, lambda number: number // 20])
@pytest.mark.parametrize("named", [False, True])
def test_halves_that_were_cut_apart_for_long_find_each_other_again(side_of: object, named: bool) -> None:
    assert callable(side_of)
    world = grid_of(40, named=named)
    world.cut({node: side_of(number) for number, node in enumerate(NODES)})
    world.run(300.0)
    assert all(len(host.members) == 20 for host in world.alive.values())
    before = {host.id: len(host.left) for host in world.alive.values()}
    world.heal()
    agree(world, within_s=60.0)
    wrongly = sum(len(host.left) - before[host.id] for host in world.alive.values())
    assert wrongly <= 20, "the dead of the other half are suspected, and hardly ever given up"


def test_one_of_whom_all_have_heard_and_whom_nobody_reached_is_given_up() -> None:
    for trial in range(20):
        world = World(trial)
        a, b, c = NODES[:3]
        world.start(a, ADDRESSES[a])
        world.start(c, ADDRESSES[c], named=(ADDRESSES[a],))
        world.run(3.0)
        world.start(b, ADDRESSES[b], named=(ADDRESSES[a],))
        world.run(0.1 + trial * 0.01)
        world.vanish(b)
        world.vanish(a)
        agree(world, within_s=30.0)


def test_growing_beyond_what_is_fully_connected_parts_with_those_not_needed() -> None:
    world = grid_of(EVERYBODY_MAX)
    assert all(len(host.links) == EVERYBODY_MAX - 1 for host in world.alive.values())
    for node in NODES[EVERYBODY_MAX:]:
        world.start(node, ADDRESSES[node], named=(ADDRESSES[NODES[0]],))
    world.run(60.0)
    agree(world, within_s=30.0)
    assert sum(len(host.links) for host in world.alive.values()) / 40 <= 16
