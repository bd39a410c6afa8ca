"""With whom a node keeps a connection for the grid's sake, so that news reach everybody and nobody dies unnoticed.

In a small grid with everybody. In a large one the members stand on a ring in the order of their keys. A node keeps
those next to it on either side, whose deaths it is to notice; they keep it by the same rule. And it keeps whoever comes
first at half, a quarter, an eighth... of the way round, so that news need few steps; these links stay as they are while
others come and go elsewhere.

Source: the fingers of Chord (Stoica et al. 2001), the farthest few of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from jcpeer.ids import KEY_BITS, NodeId

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
    chosen = {ring[(at + sign * step) % count][1] for step in range(1, NEXT + 1) for sign in (1, -1)}
    for half in range(1, LONG + 1):
        there = (me[0] + (1 << (KEY_BITS - half))) % (1 << KEY_BITS)
        chosen.add(ring[bisect_left(ring, (there, NodeId(""))) % count][1])
    return frozenset(chosen - {me[1]})
