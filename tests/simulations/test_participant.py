"""Five whole nodes in virtual time, one of which crashes."""

from __future__ import annotations

import pytest

from simulations.participant import ParticipantOptions, simulate
from simulations.scenario import run

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", range(5))
def test_an_application_survives_the_crash_of_a_participant(seed: int) -> None:
    findings = run(simulate, ParticipantOptions(seed))
    assert findings.problems == []
    assert findings.table("application")[0]["finished"] == 200
    (crashed,) = [each for each in findings.table("shares") if each["node"] == "node3"]
    assert crashed["lost"] != 0
