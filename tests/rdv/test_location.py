"""Which word about where an application lives is believed, and which of two counts."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from jcpeer.errors import MembershipError
from jcpeer.ids import Epoch, app_key
from jcpeer.rdv.location import Location, open_location
from jcpeer.wire.codec import pack
from jcpeer.wire.messages import Signed
from tests.rdv.members import GRID, header, placed, signed_by

FIRST, SECOND, OTHER = (GRID.identity(each).node for each in ("first", "second", "other"))
PLACED = placed(FIRST, SECOND)
KEY = app_key(PLACED.app)
GOOD = Location(
    PLACED.app, Epoch(1, FIRST), FIRST, "first", (FIRST, SECOND), signed_by("me", PLACED), lifetime_s=60.0, sequence=5
)


def believed(signed: Signed, key: int = KEY) -> Location:
    return open_location(signed, key=key, root=GRID.root, now_s=2000.0)[0]


def test_a_location_is_believed_when_its_coordinator_signed_it() -> None:
    assert believed(signed_by("first", GOOD)) == GOOD
    later = evolve(GOOD, epoch=Epoch(2, SECOND), coordinator=SECOND)
    assert believed(signed_by("second", later)) == later


@pytest.mark.parametrize(
    ("signer", "changes", "fault"),
    [
        ("second", {}, "not the coordinator that it names"),
        ("first", {"app": placed(FIRST, of=header(1)).app}, "that of another application"),
        ("first", {"placed": signed_by("me", placed(FIRST, of=header(1)))}, "that of another application"),
        ("first", {"placed": signed_by("eve", PLACED, user="eve")}, "signed by a node of 'eve'"),
        ("first", {"replica_set": (SECOND,)}, "not in its replica set"),
        ("second", {"coordinator": SECOND, "epoch": Epoch(1, SECOND)}, "epoch 1 belongs to the first"),
        (
            "other",
            {"coordinator": OTHER, "epoch": Epoch(9, OTHER), "replica_set": (OTHER,)},
            "not in the set that the submitter signed",
        ),
        ("first", {"epoch": Epoch(2, SECOND)}, "not one of its coordinator"),
        ("first", {"epoch": Epoch(0, FIRST)}, "not one of its coordinator"),
        ("first", {"lifetime_s": 1e9}, "it is to last"),
        ("first", {"name": "\x1b[31m"}, "cannot be shown"),
    ],
)
def test_a_forged_location_is_refused_with_the_reason(signer: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        believed(signed_by(signer, evolve(GOOD, **changes)))


def test_a_location_counts_under_its_own_key_only() -> None:
    with pytest.raises(MembershipError, match="another key"):
        believed(signed_by("first", GOOD), KEY ^ 1)


def test_the_newest_epoch_counts_and_within_it_the_latest_word() -> None:
    later = evolve(GOOD, epoch=Epoch(2, FIRST), sequence=1)
    assert later.order > evolve(GOOD, sequence=6).order > GOOD.order


def test_a_location_is_small_enough_to_be_kept_by_others() -> None:
    longest = header(user="u" * 255, name="n" * 200)
    of = placed(*(GRID.identity(str(each)).node for each in range(16)), of=longest)
    record = signed_by("0", evolve(GOOD, app=of.app, replica_set=of.replica_set, placed=signed_by("me", of)))
    assert len(pack(record)) < 8 * 1024
