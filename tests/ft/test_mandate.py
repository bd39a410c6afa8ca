"""What a coordinator has to show, from what replicas sign as it comes."""

from __future__ import annotations

from jcpeer.application.manifest import ReplicaSet
from jcpeer.ft.mandate import Lacking, Proofs
from jcpeer.ids import Epoch
from jcpeer.rdv.mandate import open_mandate
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.facts import ReplicasChanged, Submitted, TookOver
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import Signed
from tests.rdv.mandates import epoch, followed_by, link, placed_on, recovered, seated, seats, sets, vote, voted
from tests.rdv.members import GRID, signed_by

PLACED = placed_on("abc")
ABC, ABCD, BCD = sets(PLACED, "abcd", "bcd")
E3 = epoch(3, "d")


def changed(replica_set: ReplicaSet, by: str, *last: Signed) -> ReplicasChanged:
    return ReplicasChanged(replica_set, seated(PLACED, replica_set, by), last)


def proofs() -> Proofs:
    """Of a journal with three sets, by one of whose coordinators they were recorded."""
    found = Proofs(PLACED, root=GRID.root)
    for fact in (Submitted(signed_by("me", PLACED)), changed(ABCD, "b"), changed(BCD, "b", seated(PLACED, ABCD, "c"))):
        found.recorded(fact)
    return found


def votes(names: str, of: Epoch = E3) -> tuple[Signed, ...]:
    return tuple([vote(PLACED, of, each) for each in names])


def proven(mandate: Mandate | None) -> ReplicaSet | None:
    return None if mandate is None else open_mandate(mandate, PLACED, root=GRID.root)


def test_what_is_lacking_is_named_until_it_has_come() -> None:
    found = proofs()
    assert found.replica_set == BCD
    assert found.links(ABC) == ()
    assert found.links(ABCD) is not None
    assert found.links(BCD) is None
    assert found.lacking() == (Lacking(BCD, seats("acd"), more=2),)
    found.note(seated(PLACED, BCD, "c"), seated(PLACED, BCD, "d"))
    assert found.lacking() == ()
    links = found.links(BCD)
    assert links is not None
    assert [each.replica_set for each in links] == [ABCD, BCD]
    assert found.links(evolve(BCD, seats=seats("bcx"))) is None


def test_statements_may_come_before_the_set_that_they_are_about() -> None:
    found = Proofs(PLACED, root=GRID.root)
    found.note(*[seated(PLACED, BCD, each) for each in "bcd"], seated(PLACED, ABCD, "a"))
    found.recorded(changed(ABCD, "b"))
    assert found.lacking() == ()
    found.recorded(changed(BCD, "b"))
    assert found.lacking() == ()


def test_what_is_no_use_is_not_counted() -> None:
    found = proofs()
    found.note(
        seated(PLACED, BCD, "b"),
        seated(PLACED, BCD, "x"),
        seated(PLACED, BCD, "c", journal="x"),
        seated(placed_on("abc", number=1), BCD, "c"),
        evolve(seated(PLACED, BCD, "c"), signature=bytes(64)),
        vote(PLACED, E3, "c"),
        seated(PLACED, evolve(BCD, seats=seats("bcx")), "d"),
    )
    assert found.lacking() == (Lacking(BCD, seats("acd"), more=2),)


def test_a_set_that_was_truncated_makes_room_for_the_one_in_its_place() -> None:
    found = proofs()
    instead = followed_by(ABC, seats("abce"))
    found.recorded(changed(instead, "c"))
    assert found.replica_set == instead
    assert found.lacking() == (Lacking(instead, seats("ab"), more=1),)
    found.note(seated(PLACED, instead, "a"))
    assert found.links(instead) is not None


def test_a_mandate_is_of_the_latest_set_that_can_be_proven() -> None:
    found = proofs()
    assert proven(found.mandate(E3, votes("bcd"))) == BCD, "by their votes"
    assert proven(found.mandate(epoch(3, "a"), votes("abd", epoch(3, "a")))) == ABCD, "three of four, too"
    assert found.mandate(E3, votes("bd")) is None, "two of three, but nobody can be shown that"
    found.note(seated(PLACED, BCD, "c"), seated(PLACED, BCD, "d"))
    assert proven(found.mandate(E3, votes("bd"))) == BCD
    assert proven(found.mandate(E3, votes("xbdc"))) == BCD
    assert found.mandate(E3, votes("d")) is None
    assert found.mandate(E3, votes("bcd", epoch(4, "d"))) is None
    assert found.mandate(epoch(3, "x"), votes("bcd", epoch(3, "x"))) is None


def test_a_set_that_its_recorder_alone_had_before_it_was_lost_is_proven_by_those_who_vote() -> None:
    found = Proofs(PLACED, root=GRID.root)
    for fact in (Submitted(signed_by("me", PLACED)), changed(ABCD, "b"), changed(BCD, "b", seated(PLACED, ABCD, "c"))):
        found.recorded(fact)  # "b" recorded the last one, and only this journal got it
    assert proven(found.mandate(E3, votes("cd"))) == BCD


def test_the_journal_of_a_takeover_brings_its_proofs_back() -> None:
    found = proofs()
    found.note(seated(PLACED, BCD, "c"), seated(PLACED, BCD, "d"))
    mandate = found.mandate(E3, votes("bd"))
    assert mandate is not None
    kept = unpack(pack(TookOver(E3, mandate)), TookOver)
    again = Proofs(PLACED, root=GRID.root)
    for fact in (evolve(changed(ABCD, "b"), last=()), changed(BCD, "b"), kept):
        again.recorded(fact)
    assert again.lacking() == ()
    assert proven(again.mandate(epoch(4, "b"), votes("bc", epoch(4, "b")))) == BCD


def test_what_the_user_recovered_goes_on_by_the_user_s_word() -> None:
    found = proofs()
    alone = recovered(PLACED, epoch(5, "c"), "c")
    found.recovered(alone)
    first = found.mandate(epoch(5, "c"), ())
    assert first is not None
    assert proven(first) == ReplicaSet(7, seats("c"), quorum=False)
    again = Proofs(PLACED, root=GRID.root)
    again.recorded(TookOver(epoch(5, "c"), first))
    cd = followed_by(again.replica_set, seats("cd"))
    again.recorded(changed(cd, "c"))
    e6 = epoch(6, "d")
    later = again.mandate(e6, votes("d", e6))
    assert proven(later) == cd
    assert later is not None
    again.recorded(TookOver(e6, later))
    assert again.replica_set == cd, "the same recovery brings nothing back"
    newcomer = Proofs(PLACED, root=GRID.root)
    newcomer.noted_mandate(later)
    for fact in (changed(ABCD, "b"), changed(BCD, "b"), TookOver(epoch(5, "c"), first), changed(cd, "c")):
        newcomer.recorded(fact)
    assert newcomer.replica_set == cd
    assert newcomer.lacking() == ()


def test_links_of_what_others_showed_are_filed() -> None:
    found = proofs()
    found.noted_mandate(voted(PLACED, epoch(2, "b"), "bcd", link(PLACED, ABCD, "ab"), link(PLACED, BCD, "acd")))
    assert found.lacking() == ()
