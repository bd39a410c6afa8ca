"""What is known of members, beside what the directory's own tests show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jcpeer.discovery.members import Members
from jcpeer.ids import NodeId, closest_set
from jcpeer.values import evolve
from jcpeer.wire.messages import News, Signed
from tests.discovery.people import record


@given(st.integers(2, 60), st.integers(0, 2**160 - 1))
def test_the_members_nearest_to_a_key_are_found_in_order(size: int, key: int) -> None:
    ids = [NodeId(f"node {number}") for number in range(size)]
    members = Members(evolve(record("m"), node=ids[0]))
    for node in ids[1:]:
        members.put(News(node, 1, 1, Signed(b"", b"")), evolve(record("m"), node=node), now_s=0.0)
    members.check()
    assert tuple(each.node for each in members.near(key, 8)) == closest_set(key, ids[1:], k=8)
