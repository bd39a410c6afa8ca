"""Four whole nodes for hours of virtual time: what they hold does not grow."""

from __future__ import annotations

import pytest

from simulations.scenario import run
from simulations.soak import SoakOptions, simulate

pytestmark = pytest.mark.long


def test_what_nodes_hold_does_not_grow_with_the_hours() -> None:
    findings = run(simulate, SoakOptions(hours=6.0))
    assert findings.problems == []
    assert len(findings.table("held")) == 8
