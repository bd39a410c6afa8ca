"""The suite with real processes: that it measures and tells, not how fast."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.suite import installed, lines_of, peers_python

LEFT_BEHIND = ("sleep", "61.0625")


def running(command: Sequence[str]) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cmdline").read_bytes().split(b"\0")[:-1] == [each.encode() for each in command]:
                yield entry.name


def test_who_is_not_installed_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed(["processpool", "parsl"], sys.executable) == {"processpool"}
    monkeypatch.setenv("JCPEER_BENCH_PYTHON", "/opt/other/python")
    assert peers_python() == "/opt/other/python"


@pytest.mark.parametrize("arguments", [["noop"], ["--against", "slurm"], ["--chart", "chart.png"]])
def test_what_there_is_not_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "benchmarks: error" in capsys.readouterr().err


@pytest.mark.real
def test_a_contender_that_dies_leaves_a_note_and_no_process(tmp_path: Path) -> None:
    python = tmp_path / "python"
    script = f"#!/bin/sh\n{' '.join(LEFT_BEHIND)} &\necho '{json.dumps({'version': '1'})}'\nexit 1\n"
    python.write_text(script)
    python.chmod(0o700)
    with open(tmp_path / "log", "wb") as log:
        lines = list(lines_of("dask", str(python), {"noops": 1, "chain": 2}, replicas=3, log=log))
    assert lines == [
        {"version": "1"},
        {"workload": "noops", "note": "the program ends, all lost"},
        {"workload": "chain", "note": "the program ends, all lost"},
    ]
    assert not any(running(LEFT_BEHIND))


@pytest.mark.real
def test_a_small_run_measures_jcpeer_beside_a_process_pool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    told, chart = tmp_path / "told.json", tmp_path / "chart.svg"
    names = ["noops", "single", "layers", "chain", "commands", "naps", "bulk", "kill_scheduler"]
    ours = ["--ours=jcpeer", "--against=processpool"]
    arguments = ["--small", "--repeats=1", *ours, f"--json={told}", f"--chart={chart}"]
    assert main([*names, *arguments]) == 0
    workloads = json.loads(told.read_text())["workloads"]
    assert list(workloads) == names
    assert [name for name in names if "median" not in workloads[name]["contenders"]["jcpeer"]] == []
    assert workloads["kill_scheduler"]["contenders"]["processpool"] == {"note": "is the program"}
    assert "ProcessPoolExecutor" in chart.read_text()
    assert "tasks/s, more is better" in capsys.readouterr().out
