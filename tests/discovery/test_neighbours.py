"""The ring with its long links: both ends agree, and it holds together."""

from __future__ import annotations

from itertools import combinations

import pytest

from jcpeer.discovery.neighbours import EVERYBODY_MAX, LONG, NEXT, neighbours
from jcpeer.ids import NodeId, node_key

Ring = list[tuple[int, NodeId]]


def ring_of(count: int) -> Ring:
    return sorted((node_key(NodeId(f"node {number}")), NodeId(f"node {number}")) for number in range(count))


def edges(ring: Ring) -> dict[NodeId, frozenset[NodeId]]:
    """Who is connected to whom, whichever end keeps it."""
    kept = {each[1]: set(neighbours(each, ring)) for each in ring}
    for each in ring:
        for other in neighbours(each, ring):
            kept[other].add(each[1])
    return {node: frozenset(others) for node, others in kept.items()}


def holds_together(kept: dict[NodeId, frozenset[NodeId]], without: frozenset[NodeId]) -> bool:
    left = kept.keys() - without
    reached, todo = set[NodeId](), [min(left)]
    while todo:
        node = todo.pop()
        if node not in reached:
            reached.add(node)
            todo += kept[node] - without
    return reached == left


def test_in_a_small_grid_everybody_is_everybodys() -> None:
    assert {len(each) for each in edges(ring_of(EVERYBODY_MAX)).values()} == {EVERYBODY_MAX - 1}
    assert neighbours(ring_of(1)[0], ring_of(1)) == frozenset()


@pytest.mark.parametrize("count", [25, 26, 63, 100, 1000])
def test_those_next_to_each_other_both_keep_their_connection_and_all_have_few(count: int) -> None:
    ring = ring_of(count)
    for at, each in enumerate(ring):
        mine = neighbours(each, ring)
        assert each[1] not in mine
        assert len(mine) <= 2 * NEXT + LONG
        for step in range(1, NEXT + 1):
            there = ring[(at + step) % count]
            assert there[1] in mine
            assert each[1] in neighbours(there, ring)
    degrees = [len(others) for others in edges(ring).values()]
    assert sum(degrees) / count <= 2 * (NEXT + LONG)
    assert max(degrees) <= 2 * NEXT + LONG + LONG * 12, "who stands after a wide gap is kept by many, but not by all"


@pytest.mark.parametrize("count", [25, 40])
def test_no_three_deaths_cut_the_grid_in_two(count: int) -> None:
    kept = edges(ring_of(count))
    assert all(holds_together(kept, frozenset(dead)) for dead in combinations(kept, 3))


def test_news_reach_all_of_a_thousand_in_a_few_steps() -> None:
    kept = edges(ring_of(1000))
    reached = frontier = {min(kept)}
    steps = 0
    while len(reached) < 1000:
        frontier = {other for node in frontier for other in kept[node]} - reached
        reached = reached | frontier
        steps += 1
    assert steps <= 12


def test_a_newcomer_to_a_large_grid_changes_few_neighbours_of_others() -> None:
    before, after = ring_of(200), ring_of(201)
    new = {each[1]: neighbours(each, after) - neighbours(each, before) for each in before}
    assert sum(map(len, new.values())) <= 2 * NEXT + LONG * 8
