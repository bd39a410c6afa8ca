"""Where applications live that are not hosted here, and what their homes answer about them.

An application that is named by its whole id is looked for where this node placed it, else where its location record
says; then that one node is asked. By name, or by a beginning of the id, some nodes are asked at once: those of which it
is known that they keep applications of our user, and a bounded number of others.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

import structlog
import trio
from attrs import evolve, frozen

from jcpeer.application.manifest import Placed
from jcpeer.errors import MembershipError, RequestError, UnreachableError
from jcpeer.ids import KEY_BITS, AppId, NodeId, app_key, short
from jcpeer.node.decisions import Decisions
from jcpeer.node.elsewhere import AboutApplication, Elsewhere
from jcpeer.node.finder import Finder
from jcpeer.node.home import NOT_HERE
from jcpeer.node.parts import Parts
from jcpeer.rdv.location import Location, open_location
from jcpeer.wire.messages import NodeRecord
from jcpeer.wire.requests import (
    ApplicationSummary,
    Forget,
    GetBlob,
    GetHolders,
    Happened,
    Holders,
    ReplyBody,
    Watch,
)

T = TypeVar("T")

log = structlog.get_logger()

LOOK_UP_S = 5.0
"""A lookup that takes longer is given up."""
RETURN_S = 30.0
"""A watch waits so long for the return of a home that went away: as long as a client for its own node."""
RETRY_S = 1.0
OTHERS_ASKED_MAX = 32
"""Nodes that are asked by name though nothing is known of applications there."""
KEEPERS_ASKED_MAX = 64
REMEMBERED_MAX = 1000


@frozen
class _Place:
    """An application's home. `name` is empty where only its id is known."""

    node: NodeId
    name: str = ""


