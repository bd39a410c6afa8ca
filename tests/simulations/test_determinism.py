"""The same seed is the same world in another process, whatever the hashes of its strings, and another seed another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RECORDED = "tests/application/fork.wfformat.json"

SMALL = {
    "participant": ("--tasks", "100"),
    "trace": (RECORDED, "--nodes", "3", "--cores", "2"),
    "contention": ("--nodes", "6", "--applications", "8", "--within-s", "60", "--seconds-max", "20", "--faults", "4"),
    "lookups": ("--nodes", "30", "--dead", "40", "--lookups", "100", "--together-max", "0"),
    "dispatch": ("--nodes", "3", "--length", "10"),
    "join": ("--nodes", "30", "--sites", "3", "--how", "waves", "--lookups", "5"),
    "detector": ("--nodes", "20", "--node-hours", "60"),
    "takeover": ("--kind", "kill", "--runs", "2", "--nodes", "6", "--tasks", "45"),
    "placement": ("--nodes", "8", "--applications", "12", "--within-s", "20"),
}


def found_in_process(scenario: str, *options: str, hash_seed: str) -> dict[str, Any]:
    """What `python -m simulations.SCENARIO` prints with --json."""
    command = [sys.executable, "-m", f"simulations.{scenario}", *options, "--json"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads(ran.stdout))


def test_no_scenario_is_left_out() -> None:
    files = (Path(__file__).parents[2] / "simulations").glob("*.py")
    assert {file.stem for file in files if '\nif __name__ == "__main__":' in file.read_text()} - {
        "speed",
        "soak",  # its figures are bytes of memory
        "chaos",  # its own tests compare two processes
    } == SMALL.keys()


@pytest.mark.real
@pytest.mark.parametrize("scenario", SMALL)
def test_the_same_seed_gives_the_same_findings_in_two_processes_and_another_seed_others(scenario: str) -> None:
    one, same = (found_in_process(scenario, *SMALL[scenario], hash_seed=each) for each in ("1", "2"))
    assert one == same
    assert one["problems"] == []
    assert one["events"] > 50
    another = found_in_process(scenario, *SMALL[scenario], "--seed", "8", hash_seed="1")
    assert another["digest"] != one["digest"]
    assert another["options"] == one["options"] | {"seed": 8}
