"""Five whole nodes in virtual time, one of which crashes: the same seed is the same world, in any process."""

from __future__ import annotations

import pytest

from simulations.participant import ParticipantOptions, simulate
from simulations.scenario import run
from tests.simulations.two_processes import found_in_process, same_in_two_processes


@pytest.mark.real
def test_the_same_seed_gives_the_same_findings_in_two_processes_and_another_seed_others() -> None:
    found = same_in_two_processes("participant", "--seed", "7")
    assert found["tables"]["application"][0]["state"] == "ok"
    assert found["tables"]["application"][0]["finished"] == 200
    assert found_in_process("participant", "--seed", "8", hash_seed="1")["digest"] != found["digest"]


@pytest.mark.parametrize("seed", range(5))
def test_an_application_survives_the_crash_of_a_participant(seed: int) -> None:
    findings = run(simulate, ParticipantOptions(seed))
    assert findings.problems == []
    assert findings.table("application")[0]["finished"] == 200
    (crashed,) = [each for each in findings.table("shares") if each["node"] == "node3"]
    assert crashed["lost"] != 0
