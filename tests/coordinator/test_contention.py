"""Many coordinators, few participants: all end, and users get equal shares."""

from __future__ import annotations

import random

import pytest

from jcpeer.application.task import Task, Timed
from jcpeer.ids import TaskId
from tests.coordinator.crowded_world import CrowdedWorld, of_seconds

pytestmark = pytest.mark.long


def test_fifty_coordinators_that_compete_for_twenty_nodes_all_end() -> None:
    draw = random.Random(0)
    world = CrowdedWorld(nodes=20, slots=2)
    work_s = 0.0
    for number in range(50):
        seconds, cpus = [draw.uniform(0.2, 2.0) for _ in range(20)], 2 if number % 10 == 0 else 1
        work_s += sum(seconds) * cpus
        world.submit(f"app{number}", of_seconds(*seconds, cpus=cpus), user=f"user{number % 7}")
    world.run(600.0)
    ended = [each.ended_s for each in world.applications.values()]
    assert None not in ended
    assert world.now_s < 1.1 * work_s / 40, "slots are busy, the end included, where not all can be"
    assert world.sent["Yield"] <= world.sent["Recruit"] < 6000, "for a thousand tasks"


def test_an_application_that_is_alone_keeps_its_slots_whether_or_not_it_needs_them_all_the_time() -> None:
    world = CrowdedWorld(nodes=4, slots=2)
    running = world.submit("alone", of_seconds(*[1.0] * 8), user="ann", sealed=False)
    world.run(2.0)
    for number in range(20):  # they all wait for whoever is about to say what is next
        world.add(running, [Task(TaskId(f"{number}-{at}"), Timed(1.0)) for at in range(8)])
        world.run(world.now_s + 1.5)
        assert running.machine.state.counts["pending"] == 0
    assert world.sent["Recruit"] + world.sent["Yield"] <= 2 * 4


def test_slots_that_one_does_not_need_at_present_serve_another_and_come_back() -> None:
    world = CrowdedWorld(nodes=4, slots=2)
    first = world.submit("first", of_seconds(*[1.0] * 8), user="ann", sealed=False)
    second = world.submit("second", of_seconds(*[1.0] * 200), user="bob")
    world.run(10.0)
    assert first.slot_s == pytest.approx(8.0)
    assert second.slot_s > 8 * 9.0 - 8.0, "all else"
    world.add(first, [Task(TaskId(f"more{at}"), Timed(1.0)) for at in range(100)])
    world.run(20.0)
    assert first.slot_s - 8.0 > 0.35 * 8 * 10.0


def test_two_users_with_equal_demand_get_equal_slot_seconds_from_the_moment_both_are_there() -> None:
    draw = random.Random(0)
    world = CrowdedWorld(nodes=20, slots=1)
    early = world.submit("early", of_seconds(*(draw.uniform(2, 4) for _ in range(2800))), user="ann")
    world.run(60.0)
    assert early.slot_s > 0.95 * 20 * 60
    early.slot_s = 0.0
    late = world.submit("late", of_seconds(*(draw.uniform(4, 12) for _ in range(1200))), user="bob")
    world.run(660.0)
    assert abs(early.slot_s - late.slot_s) < 0.1 * late.slot_s, (early.slot_s, late.slot_s)
    assert early.slot_s + late.slot_s > 0.95 * 20 * 600


def test_a_user_with_ten_applications_gets_no_more_than_one_with_one() -> None:
    world = CrowdedWorld(nodes=6, slots=2)
    many = [world.submit(f"many{number}", of_seconds(*[1.5] * 300), user="ann") for number in range(10)]
    one = world.submit("one", of_seconds(*[1.5] * 2000), user="bob")
    world.run(200.0)
    of_ann = sum(each.slot_s for each in many)
    assert abs(of_ann - one.slot_s) < 0.1 * one.slot_s, (of_ann, one.slot_s)


def test_wide_tasks_do_not_starve_among_many_narrow_ones() -> None:
    world = CrowdedWorld(nodes=3, slots=4)
    for number in range(4):
        world.submit(f"narrow{number}", of_seconds(*[0.7] * 3000), user=f"user{number}")
    wide = world.submit("wide", of_seconds(*[1.0] * 6, cpus=4), user="wide")
    world.run(120.0)
    assert wide.ended_s is not None
    assert wide.ended_s < 60.0
