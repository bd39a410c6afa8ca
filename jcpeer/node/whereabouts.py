"""Where applications are coordinated that are not hosted here, and what is answered about them there.

An application that is named by its whole id is looked for where it was last, else where a copy of its journal says,
where this node placed it, or where its location record says. If it is not there any more, those that keep copies are
asked who coordinates it, then its location record, and now and then others: so whoever follows it, follows it to the
next coordinator, and misses no event, since committed entries have the same index everywhere. By name, or by a
beginning of the id, some nodes are asked at once: those of which it is known that they keep applications of our user,
and a bounded number of others.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

import structlog
import trio
from attrs import define, frozen

from jcpeer.application.manifest import Placed
from jcpeer.errors import MembershipError, RequestError, UnreachableError
from jcpeer.ids import KEY_BITS, AppId, NodeId, app_key, short
from jcpeer.node.aside import NOT_HERE, Aside, ElsewhereError, forgotten, weight
from jcpeer.node.decisions import Decisions
from jcpeer.node.elsewhere import AboutApplication, Elsewhere
from jcpeer.node.finder import Finder
from jcpeer.node.parts import Parts
from jcpeer.rdv.location import Location, open_location
from jcpeer.values import evolve
from jcpeer.wire.codec import unpack
from jcpeer.wire.messages import NodeRecord
from jcpeer.wire.requests import (
    ApplicationSummary,
    Forget,
    Forgotten,
    GetBlob,
    GetHolders,
    GetPlacement,
    Happened,
    Holders,
    Moved,
    News,
    NodeName,
    Progress,
    ReplyBody,
    Status,
    Watch,
)

log = structlog.get_logger()

LOOK_UP_S = 5.0
"""A lookup that takes longer is given up."""
RETURN_S = 30.0
"""A watch of which nobody in reach knows any more goes on for so long: as long as a client waits for its own node."""
TAKEOVER_S = 10.0
"""So long other questions wait while nobody coordinates, though there are copies; a takeover is over well within it."""
FIRST_RETRY_S = 0.1
RETRY_S = 0.5
WIDELY_S = 5.0
"""How often others are asked than those that are to have copies."""
LOOK_AGAIN_S = 2.0
"""How often others are asked who coordinates what is stalled: its coordinator may be cut off from them and not know."""
OTHERS_ASKED_MAX = 32
"""Nodes that are asked by name though nothing is known of applications there."""
KEEPERS_ASKED_MAX = 64
REMEMBERED_MAX = 1000


@frozen
class _Place:
    """Where an application is coordinated, and who has copies as far as that was heard. `name` is empty where only the
    id is known."""

    node: NodeId
    name: str = ""
    copies: tuple[NodeId, ...] = ()


def _unseen(news: News, watch: Watch) -> News:
    """What comes after what was told. Where nobody says of which epoch an event is, its index alone counts."""

    def is_new(event: Happened) -> bool:
        return (event.epoch, event.index) > (watch.after_epoch if event.epoch else 0, watch.after_index)

    return news if all(map(is_new, news.events[:1])) else News(tuple(filter(is_new, news.events)))


@define
class _Patience:
    """How long a question goes on though its application is not found where it was."""

    heard: bool = False
    gone_since_s: float | None = None
    tries: int = 0
    wide_s: float = -math.inf
    looked_s: float = -math.inf

    def found(self) -> None:
        self.heard, self.gone_since_s, self.tries = True, None, 0

    def tried_s(self, now_s: float) -> float:
        """For how long nobody has been found now."""
        self.tries += 1
        self.gone_since_s = now_s if self.gone_since_s is None else self.gone_since_s
        return now_s - self.gone_since_s

    def widely(self, now_s: float) -> bool:
        """Whether it is time to ask many."""
        if now_s - self.wide_s < WIDELY_S:
            return False
        self.wide_s = now_s
        return True

    def look_again(self, now_s: float) -> bool:
        if now_s - self.looked_s < LOOK_AGAIN_S:
            return False
        self.looked_s = now_s
        return True

    @property
    def pause_s(self) -> float:
        return FIRST_RETRY_S if self.tries <= 1 else RETRY_S


class Whereabouts:
    """Finds who coordinates an application, asks there, and follows it."""

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

    @property
    def _me(self) -> NodeId:
        return self._parts.identity.node

    @property
    def _user(self) -> str:
        return self._parts.standing.membership.certificate.user

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
        said = self._elsewhere.known_of(app, self._user)
        if isinstance(said, Moved) and said.coordinator is not None and said.coordinator.id != self._me:
            return _Place(said.coordinator.id, said.coordinator.name, said.replicas)
        home = self._decisions.home(app)
        return None if home is None or home == self._me else _Place(home)

    def said_of(self, app: AppId) -> Moved | None:
        """What a copy here says of who coordinates it."""
        said = self._elsewhere.known_of(app, self._user)
        return said if isinstance(said, Moved) else None

    def coordinator(self, app: AppId) -> NodeId | None:
        """Who coordinates it, as far as is known here."""
        place = self._known(app)
        return None if place is None else place.node

    def _remember(self, app: AppId, place: _Place) -> None:
        self._remembered.pop(app, None)
        self._remembered[app] = place
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]

    def _note_copies(self, app: AppId, copies: Iterable[NodeName]) -> None:
        place, ids = self._remembered[app], tuple(each.id for each in copies)
        if ids and ids != place.copies:
            self._remembered[app] = evolve(place, copies=ids)

    def _forget(self, wanted: str) -> None:
        """Nothing is kept of it any more."""
        app = self._decisions.find(wanted) or AppId(wanted)
        self._decisions.forget(app)
        self._remembered.pop(app, None)

    # --- who has it now

    async def successor(
        self, app: AppId, *, besides: NodeId | None = None, named: NodeName | None = None, widely: bool = True
    ) -> NodeId | None:
        """Who coordinates it now. None: nobody in reach has heard of it.

        Args:
            besides: Who no longer does, or does not answer.
            named: Whom somebody took for its coordinator.
            widely: Ask others, too, than those that are to have copies.

        Raises:
            ElsewhereError: nobody does, or this node itself, as those say who have copies, or a tombstone.
        """
        asked = {self._me} if besides is None else {self._me, besides}
        said = self._elsewhere.known_of(app, self._user)
        sources = [self._copies, self._recorded_seats, self._others_asked] if widely else [self._copies]
        nodes = [] if named is None else [named.id]
        for source in sources:
            nodes += await source(app)
            while nodes := [each for each in dict.fromkeys(nodes) if each not in asked]:
                asked.update(nodes)
                try:
                    return await self._who_has(app, nodes)
                except ElsewhereError as error:
                    said = error.said if said is None or weight(error.said) > weight(said) else said
                    nodes = _named_by(error.said)
                except (RequestError, UnreachableError):
                    nodes = []
            if isinstance(said, Moved):
                break
        if said is not None:
            raise ElsewhereError(said)
        return None

    async def look_for(self, app: AppId) -> NodeId | None:
        """The same where nothing here says where it may be, as of a submission whose seat was lost meanwhile; whom it
        finds is remembered.

        Raises:
            ElsewhereError: as `successor`.
        """
        found = await self.successor(app)
        if found is not None:
            self._remember(app, _Place(found))
        return found

    async def _who_has(self, app: AppId, nodes: Iterable[NodeId]) -> NodeId:
        chosen: list[NodeId] = []
        async with aclosing(self._elsewhere.ask(GetPlacement(app), nodes, chosen=chosen.append)) as replies:
            async for _ in replies:
                break
        return chosen[0]

    async def _copies(self, app: AppId) -> list[NodeId]:
        """Who has copies, as far as is known without asking."""
        found: list[NodeId] = []
        if app in self._remembered:
            found += [self._remembered[app].node, *self._remembered[app].copies]
        said = self._elsewhere.known_of(app, self._user)
        found += _named_by(said)
        signed = self._decisions.signed(app)
        return found + ([] if signed is None else list(unpack(signed.payload, Placed).replica_set))

    async def _recorded_seats(self, app: AppId) -> list[NodeId]:
        found = await self.located(app)
        return [] if found is None else [found[0].coordinator, *found[0].replica_set, *found[1].replica_set]

    async def _others_asked(self, app: AppId) -> list[NodeId]:
        return self.whom_to_ask()

    # --- asking

    async def about(self, body: AboutApplication) -> AsyncGenerator[ReplyBody, None]:
        """The replies of the node that coordinates the application. A watch goes on with the next coordinator, and
        while there is none; one that reports progress says then for whom it waits. The last reply is `Moved` where it
        is this node that coordinates it from now on.

        Raises:
            RequestError: nobody in reach knows it, it was forgotten, or its coordinator says no.
            UnreachableError: its coordinator does not answer, and nobody knows of another; the text names it.
        """
        patience = _Patience()
        while True:
            try:
                async with aclosing(self._about(body, patience)) as replies:
                    async for reply in replies:
                        patience.found()
                        if isinstance(body, Watch) and isinstance(reply, News):
                            reply = _unseen(reply, body)
                            if not reply.events:
                                continue
                            last = reply.events[-1]
                            body = evolve(body, after_index=last.index, after_epoch=last.epoch)
                        if isinstance(body, Forget):
                            self._forget(body.app)
                        yield reply
                return
            except ElsewhereError as error:
                said, waited_s = error.said, patience.tried_s(trio.current_time())
                if isinstance(said, Forgotten):
                    raise forgotten(said.tombstone) from error
                body = evolve(body, app=said.app)
                if said.coordinator is not None and said.coordinator.id == self._me:
                    yield said
                    return
                if isinstance(body, Watch) and body.progress:
                    yield Progress({}, {}, 0.0, None, missing=said.missing)
                elif not isinstance(body, Watch) and waited_s > TAKEOVER_S:
                    raise UnreachableError(_nobody_coordinates(said)) from error
            except UnreachableError:
                waited_s = patience.tried_s(trio.current_time())
                if not (isinstance(body, Watch) and patience.heard) or waited_s > RETURN_S:
                    raise
            await trio.sleep(patience.pause_s)

    async def _about(self, body: AboutApplication, patience: _Patience) -> AsyncGenerator[ReplyBody, None]:
        app = self._decisions.find(body.app) or (AppId(body.app) if _is_id(body.app) else None)
        place = None
        if app is not None:
            body = evolve(body, app=app)
            if self._elsewhere.is_here(app, self._user):  # since we began to look
                raise ElsewhereError(Moved(app, 0, NodeName(self._me, self._parts.name)))
            if isinstance(said := self._elsewhere.known_of(app, self._user), Forgotten):
                raise ElsewhereError(said)
            place = self._known(app) or await self._recorded(app)
        if app is None or place is None or place.node == self._me:
            replies = self._ask_some(body, app)
        else:
            replies = self._follow(body, app, place, patience)
        async with aclosing(replies):
            async for reply in replies:
                yield reply

    async def _follow(
        self, body: AboutApplication, app: AppId, place: _Place, patience: _Patience
    ) -> AsyncGenerator[ReplyBody, None]:
        """What is answered there, or where it is coordinated now."""
        silent: UnreachableError | None = None
        named: NodeName | None = None
        answered, asked_there = False, patience.tries == 0
        if asked_there:  # afterwards it is one of those that are asked at once
            try:
                async with aclosing(self._asked(body, app, place, patience)) as replies:
                    async for reply in replies:
                        answered = True
                        yield reply
                return
            except UnreachableError as error:
                silent = error
            except ElsewhereError as error:
                named = error.said.coordinator if isinstance(error.said, Moved) else None
            except RequestError as error:
                if error.kind != NOT_HERE:
                    raise
        if answered and not isinstance(body, Watch):  # what came cannot be taken back
            raise self._not_there(app, place, silent)
        widely = not isinstance(body, Watch) or patience.widely(trio.current_time())
        besides = place.node if asked_there else None
        found = await self.successor(app, besides=besides, named=named, widely=widely)
        if found is None:
            raise self._not_there(app, place, silent or (None if asked_there else UnreachableError("nor do others")))
        place = place if found == place.node else evolve(place, node=found, name="")
        async with aclosing(self._asked(body, app, place, patience)) as replies:
            async for reply in replies:
                yield reply

    def _not_there(self, app: AppId, place: _Place, silent: UnreachableError | None) -> RequestError | UnreachableError:
        where = self.called(place.node, place.name)
        if silent is not None:
            return UnreachableError(
                f"application {app[:12]} lives on node {where}, which does not answer ({silent}): once that node is "
                "back, ask again"
            )
        self._remembered.pop(app, None)
        return RequestError(
            f"node {where} no longer has application {app[:12]}: it was forgotten there, or its disk is another one",
            kind="unknown",
        )

    async def _asked(
        self, body: AboutApplication, app: AppId, place: _Place, patience: _Patience
    ) -> AsyncGenerator[ReplyBody, None]:
        """What is answered there."""
        known = False
        async with aclosing(self._elsewhere.ask(body, [place.node])) as replies:
            async for reply in replies:
                if not known:
                    known = True
                    self._remember(app, place)
                if isinstance(reply, Status):
                    self._note_copies(app, (each.node for each in reply.replicas))
                elif isinstance(reply, Progress):
                    self._note_copies(app, reply.copies)
                yield reply
                if isinstance(reply, Progress) and reply.missing and patience.look_again(trio.current_time()):
                    await self._look_again(app, place)

    async def _look_again(self, app: AppId, place: _Place) -> None:
        """Raises: ElsewhereError: another coordinates it, of whom this coordinator does not know."""
        try:
            found = await self.successor(app, besides=place.node, widely=False)
        except ElsewhereError:
            return
        if found is not None:
            self._remember(app, evolve(place, node=found, name=""))
            raise ElsewhereError(Moved(app, 0, NodeName(found, self._name_of(found))))

    async def _ask_some(self, body: AboutApplication, app: AppId | None) -> AsyncGenerator[ReplyBody, None]:
        """What is answered by whoever of many knows it, though nobody said that it is there."""
        answered: list[NodeId] = []
        try:
            async with aclosing(self._elsewhere.ask(body, self.whom_to_ask(), chosen=answered.append)) as replies:
                async for reply in replies:
                    if app is not None:
                        self._remember(app, _Place(answered[0]))
                    yield reply
        except ElsewhereError as error:
            if isinstance(error.said, Moved) and error.said.coordinator is not None:
                self._remember(error.said.app, _Place(error.said.coordinator.id, copies=error.said.replicas))
            raise
        except (RequestError, UnreachableError) as error:
            if answered and not (isinstance(error, RequestError) and error.kind == NOT_HERE):
                raise
            if (said := self._elsewhere.known_of(body.app, self._user)) is not None:
                raise ElsewhereError(said) from error
            raise RequestError(
                f"no application {body.app!r} here or at another node in reach; `jcpeer list` shows which there are",
                kind="unknown",
            ) from error

    def whom_to_ask(self) -> list[NodeId]:
        """Who may know of applications of our user: those that keep some, and a bounded number of others."""
        user = self._user
        others = list(self._others())
        homes = self._decisions.homes() - {self._me}
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
        nobody = UnreachableError(f"nobody in reach knows who holds blob {body.blob.digest[:12]}")
        try:
            found = await self._holders(question, [place.node] if place else self.whom_to_ask())
            if not found and place is not None:
                now = await self.successor(body.app, besides=place.node)
                found = [] if now is None else await self._holders(question, [now])
        except RequestError as error:
            raise nobody from error
        if not found:
            raise nobody
        return found

    async def _holders(self, question: GetHolders, nodes: Iterable[NodeId]) -> list[NodeId]:
        try:
            async with aclosing(self._elsewhere.ask(question, nodes)) as replies:
                async for reply in replies:
                    if isinstance(reply, Holders):
                        return list(reply.nodes)
        except (RequestError, UnreachableError) as error:
            log.info("not known who holds a blob", app=question.app, why=str(error))
        return []


def _nobody_coordinates(said: Moved) -> str:
    names = ", ".join(each.name for each in said.missing) or "those that are missing"
    return (
        f"nobody coordinates application {said.app[:12]} at present: it goes on by itself with {names}, or by "
        f"`jcpeer recover {said.app[:8]}`"
    )


def _named_by(said: Aside | None) -> list[NodeId]:
    """Who may coordinate it by what was said, the likeliest first."""
    if not isinstance(said, Moved):
        return []
    return [*([] if said.coordinator is None else [said.coordinator.id]), *said.replicas]


def _is_id(text: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{KEY_BITS // 4}}}", text) is not None
