"""A graph as SVG, from left to right: boxes coloured by role, a mark where a task has friends, a legend below."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from rich.cells import cell_len

from jcpeer.application.roles import Role
from jcpeer.cli.drawing.figure import Figure, Vertex, shortened
from jcpeer.cli.drawing.layers import Layered, arrange, place
from jcpeer.cli.drawing.palette import EDGE, FAINT_TEXT, FRIENDS_MARK, PALETTE, TEXT

LABEL_MAX = 34
_CHAR, _PADDING, _BOX, _GAP, _MARGIN = 7.3, 12.0, 28.0, 10.0, 28.0
_WAYPOINT = 4.0
_CHANNEL_MIN, _CHANNEL_MAX = 56.0, 180.0
_TITLE, _LEGEND = 54.0, 52.0
_LEGEND_TEXTS: tuple[tuple[Role, str], ...] = (
    ("initial", "initial: no parent"),
    ("isolated", "isolated: one parent"),
    ("shared", "shared: several parents"),
)
_FRIENDS_TEXT = "friends: share a child"


def draw_svg(figure: Figure, *, name: str, caption: str) -> Iterator[str]:
    """The lines; a name and a caption stand above the drawing."""
    layered = arrange(figure)
    sizes = [_WAYPOINT if layered.is_waypoint(spot) else _BOX for spot in range(sum(map(len, layered.layers)))]
    middle = place(layered, distance=lambda one, other: (sizes[one] + sizes[other]) / 2 + _GAP)
    top = min((y - size / 2 for y, size in zip(middle, sizes, strict=True)), default=0.0)
    middle = [y - top for y in middle]
    columns = _columns(figure, layered, middle)
    height = max((y + _BOX / 2 for y in middle), default=0.0) + _TITLE + _MARGIN + _LEGEND
    legend_width = sum(_legend_width(text) for text in (*(text for _, text in _LEGEND_TEXTS), _FRIENDS_TEXT))
    title_width = max(cell_len(shortened(name, 90)) * 10.0, cell_len(caption) * 6.4)
    right = max(x + width for x, width in columns) if columns else 0.0
    shift = max(0.0, (max(legend_width, title_width) + 2 * _MARGIN - right - _MARGIN) / 2)
    width = right + _MARGIN + 2 * shift
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={quoteattr(name)}>'
    )
    yield f"<title>{escape(name)}</title>"
    yield from _style()
    yield f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>'
    yield f'<text class="name" x="{_MARGIN:.0f}" y="30">{escape(shortened(name, 90))}</text>'
    yield f'<text class="caption" x="{_MARGIN:.0f}" y="47">{escape(caption)}</text>'
    yield f'<g transform="translate({shift:.1f} {_TITLE + 10:.0f})">'
    yield f'<g class="edges"><path d="{" ".join(_curves(layered, columns, middle))}"/></g>'
    for index, vertex in enumerate(figure.vertices):
        x, box_width = columns[vertex.depth - 1]
        yield from _box(figure.prefix, vertex, x, middle[index] - _BOX / 2, box_width)
    yield "</g>"
    yield from _legend(height - 24)
    yield "</svg>"


def _columns(figure: Figure, layered: Layered, middle: list[float]) -> list[tuple[float, float]]:
    """Left edge and width of each layer; between two there is the more room the steeper the lines are."""
    columns: list[tuple[float, float]] = []
    x = _MARGIN
    for layer in layered.layers:
        labels = [figure.vertices[spot] for spot in layer if not layered.is_waypoint(spot)]
        width = max(cell_len(shortened(each.label, LABEL_MAX)) for each in labels) * _CHAR + 2 * _PADDING
        columns.append((x, width))
        steep = [abs(middle[spot] - middle[below]) for spot in layer for below in layered.below[spot]]
        x += width + min(_CHANNEL_MAX, max(_CHANNEL_MIN, 0.28 * max(steep, default=0.0), 9 * math.sqrt(len(steep))))
    return columns


def _curves(layered: Layered, columns: list[tuple[float, float]], middle: list[float]) -> Iterator[str]:
    for number, layer in enumerate(layered.layers):
        left, width = columns[number]
        for spot in layer:
            if layered.is_waypoint(spot):
                yield f"M{left:.1f} {middle[spot]:.1f}h{width:.1f}"
            for below in layered.below[spot]:
                x, end = left + width, columns[number + 1][0]
                bend = (end - x) * 0.5
                y, end_y = middle[spot], middle[below]
                yield (
                    f"M{x:.1f} {y:.1f}C{x + bend:.1f} {y:.1f} {end - bend:.1f} {end_y:.1f} {end:.1f} {end_y:.1f}"
                    if abs(y - end_y) >= 0.05
                    else f"M{x:.1f} {y:.1f}H{end:.1f}"
                )


def _box(prefix: str, vertex: Vertex, x: float, y: float, width: float) -> Iterator[str]:
    friends = ", has friends" if vertex.has_friends else ""
    yield f'<g class="{vertex.role}"><title>{escape(f"{prefix}{vertex.label}: {vertex.role}{friends}")}</title>'
    if vertex.count > 1:
        yield f'<rect x="{x + 4:.1f}" y="{y - 3:.1f}" width="{width:.1f}" height="{_BOX:.0f}" rx="5"/>'
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX:.0f}" rx="5"/>'
    if vertex.has_friends:
        yield _friends_mark(x + width - 5, y + 6, _BOX - 12)
    middle_x, middle_y = x + width / 2, y + _BOX / 2 + 4
    yield f'<text x="{middle_x:.1f}" y="{middle_y:.1f}">{escape(shortened(vertex.label, LABEL_MAX))}</text></g>'


def _friends_mark(x: float, y: float, height: float) -> str:
    return f'<rect class="friends" x="{x:.1f}" y="{y:.1f}" width="3" height="{height:.0f}" rx="1"/>'


def _legend(y: float) -> Iterator[str]:
    x = _MARGIN
    for role, text in _LEGEND_TEXTS:
        yield f'<g class="{role}"><rect x="{x:.1f}" y="{y - 11:.1f}" width="20" height="14" rx="3"/></g>'
        yield f'<text class="legend" x="{x + 27:.1f}" y="{y:.1f}">{text}</text>'
        x += _legend_width(text)
    yield _friends_mark(x + 12, y - 11, 14)
    yield f'<text class="legend" x="{x + 23:.1f}" y="{y:.1f}">{_FRIENDS_TEXT}</text>'


def _legend_width(text: str) -> float:
    return 27 + len(text) * 6.2 + 22


def _style() -> Iterator[str]:
    yield "<style>"
    yield ".paper { fill: #ffffff }"
    yield f"text {{ font: 12px 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: {TEXT}; text-anchor: middle }}"
    yield ".name, .caption, .legend { font-family: 'Helvetica Neue', Helvetica, Arial, sans-serif; text-anchor: start }"
    yield ".name { font-size: 18px; font-weight: 600 }"
    yield f".caption, .legend {{ font-size: 12px; fill: {FAINT_TEXT} }}"
    yield f".edges {{ fill: none; stroke: {EDGE}; stroke-width: 1.2; stroke-opacity: 0.75 }}"
    for role, colours in PALETTE.items():
        yield f".{role} rect {{ fill: {colours.fill}; stroke: {colours.line}; stroke-width: 1.2 }}"
    yield f"rect.friends {{ fill: {FRIENDS_MARK}; stroke: none }}"
    yield "</style>"
