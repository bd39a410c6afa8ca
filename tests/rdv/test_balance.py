"""Applications spread over nodes as random hashing predicts, and no worse."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from jcpeer.application.manifest import application_key
from jcpeer.ids import KEY_BITS, AppId, NodeId, app_key, node_key
from jcpeer.rdv.placement import Candidate, choose
from jcpeer.wire.codec import pack
from tests.rdv.members import header, stranger

NODES, APPLICATIONS = 200, 10_000
CHANCE = 1e-9
"""Of the test failing although placement is fair."""

MEMBERS = tuple(stranger(f"node {number}") for number in range(NODES))
KEYS = {each.node: node_key(each.node) for each in MEMBERS}
APPS = tuple(application_key(each, pack(each)) for each in map(header, range(APPLICATIONS)))


def zones(keys: Mapping[NodeId, int]) -> dict[NodeId, Fraction]:
    """The exact part of all keys to which each node is the closest.

    XOR distance follows the binary trie of the node keys: where both branches have nodes, each is the nearer one for
    half of the keys; where one has none, its keys fall to the other. So a node's zone is 2^-(forks on its path).
    """

    def divide(nodes: Sequence[NodeId], bit: int, share: Fraction) -> dict[NodeId, Fraction]:
        if len(nodes) == 1:
            return {nodes[0]: share}
        ones = [each for each in nodes if keys[each] >> bit & 1]
        zeros = [each for each in nodes if not keys[each] >> bit & 1]
        if not ones or not zeros:
            return divide(nodes, bit - 1, share)
        return divide(ones, bit - 1, share / 2) | divide(zeros, bit - 1, share / 2)

    return divide(list(keys), KEY_BITS - 1, Fraction(1))


def load_max(zone: Fraction) -> float:
    """More than this a node with that zone has with a chance of at most CHANCE / NODES.

    Its load is binomial with mean m = APPLICATIONS x zone, and by Chernoff P(load >= m + x) <= exp(-x^2 / (2 m + x)):
    solved for x. All nodes together stay below theirs but for CHANCE.
    """
    mean, rarity = float(APPLICATIONS * zone), math.log(NODES / CHANCE)
    return mean + (rarity + math.sqrt(rarity * rarity + 8 * mean * rarity)) / 2


def zone_max() -> float:
    """The largest zone is above this with a chance of at most CHANCE.

    A zone of z = 2^-d has d forks on its path. Either all are among the first d levels: then the node has a subtree of
    size z to itself. Or one of these levels is no fork: then the sibling there, of size z or more, is empty. Each of
    these at most d + 1 stretches is free of the other N - 1 nodes with a chance of at most exp(-z (N - 1)), and there
    are N nodes. (d is below log2 N for what is above the mean.)
    """
    stretches = NODES * (1 + math.log2(NODES))
    return (math.log(stretches) + math.log(1 / CHANCE)) / (NODES - 1)


def overloaded(place: Callable[[AppId], NodeId]) -> dict[NodeId, int]:
    loads = Counter(map(place, APPS))
    zone_of = zones(KEYS)
    return {node: load for node, load in loads.items() if load > load_max(zone_of[node])}


def nearest_few(app: AppId, count: int = 8) -> list[Candidate]:
    """What a lookup brings."""
    return heapq.nsmallest(count, MEMBERS, key=lambda each: KEYS[each.node] ^ app_key(app))


def test_zones_are_those_that_the_distance_makes() -> None:
    few = {each.node: KEYS[each.node] >> (KEY_BITS - 12) for each in MEMBERS[:5]}
    counted = Counter(min(few, key=lambda node: few[node] ^ key) for key in range(2**12))
    shifted = {node: key << (KEY_BITS - 12) for node, key in few.items()}
    assert zones(shifted) == {node: Fraction(count, 2**12) for node, count in counted.items()}


def test_the_busiest_coordinator_holds_no_more_than_random_hashing_predicts() -> None:
    zone_of = zones(KEYS)
    assert sum(zone_of.values()) == 1
    assert max(zone_of.values()) <= zone_max()
    placed = {app: choose(app_key(app), header(), nearest_few(app), me=MEMBERS[0]).replica_set for app in APPS}
    assert not overloaded(lambda app: placed[app][0])
    loads = Counter(each[0] for each in placed.values())
    assert max(loads.values()) <= load_max(max(zone_of.values()))


def test_a_biased_rule_would_be_found_out() -> None:
    def by_spelling(app: AppId) -> NodeId:
        """The first id after the key in alphabetical order: all ids begin alike."""
        return min((each.node for each in MEMBERS), key=lambda node: (node < app, node))

    def by_preference(app: AppId) -> NodeId:
        """The closer of two, unless the other has the smaller id."""
        return min(each.node for each in nearest_few(app, 2))

    assert overloaded(by_spelling)
    assert overloaded(by_preference)
