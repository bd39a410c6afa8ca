"""Where an application lives, as its coordinator says it to whoever asks for the application's key.

A location is signed by the coordinator and carries the submitter's signed placement, so that anybody can judge it
without having heard of either. It says where to ask, never who is right: a reader asks the coordinator that it names.

Of two that hold, the one of the higher (epoch, sequence) counts. As long as replica sets do not change, nobody outside
of the set that the submitter signed can be the coordinator, and epoch 1 belongs to the first of it.
"""

from __future__ import annotations

from attrs import frozen

from jcpeer.application.manifest import Placed
from jcpeer.errors import MembershipError
from jcpeer.ids import AppId, Epoch, NodeId, app_key, short
from jcpeer.membership.certificates import Certificate
from jcpeer.membership.signed import open_signed
from jcpeer.rdv.placement import open_placed
from jcpeer.wire.messages import Signed

LIFETIME_S = 3600.0
"""Of a record whose coordinator does not renew it; those of a coordinator that is down are still of use."""
LIFETIME_S_MAX = 24 * 3600.0
NAME_CHARACTERS_MAX = 200


@frozen
class Location:
    """The application's coordinator and replica set. `sequence` orders what one coordinator says within an epoch.

    `name` is what the coordinator is called, for the line that says that it is missing; `placed` a signed
    `manifest.Placed`. The record is kept for `lifetime_s` after it came.
    """

    app: AppId
    epoch: Epoch
    coordinator: NodeId
    name: str
    replica_set: tuple[NodeId, ...]
    placed: Signed
    lifetime_s: float
    sequence: int

    @property
    def order(self) -> tuple[int | str, ...]:
        """Of two that hold the higher one counts."""
        return (self.epoch.counter, self.epoch.node, self.sequence)


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
    if fault := _fault(location, placed, certificate, key):
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
    if location.coordinator not in placed.replica_set:
        return "its coordinator is not in the set that the submitter signed"
    if location.epoch.node != location.coordinator or location.epoch.counter < 1:
        return "its epoch is not one of its coordinator"
    if location.epoch.counter == 1 and location.coordinator != placed.replica_set[0]:
        return "epoch 1 belongs to the first of the set"
    if not 0 < location.lifetime_s <= LIFETIME_S_MAX:
        return f"it is to last {location.lifetime_s} s"
    if not location.name.isprintable() or not 0 < len(location.name) <= NAME_CHARACTERS_MAX:
        return "the name of its coordinator cannot be shown"
    return ""
