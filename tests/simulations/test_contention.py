"""Small crowds: who is delayed, and who had what share, can be worked out by hand."""

from __future__ import annotations

import pytest

from jcpeer.ids import AppId
from simulations.contention import ContentionOptions, Run, simulate, slot_seconds_in_contention
from simulations.scenario import run

pytestmark = pytest.mark.long

SMALL = ContentionOptions(nodes=6, applications=12, users=3, within_s=60, seconds_max=20, tasks_max=16)


def test_a_crowd_ends_well_and_each_user_gets_its_work_done() -> None:
    findings = run(simulate, SMALL)
    assert findings.problems == []
    (delays,) = findings.table("delays")
    users = findings.table("users")
    assert delays["applications"] == 12
    assert [each["applications"] for each in users] == [4, 4, 4]
    assert sum(float(str(each["slot s"])) for each in users) == pytest.approx(delays["slot s"])
    assert all(float(str(each["mean stretch"])) >= 0.9 for each in users)


def test_a_crowd_ends_well_whatever_breaks_meanwhile() -> None:
    findings = run(simulate, ContentionOptions(3, 6, 2, 12, 3, 60, 20, 16, faults=8))
    assert findings.problems == []
    assert len(findings.lines) >= 8


def test_users_with_equal_demand_get_equal_slot_seconds_and_no_slot_is_idle() -> None:
    findings = run(simulate, ContentionOptions(nodes=20, cores=1, users=2, within_s=60, demand="equal"))
    assert findings.problems == []
    shares = [float(str(each["% of an equal share"])) for each in findings.table("shares")]
    assert shares == pytest.approx([100.0, 100.0], abs=5.0), "which is 10 % of each other"
    assert findings.table("slots")[0]["utilisation"] > 0.97  # type: ignore[operator]


def test_many_coordinators_on_few_nodes_all_end_and_share_the_slots_to_the_last() -> None:
    options = ContentionOptions(nodes=8, applications=20, within_s=1, seconds_max=4, tasks_max=32)
    findings = run(simulate, options)
    assert findings.problems == []
    (delays,) = findings.table("delays")
    assert delays["applications"] == 20
    assert delays["utilisation"] > 0.8  # type: ignore[operator]


def test_only_what_ran_while_every_user_waited_counts_as_contention() -> None:
    def ran(user: str, submitted_s: float, ended_s: float, *attempts: tuple[float, float]) -> Run:
        return Run(AppId(user), user, submitted_s, ended_s, attempts)

    runs = [ran("a", 0, 10, (0, 6), (4, 6)), ran("b", 5, 20, (8, 12)), ran("b", 30, 40, (30, 10))]
    assert slot_seconds_in_contention(runs) == {"a": 1 + 5, "b": 2}
