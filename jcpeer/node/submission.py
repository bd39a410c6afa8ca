"""The submitter's node: it names, places and signs what a client hands over, and hands it to the application's home.

The home is this node or another one; the client notices no difference. It is decided once, and kept before anybody
hears of it: a retry goes to the same home, whether it is down for the moment or has accepted already. Blobs come here
first, and the home fetches them while further ones come.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import structlog
import trio
from attrs import define, field

from jcpeer.application.manifest import Batch, Header, Placed, Seal, Seat, application_key
from jcpeer.application.task import BlobRef
from jcpeer.errors import JcpeerError, RequestError, UnreachableError
from jcpeer.ids import AppId, Digest, NodeId, app_key, digest_of
from jcpeer.membership.certificates import TO_SUBMIT, grants
from jcpeer.membership.signed import sign
from jcpeer.node.applications import Applications
from jcpeer.node.arrivals import Arrivals
from jcpeer.node.aside import NOT_HERE, ElsewhereError, forgotten
from jcpeer.node.decisions import Decisions
from jcpeer.node.elsewhere import Elsewhere
from jcpeer.node.finder import Finder, Nearest
from jcpeer.node.handing_on import in_frames
from jcpeer.node.home import NOT_TAKEN, Home, check_header, check_named
from jcpeer.node.parts import Parts
from jcpeer.node.safety import inputs_stay
from jcpeer.node.whereabouts import LOOK_UP_S, Whereabouts
from jcpeer.rdv.placement import CANDIDATES_MAX, CANDIDATES_MIN, SET_SIZE, Candidate, choose, nobody_eligible, objection
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Signed
from jcpeer.wire.requests import (
    Accepted,
    AddTasks,
    Done,
    Forgotten,
    GetPlacement,
    HomeRequest,
    Host,
    Hosted,
    Missing,
    MissingBlobs,
    Moved,
    NodeName,
    PutBlob,
    PutBlobs,
    ReplyBody,
    TakeBatch,
    TakeBlobs,
    TakeSeal,
)

R = TypeVar("R", bound=ReplyBody)
T = TypeVar("T")

log = structlog.get_logger()

HAND_OVER_S = 10.0
"""A home that does not answer is tried again for so long: it may be starting anew."""
RETRY_S = 1.0
MOVED_S = 0.05


@define
class _Opening:
    """Two who hand over the same application at once come to one decision."""

    lock: trio.Lock = field(factory=trio.Lock)
    waiting: int = 0


class Submissions:
    """Open, fill and seal applications on behalf of clients of this node."""

    def __init__(
        self,
        parts: Parts,
        applications: Applications,
        home: Home,
        decisions: Decisions,
        elsewhere: Elsewhere,
        whereabouts: Whereabouts,
        finder: Finder,
        nursery: trio.Nursery,
        *,
        me: Callable[[], Candidate],
    ) -> None:
        self._parts = parts
        self._applications = applications
        self._home = home
        self._decisions = decisions
        self._elsewhere = elsewhere
        self._whereabouts = whereabouts
        self._finder = finder
        self._nursery = nursery
        self._me = me
        self._arrivals = Arrivals(parts.store)
        self._opening: dict[AppId, _Opening] = {}
        self._taken: set[AppId] = set()
        """Those that their homes have journalled, as this process knows."""
        self._handed: dict[AppId, set[tuple[NodeId, Digest]]] = {}
        """Small blobs that a home was given ahead of a batch. Should it have lost one, it fetches that from here."""

    def _signed(self, value: Placed | Batch | Seal) -> Signed:
        return sign(value, self._parts.identity, self._parts.standing.membership.chain)

    # --- opening

    async def open(self, header: Header) -> AppId:
        """The application of this header, opened now or before, here or elsewhere.

        Raises:
            RequestError: it cannot be, nobody can keep it, or its home does not take it.
            UnreachableError: its home does not answer; the decision stands.
        """
        check_header(header)
        certificate = self._parts.standing.membership.certificate
        if not grants(certificate, TO_SUBMIT):
            raise RequestError(f"the nodes of {certificate.user} have no right to submit applications to this grid")
        header = evolve(header, user=certificate.user)
        app = application_key(header, pack(header))
        async with self._one_at_a_time(app):
            known = app in self._taken and self._decisions.home(app) is not None
            if self._applications.get(app) is None and not known:
                signed = self._decisions.signed(app) or await self._decide(app, header)
                await self._hand_over(app, signed)
        return app

    @asynccontextmanager
    async def _one_at_a_time(self, app: AppId) -> AsyncIterator[None]:
        opening = self._opening.setdefault(app, _Opening())
        opening.waiting += 1
        try:
            async with opening.lock:
                yield
        finally:
            opening.waiting -= 1
            if not opening.waiting:
                self._opening.pop(app, None)

    async def _decide(self, app: AppId, header: Header) -> Signed:
        """Where it is to live: where it lives already if somebody handed it over before, else the chosen set."""
        found: list[Signed] = []
        near: Nearest | None = None

        async def look() -> None:
            located = await self._whereabouts.located(app)
            found.extend([located[0].placed] if located else [])

        async def look_around() -> None:
            nonlocal near
            near = await self._near(app, header)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            nursery.start_soon(look_around)
        if near is not None and not found:
            with trio.move_on_after(math.inf if header.placement == "rdv" else LOOK_UP_S):
                found.extend(await self._ask_nearest(app, near))
        if found:
            return found[0]
        if near is None:
            raise UnreachableError(f"the nodes closest to {header.name} were not found in time: try again")
        seats = self._chosen(app, header, near)
        if not seats:
            raise RequestError(nobody_eligible(header, near.candidates))
        return self._signed(Placed(app, header, seats))

    async def _near(self, app: AppId, header: Header) -> Nearest | None:
        """As many of the members nearest to the key as are needed to choose among them; None where they were not found
        in time and are more than named in passing."""
        count = CANDIDATES_MIN
        near = None if header.placement == "rdv" else Nearest((self._me(),), everybody=True)
        while True:
            found: Nearest | None = None
            with trio.move_on_after(LOOK_UP_S):
                found = await self._finder.nearest(app_key(app), count=count)
            if found is None:
                return near
            near = found
            choice = choose(app_key(app), header, near.candidates, me=self._me())
            enough = choice.settled or (len(choice.replica_set) >= SET_SIZE and count >= CANDIDATES_MAX)
            if near.everybody or enough:
                return near
            count *= 4

    def _chosen(self, app: AppId, header: Header, near: Nearest) -> tuple[Seat, ...]:
        size = header.replicas
        return choose(app_key(app), header, near.candidates, me=self._me(), size=size).seats

    async def _ask_nearest(self, app: AppId, near: Nearest) -> list[Signed]:
        """A node that was the closest when the application was handed over before may no longer be, or no record of it
        may have come round yet."""
        others = [each.node for each in near.candidates[:CANDIDATES_MIN] if each.node != self._parts.identity.node]
        try:
            async with aclosing(self._elsewhere.ask(GetPlacement(app), others)) as replies:
                async for reply in replies:
                    if isinstance(reply, Hosted):
                        return [reply.placed]
        except (RequestError, UnreachableError):
            pass
        return []

    async def _hand_over(self, app: AppId, signed: Signed) -> None:
        """To the first of the set; where that is gone, or has lost its journal, to the next, which the others may let
        take over."""
        first_set = unpack(signed.payload, Placed).first_set
        faults: list[RequestError | UnreachableError] = []
        for home in first_set.nodes if first_set.quorum else first_set.nodes[:1]:
            try:
                await self._hand_to(home, app, signed)
                return
            except UnreachableError as error:
                faults.append(error)
            except RequestError as error:
                if error.kind != NOT_TAKEN:
                    raise
                faults.append(error)
        if all(isinstance(each, RequestError) for each in faults):
            self._decisions.forget(app)  # another set may be chosen next time
            raise RequestError(str(faults[0]))
        raise faults[0]

    async def _hand_to(self, home: NodeId, app: AppId, signed: Signed) -> None:
        if home == self._parts.identity.node:
            try:
                self._home.open(signed)
            except ElsewhereError:  # an earlier run of this node opened it; whoever coordinates it now answers
                self._taken.add(app)
            return
        await self._decisions.keep(signed)
        try:
            hosted = await self._to_home(home, app, Host(signed), Hosted)
        except ElsewhereError:  # handed over before; those that have it answer for the node that is gone
            self._taken.add(app)
            return
        if hosted.placed.payload != signed.payload:
            await self._decisions.keep(hosted.placed)  # another node handed it over a moment before
        self._taken.add(app)

    # --- filling

    async def missing(self, app: AppId, digests: tuple[Digest, ...]) -> tuple[Digest, ...]:
        """Those that the client has to put: neither here nor, where that is elsewhere, at the application's home."""

        async def step() -> tuple[Digest, ...]:
            if self._applications.get(app) is not None or not self._is_elsewhere(app):
                return self._home.missing(digests)
            there = (await self._to_home(await self._where(app), app, MissingBlobs(app, digests), Missing)).digests
            self._parts.store.pin(_staged(app), there)
            return self._home.missing(there)

        return await self._wherever(step)

    async def put(self, request: PutBlob) -> None:
        """One piece of a blob.

        Raises:
            RequestError: the pieces do not follow each other, or are not what the blob's name says.
            StorageError: the disk is full.
        """
        host, home = self._applications.get(request.app), await self._where(request.app)
        self._parts.store.pin(request.app if host else _staged(request.app), [request.blob.digest])
        whole = await self._arrivals.put(request)
        if whole and host is None and not request.blob.small:
            self._nursery.start_soon(self._send_ahead, home, request.app, request.blob)

    async def put_many(self, request: PutBlobs) -> None:
        """Blobs that are not large, many at a time.

        Raises:
            RequestError: one is not what its name says.
            StorageError: the disk is full.
        """
        host, home = self._applications.get(request.app), await self._where(request.app)
        self._parts.store.pin(request.app if host else _staged(request.app), request.data)
        for digest, data in request.data.items():
            if digest_of(data) != digest:
                raise RequestError(f"blob {digest[:12]} is not what its name says")
            self._parts.store.put(data)
        blobs = (BlobRef(digest, len(data)) for digest, data in request.data.items())
        large = tuple(each for each in blobs if not each.small)
        if large and host is None:
            self._nursery.start_soon(self._send_ahead, home, request.app, *large)

    async def _send_ahead(self, home: NodeId, app: AppId, *blobs: BlobRef) -> None:
        try:
            await self._elsewhere.request(home, TakeBlobs(app, blobs))
        except JcpeerError as error:
            log.info(
                "inputs not sent ahead", app=app, first=blobs[0].digest[:12], why=str(error)
            )  # the batch will tell

    async def add(self, request: AddTasks) -> None:
        """A batch; returns once it is journalled.

        Raises:
            RequestError: the tasks are no graph, or blobs that they read are not here.
        """
        await self._wherever(lambda: self._add(request))

    async def _add(self, request: AddTasks) -> None:
        batch = Batch(request.app, request.number, request.tasks, request.blobs)
        host, home = self._applications.get(request.app), await self._where(request.app)
        if host is not None:
            await self._home.take_batch(host, batch, request.data, vouched=lambda: self._signed(batch))
            return
        check_named(batch)  # whether it is a graph with those before it, its home alone can say
        for digest, each in request.data.items():
            if digest_of(each) != digest:
                raise RequestError(f"blob {digest[:12]} is not what its name says")
        handed = self._handed.setdefault(request.app, set())
        ahead = [each for each in self._small_staged(batch, besides=request.data) if (home, each[0]) not in handed]
        for data in in_frames(ahead):
            await self._to_home(home, request.app, TakeBlobs(request.app, data=data), Done)
            handed.update((home, digest) for digest in data)
        await self._to_home(home, request.app, TakeBatch(request.app, self._signed(batch), request.data), Done)

    def _small_staged(self, batch: Batch, *, besides: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """The small blobs that were put here ahead of the batch."""
        riding = set(besides)
        for blob in batch.blobs:
            content = self._parts.store.content(blob.digest) if blob.small and blob.digest not in riding else None
            if isinstance(content, bytes):
                yield blob.digest, content

    async def seal(self, app: AppId, batches: int) -> Accepted:
        """No more batches; returns once that is journalled.

        Raises:
            RequestError: batches are missing.
        """
        return await self._wherever(lambda: self._seal(app, batches))

    async def _seal(self, app: AppId, batches: int) -> Accepted:
        host, home, seal = self._applications.get(app), await self._where(app), Seal(app, batches)
        if host is not None:
            accepted = await self._home.take_seal(host, seal, vouched=lambda: self._signed(seal))
            return self._accepted(accepted, host.machine.state.header)
        accepted = await self._to_home(home, app, TakeSeal(app, self._signed(seal)), Accepted)
        signed = self._decisions.signed(app)
        header = unpack(signed.payload, Placed).header if signed else None
        self._parts.store.release(_staged(app))
        self._handed.pop(app, None)
        return self._accepted(evolve(accepted, caveat=f"{self._why_there(header)}{accepted.caveat}"), header)

    def _accepted(self, accepted: Accepted, header: Header | None) -> Accepted:
        if header is None or not header.inputs_stay:
            return accepted
        return evolve(accepted, caveat=f"{accepted.caveat} {inputs_stay(self._parts.name)}".lstrip())

    def _why_there(self, header: Header | None) -> str:
        """A word on an application that is not where its user may take it to be."""
        if header is None or header.placement == "rdv":
            return ""
        why = objection(self._me(), submitted_s=self._me().certificate.issued_s)
        return f"It lives elsewhere, since node {self._parts.name} {why}. " if why else ""

    # --- the home

    async def _where(self, app: AppId) -> NodeId:
        """Raises:
        ElsewhereError: nobody coordinates it at present, or it was forgotten.
        RequestError: nobody in reach has it.
        """
        if self._applications.get(app) is not None:
            return self._parts.identity.node
        home = self._whereabouts.coordinator(app) or await self._whereabouts.look_for(app)
        if home is None:
            what = "is not kept any more by anybody in reach: a new run is placed anew"
            why = what if app in self._taken else "was not opened here; submit it again"
            raise RequestError(f"application {app[:12]} {why}", kind="unknown")
        return home

    def _is_elsewhere(self, app: AppId) -> bool:
        return self._whereabouts.coordinator(app) is not None

    async def _wherever(self, step: Callable[[], Awaitable[T]]) -> T:
        """What comes of this step, which is taken again where the application moves from or to this node meanwhile.

        Raises:
            RequestError: it was forgotten.
        """
        while True:
            try:
                return await step()
            except ElsewhereError as error:
                if isinstance(error.said, Forgotten):
                    raise forgotten(error.said.tombstone) from error
                await trio.sleep(MOVED_S)

    async def _to_home(self, home: NodeId, app: AppId, request: HomeRequest, kind: type[R]) -> R:
        """The reply of its home, or of whoever coordinates it by now. Everything may be said twice, so a home that is
        away for a moment is asked again; while those that keep copies say that nobody coordinates it, that is awaited.

        Raises:
            RequestError: it says no.
            ElsewhereError: it is coordinated here since; or it was to be opened, and others have it already.
            UnreachableError: it does not answer; the text names it, and says what stands.
        """
        why, given_up_s = "", math.inf
        while trio.current_time() < given_up_s:
            if self._applications.get(app) is not None:
                raise ElsewhereError(Moved(app, 0))
            began_s = trio.current_time()
            try:
                reply = await self._elsewhere.request(home, request)
            except UnreachableError as error:
                found, kept = await self._home_now(app, besides=home, widely=given_up_s == math.inf)
                if kept and isinstance(request, Host):
                    raise ElsewhereError(Moved(app, 0)) from error
                home = found or home
                why, failed_s = str(error), trio.current_time()
                if kept:
                    given_up_s = math.inf
                elif given_up_s == math.inf or failed_s - began_s > HAND_OVER_S:  # it was at it for long, then gone
                    given_up_s = failed_s + HAND_OVER_S
                await trio.sleep(MOVED_S if found else RETRY_S)
                continue
            except (ElsewhereError, RequestError) as error:
                if isinstance(error, RequestError) and error.kind != NOT_HERE:
                    raise
                said = error.said if isinstance(error, ElsewhereError) else None
                named = said.coordinator if isinstance(said, Moved) else None
                found, kept = await self._home_now(app, besides=home, named=named)
                if not kept:
                    self._taken.discard(app)  # it may have lost its disk: handed over again, it may take it again
                    raise
                home, given_up_s = found or home, math.inf
                await trio.sleep(MOVED_S if found else RETRY_S)
                continue
            if not isinstance(reply, kind):
                raise RequestError(f"node {self._whereabouts.called(home)} answered with a {type(reply).__name__}")
            return reply
        raise UnreachableError(
            f"application {app[:12]} is to live on node {self._whereabouts.called(home)}, which does not answer"
            f"{f' ({why})' if why else ''}: tried again it goes to that same node, a new run is placed anew"
        )

    async def _home_now(
        self, app: AppId, *, besides: NodeId, named: NodeName | None = None, widely: bool = True
    ) -> tuple[NodeId | None, bool]:
        """Who coordinates it by now, if somebody does, and whether it is kept anywhere in reach.

        Raises:
            ElsewhereError: it was forgotten.
        """
        try:
            found = await self._whereabouts.successor(app, besides=besides, named=named, widely=widely)
        except ElsewhereError as error:
            if isinstance(error.said, Forgotten):
                raise
            return None, True
        return found, found is not None


def _staged(app: AppId) -> AppId:
    """Under this name blobs are pinned that are on their way through; as participants others are."""
    return AppId(f"on its way {app}")
