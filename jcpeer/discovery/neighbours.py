"""With whom a node keeps a connection for the grid's sake, so that news reach everybody and nobody dies unnoticed.

In a small grid with everybody. In a large one the members stand on a ring in the order of their keys, and a node
keeps those next to it on either side, whose deaths it is to notice, and some at half, a quarter, an eighth... of the
way round, so that news need few steps. Both ends of an edge choose it by the same rule, so it is kept by both.

Source: the ring and its long links are those of Chord (Stoica et al. 2001), by rank instead of by distance in keys.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from jcpeer.ids import NodeId

EVERYBODY_MAX = 24
"""Up to so many members, everybody is connected to everybody: what happens is known at once, at little cost."""
NEXT = 3
"""On either side of the ring. All of them must die together before the ring breaks, and then long links are left."""
LONG = 4


def neighbours(me: tuple[int, NodeId], ring: Sequence[tuple[int, NodeId]]) -> frozenset[NodeId]:
    """Whom `me` keeps.

    Args:
        me: This node's key and id.
        ring: Those of all members, itself included, in ascending order.
    """
    count = len(ring)
    if count <= EVERYBODY_MAX:
        return frozenset(node for _, node in ring if node != me[1])
    at = bisect_left(ring, me)
    steps = [*range(1, NEXT + 1), *(count >> shift for shift in range(1, LONG + 1))]
    chosen = {ring[(at + sign * step) % count][1] for step in steps for sign in (1, -1)}
    return frozenset(chosen - {me[1]})
