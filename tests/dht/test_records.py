from __future__ import annotations

import pytest

from jcpeer.dht.records import RECORD_BYTES_MAX, Records
from jcpeer.errors import RemoteProtocolError
from jcpeer.wire.messages import Signed
from simulations.key_world import judge_by_number, record_of

KEY = 1000


def records(*, records_max: int = 100) -> Records:
    return Records(0, judge_by_number, records_max=records_max)


def test_the_higher_record_stands_whichever_came_first() -> None:
    kept = records()
    assert kept.keep(KEY, record_of(KEY, 1), 0.0) == ""
    assert kept.keep(KEY, record_of(KEY, 2), 1.0) == ""
    assert kept.keep(KEY, record_of(KEY, 1), 2.0) == "a newer record is kept here"
    assert kept.get(KEY, 3.0) == record_of(KEY, 2)
    kept.check()


def test_a_record_ends_with_its_lifetime_unless_it_comes_again() -> None:
    kept = records()
    kept.keep(KEY, record_of(KEY, 1, lifetime_s=10), 0.0)
    kept.keep(KEY, record_of(KEY, 1, lifetime_s=10), 5.0)
    assert kept.wake_s() == 10.0
    kept.expire(10.0)
    assert kept.get(KEY, 14.0) is not None
    assert kept.get(KEY, 15.0) is None
    kept.expire(kept.wake_s())
    assert len(kept) == 0


def test_a_lower_record_is_taken_once_the_higher_has_ended() -> None:
    kept = records()
    kept.keep(KEY, record_of(KEY, 2, lifetime_s=10), 0.0)
    assert kept.keep(KEY, record_of(KEY, 1), 10.0) == ""


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Signed(b"x", b""), "forged"),
        (record_of(KEY + 1, 1), "another key"),
        (Signed(b"x" * RECORD_BYTES_MAX, b"signed"), "at most 8192"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(record: Signed, why: str) -> None:
    kept = records()
    assert why in kept.keep(KEY, record, 0.0)
    with pytest.raises(RemoteProtocolError, match=why):
        kept.judge(KEY, record)
    assert len(kept) == 0


def test_full_it_drops_those_farthest_from_the_node() -> None:
    kept = records(records_max=3)
    for key in (8, 2, 4):
        assert kept.keep(key, record_of(key, 1), 0.0) == ""
    assert kept.keep(3, record_of(3, 1), 0.0) == ""
    assert kept.get(8, 0.0) is None
    assert "no room" in kept.keep(9, record_of(9, 1), 0.0)
    kept.check()


def test_records_renewed_a_thousand_times_leave_no_trail() -> None:
    kept = records()
    for number in range(1000):
        kept.keep(KEY, record_of(KEY, number), number / 1000)
    kept.check()
    assert len(kept._ends) < 100
