"""What a scenario has measured, beside what is to be reached."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from attrs import frozen


@frozen
class Figure:
    """One line of the table. `values` are in `unit`, one for each time that it was measured.

    `broken`: a promise was not kept. A time that is longer than it should be breaks none: the machine may have other
    things to do.
    """

    scenario: str
    what: str
    target: str
    measured: str
    values: tuple[float, ...]
    unit: str
    reached: bool
    broken: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "what": self.what,
            "target": self.target,
            "measured": self.measured,
            "values": list(self.values),
            "unit": self.unit,
            "reached": self.reached,
            "broken": self.broken,
        }


def promise(scenario: str, what: str, counts: Sequence[int], *, wanted: int = 0) -> Figure:
    """So many are to be there, no more and no fewer, every time."""
    kept = all(each == wanted for each in counts)
    measured = f"{sum(counts)}" if wanted == 0 else f"{sum(counts)} of {wanted * len(counts)}"
    target = "0" if wanted == 0 else "all"
    return Figure(scenario, what, target, measured, tuple(map(float, counts)), "", kept, broken=not kept)


def count(scenario: str, what: str, counts: Sequence[int]) -> Figure:
    """So many there were: nobody promised how many."""
    return Figure(scenario, what, "few", f"{sum(counts)}", tuple(map(float, counts)), "", reached=True)


def duration(
    scenario: str, what: str, seconds: Sequence[float], *, median_s: float | None = None, worst_s: float | None = None
) -> Figure:
    """How long it took, and is to take in the median and at worst. What never came took infinitely long."""
    limits = [("p50", median_s, statistics.median(seconds)), ("worst", worst_s, max(seconds))]
    wanted = [(name, limit) for name, limit, _ in limits if limit is not None]
    target = (
        ", ".join(f"{name} ≤ {limit:g} s" for name, limit in wanted) if len(wanted) > 1 else f"≤ {wanted[0][1]:g} s"
    )
    measured = (
        _seconds(seconds[0]) if len(seconds) == 1 else f"p50 {_seconds(limits[0][2])}, worst {_seconds(limits[1][2])}"
    )
    reached = all(limit is None or value <= limit for _, limit, value in limits)
    return Figure(scenario, what, target, measured, tuple(seconds), "s", reached)


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f} s"


def table(figures: Sequence[Figure]) -> str:
    """The figures, scenario by scenario."""
    notes = ["  BROKEN" if each.broken else "" if each.reached else "  (not reached)" for each in figures]
    what = max(len(each.what) for each in figures)
    target = max(len(each.target) for each in figures)
    lines = [f"  {'':<{what}}  {'target':<{target}}  measured"]
    for scenario in dict.fromkeys(each.scenario for each in figures):
        lines.append(scenario)
        lines += [
            f"  {each.what:<{what}}  {each.target:<{target}}  {each.measured}{note}"
            for each, note in zip(figures, notes, strict=True)
            if each.scenario == scenario
        ]
    return "\n".join(lines)
