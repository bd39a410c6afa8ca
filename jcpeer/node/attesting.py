"""What a copy's node signs, and what it can show: votes, statements about replica sets, and mandates made of them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from jcpeer.application.manifest import Placed, ReplicaSet
from jcpeer.errors import MembershipError
from jcpeer.ft.events import BeginReign
from jcpeer.ft.mandate import Proofs
from jcpeer.ids import Epoch, NodeId, short
from jcpeer.membership.signed import open_signed, sign
from jcpeer.node.parts import Parts
from jcpeer.values import evolve
from jcpeer.wire.facts import ReplicasChanged
from jcpeer.wire.mandates import Mandate, Recovered, Seated, Vote
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import (
    AppendEntries,
    AskVote,
    Differs,
    GiveUpSeat,
    Kept,
    NoSeat,
    Retired,
    VoteAnswer,
    WantEntries,
)

log = structlog.get_logger()

Said = AppendEntries | Kept | Differs | NoSeat | AskVote | VoteAnswer | WantEntries | Retired | GiveUpSeat


class Attesting:
    """For one copy. `proofs` is told of the journal's facts, and of what others show."""

    def __init__(self, parts: Parts, placed: Placed, *, latest: Callable[[], ReplicaSet]) -> None:
        """`latest`: the set that the journal has now."""
        self.proofs = Proofs(placed, root=parts.standing.membership.root)
        self._app = placed.app
        self._parts = parts
        self._latest = latest
        self._journal_id = parts.journal.id
        self._stated: set[tuple[Epoch, int]] = set()
        """Sets about which a coordinator has this node's word, if nothing was lost."""

    def connection_changed(self) -> None:
        """What was said last may not have arrived."""
        self._stated.clear()

    def mandate(self, reign: BeginReign) -> Mandate | None:
        """By what right this node coordinates; None where that cannot be shown."""
        if reign.alone is not None:
            self.proofs.recovered(self._sign(Recovered(self._app, reign.epoch, reign.alone)))
            return self.proofs.mandate(reign.epoch, ())
        own = self._sign(Vote(self._app, reign.epoch, self._journal_id))
        self.proofs.note(*self._own_statements())
        return self.proofs.mandate(reign.epoch, (own, *reign.votes))

    def _sign(self, value: Vote | Seated | Recovered) -> Signed:
        return sign(value, self._parts.identity, self._parts.standing.membership.chain)

    def signed(self, message: Said) -> Said:
        """With this node's signatures, where there are to be any."""
        if isinstance(message, VoteAnswer) and message.granted and not message.pre:
            vote = self._sign(Vote(self._app, message.epoch, self._journal_id))
            return evolve(message, vote=vote, seated=self._own_statements())
        if isinstance(message, Kept) and (message.epoch, self._latest().number) not in self._stated:
            self._stated.add((message.epoch, self._latest().number))
            return evolve(message, seated=self._own_statements())
        return message

    def _own_statements(self) -> tuple[Signed, ...]:
        """About the latest set, unless the submitter signed that one."""
        latest = self._latest()
        return (self._sign(Seated(self._app, latest, self._journal_id)),) if latest.number else ()

    def change_to(self, replica_set: ReplicaSet) -> ReplicasChanged:
        """The fact by which this set follows on the latest."""
        statement = self._sign(Seated(self._app, replica_set, self._journal_id))
        links = self.proofs.links(self._latest())
        return ReplicasChanged(replica_set, statement, links[-1].statements if links else ())

    def is_vote_of(self, node: NodeId, answer: VoteAnswer) -> bool:
        """Whether that node signed its vote."""
        membership = self._parts.standing.membership
        try:
            if answer.vote is None:
                raise MembershipError("a vote that is not signed")
            vote, certificate = open_signed(answer.vote, Vote, root=membership.root, now_s=self._parts.clock_s())
        except MembershipError as error:
            log.warning("a vote is not believed", node=short(node), reason=str(error))
            return False
        return certificate.node == node and vote == Vote(self._app, answer.epoch, answer.journal)
