"""Whose orders are obeyed, by what was proven to a node."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Placed
from jcpeer.errors import MembershipError
from jcpeer.ids import Epoch
from jcpeer.node import reigns as module
from jcpeer.node.reigns import Reigns, Shown
from jcpeer.values import evolve
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.replication import Reign
from tests.rdv.mandates import epoch, link, placed_on, sets, voted
from tests.rdv.members import GRID, signed_by

PLACED = placed_on("abc")
A, B, X = (GRID.identity(each).node for each in "abx")


def reign(of: Epoch, mandate: Mandate | None = None, placed: Placed = PLACED) -> Reign:
    return Reign(placed.app, of, signed_by("me", placed), mandate)


def by_votes(counter: int, name: str, voters: str, placed: Placed = PLACED) -> Reign:
    of = epoch(counter, name)
    return reign(of, voted(placed, of, voters), placed)


@pytest.fixture
def reigns() -> Reigns:
    return Reigns(lambda: GRID.root)


def test_epoch_1_is_the_first_seat_s_without_proof(reigns: Reigns) -> None:
    assert reigns.may_order(PLACED, A, epoch(1, "a")) == ""
    assert reigns.may_order(PLACED, B, epoch(1, "b")) == "is not the node on which its submitter placed it"
    assert "not its own" in reigns.may_order(PLACED, B, epoch(1, "a"))
    assert reigns.hear(A, reign(epoch(1, "a"))).proven == PLACED.first_set


def test_another_epoch_is_its_coordinator_s_once_it_was_shown(reigns: Reigns) -> None:
    assert reigns.may_order(PLACED, B, epoch(2, "b")) == "has not shown its mandate for epoch 2"
    known = reigns.hear(B, by_votes(2, "b", "bc"))
    assert (known.coordinator, known.proven) == (B, PLACED.first_set)
    assert reigns.may_order(PLACED, B, epoch(2, "b")) == ""
    assert reigns.may_order(PLACED, B, epoch(3, "b")) == "has not shown its mandate for epoch 3"
    assert reigns.may_order(PLACED, A, epoch(1, "a")) == "coordinates no longer: epoch 2 has begun"


def test_the_highest_reign_is_remembered_in_whichever_order_they_come(reigns: Reigns) -> None:
    later = reigns.hear(B, by_votes(3, "b", "bc"))
    assert reigns.hear(A, by_votes(2, "a", "ac")).epoch == epoch(2, "a"), "it holds, and counts no more"
    assert reigns.known(PLACED.app) == later
    assert "coordinates no longer" in reigns.may_order(PLACED, A, epoch(2, "a"))


def test_a_mandate_of_the_same_epoch_may_prove_a_later_set(reigns: Reigns) -> None:
    first = by_votes(2, "b", "bc")
    reigns.hear(B, first)
    _, grown = sets(PLACED, "abcd")
    later = evolve(first, mandate=voted(PLACED, first.epoch, "bcd", link(PLACED, grown, "bc")))
    assert reigns.hear(B, later).proven == grown
    known = reigns.known(PLACED.app)
    assert known is not None
    assert known.proven == grown


def test_a_proof_may_be_passed_on_and_a_claim_may_not(reigns: Reigns) -> None:
    assert reigns.hear(X, by_votes(2, "b", "bc")).coordinator == B
    with pytest.raises(MembershipError, match="has nothing to show for it"):
        reigns.hear(X, reign(epoch(1, "a")))


OTHER = placed_on("abc", number=1)


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (reign(epoch(1, "b")), "is not the node on which its submitter placed it"),
        (reign(epoch(0, "b")), "not its own"),
        (reign(epoch(2, "b")), "epoch 2 without a mandate"),
        (reign(epoch(2, "a")), "epoch 2 without a mandate"),
        (by_votes(2, "b", "b"), "needs 2 of the 3 seats"),
        (by_votes(2, "x", "bc"), "no seat in the set that voted"),
        (evolve(by_votes(2, "b", "bc"), epoch=epoch(3, "b")), "the mandate of another epoch"),
        (evolve(by_votes(2, "b", "bc"), epoch=epoch(2, "x")), "the mandate of another epoch"),
        (evolve(by_votes(2, "b", "bc"), placed=signed_by("me", OTHER)), "another application"),
        (evolve(by_votes(2, "b", "bc", OTHER), app=PLACED.app, placed=signed_by("me", PLACED)), "another application"),
        (evolve(by_votes(2, "b", "bc"), placed=signed_by("eve", PLACED, user="eve")), "signed by a node of 'eve'"),
    ],
)
def test_a_forged_reign_is_refused_with_the_reason(reigns: Reigns, forged: Reign, fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        reigns.hear(forged.epoch.node, forged)
    assert reigns.known(PLACED.app) is None


def test_those_that_were_of_no_use_for_longest_are_forgotten(reigns: Reigns, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [by_votes(2, "b", "bc", placed_on("abc", number=each)) for each in range(4)]
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    for each in many[:2]:
        reigns.hear(B, each)
    assert reigns.known(many[0].app)
    reigns.hear(B, many[2])
    assert [reigns.known(each.app) is not None for each in many[:3]] == [True, False, True]
    monkeypatch.setattr(module, "SIGNATURES_MAX", 3)
    reigns.hear(B, many[3])
    assert [reigns.known(each.app) is not None for each in many] == [False, False, False, True]


def test_a_reign_is_shown_once_to_each_node_and_again_to_whoever_lost_it() -> None:
    shown = Shown()
    first, later = epoch(2, "b"), epoch(3, "b")
    assert [shown.first(each, first) for each in (A, A, X)] == [True, False, True]
    shown.forget(A)
    assert [shown.first(each, first) for each in (A, X)] == [True, False]
    assert shown.first(X, later)
