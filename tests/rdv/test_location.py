"""Which word about where an application lives is believed, and which of two counts."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from jcpeer.dht.records import RECORD_BYTES_MAX, size_of
from jcpeer.errors import MembershipError
from jcpeer.ids import Epoch, app_key
from jcpeer.rdv.location import MANDATE_BYTES_MAX, Location, deflated, open_location
from jcpeer.values import evolve
from jcpeer.wire.codec import unpack
from jcpeer.wire.messages import Signed
from tests.rdv.mandates import epoch, link, placed_on, sets, voted
from tests.rdv.members import GRID, header, placed, signed_by

FIRST, SECOND, OTHER = (GRID.identity(each).node for each in ("first", "second", "other"))
PLACED = placed(FIRST, SECOND)
KEY = app_key(PLACED.app)
GOOD = Location(
    PLACED.app, Epoch(1, FIRST), FIRST, "first", (FIRST, SECOND), signed_by("me", PLACED), lifetime_s=60.0, sequence=5
)


VOTED = placed_on("abc")
E2 = epoch(2, "b")
LATER = Location(
    VOTED.app,
    E2,
    E2.node,
    "b",
    VOTED.first_set.nodes,
    signed_by("me", VOTED),
    lifetime_s=60.0,
    sequence=5,
    mandate=deflated(voted(VOTED, E2, "bc")),
)


def believed(signed: Signed, key: int | None = None) -> Location:
    key = app_key(unpack(signed.payload, Location).app) if key is None else key
    return open_location(signed, key=key, root=GRID.root, now_s=2000.0)[0]


def test_a_location_is_believed_when_its_coordinator_signed_it() -> None:
    assert believed(signed_by("first", GOOD)) == GOOD


def test_a_later_coordinator_is_believed_by_its_mandate() -> None:
    assert believed(signed_by("b", LATER)) == LATER
    grown = sets(VOTED, "abcd")[1]
    e3 = epoch(3, "d")
    mandate = voted(VOTED, e3, "bcd", link(VOTED, grown, "bc"))
    joined = evolve(LATER, epoch=e3, coordinator=e3.node, replica_set=grown.nodes, mandate=deflated(mandate))
    assert believed(signed_by("d", joined)) == joined


@pytest.mark.parametrize(
    ("signer", "changes", "fault"),
    [
        ("second", {}, "not the coordinator that it names"),
        ("first", {"app": placed(FIRST, of=header(1)).app}, "that of another application"),
        ("first", {"placed": signed_by("me", placed(FIRST, of=header(1)))}, "that of another application"),
        ("first", {"placed": signed_by("eve", PLACED, user="eve")}, "signed by a node of 'eve'"),
        ("first", {"replica_set": (SECOND,)}, "not in its replica set"),
        (
            "second",
            {"coordinator": SECOND, "epoch": Epoch(1, SECOND)},
            "not the node on which its submitter placed it",
        ),
        (
            "other",
            {"coordinator": OTHER, "epoch": Epoch(9, OTHER), "replica_set": (OTHER,)},
            "has not shown its mandate for epoch 9",
        ),
        ("first", {"epoch": Epoch(2, SECOND)}, "an epoch that is not its own"),
        ("first", {"epoch": Epoch(0, FIRST)}, "an epoch that is not its own"),
        ("first", {"lifetime_s": 1e9}, "it is to last"),
        ("first", {"name": "\x1b[31m"}, "cannot be shown"),
    ],
)
def test_a_forged_location_is_refused_with_the_reason(signer: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        believed(signed_by(signer, evolve(GOOD, **changes)))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mandate": b""}, "has not shown its mandate for epoch 2"),
        ({"mandate": deflated(voted(VOTED, E2, "b"))}, "a takeover needs 2 of the 3 seats"),
        ({"mandate": deflated(voted(placed_on("abc", number=1), E2, "bc"))}, "it is for another application"),
        ({"mandate": deflated(voted(VOTED, epoch(3, "b"), "bc"))}, "for another epoch"),
        ({"mandate": deflated(voted(VOTED, epoch(2, "c"), "bc"))}, "for another epoch"),
        ({"mandate": b"rubbish"}, "cannot be read"),
        ({"mandate": zlib.compress(b"rubbish")}, "cannot be read"),
        ({"mandate": LATER.mandate[:-9]}, "cut off, or has more than 262144 bytes"),
        ({"mandate": zlib.compress(bytes(MANDATE_BYTES_MAX + 1))}, "cut off, or has more than 262144 bytes"),
        ({"replica_set": (FIRST,)}, "not in its replica set"),
    ],
)
def test_a_forged_right_is_refused_with_the_reason(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        believed(signed_by("b", evolve(LATER, **changes)))


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
    assert size_of(record) < RECORD_BYTES_MAX


def test_a_location_with_the_mandate_of_a_few_changes_is_small_enough() -> None:
    of = placed_on("abc")
    later = sets(of, "abcd", "bcd", "bcde", "cde")
    links = [link(of, each, by) for each, by in zip(later[1:], ("ab", "abc", "bc", "bcd"), strict=True)]
    e9 = epoch(9, "e")
    mandate = deflated(voted(of, e9, "cde", *links))
    record = signed_by(
        "e",
        evolve(LATER, app=of.app, epoch=e9, coordinator=e9.node, replica_set=later[-1].nodes, mandate=mandate),
    )
    assert believed(record)
    assert size_of(record) < RECORD_BYTES_MAX / 2
