"""From seconds to what is shown: medians, ranges and ratios, as text, as Markdown and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from benchmarks.contender import ENTRIES
from benchmarks.suite import Results
from benchmarks.workloads import WORKLOADS

BASE = "jcpeer"


@frozen
class Figure:
    """One cell: median and range of the repeats in the unit of the workload. `ratio` is to jcpeer: how many times as
    good jcpeer is; None where that says nothing."""

    median: float
    least: float
    most: float
    repeats: int
    ratio: float | None = None


@frozen
class Row:
    """One workload: what each contender came to, or a note why it did not."""

    name: str
    heading: str
    unit: str
    more_is_better: bool
    cells: Mapping[str, Figure | str]


def rows(results: Results, sizes: Mapping[str, int], contenders: Sequence[str]) -> list[Row]:
    found = []
    for name, size in sizes.items():
        workload = WORKLOADS[name]
        cells: dict[str, Figure | str] = {}
        for contender in contenders:
            if name not in ENTRIES[contender].only:
                continue
            seconds = results.seconds.get(name, {}).get(contender, [])
            if seconds:
                cells[contender] = _figure([workload.figure(each, size) for each in seconds])
            elif note := results.notes.get(name, {}).get(contender):
                cells[contender] = note
        _add_ratios(cells, more_is_better=workload.more_is_better, sensible=workload.unit != "s late")
        found.append(Row(name, workload.heading(size), workload.unit, workload.more_is_better, cells))
    return found


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values), len(values))


def _add_ratios(cells: dict[str, Figure | str], *, more_is_better: bool, sensible: bool) -> None:
    base = cells.get(BASE)
    if not sensible or not isinstance(base, Figure):
        return
    for contender, cell in cells.items():
        if isinstance(cell, Figure):
            ratio = base.median / cell.median if more_is_better else cell.median / base.median
            cells[contender] = Figure(cell.median, cell.least, cell.most, cell.repeats, ratio)


def number(value: float) -> str:
    """Three digits that say something: 9,980, 630, 10.3, 0.134."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )


def as_text(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """For a terminal: a block for each workload."""
    lines = [" ".join(f"{ENTRIES[name].title} {version};" for name, version in versions.items()).rstrip(";")]
    for row in rows:
        better = "more" if row.more_is_better else "less"
        lines += ["", f"{row.name}: {row.heading}; {row.unit}, {better} is better"]
        for contender, cell in row.cells.items():
            title = f"  {ENTRIES[contender].title:28}"
            if isinstance(cell, str):
                lines.append(f"{title}{'-':>10}  {cell}")
                continue
            span = f"{number(cell.least)} to {number(cell.most)}"
            ratio = "" if cell.ratio is None or contender == BASE else f"jcpeer × {number(cell.ratio)}"
            lines.append(f"{title}{number(cell.median):>10}  {span:22}{ratio}".rstrip())
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row], contenders: Sequence[str]) -> str:
    """For a page: a line for each workload, a column for each contender, medians with the ratio in brackets."""
    shown = [each for each in contenders if any(each in row.cells for row in rows)]
    lines = [
        "| workload | " + " | ".join(ENTRIES[each].title for each in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for row in rows:
        cells = []
        for contender in shown:
            cell = row.cells.get(contender, "")
            if isinstance(cell, Figure):
                ratio = "" if cell.ratio is None or contender == BASE else f" ({number(cell.ratio)})"
                cell = f"{number(cell.median)}{ratio}"
            cells.append(cell)
        lines.append(f"| {row.heading}, {row.unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(
    results: Results, rows: Sequence[Row], sizes: Mapping[str, int], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, for whoever compares two runs."""
    return {
        "machine": dict(machine),
        "versions": results.versions,
        "workloads": {
            row.name: {
                "heading": row.heading,
                "unit": row.unit,
                "more_is_better": row.more_is_better,
                "size": sizes[row.name],
                "contenders": {
                    contender: {"note": cell}
                    if isinstance(cell, str)
                    else {
                        "median": cell.median,
                        "least": cell.least,
                        "most": cell.most,
                        "ratio": cell.ratio,
                        "seconds": results.seconds[row.name][contender],
                    }
                    for contender, cell in row.cells.items()
                },
            }
            for row in rows
        },
    }
