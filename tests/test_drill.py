"""`make drill`, as small as it can be: what it says, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_demo import EXAMPLES, processes_of

pytestmark = pytest.mark.real

PROMISES = {
    "applications that end well": [1.0],
    "acknowledgements lost, or changed later": [0.0],
    "finished tasks run again": [0.0],
    "attempts on other nodes cut short": [0.0],
}


def test_a_killed_coordinator_is_survived_and_the_figures_are_told(tmp_path: Path) -> None:
    options = ("--only", "kill", "--nodes", "5", "--tasks", "60", "--json")
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "drill.py"), *options],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stderr
    figures = {each["what"]: each for each in json.loads(ran.stdout)["figures"]}
    assert {what: figures[what]["values"] for what in PROMISES} == PROMISES
    (wait_s,) = figures["kill to first order"]["values"]
    assert 0 < wait_s < 10
    assert "took over at epoch 2" in ran.stderr
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
