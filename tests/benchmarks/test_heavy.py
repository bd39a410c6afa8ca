"""The heavy workloads, small and with real processes: that each does what it says and tells it, not how fast."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from benchmarks.growth import FUNCTIONS
from benchmarks.heavy import main, place
from benchmarks.tables import Point, as_text

# The others differ from these in sizes and files: nodes take long to start.
LINES = {
    "files": ["until accepted", "to the end", "sha256sum"],
    "logs": ["followed to the end", "jcpeer logs of one", "/bin/sh"],
    "stragglers": ["programs", "calls", "calls, after"],
}


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    table = as_text("table", [Point({"what": "one", "seconds": 0.12345, "tasks": 1000})]).splitlines()
    assert [line.split() for line in table] == [["table"], ["what", "seconds", "tasks"], ["one", "0.123", "1,000"]]
    assert table[1].index("what") == table[2].index("one")
    assert len(table[1]) == len(table[2])


def test_a_place_is_gone_afterwards_and_who_has_no_room_for_a_large_file_is_told_before() -> None:
    with place(1) as directory:
        (directory / "file").touch()
    assert not directory.exists()
    with pytest.raises(SystemExit, match="has no room"), place(2**60):
        pass


@pytest.mark.real
def test_workloads_measure_jcpeer_beside_a_yardstick(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys, "path", [*sys.path, str(FUNCTIONS)])
    assert main([*LINES, "--small", f"--json={tmp_path / 'told.json'}"]) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert list(told) == list(LINES)
    for name, expected in LINES.items():
        shown = [each["what"] for each in told[name] if each["what"] != "jcpeer cancel"]
        assert [want in got for want, got in zip(expected, shown, strict=True)] == [True] * len(expected), shown
        assert all(cell > -1 for line in told[name] for cell in list(line.values())[1:3]), "a little less than ideal"
    assert "until accepted" in capsys.readouterr().out
