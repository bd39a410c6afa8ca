"""Four whole nodes for hours of virtual time, in which applications and crashes come and go."""

from __future__ import annotations

import pytest

from simulations.scenario import run
from simulations.soak import SoakOptions, simulate

pytestmark = pytest.mark.long


def test_hours_pass_and_what_is_held_is_told() -> None:
    findings = run(simulate, SoakOptions(hours=4.0))
    assert findings.problems == []
    assert all(each["objects"] for each in findings.table("held"))
    assert len(findings.table("held")) == 8
