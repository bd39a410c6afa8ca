"""The same scenario in processes of their own, whose dictionaries and sets are hashed differently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def found_in_process(scenario: str, *options: str, hash_seed: str) -> dict[str, Any]:
    """What `python -m simulations.SCENARIO` prints with --json."""
    command = [sys.executable, "-m", f"simulations.{scenario}", *options, "--json"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads(ran.stdout))


def same_in_two_processes(scenario: str, *options: str) -> dict[str, Any]:
    """What both print; they must agree in everything."""
    one, other = (found_in_process(scenario, *options, hash_seed=each) for each in ("1", "2"))
    assert one == other
    return one
