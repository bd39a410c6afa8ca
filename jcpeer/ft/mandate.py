"""What a node has to show for its right to coordinate: it collects what replicas sign, and makes mandates of it.

`rdv.mandate` judges them. Here nothing is judged but what is filed: a statement or vote that does not hold is left out.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from itertools import pairwise

from attrs import frozen

from jcpeer.application.manifest import Placed, ReplicaSet, Seat
from jcpeer.errors import MembershipError
from jcpeer.ids import Epoch
from jcpeer.rdv.mandate import (
    LINKS_MAX,
    open_recovered,
    open_seated,
    open_vote,
)
from jcpeer.values import evolve
from jcpeer.wire.facts import Fact, ReplicasChanged, TookOver
from jcpeer.wire.mandates import Link, Mandate
from jcpeer.wire.messages import Signed

FILED_MAX = 10 * LINKS_MAX
"""Statements that are kept; a hostile replica could sign ever more of them."""


@frozen
class Lacking:
    """`replica_set` is not proven yet: so many more of these seats have to say that their journal has it."""

    replica_set: ReplicaSet
    seats: tuple[Seat, ...]
    more: int


@frozen
class _Filed:
    replica_set: ReplicaSet
    seat: Seat
    signed: Signed


class Proofs:
    """Signed statements about the replica sets of one application's journal, as they become known.

    The sets are those of the own journal: tell it of the journal's facts in order, of those that replace truncated
    ones, too. Statements may come before the set that they are about. Invariant: what `mandate` returns is believed by
    `open_mandate`.
    """

    def __init__(self, placed: Placed, *, root: bytes) -> None:
        self._placed = placed
        self._root = root
        self._sets = [placed.first_set]
        self._recovered: tuple[Epoch, Signed] | None = None
        self._filed: dict[tuple[int, Seat], _Filed] = {}
        """By number of the set and signer. A journal that was truncated has another set of that number: the latest
        statement counts."""

    @property
    def replica_set(self) -> ReplicaSet:
        """The latest of the journal."""
        return self._sets[-1]

    # --- what becomes known

    def recorded(self, fact: Fact) -> None:
        """The journal has this fact next. A set of a number that was there before takes back that one and all later."""
        match fact:
            case ReplicasChanged():
                later = fact.replica_set.number - self._sets[0].number
                if later > 0:  # otherwise it is of a past that the user has given up
                    del self._sets[later:]
                    self._sets.append(fact.replica_set)
                self.note(fact.statement, *fact.last)
            case TookOver() if fact.mandate is not None:
                self.noted_mandate(fact.mandate)
            case _:
                pass

    def noted_mandate(self, mandate: Mandate) -> None:
        """File what another coordinator, or an earlier epoch, had to show. What does not hold is left out."""
        if mandate.recovered is not None:
            with suppress(MembershipError):
                self.recovered(mandate.recovered)
        for link in mandate.links:
            self.note(*link.statements)

    def recovered(self, signed: Signed) -> None:
        """The user decided that one seat goes on: sets are counted from it on.

        Raises:
            MembershipError: it does not hold.
        """
        recovered = open_recovered(signed, self._placed, root=self._root)
        if self._recovered is None or recovered.epoch > self._recovered[0]:
            self._recovered = (recovered.epoch, signed)
            self._sets = [recovered.replica_set]

    def note(self, *statements: Signed) -> None:
        """File signed `Seated` statements, as far as they are of use."""
        for signed in statements:
            try:
                seated, seat = open_seated(signed, self._placed, root=self._root)
            except MembershipError:
                continue
            key = (seated.replica_set.number, seat)
            if key in self._filed or len(self._filed) < FILED_MAX:
                self._filed[key] = _Filed(seated.replica_set, seat, signed)

    # --- what can be shown

    def links(self, up_to: ReplicaSet, voters: Container[Seat] = ()) -> tuple[Link, ...] | None:
        """What leads to this set; None where statements are lacking yet, or it is none of the journal's. Votes of those
        who have a seat in it count as their statements about it."""
        if up_to not in self._sets:
            return None
        links: list[Link] = []
        for before, after in pairwise(self._sets[: self._sets.index(up_to) + 1]):
            stating = [each for each in before.seats if self._has_said(each, after)]
            voting = [each for each in before.seats if after == up_to and each in voters and each not in stating]
            if len(stating) + len(voting) < before.enough:
                return None
            statements = [self._filed[after.number, each].signed for each in stating[: before.enough]]
            links.append(Link(after, tuple(statements)))
        return tuple(links)

    def lacking(self) -> tuple[Lacking, ...]:
        """Of which sets of the journal whose statements are still wanted."""
        found = []
        for before, after in pairwise(self._sets):
            said = {seat for seat in before.seats if self._has_said(seat, after)}
            if len(said) < before.enough:
                rest = tuple([each for each in before.seats if each not in said])
                found.append(Lacking(after, rest, before.enough - len(said)))
        return tuple(found)

    def _has_said(self, seat: Seat, about: ReplicaSet) -> bool:
        filed = self._filed.get((about.number, seat))
        return filed is not None and filed.replica_set == about

    def mandate(self, epoch: Epoch, votes: tuple[Signed, ...]) -> Mandate | None:
        """For this epoch, by the latest set that can be proven and of which these votes are enough; None without one.

        The journal's latest set may have been recorded by a coordinator that was lost before anybody else had it: then
        it cannot be proven, and the votes of the set before it count.
        """
        if self._recovered is not None and self._recovered[0] == epoch:
            return Mandate(self._placed.app, epoch, (), (), self._recovered[1])
        by_seat: dict[Seat, Signed] = {}
        for each in votes:
            try:
                by_seat[open_vote(each, epoch, self._placed, root=self._root)] = each
            except MembershipError:
                continue
        for replica_set in reversed(self._sets):
            voters = [each for each in replica_set.seats if each in by_seat]
            if len(voters) < replica_set.enough or replica_set.seat_of(epoch.node) is None:
                continue
            links = self.links(replica_set)
            if links is not None:
                voters = voters[: replica_set.enough]
            elif (links := self.links(replica_set, voters)) is None:
                continue
            mandate = Mandate(self._placed.app, epoch, links, tuple([by_seat[each] for each in voters]))
            if self._recovered is not None:
                mandate = evolve(mandate, recovered=self._recovered[1])
            return mandate
        return None
