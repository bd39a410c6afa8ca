"""Applications that lose their coordinators, measured: a few short runs of `simulations.takeover`."""

from __future__ import annotations

import pytest

from simulations.takeover import found, objections
from simulations.takeover_play import Ending, Kind, play

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("kind", "within_s"), [("kill", 2.0), ("cut", 8.0), ("leave", 2.0)])
def test_a_successor_goes_on_soon_and_nothing_is_lost(kind: Kind, within_s: float) -> None:
    ending = play(kind, 3, nodes=6, tasks=45)
    assert objections(ending) == []
    assert ending.takeovers == 1
    assert ending.dispatched_s is not None
    assert ending.dispatched_s <= within_s


def test_results_are_kept_elsewhere_though_the_predecessor_has_a_seat_and_is_dead() -> None:
    ending = play("kill", 1, nodes=6, tasks=45)
    assert ending.ended_s is not None
    assert ending.ended_s < 5.0, "the dead one is not asked to keep any"


def test_what_breaks_a_promise_is_a_problem_and_what_is_slow_is_none() -> None:
    slow = Ending("kill", 1, state="ok", dispatched_s=60.0)
    broken = Ending("kill", 2, state="ok", lost=1)
    findings = found([slow, broken])
    assert findings.problems == ["kill 2: 1 completions that were told are lost"]
    rows = {row["what"]: row for row in findings.table("kill")}
    assert rows["its first attempt goes out, s: p99"] == {
        "what": "its first attempt goes out, s: p99",
        "found": 60.0,
        "target": "<= 2",
    }
