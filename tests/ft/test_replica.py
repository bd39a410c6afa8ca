"""One copy of a journal among others: takeovers, votes, replication, seats."""

from __future__ import annotations

from jcpeer.ids import NodeId
from tests.ft.little_world import World

N0, N1, N2 = NodeId("n0"), NodeId("n1"), NodeId("n2")


def test_what_is_recorded_is_committed_by_most_journals_and_survives_the_coordinator() -> None:
    world = World(seed=1)
    world.propose(3)
    world.run(1.0)
    assert len(world.acknowledged) == 3
    world.crash(N0)
    world.run(2.0)
    assert [each.id for each in world.coordinators()] == [N1]
    world.propose(2)
    world.run(1.0)
    assert len(world.acknowledged) == 5
    world.restart(N0)
    world.run(2.0)
    copy = world.nodes[N0].replica
    assert copy is not None
    assert (copy.role, copy.coordinator, copy.last_index) == ("follower", N1, len(world.chosen))
