"""Applications live where their keys say, and whoever has too many, or the wrong ones, is named."""

from __future__ import annotations

import pytest

from jcpeer.ids import KEY_BITS, AppId, NodeId, app_key, closest_set, node_key
from simulations.placement import Home, PlacementOptions, home_problems, load_max, simulate, zones
from simulations.scenario import run

pytestmark = pytest.mark.long

MEMBERS = [NodeId(f"node {number}") for number in range(9)]


def test_each_application_lives_at_the_closest_member_and_ends_well() -> None:
    findings = run(simulate, PlacementOptions(nodes=10, applications=20, within_s=20))
    assert findings.problems == []
    (balance,) = findings.table("balance")
    assert (balance["applications"], balance["mean"]) == (20, 2.0)
    assert sum(int(str(each["coordinates"])) for each in findings.table("busiest")) <= 20


def test_a_coordinator_that_is_not_the_closest_or_not_the_only_one_is_a_problem_and_so_is_a_copy_elsewhere() -> None:
    app = AppId("5" * 40)
    first, second, third, fourth = closest_set(app_key(app), MEMBERS, k=4)
    kept = frozenset((first, second, third))
    assert home_problems({app: Home((first,), kept)}, MEMBERS) == []
    for wrong in ((second,), (first, second), ()):
        assert len(home_problems({app: Home(wrong, kept)}, MEMBERS)) == 1
    for elsewhere in (kept | {fourth}, kept - {third}, kept - {third} | {fourth}):
        assert len(home_problems({app: Home((first,), elsewhere)}, MEMBERS)) == 1


def test_zones_are_the_parts_of_all_keys_to_which_each_is_closest() -> None:
    keys = {each: node_key(each) for each in MEMBERS}
    parts = zones(keys)
    assert sum(parts.values()) == pytest.approx(1.0)
    samples = [number << (KEY_BITS - 10) | 12345 for number in range(1024)]
    counted = dict.fromkeys(MEMBERS, 0)
    for sample in samples:
        counted[closest_set(sample, MEMBERS, k=1)[0]] += 1
    assert {node: count / 1024 for node, count in counted.items()} == pytest.approx(parts)


def test_more_than_chance_explains_is_above_the_bound() -> None:
    assert load_max(18.75, 50) < 60
    assert load_max(0.0, 50) < 20
    assert load_max(100.0, 50) < 200
