"""Many nodes that find each other by key, with deaths, joins of many, and divisions."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jcpeer.dht.machine import Published
from simulations.key_network import open_key_network
from simulations.key_world import KeyWorld, record_of
from simulations.lookups import Exactness, divide_and_heal, flash_join, grow, kill, look_up

pytestmark = pytest.mark.long


async def exactness(world: KeyWorld, lookups: int = 200) -> Exactness:
    return await look_up(world, lookups)


@pytest.mark.parametrize(("nodes", "dead"), [(30, 0), (30, 40), (100, 20), (100, 40)])
async def test_the_nearest_are_found_right_after_many_died_and_exactly_a_minute_later(nodes: int, dead: int) -> None:
    world = KeyWorld(nodes + dead)
    await grow(world, nodes)
    kill(world, dead)
    right_after = await exactness(world)
    assert right_after.first_three >= 0.99
    assert right_after.p95_s <= 3.0
    await world.run(60.0)
    later = await exactness(world)
    assert later.first_three == 1.0
    assert later.whole >= 0.99
    for node in world.living:
        node.machine.check()


async def test_a_minute_after_many_joined_at_one_moment_through_one_node_lookups_are_exact() -> None:
    world = KeyWorld(3)
    await flash_join(world, 100)
    await world.run(60.0)
    after = await exactness(world)
    assert (after.first_three, after.whole) == (1.0, 1.0)


async def test_a_minute_after_a_division_into_halves_ended_lookups_are_exact() -> None:
    world = KeyWorld(4)
    await grow(world, 60)
    await divide_and_heal(world)
    await world.run(60.0)
    after = await exactness(world)
    assert (after.first_three, after.whole) == (1.0, 1.0)


async def test_nearest_are_found_over_the_network_with_dials_and_connections_that_come_and_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_key_network(1) as network:
        await grow(network, 30)
        kill(network, 40)
        right_after = await look_up(network, 100)
        assert right_after.first_three >= 0.99
        assert right_after.p95_s <= 3.0
        await network.run(60.0)
        later = await look_up(network, 100)
        assert (later.first_three, later.whole) == (1.0, 1.0)
        for node in network.living:
            node.finding.machine.check()


async def test_every_step_of_a_small_world_keeps_the_invariants() -> None:
    world = KeyWorld(5, check=True)
    await grow(world, 30)
    kill(world, 30)
    world.publish(world.living[0], 99, 1)
    await world.run(40.0)
    assert (await exactness(world, 50)).first_three == 1.0


async def test_the_same_seed_gives_the_same_world() -> None:
    async def told() -> tuple[object, ...]:
        world = KeyWorld(6)
        await grow(world, 40)
        kill(world, 20)
        await world.run(30.0)
        return world.sent, world.now_s, await exactness(world, 50)

    assert await told() == await told()


async def test_a_record_outlives_those_that_keep_it_and_the_newest_stands() -> None:
    world = KeyWorld(7)
    await grow(world, 60)
    key = 2**159 + 12345
    publisher = next(node for node in world.living if node.id not in world.exact(key))
    world.publish(publisher, key, 1, lifetime_s=90.0)
    await world.run(5.0)
    assert publisher.published() == [Published(key, 8)]
    for holder in world.exact(key):
        world.nodes[holder].alive = False
    await world.run(60.0)
    seeker = next(node for node in world.living if node.id not in world.exact(key) and node is not publisher)
    call = world.find_record(seeker, key)
    await world.run(5.0)
    assert seeker.found()[call][1].record == record_of(key, 1, lifetime_s=90.0)

    world.publish(seeker, key, 2, lifetime_s=90.0)
    await world.run(90.0)
    assert {node for each in publisher.published()[-1:] for node, _ in each.refusals} >= set(world.exact(key, 3))
    call = world.find_record(publisher, key)
    await world.run(5.0)
    assert publisher.found()[call][1].record == record_of(key, 2, lifetime_s=90.0)


async def test_a_record_whose_publisher_died_ends_with_its_lifetime() -> None:
    world = KeyWorld(8)
    await grow(world, 30)
    publisher, seeker = world.living[:2]
    world.publish(publisher, 5, 1, lifetime_s=60.0)
    await world.run(5.0)
    publisher.alive = False
    await world.run(70.0)
    call = world.find_record(seeker, 5)
    await world.run(5.0)
    assert seeker.found()[call][1].record is None
