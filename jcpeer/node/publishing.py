"""What this node tells the world of the applications that live here: where they are, under their keys."""

from __future__ import annotations

from jcpeer.errors import MembershipError
from jcpeer.ids import app_key
from jcpeer.membership.signed import sign
from jcpeer.node.finder import Finder
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.rdv.location import LIFETIME_S, Location
from jcpeer.rdv.placement import open_placed


class Publishing:
    """Has a location published for as long as an application, or what came of it, is kept here."""

    def __init__(self, parts: Parts, finder: Finder) -> None:
        self._parts = parts
        self._finder = finder
        self._sequence = 0

    def show(self, host: ApplicationHost) -> None:
        """It lives here; to be said again with each new epoch."""
        state, membership = host.machine.state, self._parts.standing.membership
        if state.placed is None or host.machine.epoch.node != self._parts.identity.node:
            return
        try:
            open_placed(state.placed.placed, root=membership.root, now_s=None)
        except MembershipError:
            return  # of the grid that this node was in before: nobody here could believe it
        # A clock that was set back may make it stale; then the next epoch repairs it, or the record's end.
        self._sequence = max(self._sequence + 1, int(self._parts.clock_s() * 1000))
        location = Location(
            app=host.app,
            epoch=host.machine.epoch,
            coordinator=self._parts.identity.node,
            name=self._parts.name,
            replica_set=state.replica_set,
            placed=state.placed.placed,
            lifetime_s=LIFETIME_S,
            sequence=self._sequence,
        )
        self._finder.publish(app_key(host.app), sign(location, self._parts.identity, membership.chain))

    def hide(self, host: ApplicationHost) -> None:
        """Nothing of it is kept here any more."""
        self._finder.withdraw(app_key(host.app))
