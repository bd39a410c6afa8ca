"""By what a node may coordinate in a later epoch, and by what it may not."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Placed, ReplicaSet
from jcpeer.errors import MembershipError
from jcpeer.membership.member import MemoryGrid
from jcpeer.membership.signed import sign
from jcpeer.rdv.mandate import LINKS_MAX, open_mandate
from jcpeer.values import evolve
from jcpeer.wire.mandates import Link, Mandate, Vote
from jcpeer.wire.messages import Signed
from tests.rdv.mandates import epoch, followed_by, link, placed_on, recovered, seat, seated, seats, sets, vote, voted
from tests.rdv.members import GRID, signed_by

PLACED = placed_on("abc")
OTHER = placed_on("abc", number=1)
E2 = epoch(2, "b")
ABC, ABCD, BCD = sets(PLACED, "abcd", "bcd")
GROWN, SHRUNK = link(PLACED, ABCD, "bc"), link(PLACED, BCD, "bcd")
LED = voted(PLACED, epoch(3, "d"), "bd", GROWN, SHRUNK)


def opened(mandate: Mandate, placed: Placed = PLACED) -> ReplicaSet:
    return open_mandate(mandate, placed, root=GRID.root)


def test_votes_of_most_seats_are_a_mandate() -> None:
    assert opened(voted(PLACED, E2, "bc")) == ABC
    assert opened(voted(PLACED, E2, "abc")) == ABC
    assert opened(voted(PLACED, epoch(9, "c"), "ab")) == ABC, "a candidate need not be among those who vote"


def test_the_set_that_voted_is_proven_by_statements_of_the_one_before_it() -> None:
    assert opened(LED) == BCD
    assert BCD.quorum, "a set that shrinks stays a quorum"


def test_votes_count_as_statements_about_the_last_set_only() -> None:
    of = epoch(3, "d")
    assert opened(voted(PLACED, of, "cd", GROWN, link(PLACED, BCD, "a"))) == BCD
    with pytest.raises(MembershipError, match="set 2 needs 3 of the 4 seats of set 1, not 2"):
        opened(voted(PLACED, of, "cd", GROWN, link(PLACED, BCD, "c")))
    with pytest.raises(MembershipError, match="set 1 needs 2 of the 3 seats of set 0, not 1"):
        opened(voted(PLACED, of, "bcd", link(PLACED, ABCD, "b"), SHRUNK))


def test_one_vote_is_enough_where_availability_was_chosen() -> None:
    placed = placed_on("abc", takeover="available")
    assert opened(voted(placed, E2, "b"), placed) == placed.first_set
    pair = placed_on("ab")
    assert opened(voted(pair, E2, "b"), pair) == pair.first_set


def test_a_default_set_that_grows_to_three_becomes_a_quorum_by_that_change() -> None:
    pair = placed_on("ab")
    grown = sets(pair, "abc")[1]
    assert grown.quorum
    assert opened(voted(pair, E2, "bc", link(pair, grown, "a")), pair) == grown
    with pytest.raises(MembershipError, match="a takeover needs 2 of the 3 seats"):
        opened(voted(pair, E2, "b", link(pair, grown, "a")), pair)
    available = placed_on("ab", takeover="available")
    assert not sets(available, "abc")[1].quorum


def test_certificates_that_expired_since_take_nothing_back() -> None:
    admission = GRID.invite("ada", expires_s=10.0)
    votes = [
        sign(
            Vote(PLACED.app, E2, seat(each).journal),
            GRID.identity(each),
            admission.admit(GRID.identity(each).node, host=each, serial=each, now_s=0.0).chain,
        )
        for each in "bc"
    ]
    assert opened(Mandate(PLACED.app, E2, (), tuple(votes))) == ABC


STRANGERS = MemoryGrid("strangers")


def by_a_stranger() -> Mandate:
    identity = STRANGERS.identity("b")
    chain = STRANGERS.invite("ada").admit(identity.node, host="b", serial="b", now_s=0.0).chain
    signed = sign(Vote(PLACED.app, E2, seat("b").journal), identity, chain)
    return Mandate(PLACED.app, E2, (), (signed, vote(PLACED, E2, "c")))


def led(*links: Link) -> Mandate:
    """With the vote of somebody who has no seat in any set, and so says nothing about links either."""
    return voted(PLACED, E2, "e", *links)


def about(replica_set: ReplicaSet, by: str = "abc") -> Mandate:
    return led(link(PLACED, replica_set, by))


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (voted(PLACED, epoch(1, "b"), "bc"), "epoch 1 belongs to the first seat"),
        (voted(OTHER, E2, "bc"), "it is for another application"),
        (evolve(voted(OTHER, E2, "bc"), app=PLACED.app), "a vote about another application"),
        (evolve(voted(PLACED, E2, "bc"), epoch=epoch(3, "b")), "a vote for another epoch"),
        (evolve(voted(PLACED, E2, "bc"), epoch=epoch(2, "c")), "a vote for another epoch"),
        (voted(PLACED, E2, "b"), "a takeover needs 2 of the 3 seats of set 0, not 1"),
        (voted(PLACED, E2, "bb"), "not 1"),
        (voted(PLACED, E2, "bx"), "no seat in set 0"),
        (evolve(voted(PLACED, E2, "b"), votes=(vote(PLACED, E2, "b"), vote(PLACED, E2, "c", journal="x"))), "journal"),
        (evolve(voted(PLACED, E2, "b"), votes=(vote(PLACED, E2, "b"), seated(PLACED, ABC, "c"))), "bad signature"),
        (by_a_stranger(), "another grid"),
        (voted(PLACED, epoch(2, "x"), "abc"), "no seat in the set that voted"),
        (voted(PLACED, epoch(3, "a"), "bcd", GROWN, SHRUNK), "no seat in the set that voted"),
        (voted(PLACED, epoch(3, "d"), "bc"), "no seat in the set that voted"),
        (voted(PLACED, epoch(3, "d"), "bd", GROWN), "a takeover needs 3 of the 4 seats of set 1, not 2"),
        (led(link(PLACED, ABCD, "b")), "set 1 needs 2 of the 3 seats of set 0, not 1"),
        (led(link(PLACED, ABCD, "bb")), "not 1"),
        (led(link(PLACED, ABCD, "bd")), "no seat in set 0"),
        (led(GROWN, link(PLACED, BCD, "bc")), "set 2 needs 3 of the 4 seats of set 1, not 2"),
        (led(Link(ABCD, (seated(PLACED, ABCD, "b"), seated(PLACED, ABCD, "c", journal="x")))), "another journal"),
        (led(Link(ABCD, GROWN.statements[:1] + SHRUNK.statements[:1])), "a statement about another set"),
        (led(evolve(GROWN, replica_set=evolve(ABCD, seats=seats("abcx")))), "a statement about another set"),
        (led(link(OTHER, ABCD, "bc")), "a statement about another application"),
        (led(SHRUNK), "set 2 does not follow on set 0"),
        (led(GROWN, GROWN), "set 1 does not follow on set 1"),
        (about(evolve(ABCD, seats=seats("abcde"))), "by more than one seat"),
        (about(evolve(ABCD, seats=seats("abd"))), "by more than one seat"),
        (about(evolve(ABCD, seats=seats("bacd"))), "by more than one seat"),
        (about(evolve(ABCD, seats=seats("abc"))), "is the one before it"),
        (about(evolve(ABCD, seats=seats("abcc"))), "set 1 is impossible"),
        (about(evolve(ABCD, seats=(*seats("abc"), evolve(seat("a"), journal="new")))), "set 1 is impossible"),
        (about(evolve(ABCD, seats=())), "set 1 is impossible"),
        (about(evolve(ABCD, quorum=False)), "not a quorum against the rule"),
        (led(*[GROWN] * (LINKS_MAX + 1)), "1001 links"),
        (voted(PLACED, E2, "b" * 18), "18 signatures"),
        (led(Link(ABCD, GROWN.statements * 9)), "18 signatures"),
        (about(evolve(ABCD, seats=seats("abcdefghijklmnopqr"))), "impossible replica set"),
    ],
)
def test_a_forged_mandate_is_refused_with_the_reason(forged: Mandate, fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        opened(forged)


def test_a_set_becomes_no_quorum_that_was_not_meant_to() -> None:
    available = placed_on("ab", takeover="available")
    grown = evolve(sets(available, "abc")[1], quorum=True)
    with pytest.raises(MembershipError, match="is a quorum against the rule"):
        opened(voted(available, E2, "bc", link(available, grown, "a")), available)


# --- recovered by the user

ALONE = recovered(PLACED, epoch(5, "c"), "c")
AFTER = ReplicaSet(7, seats("c"), quorum=False)


def test_one_seat_goes_on_alone_where_the_user_says_so() -> None:
    assert opened(Mandate(PLACED.app, epoch(5, "c"), (), (), ALONE)) == AFTER


def test_sets_are_counted_from_the_recovered_one_on() -> None:
    cd = followed_by(AFTER, seats("cd"))
    assert opened(voted(PLACED, epoch(6, "d"), "d", link(PLACED, cd, "c"), recovered=ALONE)) == cd
    assert opened(voted(PLACED, epoch(6, "c"), "c", recovered=ALONE)) == AFTER


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (recovered(PLACED, epoch(5, "c"), "c", by="eve", user="eve"), "a node of 'eve' recovered it"),
        (signed_by("me", vote(PLACED, E2, "b")), "bad signature"),
        (recovered(OTHER, epoch(5, "c"), "c"), "another application was recovered"),
        (recovered(PLACED, epoch(5, "c"), "cd"), "with one seat"),
        (recovered(PLACED, epoch(5, "c"), ""), "with one seat"),
        (recovered(PLACED, epoch(5, "c"), "c", number=0), "in a set of its own"),
        (recovered(PLACED, epoch(5, "c"), "d"), "epoch of the one seat's node"),
        (recovered(PLACED, epoch(1, "c"), "c"), "in a new epoch"),
    ],
)
def test_a_forged_recovery_is_refused_with_the_reason(forged: Signed, fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        opened(Mandate(PLACED.app, epoch(5, "c"), (), (), forged))


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (Mandate(PLACED.app, epoch(6, "c"), (), (), ALONE), "a takeover needs 1 of the 1 seats"),
        (Mandate(PLACED.app, epoch(5, "d"), (), (), ALONE), "not above"),
        (voted(PLACED, epoch(4, "c"), "abc", recovered=ALONE), "not above"),
        (voted(PLACED, epoch(6, "b"), "ab", recovered=ALONE), "no seat in the set that voted"),
        (voted(PLACED, epoch(6, "c"), "ab", recovered=ALONE), "no seat in set 7"),
    ],
)
def test_a_recovery_is_no_mandate_for_anything_else(forged: Mandate, fault: str) -> None:
    with pytest.raises(MembershipError, match=fault):
        opened(forged)
