"""Replica sets of an application, and what their seats sign about them."""

from __future__ import annotations

from collections.abc import Iterable

from jcpeer.application.manifest import Placed, ReplicaSet, Seat, Takeover, application_key
from jcpeer.ids import Epoch
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.mandates import Link, Mandate, Recovered, Seated, Vote
from jcpeer.wire.messages import Signed
from tests.rdv.members import GRID, header, signed_by


def seat(name: str) -> Seat:
    return Seat(GRID.identity(name).node, f"journal of {name}")


def seats(names: str) -> tuple[Seat, ...]:
    """A seat a letter."""
    return tuple([seat(each) for each in names])


def epoch(counter: int, name: str) -> Epoch:
    return Epoch(counter, GRID.identity(name).node)


def placed_on(names: str, *, takeover: Takeover = "default", number: int = 0) -> Placed:
    of = header(number, takeover=takeover)
    return Placed(application_key(of, pack(of)), of, seats(names))


def sets(placed: Placed, *later: str) -> list[ReplicaSet]:
    """The first set, and those that follow on it."""
    found = [placed.first_set]
    for names in later:
        found.append(followed_by(found[-1], seats(names), takeover=placed.header.takeover))
    return found


def seated(placed: Placed, replica_set: ReplicaSet, by: str, *, journal: str | None = None) -> Signed:
    return signed_by(by, Seated(placed.app, replica_set, seat(by).journal if journal is None else journal))


def link(placed: Placed, replica_set: ReplicaSet, by: Iterable[str]) -> Link:
    return Link(replica_set, tuple([seated(placed, replica_set, each) for each in by]))


def vote(placed: Placed, of: Epoch, by: str, *, journal: str | None = None) -> Signed:
    return signed_by(by, Vote(placed.app, of, seat(by).journal if journal is None else journal))


def voted(placed: Placed, of: Epoch, by: str, *links: Link, recovered: Signed | None = None) -> Mandate:
    return Mandate(placed.app, of, links, tuple([vote(placed, of, each) for each in by]), recovered)


def recovered(placed: Placed, of: Epoch, alone: str, *, number: int = 7, by: str = "me", user: str = "ada") -> Signed:
    return signed_by(by, Recovered(placed.app, of, ReplicaSet(number, seats(alone), quorum=False)), user=user)


def followed_by(before: ReplicaSet, seats: tuple[Seat, ...], *, takeover: Takeover = "default") -> ReplicaSet:
    """The next set, of these seats: a quorum as soon as it may be one."""
    after = ReplicaSet(before.number + 1, seats, quorum=before.quorum)
    return evolve(after, quorum=before.quorum or after.may_be_quorum(takeover))
