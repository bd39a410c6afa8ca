"""Whether a node may coordinate an application in an epoch that is not the first: what replicas signed is added up.

The submitter signed the first set. Each later one differs by one seat, and follows if enough seats of the set before it
have signed that their journals have it; so the set that voted is proven without asking anybody. Of the last one it
is enough that they vote: whoever recorded it may have been lost before most of them had it, and without their votes
nobody could go on. In place of all that went before, a node of the application's user may have signed that one seat
goes on alone (`Recovered`).

Pure. Certificates that expired since take nothing back, as with all that is journalled.
"""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.application.manifest import Placed, ReplicaSet, Seat
from jcpeer.errors import MembershipError
from jcpeer.ids import Epoch, short
from jcpeer.membership.certificates import TO_SUBMIT, grants
from jcpeer.membership.signed import open_signed
from jcpeer.rdv.placement import SET_SIZE_MAX
from jcpeer.wire.mandates import Link, Mandate, Recovered, Seated, Vote
from jcpeer.wire.messages import Signed

LINKS_MAX = 1000
SEATS_MAX = SET_SIZE_MAX + 1
"""Of a set: a newcomer is seated before the dead one goes."""


def open_mandate(mandate: Mandate, placed: Placed, *, root: bytes) -> ReplicaSet:
    """The replica set that stands behind the mandate's epoch.

    Args:
        mandate: As a coordinator shows it.
        placed: The opened placement of the application.
        root: The public root key of the grid.

    Raises:
        MembershipError: it proves nothing of the kind; the text says why.
    """
    _check_sizes(mandate)
    if mandate.app != placed.app:
        raise _refused("it is for another application")
    if mandate.epoch.counter < 2:
        raise _refused("epoch 1 belongs to the first seat, by no mandate")
    start = placed.first_set
    if mandate.recovered is not None:
        recovered = open_recovered(mandate.recovered, placed, root=root)
        if mandate.epoch == recovered.epoch and not mandate.links and not mandate.votes:
            return recovered.replica_set
        if mandate.epoch.counter <= recovered.epoch.counter:
            raise _refused("its epoch is not above the one in which the application was recovered")
        start = recovered.replica_set
    voters = [open_vote(each, mandate.epoch, placed, root=root) for each in mandate.votes]
    proven = start
    for link in mandate.links:
        proven = _next_proven(proven, link, placed, root, voters if link is mandate.links[-1] else ())
    if proven.seat_of(mandate.epoch.node) is None:
        raise _refused(f"node …{short(mandate.epoch.node)} has no seat in the set that voted")
    _check_number([_in(proven, each) for each in voters], proven, "a takeover")
    return proven


def open_recovered(signed: Signed, placed: Placed, *, root: bytes) -> Recovered:
    """What the user decided, in place of votes.

    Raises:
        MembershipError: no node of the application's user signed it, or it makes no sense.
    """
    recovered, certificate = open_signed(signed, Recovered, root=root, now_s=None)
    if recovered.app != placed.app:
        raise _refused("another application was recovered")
    if certificate.user != placed.header.user or not grants(certificate, TO_SUBMIT):
        raise _refused(f"a node of {certificate.user!r:.80} recovered it, and it is {placed.header.user!r:.80}'s")
    seats, number = recovered.replica_set.seats, recovered.replica_set.number
    if len(seats) != 1 or recovered.replica_set.quorum or number < 1:
        raise _refused("what is recovered goes on with one seat, in a set of its own")
    if recovered.epoch.counter < 2 or recovered.epoch.node != seats[0].node:
        raise _refused("what is recovered goes on in a new epoch of the one seat's node")
    return recovered


def open_seated(signed: Signed, placed: Placed, *, root: bytes) -> tuple[Seated, Seat]:
    """A statement about a set of this application, and the seat of its signer, if it has it.

    Raises:
        MembershipError: it is not signed by a member, or concerns another application.
    """
    seated, certificate = open_signed(signed, Seated, root=root, now_s=None)
    if seated.app != placed.app:
        raise _refused("a statement about another application")
    return seated, Seat(certificate.node, seated.journal)


def open_vote(signed: Signed, epoch: Epoch, placed: Placed, *, root: bytes) -> Seat:
    """The seat that voted for this epoch, if its signer has it.

    Raises:
        MembershipError: it is not signed by a member, or for something else.
    """
    vote, certificate = open_signed(signed, Vote, root=root, now_s=None)
    if vote.app != placed.app:
        raise _refused("a vote about another application")
    if vote.epoch != epoch:
        raise _refused("a vote for another epoch")
    return Seat(certificate.node, vote.journal)


def step_fault(before: ReplicaSet, after: ReplicaSet, placed: Placed) -> str:
    """Why the one set cannot follow on the other; empty where it can."""
    if after.number != before.number + 1:
        return f"set {after.number} does not follow on set {before.number}"
    if not 0 < len(after.seats) == len({each.node for each in after.seats}) <= SEATS_MAX:
        return f"set {after.number} is impossible"
    fewer, more = sorted((before.seats, after.seats), key=len)
    differing = [each for each in more if each not in fewer]
    if len(differing) > 1 or tuple([each for each in more if each in fewer]) != fewer:
        return f"set {after.number} differs from the one before it by more than one seat"
    if not differing and after.quorum == before.quorum:
        return f"set {after.number} is the one before it"
    if after.quorum != before.quorum and not (after.quorum and after.may_be_quorum(placed.header.takeover)):
        return f"set {after.number} is {'' if after.quorum else 'not '}a quorum against the rule"
    return ""


def _next_proven(before: ReplicaSet, link: Link, placed: Placed, root: bytes, voters: Iterable[Seat]) -> ReplicaSet:
    if fault := step_fault(before, link.replica_set, placed):
        raise _refused(fault)
    stating = [each for each in voters if each in before.seats]
    for each in link.statements:
        seated, seat = open_seated(each, placed, root=root)
        if seated.replica_set != link.replica_set:
            raise _refused(f"a statement about another set than set {link.replica_set.number}")
        stating.append(_in(before, seat))
    _check_number(stating, before, f"set {link.replica_set.number}")
    return link.replica_set


def _in(replica_set: ReplicaSet, seat: Seat) -> Seat:
    held = replica_set.seat_of(seat.node)
    if held is None:
        raise _refused(f"node …{short(seat.node)} has no seat in set {replica_set.number}")
    if held.journal != seat.journal:
        raise _refused(f"node …{short(seat.node)} spoke for another journal than that of its seat")
    return seat


def _check_number(seats: Iterable[Seat], of: ReplicaSet, what: str) -> None:
    counted = len(set(seats))
    if counted < of.enough:
        raise _refused(f"{what} needs {of.enough} of the {len(of.seats)} seats of set {of.number}, not {counted}")


def _check_sizes(mandate: Mandate) -> None:
    if len(mandate.links) > LINKS_MAX:
        raise _refused(f"it has {len(mandate.links)} links")
    for signed in (mandate.votes, *(each.statements for each in mandate.links)):
        if len(signed) > SEATS_MAX:
            raise _refused(f"{len(signed)} signatures where a set has {SEATS_MAX} seats at most")
    if any(len(each.replica_set.seats) > SEATS_MAX for each in mandate.links):
        raise _refused("it names an impossible replica set")


def _refused(why: str) -> MembershipError:
    return MembershipError(f"the mandate does not hold: {why}")
