"""Nodes that come at once, in waves or one by one, at one site or several, get to know each other."""

from __future__ import annotations

import pytest

from simulations.join import JoinOptions, simulate
from simulations.scenario import run

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    "options",
    [JoinOptions(nodes=30), JoinOptions(nodes=30, sites=3, how="waves"), JoinOptions(nodes=12, how="one-by-one")],
    ids=str,
)
def test_every_directory_is_complete_soon_and_rest_costs_little(options: JoinOptions) -> None:
    findings = run(simulate, options)
    assert findings.problems == []
    (row,) = findings.table("join")
    assert 0.0 < float(str(row["complete s"])) < 60.0
    assert 0.0 < float(str(row["resting: messages/s"])) < 3.0  # in the first half minute each looks itself up once more
    assert int(str(row["most at rest"])) < options.nodes
    (lookups,) = findings.table("lookups")
    assert lookups["first 3 exact"] == lookups["lookups"] == 50
