"""Where applications are to live that were handed to this node and live on another one.

Each was decided once, and is on the disk before anybody hears of it: whoever hands the same application over again, to
this node or after its restart, is led to the same home.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from jcpeer.application.manifest import Placed
from jcpeer.errors import RemoteProtocolError
from jcpeer.ft.journal import Journal
from jcpeer.ids import AppId, NodeId
from jcpeer.values import Number, Value
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Signed

log = structlog.get_logger()

PREFIX_CHARACTERS_MIN = 2


class Decision(Value):
    """`decided_s` is seconds since 1970 by this node's clock."""

    placed: Signed
    decided_s: Number


class Decisions:
    """Reads what earlier runs decided from the journal, and adds to it."""

    def __init__(self, journal: Journal, clock_s: Callable[[], float]) -> None:
        self._journal = journal
        self._clock_s = clock_s
        self._decisions: dict[AppId, Decision] = {}
        self._placed: dict[AppId, Placed] = {}
        for app, packed in journal.decisions().items():
            try:
                self._take(unpack(packed, Decision))
            except RemoteProtocolError as error:
                log.warning("a decision about an application cannot be read", app=app, reason=str(error))

    def _take(self, decision: Decision) -> AppId:
        placed = unpack(decision.placed.payload, Placed)
        self._decisions[placed.app], self._placed[placed.app] = decision, placed
        return placed.app

    def signed(self, app: AppId) -> Signed | None:
        return self._decisions[app].placed if app in self._decisions else None

    def home(self, app: AppId) -> NodeId | None:
        """Where it is to live."""
        return self._placed[app].replica_set[0] if app in self._placed else None

    def homes(self) -> set[NodeId]:
        return {each.replica_set[0] for each in self._placed.values()}

    def find(self, wanted: str) -> AppId | None:
        """By id, by name, of which the latest counts, or by a beginning of the id that only one has."""
        if AppId(wanted) in self._placed:
            return AppId(wanted)
        named = [each for each in self._placed.values() if each.header.name == wanted]
        if named:
            return max(named, key=lambda each: each.header.submitted_s).app
        begun = [app for app in self._placed if app.startswith(wanted)] if len(wanted) >= PREFIX_CHARACTERS_MIN else []
        return begun[0] if len(begun) == 1 else None

    async def keep(self, placed: Signed) -> None:
        """Returns once it would survive this process. The latest word on an application counts."""
        decision = Decision(placed, self._clock_s())
        await self._journal.place(self._take(decision), pack(decision))

    def forget(self, app: AppId) -> None:
        if self._decisions.pop(app, None) is not None:
            del self._placed[app]
            self._journal.unplace(app)

    def forget_old(self, *, age_s: float) -> None:
        """Those that were decided longer ago: what came of them is no longer kept there."""
        before_s = self._clock_s() - age_s
        for app in [app for app, each in self._decisions.items() if each.decided_s < before_s]:
            self.forget(app)
