"""A vote counts for the node that signed it, in the epoch and with the journal that it names, and for nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from jcpeer.node.attesting import Attesting
from jcpeer.node.parts import Parts
from jcpeer.values import evolve
from jcpeer.wire.replication import VoteAnswer
from tests.rdv.mandates import epoch, placed_on, seat, vote
from tests.rdv.members import GRID

PLACED = placed_on("abc")
E2 = epoch(2, "a")


def attesting() -> Attesting:
    own = SimpleNamespace(
        identity=GRID.identity("a"),
        journal=SimpleNamespace(id=seat("a").journal),
        standing=SimpleNamespace(membership=GRID.admit(GRID.identity("a"), host="a", user="ada")),
        clock_s=lambda: 1000.0,
    )
    return Attesting(cast(Parts, own), PLACED, latest=lambda: PLACED.first_set)


def test_a_vote_is_believed_of_its_signer_alone() -> None:
    good = VoteAnswer(PLACED.app, E2, False, True, seat("b").journal, vote=vote(PLACED, E2, "b"))
    believes = attesting().is_vote_of
    assert believes(seat("b").node, good)
    assert not believes(seat("c").node, good), "another node shows it"
    assert not believes(seat("b").node, evolve(good, vote=None)), "nobody signed"
    assert not believes(seat("b").node, evolve(good, journal="another")), "of another journal"
    assert not believes(seat("b").node, evolve(good, vote=vote(PLACED, epoch(3, "a"), "b"))), "for another epoch"
    assert not believes(seat("b").node, evolve(good, vote=vote(placed_on("abc", number=1), E2, "b"))), (
        "for another application"
    )
