"""How soon another coordinates, in virtual time, when one is lost: frames take 1 to 10 ms, disks 0.5 to 1.5 ms.

A takeover is two round trips, and two promises on disks. All times count from the last `Down` that it has to wait for.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jcpeer.ft.belief import RANK_DELAY_S
from jcpeer.ids import NodeId
from jcpeer.net.events import Proof
from tests.ft.little_world import World

SEEDS = range(20)
TAKEOVER_S = 4 * 0.010 + 2 * 0.0015
A, B, C, D, E = (NodeId(f"n{rank}") for rank in range(5))


def quiet(seed: int, seats: int) -> World:
    world = World(seed=seed, nodes=seats, seats=seats, replicas=seats)
    world.open()
    world.run(1.0)
    world.propose(3)
    world.run(2.0)
    assert len(world.acknowledged) == 3
    return world


def seconds(world: World) -> float:
    """Until somebody coordinates."""
    began_s = world.now_s
    assert world.run(30.0, lambda: bool(world.coordinators()))
    return world.now_s - began_s


@pytest.mark.parametrize("proof", ["refused", "silent"])
@pytest.mark.parametrize(
    "noticed_s", [{B: 0.0, C: 0.0}, {B: 0.0, C: 0.1}, {B: 0.0, C: 0.5}, {B: 0.1, C: 0.0}, {B: 0.5, C: 0.0}]
)
def test_whoever_notices_first_takes_over_as_soon_as_the_second_notices(
    proof: Proof, noticed_s: Mapping[NodeId, float]
) -> None:
    for seed in SEEDS:
        world = quiet(seed, 3)
        world.vanish(A, noticed_s, proof)
        assert 0 < seconds(world) - max(noticed_s.values()) <= TAKEOVER_S, seed


def test_whoever_is_to_take_over_and_is_known_to_be_dead_is_not_waited_for() -> None:
    for seed in SEEDS:
        world = quiet(seed, 5)
        for node in (A, B):
            world.vanish(node, {C: 0.0, D: 0.0, E: 0.0}, "refused")
        assert seconds(world) <= TAKEOVER_S, seed


def test_whoever_is_to_take_over_and_does_not_is_waited_for_once() -> None:
    for seed in SEEDS:
        world = quiet(seed, 5)
        for node, after_s in ((A, 0.0), (B, 3.0)):
            world.vanish(node, {C: after_s, D: after_s, E: after_s}, "silent")
        assert RANK_DELAY_S < seconds(world) <= RANK_DELAY_S + TAKEOVER_S, seed
