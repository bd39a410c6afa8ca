"""What this node tells the world of the applications that live here: where they are, under their keys."""

from __future__ import annotations

from typing import NoReturn

import structlog
import trio

from jcpeer.dht.records import RECORD_BYTES_MAX, size_of
from jcpeer.ids import AppId, app_key
from jcpeer.membership.signed import sign
from jcpeer.node.finder import Finder
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.rdv.location import LIFETIME_S, Location, deflated

log = structlog.get_logger()

AT_ONCE_MAX = 16
"""Each is a lookup and a few messages; a node that keeps the results of thousands must not start with a flood."""
PAUSE_S = 1.0


class Publishing:
    """Has a location published for as long as an application, or what came of it, is kept here. A child runs `run`."""

    def __init__(self, parts: Parts, finder: Finder) -> None:
        self._parts = parts
        self._finder = finder
        self._sequence = 0
        self._waiting: dict[AppId, ApplicationHost] = {}
        self._news = trio.Event()

    def show(self, host: ApplicationHost) -> None:
        """It lives here; to be said again with each new epoch."""
        self._waiting[host.app] = host
        self._news.set()

    async def run(self) -> NoReturn:
        """Publish what is to be shown, those that run first, until cancelled."""
        while True:
            await self._news.wait()
            order = sorted(self._waiting, key=lambda app: self._waiting[app].machine.over)
            for app in order[:AT_ONCE_MAX]:
                self._publish(self._waiting.pop(app))
            if self._waiting:
                await trio.sleep(PAUSE_S)
            else:
                self._news = trio.Event()

    def _publish(self, host: ApplicationHost) -> None:
        state, membership = host.machine.state, self._parts.standing.membership
        if state.placed is None or host.machine.epoch.node != self._parts.identity.node:
            return
        mandate = host.reign.mandate if host.reign else None
        # A clock that was set back may make it stale; then the next epoch repairs it, or the record's end.
        self._sequence = max(self._sequence + 1, int(self._parts.clock_s() * 1000))
        location = Location(
            app=host.app,
            epoch=host.machine.epoch,
            coordinator=self._parts.identity.node,
            name=self._parts.name,
            replica_set=state.replica_set.nodes,
            placed=state.placed.placed,
            lifetime_s=LIFETIME_S,
            sequence=self._sequence,
            mandate=deflated(mandate) if mandate else b"",
        )
        record = sign(location, self._parts.identity, membership.chain)
        if size_of(record) > RECORD_BYTES_MAX:
            log.warning("too many changes of replicas for a location record", app=host.app, bytes=size_of(record))
            self._finder.withdraw(app_key(host.app))
        else:
            self._finder.publish(app_key(host.app), record)

    def hide(self, host: ApplicationHost) -> None:
        """Nothing of it is kept here any more."""
        self._waiting.pop(host.app, None)
        self._finder.withdraw(app_key(host.app))
