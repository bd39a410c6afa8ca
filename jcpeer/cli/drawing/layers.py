"""Where everything goes in a layered drawing (Sugiyama, Tagawa and Toda 1981): along edges, and across them.

An edge that passes layers goes by a *waypoint* in each of them, which others of the same parent, or of the same child,
go by as well. So all segments join neighbouring layers, and a thousand edges into one task are one line.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import mul

from attrs import frozen

from jcpeer.cli.drawing.figure import Figure

_ORDERINGS = 24
_PLACINGS = 24
_LOOSE = 0.01
"""The weight of a spot that is joined with none."""


@frozen
class Layered:
    """Spots by layers, in their order across. Spot i is the figure's vertex i; those beyond are waypoints."""

    layers: tuple[tuple[int, ...], ...]
    above: tuple[tuple[int, ...], ...]
    """For each spot the spots of the layer before that lead to it."""
    below: tuple[tuple[int, ...], ...]
    vertex_count: int

    def is_waypoint(self, spot: int) -> bool:
        return spot >= self.vertex_count


def arrange(figure: Figure) -> Layered:
    """The spots of a figure, with few crossings among their segments."""
    layers, segments = _with_waypoints(figure)
    count = sum(map(len, layers))
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for upper, lower in segments:
        above[lower].append(upper)
        below[upper].append(lower)
    layers = _few_crossings(layers, above, below)
    return Layered(tuple(map(tuple, layers)), tuple(map(tuple, above)), tuple(map(tuple, below)), len(figure.vertices))


def place(layered: Layered, *, distance: Callable[[int, int], float]) -> list[float]:
    """The middle of each spot across, near the middles of those that it is joined with; some may be negative.

    Args:
        distance: From the middle of a spot to that of the next in its layer, at least. Where these are whole numbers,
            rounding the result leaves them as they are.
    """
    at = [0.0] * sum(map(len, layered.layers))
    offsets: list[list[float]] = []
    for layer in layered.layers:
        far = [0.0]
        for before, spot in pairwise(layer):
            far.append(far[-1] + distance(before, spot))
        for spot, offset in zip(layer, far, strict=True):
            at[spot] = offset - far[-1] / 2
        offsets.append(far)
    for turn in range(_PLACINGS):
        down = turn % 2 == 0
        both = turn >= _PLACINGS // 2
        for number in range(len(layered.layers)) if down else reversed(range(len(layered.layers))):
            layer = layered.layers[number]
            wanted, weights = [], []
            for spot in layer:
                near = layered.above[spot] if down else layered.below[spot]
                if both or not near:
                    near = (*layered.above[spot], *layered.below[spot])
                pull = [_pull(layered, spot, each) for each in near]
                weights.append(sum(pull) or _LOOSE)
                wanted.append(sum(map(mul, pull, (at[each] for each in near))) / sum(pull) if near else at[spot])
            for spot, x in zip(layer, _in_order(wanted, weights, offsets[number]), strict=True):
                at[spot] = x
    return at


def _pull(layered: Layered, one: int, other: int) -> float:
    """How much the line between two spots wants to be straight: most where nothing but a line is at either end."""
    return (1.0, 1.0, 8.0)[layered.is_waypoint(one) + layered.is_waypoint(other)]


def _with_waypoints(figure: Figure) -> tuple[list[list[int]], dict[tuple[int, int], None]]:
    """Layers of spots, and the segments between neighbouring ones, each once."""
    vertices = figure.vertices
    long = [
        (parent, child)
        for child, vertex in enumerate(vertices)
        for parent in vertex.parents
        if vertex.depth - vertices[parent].depth > 1
    ]
    leaving, arriving = Counter(parent for parent, _ in long), Counter(child for _, child in long)
    layers: list[list[int]] = [[] for _ in range(max((each.depth for each in vertices), default=0))]
    for index, vertex in enumerate(vertices):
        layers[vertex.depth - 1].append(index)
    segments: dict[tuple[int, int], None] = {}
    waypoints: dict[tuple[str, int, int], int] = {}
    for child, vertex in enumerate(vertices):
        for parent in vertex.parents:
            at = parent
            # Lines are shared at the end where more of them meet.
            end = ("to", child) if arriving[child] > leaving[parent] else ("from", parent)
            for depth in range(vertices[parent].depth + 1, vertex.depth):
                spot = waypoints.get((*end, depth))
                if spot is None:
                    spot = waypoints[(*end, depth)] = len(vertices) + len(waypoints)
                    layers[depth - 1].append(spot)
                segments[at, spot] = None
                at = spot
            segments[at, child] = None
    return layers, segments


def _few_crossings(
    layers: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> list[list[int]]:
    best, fewest = [list(each) for each in layers], _crossings(layers, below)
    for turn in range(_ORDERINGS):
        if fewest == 0:
            break
        down = turn % 2 == 0
        near = above if down else below
        for number in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            rank = {spot: index for index, spot in enumerate(layers[number - 1 if down else number + 1])}
            own = {spot: float(index) for index, spot in enumerate(layers[number])}
            scale = len(rank) / max(1, len(own))
            for spot in layers[number]:
                ranks = [rank[each] for each in near[spot]]
                own[spot] = sum(ranks) / len(ranks) if ranks else own[spot] * scale
            layers[number].sort(key=own.__getitem__)
        if (crossings := _crossings(layers, below)) < fewest:
            best, fewest = [list(each) for each in layers], crossings
    return best


def _crossings(layers: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    count = 0
    for number, layer in enumerate(layers[:-1]):
        rank = {spot: index for index, spot in enumerate(layers[number + 1])}
        passed: list[int] = []
        for spot in layer:
            ends = [rank[each] for each in below[spot]]
            count += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
    return count


def _in_order(wanted: Sequence[float], weights: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones (least squares) that keep the order and the distances of the offsets:
    neighbours that want to be at each other's place are pooled (isotonic regression, Ayer and others 1955)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, other_weight, other_count = pools.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight, count = weight + other_weight, count + other_count
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