class Whereabouts:
    """Finds the home of an application, and asks it."""

    def __init__(
        self,
        parts: Parts,
        finder: Finder,
        decisions: Decisions,
        elsewhere: Elsewhere,
        *,
        others: Callable[[], Iterable[NodeRecord]],
        name_of: Callable[[NodeId], str],
    ) -> None:
        self._parts = parts
        self._finder = finder
        self._decisions = decisions
        self._elsewhere = elsewhere
        self._others = others
        self._name_of = name_of
        self._remembered: dict[AppId, _Place] = {}

    # --- where

    async def located(self, app: AppId) -> tuple[Location, Placed] | None:
        """What its location record says, if there is one that holds."""
        found = None
        with trio.move_on_after(LOOK_UP_S):
            found = await self._finder.record(app_key(app))
        if found is None:
            return None
        root, now_s = self._parts.standing.membership.root, self._parts.clock_s()
        try:
            return open_location(found, key=app_key(app), root=root, now_s=now_s)
        except MembershipError as error:
            log.warning("a location is not believed", app=app, reason=str(error))
            return None

    def called(self, node: NodeId, name: str = "") -> str:
        """The node's name; as its location record has it, where it was never met."""
        known = self._name_of(node)
        return name if name and known == short(node) else known

    async def _recorded(self, app: AppId) -> _Place | None:
        found = await self.located(app)
        return None if found is None else _Place(found[0].coordinator, found[0].name)

    def _known(self, app: AppId) -> _Place | None:
        """Without asking anybody."""
        if app in self._remembered:
            return self._remembered[app]
        home = self._decisions.home(app)
        return None if home is None else _Place(home)

    def _remember(self, app: AppId, place: _Place) -> None:
        self._remembered.pop(app, None)
        self._remembered[app] = place
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]

    def _forget(self, wanted: str) -> None:
        """Nothing is kept of it any more."""
        app = self._decisions.find(wanted) or AppId(wanted)
        self._decisions.forget(app)
        self._remembered.pop(app, None)

    # --- asking

    async def about(self, body: AboutApplication) -> AsyncGenerator[ReplyBody, None]:
        """The replies of the node where the application lives. A watch goes on where that node restarts.

        Raises:
            RequestError: nobody in reach knows it, or it says no.
            UnreachableError: its home does not answer; the text names it.
        """
        heard = False
        gone_since_s: float | None = None
        while True:
            try:
                async with aclosing(self._about(body)) as replies:
                    async for reply in replies:
                        heard, gone_since_s = True, None
                        if isinstance(body, Watch) and isinstance(reply, Happened):
                            body = evolve(body, after_index=reply.index)
                        if isinstance(body, Forget):
                            self._forget(body.app)
                        yield reply
                return
            except UnreachableError:
                now_s = trio.current_time()
                gone_since_s = now_s if gone_since_s is None else gone_since_s
                if not (isinstance(body, Watch) and heard) or now_s - gone_since_s > RETURN_S:
                    raise
                await trio.sleep(RETRY_S)

    async def _about(self, body: AboutApplication) -> AsyncGenerator[ReplyBody, None]:
        app = self._decisions.find(body.app) or (AppId(body.app) if _is_id(body.app) else None)
        place = None
        if app is not None:
            body = evolve(body, app=app)
            place = self._known(app) or await self._recorded(app)
        nodes = self.whom_to_ask() if place is None else [place.node]
        if app is not None and place is not None:
            try:
                async with aclosing(self._elsewhere.ask(body, nodes)) as replies:
                    async for reply in replies:
                        self._remember(app, place)
                        yield reply
                return
            except UnreachableError as error:
                self._remembered.pop(app, None)
                raise UnreachableError(
                    f"application {app[:12]} lives on node {self.called(place.node, place.name)}, which does not "
                    f"answer ({error}): once that node is back, ask again"
                ) from error
            except RequestError as error:
                if error.kind != NOT_HERE:
                    raise
                self._remembered.pop(app, None)
                nodes = [each for each in self.whom_to_ask() if each != place.node]
        async with aclosing(self._ask_some(body, nodes, app, place)) as replies:
            async for reply in replies:
                yield reply

    async def _ask_some(
        self, body: AboutApplication, nodes: list[NodeId], app: AppId | None, place: _Place | None
    ) -> AsyncGenerator[ReplyBody, None]:
        answered: list[NodeId] = []
        try:
            async with aclosing(self._elsewhere.ask(body, nodes, chosen=answered.append)) as replies:
                async for reply in replies:
                    if app is not None:
                        self._remember(app, _Place(answered[0]))
                    yield reply
        except (RequestError, UnreachableError) as error:
            if answered and not (isinstance(error, RequestError) and error.kind == NOT_HERE):
                raise
            gone = place and f"node {self.called(place.node, place.name)} no longer has application {body.app[:12]}"
            raise RequestError(
                f"{gone}: it was forgotten there, or its disk is another one"
                if gone
                else f"no application {body.app!r} here or at another node in reach; `jcpeer list` shows which there "
                "are",
                kind="unknown",
            ) from error

    def whom_to_ask(self) -> list[NodeId]:
        """Who may know of applications of our user: those that keep some, and a bounded number of others."""
        user = self._parts.standing.membership.certificate.user
        others = list(self._others())
        homes = self._decisions.homes() - {self._parts.identity.node}
        keepers = [*homes, *(each.node for each in others if each.user == user and each.state == "coordinator")]
        keepers = list(dict.fromkeys(keepers))[:KEEPERS_ASKED_MAX]
        rest = [each for each in others if each.node not in keepers]
        rest.sort(key=lambda each: (each.user != user, each.state != "coordinator", not each.coordinates))
        return [*keepers, *(each.node for each in rest[:OTHERS_ASKED_MAX])]

    async def applications(self) -> list[ApplicationSummary]:
        """Our user's applications that other nodes in reach coordinate."""
        return await self._elsewhere.applications(self.whom_to_ask())

    async def holders(self, body: GetBlob) -> list[NodeId]:
        """Who holds a blob of an application that does not live here: they are asked for it directly.

        Raises:
            UnreachableError: nobody in reach knows.
        """
        place = self._known(body.app) or await self._recorded(body.app)
        question = GetHolders(body.app, body.blob.digest)
        try:
            async with aclosing(
                self._elsewhere.ask(question, [place.node] if place else self.whom_to_ask())
            ) as replies:
                async for reply in replies:
                    if isinstance(reply, Holders):
                        return list(reply.nodes)
        except RequestError as error:
            raise UnreachableError(f"nobody in reach knows who holds blob {body.blob.digest[:12]}") from error
        raise UnreachableError(f"nobody in reach knows who holds blob {body.blob.digest[:12]}")


def _is_id(text: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{KEY_BITS // 4}}}", text) is not None
