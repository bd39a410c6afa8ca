"""The scenario `dispatch`, small."""

from __future__ import annotations

import pytest

from simulations.dispatch import DispatchOptions, simulate
from simulations.scenario import run

pytestmark = pytest.mark.long


def test_a_chain_does_not_wait_for_a_coordinator_far_away_where_whoever_finishes_starts_the_next() -> None:
    findings = run(simulate, DispatchOptions(nodes=2, length=24))
    assert findings.problems == []
    seconds = {(row["shape"], row["dispatch"]): float(str(row["seconds"])) for row in findings.table("policies")}
    assert seconds["one chain", "relay"] < 0.6 * seconds["one chain", "assign"]
    assert seconds["chains", "relay"] < 0.7 * seconds["chains", "assign"]
