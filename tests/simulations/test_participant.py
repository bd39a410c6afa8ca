"""Five whole nodes in virtual time, one of which crashes: the same seed is the same world, in any process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from simulations.participant import simulate
from simulations.virtual_time import run_seeded


def run_in_process(seed: int, *, hash_seed: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "simulations.participant", "--seed", str(seed), "--json"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(found.stdout))


@pytest.mark.real
def test_the_same_seed_gives_the_same_trace_in_two_processes() -> None:
    one, other = run_in_process(7, hash_seed="1"), run_in_process(7, hash_seed="2")
    assert one == other
    assert one["status"] == "ok"
    assert one["finished"] == 200
    assert run_in_process(8, hash_seed="1")["digest"] != one["digest"]


@pytest.mark.parametrize("seed", range(5))
def test_an_application_survives_the_crash_of_a_participant(seed: int) -> None:
    status, _ = run_seeded(simulate, seed, seed=seed)
    assert status.summary.state == "ok"
    assert status.summary.tasks["finished"] == 200
    (crashed,) = [each for each in status.shares if each.node.name == "node3"]
    assert crashed.lost > 0
    assert crashed.node not in status.participants
