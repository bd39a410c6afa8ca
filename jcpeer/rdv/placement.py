"""Where an application is to live: the ordered replica set of a submission, and whether one that was signed can hold.

With placement `rdv` the set is the eligible members closest to the application's key; with `local` the node it was
handed to comes first. *Eligible* is who can be dialled, is willing and has the right to coordinate, and was certified
before the submission: an id that was minted to sit near a key gains nothing. For the same reason at most one of the
set is on one host, or came in by one invitation, as long as there are others.

Decided once, by the submitter's node; everybody else only judges. Finding the candidates is left to others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from jcpeer.application.manifest import Header, Placed, Seat, application_key
from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.ids import Epoch, NodeId, app_key, node_key
from jcpeer.membership.certificates import CLOCK_TOLERANCE_S, TO_COORDINATE, TO_SUBMIT, Certificate, grants
from jcpeer.membership.signed import open_signed
from jcpeer.wire.codec import packed_field
from jcpeer.wire.messages import NodeRecord, Signed

SET_SIZE = 3
"""So many are named, even where fewer keep a journal."""
SET_SIZE_MAX = 16
"""Of a set that another node signed."""
CANDIDATES_MIN = 8
CANDIDATES_MAX = 32
"""Among so many of the closest, different hosts and invitations are looked for; further away only somebody eligible."""
REASONS_MAX = 5


@frozen
class Candidate:
    """What a node says of itself, and what its checked certificate says of it."""

    record: NodeRecord
    certificate: Certificate
    passing: bool = False
    """It ends with whoever started it."""

    @property
    def node(self) -> NodeId:
        return self.certificate.node

    @property
    def seat(self) -> Seat:
        return Seat(self.node, self.record.journal)


@frozen
class Choice:
    """A replica set in rank order, empty where nobody is eligible. `settled`: candidates from further away would not
    change it."""

    seats: tuple[Seat, ...]
    settled: bool

    @property
    def replica_set(self) -> tuple[NodeId, ...]:
        return tuple([each.node for each in self.seats])


def objection(candidate: Candidate, *, submitted_s: float) -> str:
    """Why this node cannot keep an application that was submitted then; empty where it can."""
    if not candidate.record.coordinates:
        return "was started with --no-coordinate"
    if not grants(candidate.certificate, TO_COORDINATE):
        return "has no right to coordinate"
    if not candidate.record.dialable:
        return "cannot be dialled by others"
    if candidate.certificate.issued_s > submitted_s + CLOCK_TOLERANCE_S:
        return "was let into the grid after the submission"
    return ""


def choose(key: int, header: Header, candidates: Sequence[Candidate], *, me: Candidate, size: int = SET_SIZE) -> Choice:
    """The replica set of an application, chosen by the node that it was handed to.

    Args:
        key: The application's.
        header: Says how it is to be placed.
        candidates: The members closest to the key that are known, in any order, this node among them if it is one.
        me: This node.
        size: How many to name, where there are as many.
    """
    # What is found of this node may be an earlier word of its own; as itself and as found it must not be named twice.
    by_node = {each.node: me if each.node == me.node else each for each in candidates}
    nearest = sorted(by_node.values(), key=lambda each: node_key(each.node) ^ key)
    eligible = [each for each in nearest if not objection(each, submitted_s=header.submitted_s)]
    if me.passing:  # what would go with it soon is better kept by others
        eligible = [each for each in eligible if each.node != me.node] or eligible
    first = _own_place(header, eligible, me)
    chosen, varied = _spread(eligible, first, size)
    rest = sorted((each for each in chosen if each not in first), key=lambda each: node_key(each.node) ^ key)
    return Choice(tuple(each.seat for each in (*first, *rest)), settled=varied)


def _own_place(header: Header, eligible: Sequence[Candidate], me: Candidate) -> list[Candidate]:
    """This node, if it comes first. It need not ask itself for how long it has been a member; and where there is nobody
    else, one that cannot be dialled is better than none, wherever the application was to live."""
    others = any(each.node != me.node for each in eligible)
    alone = me.record.coordinates and grants(me.certificate, TO_COORDINATE) and not others
    if header.placement == "rdv":
        return [me] if alone else []
    return [me] if alone or not objection(me, submitted_s=me.certificate.issued_s) else []


def _spread(eligible: Sequence[Candidate], first: Sequence[Candidate], size: int) -> tuple[list[Candidate], bool]:
    """So many, the nearest first, of hosts and invitations of their own before others; and whether all are of such."""
    chosen = list(first)

    def new_host(each: Candidate) -> bool:
        return all(each.certificate.host != other.certificate.host for other in chosen)

    def new_invitation(each: Candidate) -> bool:
        return all(each.certificate.invitation != other.certificate.invitation for other in chosen)

    rules: tuple[Callable[[Candidate], bool], ...] = (
        lambda each: new_host(each) and new_invitation(each),
        new_host,
        lambda each: True,
    )
    varied = False
    for rule in rules:
        for each in eligible:
            if len(chosen) < size and each not in chosen and rule(each):
                chosen.append(each)
        varied = varied or (rule is rules[0] and len(chosen) >= size)
    return chosen, varied


def newcomers(near: Sequence[Candidate], seated: Sequence[Candidate], *, submitted_s: float) -> tuple[Seat, ...]:
    """Who may take a seat beside these, best first: of hosts and invitations of their own before others.

    Args:
        near: Candidates for a seat, those nearest to the application's key first.
        seated: Who has one.
        submitted_s: When the application was submitted, in seconds since 1970.
    """
    eligible = [each for each in near if not objection(each, submitted_s=submitted_s)]
    chosen, _ = _spread(eligible, seated, len(seated) + len(eligible))
    return tuple(each.seat for each in chosen[len(seated) :])


def nobody_eligible(header: Header, candidates: Sequence[Candidate]) -> str:
    """One line that says why the application cannot be kept anywhere."""
    said = [f"{each.record.name} {objection(each, submitted_s=header.submitted_s)}" for each in candidates]
    reasons = ", ".join(said[:REASONS_MAX]) + (
        f" and {len(said) - REASONS_MAX} more" if len(said) > REASONS_MAX else ""
    )
    return (
        f"no node in reach can coordinate {header.name}: {reasons or 'there is none'}; "
        "start one without --no-coordinate that others can dial"
    )


# --- a placement that somebody signed


def open_placed(signed: Signed, *, root: bytes, now_s: float | None) -> tuple[Placed, Certificate]:
    """A placement that can be believed, and who made it. `now_s` as in `open_signed`.

    Raises:
        MembershipError: it is not of a member, of another user than it says or without the right to submit, its key
            is not that of its header, or its set is none.
    """
    placed, certificate = open_signed(signed, Placed, root=root, now_s=now_s)
    if certificate.user != placed.header.user:
        raise MembershipError(
            f"an application of user {placed.header.user!r:.80} was signed by a node of {certificate.user!r:.80}"
        )
    if not grants(certificate, TO_SUBMIT):
        raise MembershipError(f"the nodes of {certificate.user!r:.80} have no right to submit applications")
    try:
        key = application_key(placed.header, packed_field(signed.payload, Placed, "header"))
    except RemoteProtocolError as error:
        raise MembershipError(f"a placement that cannot be read: {error}") from error
    if key != placed.app:
        raise MembershipError(f"the key {placed.app[:12]!r} is not that of the application's header")
    replica_set = placed.replica_set
    if not 0 < len(set(replica_set)) == len(replica_set) <= SET_SIZE_MAX:
        raise MembershipError(f"application {placed.app[:12]} names an impossible replica set")
    return placed, certificate


def fault_of(placed: Placed, signer: NodeId, *, me: Candidate) -> str:
    """Why this node cannot take an application that it is handed with an opened placement; empty where it can."""
    others_may_begin = placed.first_set.quorum  # by their votes, where the first of the set is gone
    if me.node not in (placed.replica_set if others_may_begin else placed.replica_set[:1]):
        return "it is to live on another node"
    if me.seat not in placed.seats:
        return f"node {me.record.name} no longer has the journal in which it was to be kept"
    own = signer == me.node and (placed.header.placement == "local" or len(placed.seats) == 1)
    if not own and (why := objection(me, submitted_s=placed.header.submitted_s)):
        return f"node {me.record.name} {why}"
    begins_at_home = placed.header.placement == "local" and placed.replica_set[0] == signer
    by_distance = placed.replica_set[1:] if begins_at_home else placed.replica_set
    key = app_key(placed.app)
    if list(by_distance) != sorted(by_distance, key=lambda each: node_key(each) ^ key):
        return "its replica set is not in the order of distance to its key"
    return ""


def usurpation(placed: Placed, coordinator: NodeId, epoch: Epoch, *, proven: bool = False) -> str:
    """Why this node may not give orders for the application in that epoch; empty where it may.

    A placement is no secret: every location record has it in it. That a node can show one says nothing of the node.
    Epoch 1 belongs to the first of the set that was signed; any other has to be `proven`, by a mandate.
    """
    if epoch.node != coordinator or epoch.counter < 1:
        return "gives orders in an epoch that is not its own"
    if epoch.counter == 1:
        first = coordinator == placed.replica_set[0]
        return "" if first else "is not the node on which its submitter placed it"
    return "" if proven else f"has not shown its mandate for epoch {epoch.counter}"
