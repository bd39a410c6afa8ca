"""A small graph as text: a box a vertex, its layers one below the other, lines of box characters between them.

Parents that have the same children are joined with all of them by one line, a *net*. Where two nets cross, the one that
goes down passes over the other, which is interrupted there: what touches belongs together.
"""

from __future__ import annotations

import functools
import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen
from rich.cells import cell_len

from jcpeer.application.roles import Role
from jcpeer.cli.drawing.figure import Figure, shortened
from jcpeer.cli.drawing.layers import Layered, arrange, place

LABEL_MAX = 26
_GAP = 2
"""Columns between two boxes; a line needs one."""
_ASIDE = 2
"""So far from a box's middle a line may reach it, to be straight."""
_ROWS = 3
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = dict(enumerate(" ╵╷│╴┘┐┤╶└┌├─┴┬┼"))
_BORDERS: Mapping[Role, str] = {"initial": "╭─╮│╰╯┬┴", "isolated": "┌─┐│└┘┬┴", "shared": "┏━┓┃┗┛┯┷"}

LEGEND = "╭─╮ initial   ┌─┐ isolated   ┏━┓ shared"


def draw_boxes(figure: Figure, *, width: int) -> list[str] | None:
    """The drawing's lines; None if it is wider than this, or its lines cannot be kept apart."""
    layered = arrange(figure)
    nets = [_nets(layered, number) for number in range(len(layered.layers) - 1)]
    widths = _widths(figure, layered, nets)
    if any(sum(widths[spot] + 1 for spot in layer) > width + 1 for layer in layered.layers):
        return None

    def distance(one: int, other: int) -> int:
        gap = 1 if layered.is_waypoint(one) or layered.is_waypoint(other) else _GAP
        return widths[one] - widths[one] // 2 + gap + widths[other] // 2  # an even width has its middle on the right

    middle = place(layered, distance=distance)
    left = [math.floor(middle[spot] + 0.5) - widths[spot] // 2 for spot in range(len(widths))]
    left = _straightened(layered, [column - min(left) for column in left], widths)
    if any(left[spot] + widths[spot] > width for spot in range(len(widths))):
        return None
    canvas = _Canvas()
    row = 0
    ports = _Ports(layered, nets, left, widths)
    for number, layer in enumerate(layered.layers):
        for spot in layer:
            if layered.is_waypoint(spot):
                _draw_waypoint(canvas, row, ports.above[spot], ports.below[spot], left[spot] + widths[spot] // 2)
            else:
                vertex = figure.vertices[spot]
                label = shortened(vertex.label, LABEL_MAX)
                canvas.box(row, left[spot], widths[spot], label, _BORDERS[vertex.role])
                canvas.ports(row, ports.above[spot].values(), _BORDERS[vertex.role][7])
                canvas.ports(row + _ROWS - 1, ports.below[spot].values(), _BORDERS[vertex.role][6])
        row += _ROWS
        if number < len(nets):
            tracks = _tracks(nets[number], ports)
            if tracks is None:
                return None
            height = 1 + max((track for track in tracks if track is not None), default=0)
            for net, track in zip(nets[number], tracks, strict=True):
                _draw_net(canvas, row, height, net, track, ports)
            row += height
    return canvas.lines()


@frozen(eq=False)
class _Net:
    """All of some spots of a layer lead to all of some spots of the next."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]


def _nets(layered: Layered, number: int) -> list[_Net]:
    """Every segment below this layer, in one net each."""
    by_children: dict[frozenset[int], list[int]] = defaultdict(list)
    for spot in layered.layers[number]:
        if layered.below[spot]:
            by_children[frozenset(layered.below[spot])].append(spot)
    by_parents: dict[frozenset[int], list[int]] = defaultdict(list)
    for spot in layered.layers[number + 1]:
        if layered.above[spot]:
            by_parents[frozenset(layered.above[spot])].append(spot)
    if len(by_parents) < len(by_children):
        return [_Net(tuple(sorted(upper)), tuple(lower)) for upper, lower in by_parents.items()]
    return [_Net(tuple(upper), tuple(sorted(lower))) for lower, upper in by_children.items()]


def _widths(figure: Figure, layered: Layered, nets: Sequence[Sequence[_Net]]) -> list[int]:
    """Columns of each spot: its label, and a column for each net with one between."""
    needed = [0] * sum(map(len, layered.layers))
    for channel in nets:
        for side in ([net.upper for net in channel], [net.lower for net in channel]):
            counts: dict[int, int] = defaultdict(int)
            for spots in side:
                for spot in spots:
                    counts[spot] += 1
            for spot, count in counts.items():
                needed[spot] = max(needed[spot], 2 * count - 1)
    return [
        needed[spot]
        if layered.is_waypoint(spot)
        else max(cell_len(shortened(figure.vertices[spot].label, LABEL_MAX)) + 4, needed[spot] + 2)
        for spot in range(len(needed))
    ]


def _straightened(layered: Layered, left: list[int], widths: Sequence[int]) -> list[int]:
    """The same, without the small bends that rounding made where a line goes on below one spot."""
    for layer in layered.layers:
        for index, spot in enumerate(layer):
            if not layered.is_waypoint(spot) or widths[spot] > 1 or len(layered.above[spot]) != 1:
                continue
            (above,) = layered.above[spot]
            column = left[above] + widths[above] // 2
            first = left[layer[index - 1]] + widths[layer[index - 1]] + 1 if index else 0
            last = left[layer[index + 1]] - 2 if index + 1 < len(layer) else column
            if abs(column - left[spot]) <= _ASIDE and first <= column <= last:
                left[spot] = column
    return left


class _Ports:
    """At which column each net leaves or reaches each spot."""

    def __init__(
        self, layered: Layered, nets: Sequence[Sequence[_Net]], left: Sequence[int], widths: Sequence[int]
    ) -> None:
        self.above: dict[int, dict[_Net, int]] = defaultdict(dict)
        self.below: dict[int, dict[_Net, int]] = defaultdict(dict)
        self._left, self._widths, self._layered = left, widths, layered

        def middle(spots: Sequence[int]) -> float:
            return sum(left[each] + widths[each] / 2 for each in spots) / len(spots)

        for channel in nets:
            leaving: dict[int, list[_Net]] = defaultdict(list)
            arriving: dict[int, list[_Net]] = defaultdict(list)
            for net in channel:
                for spot in net.upper:
                    leaving[spot].append(net)
                for spot in net.lower:
                    arriving[spot].append(net)
            taken: dict[int, _Net] = {}
            for spot, found in leaving.items():
                found.sort(key=lambda net: middle(net.lower))
                for net, column in zip(found, self._columns(spot, len(found)), strict=True):
                    self.below[spot][net] = column
                    taken[column] = net
            for spot, found in arriving.items():
                found.sort(key=lambda net: middle(net.upper))
                columns = self._columns(spot, len(found))
                for net, column in zip(found, columns, strict=True):
                    others = {*columns} - {column}
                    if len(found) == len(net.upper) == len(net.lower) == 1 and not layered.is_waypoint(spot):
                        straight = self.below[net.upper[0]][net]
                        column = straight if abs(straight - column) <= _ASIDE else column
                    self.above[spot][net] = self._free(spot, net, column, taken, others)

    def _columns(self, spot: int, count: int) -> list[int]:
        first = self._left[spot] + self._widths[spot] // 2 - (count - 1)
        return [first + 2 * index for index in range(count)]

    def _free(self, spot: int, net: _Net, column: int, taken: Mapping[int, _Net], others: set[int]) -> int:
        """Where no other net comes down, so that two never want one column; the wanted one if there is none."""
        if self._layered.is_waypoint(spot):
            return column
        inside = range(self._left[spot] + 1, self._left[spot] + self._widths[spot] - 1)
        near = (column, column + 1, column - 1, column + 2, column - 2)
        used = others | set(self.above[spot].values())
        free = (each for each in near if each in inside and each not in used and taken.get(each, net) is net)
        return next(free, column)


def _tracks(nets: Sequence[_Net], ports: _Ports) -> list[int | None] | None:
    """The row of each net's level line, from 0; None for a net that goes straight down. None if there is no way."""
    columns = [
        ([ports.below[spot][net] for spot in net.upper], [ports.above[spot][net] for spot in net.lower]) for net in nets
    ]
    leaving = {column: index for index, (upper, _) in enumerate(columns) for column in upper}
    before: list[set[int]] = [
        {leaving[column] for column in lower if leaving.get(column, index) != index}
        for index, (_, lower) in enumerate(columns)
    ]
    spans = [(min(*upper, *lower), max(*upper, *lower)) for upper, lower in columns]
    tracks: list[int | None] = [None] * len(nets)
    rows: list[list[tuple[int, int]]] = []
    todo = sorted(range(len(nets)), key=lambda index: spans[index])
    done: set[int] = set()
    while todo:
        index = next((each for each in todo if before[each] <= done), None)
        if index is None:
            return None  # each would have to be above the other
        todo.remove(index)
        done.add(index)
        first, last = spans[index]
        if first == last and not before[index]:
            continue
        row = max((tracks[each] or 0) + 1 for each in before[index]) if before[index] else 0
        while row < len(rows) and any(first <= end + 1 and start <= last + 1 for start, end in rows[row]):
            row += 1
        while row >= len(rows):
            rows.append([])
        rows[row].append((first, last))
        tracks[index] = row
    return tracks


def _draw_net(canvas: _Canvas, row: int, height: int, net: _Net, track: int | None, ports: _Ports) -> None:
    upper = [ports.below[spot][net] for spot in net.upper]
    lower = [ports.above[spot][net] for spot in net.lower]
    level = row + (track or 0)
    for column in upper:
        canvas.down(column, row - 1, level, net)
    for column in lower:
        canvas.down(column, level, row + height, net)
    canvas.level(level, min(*upper, *lower), max(*upper, *lower), net)


def _draw_waypoint(
    canvas: _Canvas, row: int, above: Mapping[_Net, int], below: Mapping[_Net, int], middle: int
) -> None:
    line = object()
    for columns, from_row, to_row, level in (
        (above.values(), row - 1, row, row),
        (below.values(), row + _ROWS - 1, row + _ROWS, row + _ROWS - 1),
    ):
        for column in columns:
            canvas.down(column, from_row, to_row, line)
        canvas.level(level, min(*columns, middle), max(*columns, middle), line)
    canvas.down(middle, row, row + _ROWS - 1, line)


@frozen(eq=False)
class _Canvas:
    """Cells by row and column: texts, and lines of several owners of which each joins with itself only."""

    _texts: dict[tuple[int, int], str] = field(factory=dict)
    _strokes: dict[tuple[int, int], dict[object, int]] = field(factory=lambda: defaultdict(lambda: defaultdict(int)))

    def box(self, row: int, left: int, width: int, label: str, border: str) -> None:
        top_left, level, top_right, side, bottom_left, bottom_right, *_ = tuple(border)
        spare = width - 4 - cell_len(label)
        inner = " " * (spare // 2) + label + " " * (spare - spare // 2)
        for index, line in enumerate(
            (
                top_left + level * (width - 2) + top_right,
                f"{side} {inner} {side}",
                bottom_left + level * (width - 2) + bottom_right,
            )
        ):
            column = left
            for char in line:
                self._texts[row + index, column] = char
                for further in range(column + 1, column + cell_len(char)):
                    self._texts[row + index, further] = ""
                column += cell_len(char)

    def ports(self, row: int, columns: Iterable[int], char: str) -> None:
        for column in columns:
            self._texts[row, column] = char

    def down(self, column: int, first: int, last: int, owner: object) -> None:
        for row in range(first, last):
            self._strokes[row, column][owner] |= _DOWN
            self._strokes[row + 1, column][owner] |= _UP

    def level(self, row: int, first: int, last: int, owner: object) -> None:
        for column in range(first, last):
            self._strokes[row, column][owner] |= _RIGHT
            self._strokes[row, column + 1][owner] |= _LEFT

    def lines(self) -> list[str]:
        cells = {place: self._stroke(owners) for place, owners in self._strokes.items()} | self._texts
        rows: dict[int, dict[int, str]] = defaultdict(dict)
        for (row, column), char in cells.items():
            rows[row][column] = char
        return [
            "".join(rows[row].get(column, " ") for column in range(max(rows[row]) + 1)).rstrip()
            for row in range(max(rows, default=-1) + 1)
        ]

    def _stroke(self, owners: Mapping[object, int]) -> str:
        masks = owners.values()
        if (_LEFT | _RIGHT) in masks and (_UP | _DOWN) in masks:
            return "│"  # one passes over the other
        return _LINES[functools.reduce(operator.or_, masks)]
