"""A bar chart as SVG: a panel for each workload, a bar for each contender, a line over it from least to most."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.contender import ENTRIES, OURS
from benchmarks.figures import Figure, Row, number

PANEL, GAP, LABELS, BAR, STEP, HEAD = 560, 40, 190, 14, 22, 44
BARS = PANEL - LABELS - 90
"""Room for the longest bar; its figure stands behind it."""
INK, FAINT, OURS_COLOUR, THEIRS_COLOUR = "#222", "#777", "#1b6ca8", "#b0b7bd"
COLUMNS = 2


def svg(rows: Sequence[Row]) -> str:
    """The chart; each panel has a scale of its own, from zero."""
    lines: list[str] = []
    bottoms = [GAP // 2] * COLUMNS
    for row in rows:
        column = bottoms.index(min(bottoms))
        lines += _panel(row, column * (PANEL + GAP) + GAP // 2, bottoms[column])
        bottoms[column] += HEAD + STEP * len(row.cells) + GAP // 2
    width, height = COLUMNS * (PANEL + GAP), max(bottoms)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="Helvetica, Arial, sans-serif" font-size="12"'
    return "\n".join(
        (f"{head} {style}>", f'<rect width="{width}" height="{height}" fill="#fff"/>', *lines, "</svg>", "")
    )


def _panel(row: Row, left: int, top: int) -> list[str]:
    figures = [each for each in row.cells.values() if isinstance(each, Figure)]
    longest = max((each.most for each in figures), default=0.0)
    scale = BARS / longest if longest > 0 else 0.0
    better = "longer" if row.more_is_better else "shorter"
    lines = [
        _text(left, top + 14, row.heading, weight="bold"),
        _text(left, top + 30, f"{row.unit}, {better} is better", colour=FAINT),
    ]
    for place, (contender, cell) in enumerate(row.cells.items()):
        y = top + HEAD + place * STEP
        start = left + LABELS
        lines.append(_text(start - 8, y + 11, ENTRIES[contender].title, anchor="end"))
        if isinstance(cell, str):
            lines.append(_text(start, y + 11, cell[:50], colour=FAINT))
            continue
        colour = OURS_COLOUR if contender in OURS else THEIRS_COLOUR
        length = max(1.0, cell.median * scale)
        least, most = (start + max(0.0, each * scale) for each in (cell.least, cell.most))
        middle = y + BAR / 2
        lines += [
            f'<rect x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="{INK}" fill="none"/>',
            _text(max(start + length, most) + 6, y + 11, number(cell.median)),
        ]
    return lines


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = INK) -> str:
    place = f'x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"
