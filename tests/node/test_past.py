"""What a journal tells of a copy, also while the disk is behind."""

from __future__ import annotations

from jcpeer.application.manifest import ReplicaSet, Seat
from jcpeer.ft.journal import open_journal
from jcpeer.ft.memory_disk import MemoryDisk
from jcpeer.ids import AppId, Epoch, NodeId
from jcpeer.node.past import past_of
from jcpeer.wire.facts import Entry, ReplicasChanged
from jcpeer.wire.messages import Signed

APP, NODE = AppId("an application"), NodeId("a node")


async def test_a_copy_that_was_dropped_a_moment_ago_has_no_past() -> None:
    replica_set = ReplicaSet(1, (Seat(NODE, "a journal"),), quorum=False)
    changed = ReplicasChanged(replica_set, Signed(b"", b"", ()), ())
    async with open_journal(MemoryDisk()) as journal:
        journal.append(APP, [Entry(Epoch(1, NODE), 1, 0.0, changed)])
        await journal.promise(APP, Epoch(1, NODE))
        assert [each.replica_set for each in past_of(journal, APP).shape.sets] == [replica_set]
        journal.forget(APP)
        journal.begin(APP, unsure=True)
        past = past_of(journal, APP)
        assert (past.shape.sets, past.shape.last_index, past.facts) == ((), 0, ())
