"""What the suite makes of seconds; nothing here runs a contender."""

from __future__ import annotations

import json
import xml.etree.ElementTree as tree

import pytest

from benchmarks.chart import svg
from benchmarks.contender import ENTRIES, Lost, late_after_kill_s
from benchmarks.figures import Figure, as_json, as_markdown, as_text, number, rows
from benchmarks.suite import Results, order, portions
from benchmarks.workloads import WORKLOADS, late_s, naps_ideal_s

SIZES = {"noops": 1000, "single": 10, "kill_worker": 400}
CONTENDERS = ("jcpeer", "dask", "ray")


@pytest.fixture
def results() -> Results:
    found = Results()
    found.add("jcpeer", {"version": "1"})
    for seconds in (0.5, 0.25, 1.0):
        found.add("jcpeer", {"workload": "noops", "seconds": seconds})
        found.add("dask", {"workload": "noops", "seconds": seconds * 4})
    found.add("jcpeer", {"workload": "single", "seconds": 0.003})
    found.add("dask", {"workload": "single", "seconds": 0.012})
    found.add("jcpeer", {"workload": "kill_worker", "seconds": 0.5})
    found.add("dask", {"workload": "kill_worker", "note": "all <lost>"})
    return found


def test_a_rate_is_tasks_by_seconds_with_median_and_range(results: Results) -> None:
    cell = rows(results, SIZES, CONTENDERS)[0].cells["jcpeer"]
    assert cell == Figure(median=2000, least=1000, most=4000, repeats=3, ratio=1)


def test_a_ratio_says_how_many_times_as_good_jcpeer_is_whatever_is_better(results: Results) -> None:
    noops, single, _ = rows(results, SIZES, CONTENDERS)
    for row in (noops, single):
        cell = row.cells["dask"]
        assert isinstance(cell, Figure)
        assert cell.ratio == pytest.approx(4)


def test_lateness_has_no_ratio_and_a_note_stands_where_no_figure_is(results: Results) -> None:
    row = rows(results, SIZES, CONTENDERS)[2]
    assert row.cells == {"jcpeer": Figure(0.5, 0.5, 0.5, 1), "dask": "all <lost>"}


def test_a_figure_wins_over_the_note_of_another_repeat(results: Results) -> None:
    results.add("dask", {"workload": "single", "note": "all lost"})
    assert isinstance(rows(results, SIZES, CONTENDERS)[1].cells["dask"], Figure)


def test_the_text_has_a_block_for_each_workload(results: Results) -> None:
    text = as_text(rows(results, SIZES, CONTENDERS), results.versions)
    assert text.splitlines()[:4] == [
        "jcpeer 1",
        "",
        "noops: 1,000 independent no-op functions; tasks/s, more is better",
        f"  {'jcpeer':28}{'2,000':>10}  1,000 to 4,000",
    ]
    assert "jcpeer × 4.00" in text
    assert "-  all <lost>" in text


def test_the_page_has_a_line_for_each_workload(results: Results) -> None:
    found = as_markdown(rows(results, SIZES, CONTENDERS), CONTENDERS).splitlines()
    assert found[0] == "| workload | jcpeer | Dask |"  # nothing was heard of the third
    assert found[2] == "| 1,000 independent no-op functions, tasks/s | 2,000 | 500 (4.00) |"
    assert {line.count("|") for line in found} == {4}


def test_json_has_every_repeat_and_can_be_read_back(results: Results) -> None:
    told = as_json(results, rows(results, SIZES, CONTENDERS), SIZES, {"processors": 2})
    assert json.loads(json.dumps(told)) == told
    assert told["workloads"]["noops"]["contenders"]["jcpeer"] == {
        "median": 2000,
        "least": 1000,
        "most": 4000,
        "ratio": 1,
        "seconds": [0.5, 0.25, 1.0],
    }
    assert told["workloads"]["kill_worker"]["contenders"]["dask"] == {"note": "all <lost>"}


def test_the_chart_has_a_bar_for_each_figure_and_a_word_for_each_note(results: Results) -> None:
    root = tree.fromstring(svg(rows(results, SIZES, CONTENDERS)))
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("x")]
    assert len(bars) == 5
    assert float(bars[0].attrib["width"]) == pytest.approx(4 * float(bars[1].attrib["width"]), rel=0.01)
    assert "all <lost>" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_chart_of_nothing_is_a_chart() -> None:
    tree.fromstring(svg(rows(Results(), SIZES, CONTENDERS)))


@pytest.mark.parametrize(("value", "shown"), [(9980.4, "9,980"), (10.34, "10.3"), (1.5, "1.50"), (0.1344, "0.134")])
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


# --- what is late


def test_whoever_loses_a_slot_is_not_late_for_that() -> None:
    assert naps_ideal_s(400) == 10
    assert late_s(10, 400, killed_after_s=3, slots_left=2) == pytest.approx(0)
    assert late_s(17, 400, killed_after_s=3, slots_left=1) == pytest.approx(0)
    assert late_s(18.5, 400, killed_after_s=3, slots_left=1) == pytest.approx(1.5)


@pytest.mark.parametrize(("answered", "said"), [(0, "all lost"), (3, "1 of 4 never answered")])
def test_what_is_never_answered_is_lost(answered: int, said: str) -> None:
    with pytest.raises(Lost, match=said):
        late_after_kill_s(4, lambda: None, lambda: 2, lambda _: answered)


# --- who does what in one process


def test_what_kills_or_starts_has_a_process_to_itself() -> None:
    sizes = {"noops": 5, "kill_worker": 6, "chain": 7, "first_result": 1}
    assert portions(sizes, WORKLOADS) == [{"noops": 5, "chain": 7}, {"kill_worker": 6}, {"first_result": 1}]
    assert portions({"kill_worker": 6}, ["kill_worker"]) == [{"kill_worker": 6}]
    assert portions({"noops": 5}, ["chain"]) == []


def test_ours_go_first_and_peers_in_the_order_of_the_table() -> None:
    assert order(["ray", "dask"]) == ["jcpeer", "jcpeer-1", "jcpeer-relay", "dask", "ray"]


def test_every_workload_that_one_is_limited_to_exists() -> None:
    assert all(each.only <= set(WORKLOADS) for each in ENTRIES.values())
