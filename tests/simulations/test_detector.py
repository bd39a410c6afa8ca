"""Few are given up wrongly, all that vanished are, and a scenario in which that is not so says it."""

from __future__ import annotations

import pytest

from simulations.detector import DetectorOptions, simulate
from simulations.scenario import run

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("stalled", "every_s"), [(10, "60,600"), (100, "50,50")])
def test_who_stands_still_for_five_seconds_is_suspected_but_never_given_up(stalled: int, every_s: str) -> None:
    options = DetectorOptions(nodes=50, node_hours=200, vanish_h=2.0, stalled=stalled, every_s=every_s)
    findings = run(simulate, options)
    assert findings.problems == []
    suspected, given_up = findings.table("limits")
    assert int(str(suspected["false"])) > 100
    assert float(str(given_up["in 1,000 node-hours"])) == 0
    assert int(str(given_up["vanished"])) > 50
    assert 2.5 < float(str(suspected["p50 s"])) < 3.2
    assert 7.5 < float(str(given_up["p50 s"])) < (8.6 if stalled == 10 else 12)


def test_nodes_that_stand_still_for_longer_than_the_limit_are_a_problem() -> None:
    findings = run(simulate, DetectorOptions(nodes=20, node_hours=20, stalled=50, stall_s=22.0))
    assert any("that lived" in each for each in findings.problems)
