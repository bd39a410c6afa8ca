"""Recorded runs, replayed: what the table says of them can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcpeer.application.wfformat import load_wfformat
from simulations.scenario import run
from simulations.trace import BYTES_HELD_MAX, TraceOptions, critical_path_s, fitting_scale, simulate

FORK = Path(__file__).parents[1] / "application" / "fork.wfformat.json"
"""A task of 10 s, then two of 5.5 s on 2 cores and of 12 s on all cores, then one of no time."""


def replayed(**changes: object) -> dict[str, object]:
    findings = run(simulate, TraceOptions(files=(FORK,), **changes))  # type: ignore[arg-type]
    assert findings.problems == []
    (row,) = findings.table("traces")
    return dict(row)


def test_the_makespan_is_the_critical_path_where_cores_are_plenty() -> None:
    row = replayed(nodes=3, cores=4, bandwidth=0.0)
    assert (row["tasks"], row["attempts"], row["recorded s"]) == (4, 4, 30.0)
    assert row["critical path s"] == 22.0
    assert row["work/cores s"] == pytest.approx((10 + 5.5 * 2 + 12 * 4) / 12)
    assert row["makespan s"] == pytest.approx(22.0, abs=0.5)
    assert row["ratio"] == pytest.approx(1.0, abs=0.03)


def test_one_core_does_one_thing_after_another() -> None:
    row = replayed(nodes=1, cores=1, bandwidth=0.0)
    assert row["work/cores s"] == 27.5
    assert row["makespan s"] == pytest.approx(27.5, abs=0.5)


def test_slow_nodes_stretch_what_they_run() -> None:
    row = replayed(nodes=1, cores=2, slowness="2", bandwidth=0.0)
    assert (row["critical path s"], row["work/cores s"]) == (44.0, 10 + 5.5 * 2 + 12 * 2)
    assert row["makespan s"] == pytest.approx(2 * 27.5, abs=0.5)


def test_a_scale_is_found_at_which_all_that_is_made_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitting_scale(FORK) == 1.0
    monkeypatch.setattr("simulations.trace.BYTES_HELD_MAX", 50_000)
    assert fitting_scale(FORK) == pytest.approx(0.01, rel=0.01)
    assert BYTES_HELD_MAX == 256 * 2**20


def test_the_critical_path_is_the_longest_chain() -> None:
    assert critical_path_s(load_wfformat(FORK).tasks) == 22.0
    assert critical_path_s(()) == 0.0
