"""Candidates and signed placements of a grid without a disk."""

from __future__ import annotations

from typing import Any

from jcpeer.application.manifest import Header, Placed, Seat, application_key
from jcpeer.ids import NodeId
from jcpeer.membership.certificates import EVERY_RIGHT
from jcpeer.membership.member import MemoryGrid
from jcpeer.membership.signed import sign
from jcpeer.rdv.placement import Candidate
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.messages import NodeRecord, Signed

GRID = MemoryGrid("rdv")
SUBMITTED_S = 1000.0


def header(number: int = 0, **fields: Any) -> Header:
    given: dict[str, Any] = {"user": "ada", "placement": "rdv", **fields}
    name = given.pop("name", f"app {number}")
    return Header(name, SUBMITTED_S, number.to_bytes(16, "big"), **given)


def record(node: NodeId, name: str, **fields: Any) -> NodeRecord:
    return NodeRecord(node, name, "ada", name, 1, 1, "idle", 2, 0, 2, 2**30, 0.0, "3.11", **fields)


def member(
    name: str,
    *,
    user: str = "ada",
    host: str = "",
    rights: tuple[str, ...] = EVERY_RIGHT,
    since_s: float = 0.0,
    **fields: Any,
) -> Candidate:
    """By an invitation of its user's."""
    node = GRID.identity(name).node
    admission = GRID.invite(user, rights=rights)
    membership = admission.admit(node, host=host or name, serial=name, now_s=since_s)
    return Candidate(record(node, name, **fields), membership.certificate)


def stranger(name: str, **fields: Any) -> Candidate:
    """As `member`, by an invitation of its own."""
    found = member(name, **fields)
    return evolve(found, certificate=evolve(found.certificate, invitation=name))


def signed_by(name: str, value: object, *, user: str = "ada", rights: tuple[str, ...] = EVERY_RIGHT) -> Signed:
    identity = GRID.identity(name)
    admission = GRID.invite(user, rights=rights)
    return sign(value, identity, admission.admit(identity.node, host=name, serial=name, now_s=0.0).chain)


def placed(*replica_set: NodeId, of: Header | None = None) -> Placed:
    of = of or header()
    return Placed(application_key(of, pack(of)), of, tuple(Seat(each, "") for each in replica_set))
