"""Where an application lives, as its coordinator says it to whoever asks for the application's key.

A location is signed by the coordinator and carries the submitter's signed placement, so that anybody can judge it
without having heard of either. It says where to ask, never who is right: a reader asks the coordinator that it names.

Of two that hold, the one of the higher (epoch, sequence) counts. Epoch 1 belongs to the first of the set that the
submitter signed; whoever coordinates in another one has its mandate in the record.
"""

from __future__ import annotations

import zlib

from jcpeer.application.manifest import Placed
from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.ids import AppId, Epoch, NodeId, app_key, short
from jcpeer.membership.certificates import Certificate
from jcpeer.membership.signed import open_signed
from jcpeer.rdv.mandate import open_mandate
from jcpeer.rdv.placement import open_placed, usurpation
from jcpeer.values import Number, Value
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import Signed

LIFETIME_S = 3600.0
"""Of a record whose coordinator does not renew it; those of a coordinator that is down are still of use."""
LIFETIME_S_MAX = 24 * 3600.0
NAME_CHARACTERS_MAX = 200
MANDATE_BYTES_MAX = 256 * 1024
"""Inflated; what is longer does not fit into a record."""


class Location(Value):
    """The application's coordinator and replica set. `sequence` orders what one coordinator says within an epoch.

    `replica_set`: those who keep its journal at present. `name` is what the coordinator is called, for the line that
    says that it is missing; `placed` a signed `manifest.Placed`. The record is kept for `lifetime_s` after it came.
    """

    app: AppId
    epoch: Epoch
    coordinator: NodeId
    name: str
    replica_set: tuple[NodeId, ...]
    placed: Signed
    lifetime_s: Number
    sequence: int
    mandate: bytes = b""
    """Of `deflated`; empty in epoch 1."""

    @property
    def order(self) -> tuple[int | str, ...]:
        """Of two that hold the higher one counts."""
        return (self.epoch.counter, self.epoch.node, self.sequence)


def deflated(mandate: Mandate) -> bytes:
    """A mandate for a record, which has to be small: names, sets and chains in it come again and again."""
    return zlib.compress(pack(mandate), level=9)


def _inflated(data: bytes) -> Mandate:
    """Raises: MembershipError: it is none, or too long."""
    inflating = zlib.decompressobj()
    try:
        packed = inflating.decompress(data, MANDATE_BYTES_MAX)
        if not inflating.eof:
            raise MembershipError(f"a mandate that is cut off, or has more than {MANDATE_BYTES_MAX} bytes")
        return unpack(packed, Mandate)
    except (zlib.error, RemoteProtocolError) as error:
        raise MembershipError(f"a mandate that cannot be read: {error}") from error


def open_location(signed: Signed, *, key: int, root: bytes, now_s: float) -> tuple[Location, Placed]:
    """A location that can be believed, with the placement in it.

    Args:
        signed: What was published, or found.
        key: Under which.
        root: The public root key of the grid.
        now_s: Seconds since 1970.

    Raises:
        MembershipError: it is forged or makes no sense; the text says in which way.
    """
    location, certificate = open_signed(signed, Location, root=root, now_s=now_s)
    placed, _ = open_placed(location.placed, root=root, now_s=None)
    fault = _fault(location, placed, certificate, key) or _usurped(location, placed, root)
    if fault:
        raise MembershipError(f"the location of application {location.app[:12]!r} does not hold: {fault}")
    return location, placed


def _fault(location: Location, placed: Placed, certificate: Certificate, key: int) -> str:
    if location.app != placed.app:
        return "the placement in it is that of another application"
    if app_key(placed.app) != key:
        return "it stands under another key"
    if certificate.node != location.coordinator:
        return f"node …{short(certificate.node)} signed it, not the coordinator that it names"
    if location.coordinator not in location.replica_set:
        return "its coordinator is not in its replica set"
    if not 0 < location.lifetime_s <= LIFETIME_S_MAX:
        return f"it is to last {location.lifetime_s} s"
    if not location.name.isprintable() or not 0 < len(location.name) <= NAME_CHARACTERS_MAX:
        return "the name of its coordinator cannot be shown"
    return ""


def _usurped(location: Location, placed: Placed, root: bytes) -> str:
    """Why its coordinator has no right to its epoch.

    Raises:
        MembershipError: the mandate in it does not hold.
    """
    if location.mandate:
        mandate = _inflated(location.mandate)
        open_mandate(mandate, placed, root=root)
        if mandate.epoch != location.epoch:
            return "the mandate in it is for another epoch"
    why = usurpation(placed, location.coordinator, location.epoch, proven=bool(location.mandate))
    return f"its coordinator {why}" if why else ""
