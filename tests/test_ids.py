"""Names and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.manifest import Header, application_key
from jcpeer.ids import KEY_BITS, NodeId, app_key, closest_set, key_of, node_key
from jcpeer.wire.codec import pack

NODES = st.lists(st.text(min_size=1, max_size=8).map(NodeId), max_size=12)


@given(NODES, st.integers(0, 2**KEY_BITS - 1), st.integers(1, 15))
def test_no_member_outside_the_closest_set_is_nearer_than_one_inside(members: list[NodeId], key: int, k: int) -> None:
    found = closest_set(key, members, k=k)
    assert len(found) == min(k, len(set(members)))
    outside = set(members) - set(found)
    assert all(node_key(near) ^ key <= node_key(far) ^ key for near in found for far in outside)


def test_a_closest_set_of_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        closest_set(0, [], k=0)


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert key_of(b"ab", b"c") != key_of(b"a", b"bc")


def test_two_submissions_in_one_clock_tick_are_two_applications_and_a_retry_is_the_same() -> None:
    one, other = (Header("name", 1.0, nonce) for nonce in (b"1", b"2"))
    key = application_key(one, pack(one))
    assert key == application_key(one, pack(one))
    assert key != application_key(other, pack(other))
    assert 0 <= app_key(key) < 2**KEY_BITS
