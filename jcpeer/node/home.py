"""The home of applications: what this node does with those that are handed to it, by itself or by another node.

Whoever hands over, the same is checked: that a member of the application's user signed each part, that the key is that
of the header, that this node is the first of the set and may be, that tasks are a graph with those before them and
blobs are what their names say. Everything may come twice and counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import structlog
import trio

from jcpeer.application.graph import check_graph
from jcpeer.application.manifest import Batch, Header, Seal
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import SealReceived
from jcpeer.errors import GraphError, JcpeerError, MembershipError, RequestError, UnreachableError
from jcpeer.ids import AppId, Digest, NodeId
from jcpeer.membership.signed import open_signed
from jcpeer.node.applications import Applications
from jcpeer.node.aside import NOT_HERE, ElsewhereError
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.parts import Parts
from jcpeer.node.safety import caveat
from jcpeer.rdv.placement import Candidate, fault_of, open_placed
from jcpeer.wire.messages import Signed
from jcpeer.wire.requests import (
    Accepted,
    Done,
    GetHolders,
    GetPlacement,
    Holders,
    HomeRequest,
    Host,
    Hosted,
    Missing,
    MissingBlobs,
    Moved,
    ReplyBody,
    TakeBatch,
    TakeBlobs,
    TakeSeal,
)
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

T = TypeVar("T", Batch, Seal)

NAME_CHARACTERS_MAX = 200
SUBMITTED_S_MAX = 2.0**36
"""Beyond the year 4000; dates that no calendar shows would make every list of applications unreadable."""
UNSEALED_MAX = 1000
KEPT_MAX = 10_000
"""Applications of one user that are taken from other nodes: those that may still get tasks, and all whose journal is
kept here. Each costs memory and disk for days."""
FETCHED_MAX = 10_000
"""Blobs that are asked for at once."""
TURN_S = 10.0
"""So long a batch waits for the one before it; then it is looked at for itself."""
LOOKED_UP_MAX = 100
"""Blobs that are looked up without a turn for others."""
NOT_TAKEN = "not taken"
"""The kind of refusal after which the application is not hosted there, either: it may be placed elsewhere."""


def check_header(header: Header) -> None:
    """Raises: RequestError: no list could show it."""
    if not header.name.strip() or len(header.name) > NAME_CHARACTERS_MAX or not header.name.isprintable():
        raise RequestError(f"an application's name has 1 to {NAME_CHARACTERS_MAX} printable characters")
    if not 0 <= header.submitted_s <= SUBMITTED_S_MAX:
        raise RequestError(f"an application cannot be submitted at {header.submitted_s} s since 1970: set the clock")


class Home:
    """Opens, fills and seals the applications that live here."""

    def __init__(
        self,
        parts: Parts,
        applications: Applications,
        transfer: Transfer,
        *,
        me: Callable[[], Candidate],
        name_of: Callable[[NodeId], str],
    ) -> None:
        self._parts = parts
        self._applications = applications
        self._transfer = transfer
        self._me = me
        self._name_of = name_of

    # --- what other nodes hand over

    async def answer(self, request: HomeRequest, *, asker: NodeId, user: str) -> ReplyBody:
        """The reply to a node of this user.

        Raises:
            RequestError: no, and why; of kind `NOT_HERE` where the application does not live here.
            StorageError: the disk is full.
        """
        if isinstance(request, Host):
            host = self.open(request.placed, handed_over=True)
            await host.settled()
            return Hosted(_placed_of(host))
        hosted = self._applications.get(request.app)
        if hosted is None or hosted.machine.state.header.user != user:
            raise RequestError(f"application {request.app[:12]} does not live on {self._parts.name}", kind=NOT_HERE)
        match request:
            case GetPlacement():
                return Hosted(_placed_of(hosted))
            case MissingBlobs():
                return Missing(self.missing(request.digests))
            case TakeBlobs():
                self._take_data(hosted.app, request.data)
                await self._fetch(hosted, request.blobs, asker, pinned_as=hosted.app)
                return Done()
            case TakeBatch():
                batch = self._opened(request.batch, Batch, hosted)
                await self.take_batch(
                    hosted,
                    batch,
                    request.data,
                    vouched=lambda: request.batch,
                    holder=asker,
                    handed_on=request.handed_on,
                )
                return Done()
            case TakeSeal():
                seal = self._opened(request.seal, Seal, hosted)
                return await self.take_seal(hosted, seal, vouched=lambda: request.seal, handed_on=request.handed_on)
            case GetHolders():
                return Holders(self.holders(hosted, request.digest))

    def _opened(self, signed: Signed, kind: type[T], host: ApplicationHost) -> T:
        state, membership = host.machine.state, self._parts.standing.membership
        try:
            value, certificate = open_signed(signed, kind, root=membership.root, now_s=self._parts.clock_s())
        except MembershipError as error:
            raise RequestError(f"{state.header.name}: {error}") from error
        if value.app != state.app or certificate.user != state.header.user:
            raise RequestError(f"{state.header.name}: what user {certificate.user!r} signed is not of this application")
        return value

    # --- what becomes of it

    def open(self, signed: Signed, *, handed_over: bool = False) -> ApplicationHost:
        """The host of this placement, or of an earlier one of the same application. `handed_over`: by another node.

        Raises:
            RequestError: it does not hold, or this node cannot keep it.
            ElsewhereError: this node has, or had, a copy, but does not coordinate; or it has a later seat, and stands
                for coordinator from now on.
        """
        membership = self._parts.standing.membership
        try:
            placed, certificate = open_placed(signed, root=membership.root, now_s=self._parts.clock_s())
        except MembershipError as error:
            raise RequestError(f"an application is not taken: {error}", kind=NOT_TAKEN) from error
        if (known := self._applications.get(placed.app)) is not None:
            return known
        check_header(placed.header)
        self._applications.check_untouched(placed.app)
        if fault := fault_of(placed, certificate.node, me=self._me()):
            raise RequestError(f"{placed.header.name} is not taken: {fault}", kind=NOT_TAKEN)
        if handed_over and (fault := self._crowd_of(placed.header.user)):
            raise RequestError(f"{placed.header.name} is not taken: {fault}", kind=NOT_TAKEN)
        if placed.replica_set[0] != self._parts.identity.node:
            self._applications.take_seat(signed)
            raise ElsewhereError(Moved(placed.app, 0))
        return self._applications.open(signed)

    def _crowd_of(self, user: str) -> str:
        """Why no more applications of this user are taken; empty where they are."""
        states = [each.machine.state for each in self._applications if each.machine.state.header.user == user]
        if len(states) >= KEPT_MAX:
            return f"node {self._parts.name} keeps {len(states)} applications of {user} already; forget some"
        unsealed = sum(not each.sealed and each.ended is None for each in states)
        if unsealed >= UNSEALED_MAX:
            return f"node {self._parts.name} has {unsealed} unfinished submissions of {user}; cancel some"
        return ""

    def missing(self, digests: tuple[Digest, ...]) -> tuple[Digest, ...]:
        return tuple(each for each in digests if not self._parts.store.has(each))

    def check_batch(self, host: ApplicationHost, batch: Batch) -> None:
        """Raises: RequestError: its tasks are no graph, or read blobs that it does not name."""
        state = host.machine.state
        if state.sealed:
            raise RequestError(f"{state.header.name} is sealed: no task can be added")
        try:
            check_graph(batch.tasks, known=state.spec)
        except GraphError as error:
            raise RequestError(str(error)) from error
        check_named(batch)

    async def take_batch(
        self,
        host: ApplicationHost,
        batch: Batch,
        data: Mapping[Digest, bytes],
        *,
        vouched: Callable[[], Signed],
        holder: NodeId | None = None,
        handed_on: bool = False,
    ) -> None:
        """Add a batch; returns once it is committed, or where it is `handed_on`, recorded.

        Args:
            data: Small blobs that it reads.
            vouched: The batch as its submitter signed it; asked for once it was found good.
            holder: A node that may have those blobs that are not here.

        Raises:
            RequestError: the tasks are no graph, or blobs that they read are not to be had.
        """
        state = host.machine.state
        with trio.move_on_after(TURN_S):
            # Several are on their way at once, and each may read what the one before makes.
            turn = {batch.number, batch.number - 1}
            while batch.number > 0 and turn.isdisjoint(state.batches) and host.open:
                await host.batch_added()
        if batch.number not in state.batches:
            self.check_batch(host, batch)
            arriving = AppId(f"batch {batch.number} of {host.app}")
            try:
                self._take_data(arriving, data)
                stay = state.header.inputs_stay and holder is not None
                wanted = [each for each in batch.blobs if each.small or not stay]
                if holder is not None:
                    await self._fetch(host, wanted, holder, pinned_as=arriving)
                shared = await self._small(host, batch.blobs, besides=data)
                self._check_here(host, batch, wanted)
                host.add_batch(batch, vouched(), data, shared)
            finally:
                self._parts.store.release(arriving)  # the small ones are journalled with it
        await host.settled(committed=not handed_on)
        if batch.number not in state.batches:
            # Another client, or a seal, was quicker by a moment; what was checked no longer held.
            raise RequestError(
                f"{state.header.name} took no batch {batch.number}: it was sealed, or has one of these tasks"
            )

    async def take_seal(
        self, host: ApplicationHost, seal: Seal, *, vouched: Callable[[], Signed], handed_on: bool = False
    ) -> Accepted:
        """No more batches; returns once that is committed and all inputs are in place, or where it is `handed_on`,
        recorded.

        Raises:
            RequestError: batches are missing.
        """
        state = host.machine.state
        if not state.sealed:
            missing = [str(each) for each in range(seal.batches) if each not in state.batches]
            if missing:
                raise RequestError(f"batches {', '.join(missing[:5])} have not come; submit again")
            host.post(SealReceived(vouched()))
        await host.settled(committed=not handed_on)
        if not handed_on:
            await host.inputs_kept()
        replica_set = state.replica_set
        names = [self._name_of(each) for each in replica_set.nodes]
        return Accepted(host.app, len(names), caveat(names, quorum=replica_set.quorum, wanted=state.header.replicas))

    def holders(self, host: ApplicationHost, digest: Digest) -> tuple[NodeId, ...]:
        """Who has a blob of the application, this node first if it does; all participants where nobody is known to."""
        machine, me = host.machine, self._parts.identity.node
        here = self._applications.content(digest) is not None
        known = [*sorted(machine.holders(digest))]
        if not known and not here:
            known = [*machine.roster.participants]
        if machine.over:  # of a copy that ended while another node coordinated: results are with most of the set
            known += [each for each in machine.state.replica_set.nodes if each not in known]
        return (*((me,) if here else ()), *(each for each in known if each != me))

    # --- blobs

    def _take_data(self, pinned_as: AppId, data: Mapping[Digest, bytes]) -> None:
        # First, lest the store drop for the next of them what nobody needs yet.
        self._parts.store.pin(pinned_as, data)
        for digest, each in data.items():
            if self._parts.store.put(each, named=digest).digest != digest:
                raise RequestError(f"blob {digest[:12]} is not what its name says")

    async def _fetch(
        self, host: ApplicationHost, blobs: Iterable[BlobRef], holder: NodeId, *, pinned_as: AppId
    ) -> None:
        """Bring what is not here from that node, several at once. What it has not got is found missing later."""
        blobs = [each for each in blobs if not self._parts.store.has(each.digest)]
        if len(blobs) > FETCHED_MAX:
            raise RequestError(f"{len(blobs)} blobs at once are too many: at most {FETCHED_MAX}")
        self._parts.store.pin(pinned_as, (each.digest for each in blobs))
        faults: list[JcpeerError] = []

        async def bring(blob: BlobRef) -> None:
            try:
                await self._transfer.fetch(blob, [holder])
            except UnreachableError as error:
                log.info("input not fetched", app=host.app, blob=blob.digest[:12], error=str(error))
            except JcpeerError as error:
                faults.append(error)

        wanted = [each for each in blobs if not (each.small and host.small_blob(each.digest) is not None)]
        await self._transfer.fetch_many(wanted, holder)
        async with trio.open_nursery() as nursery:
            for each in wanted:
                if not self._parts.store.has(each.digest):
                    nursery.start_soon(bring, each)
        for fault in faults:
            raise fault

    async def _small(
        self, host: ApplicationHost, blobs: Iterable[BlobRef], *, besides: Mapping[Digest, bytes]
    ) -> dict[Digest, bytes]:
        """Those of the small blobs that came before their batch, as far as the journal may not have them."""
        found = {}
        for number, blob in enumerate(blobs):
            if number % LOOKED_UP_MAX == LOOKED_UP_MAX - 1:
                await trio.lowlevel.checkpoint()
            if not blob.small or blob.digest in besides or host.journals(blob.digest):
                continue
            if (kept := host.small_blob(blob.digest)) is not None:
                found[blob.digest] = kept
        return found

    def _check_here(self, host: ApplicationHost, batch: Batch, blobs: Sequence[BlobRef]) -> None:
        store = self._parts.store
        store.pin(host.app, (each.digest for each in blobs if not each.small))
        absent: list[str] = []
        for blob in blobs:
            if store.has(blob.digest):
                size = store.size(blob.digest)
            elif blob.small and (data := host.small_blob(blob.digest)) is not None:  # it came with an earlier batch
                size = len(data)
            else:
                absent.append(blob.digest[:12])
                continue
            if size != blob.size:
                raise RequestError(f"blob {blob.digest[:12]} has {size} bytes, not {blob.size}")
        if absent:
            raise RequestError(f"blobs {', '.join(absent[:3])} of batch {batch.number} were not put first")


def check_named(batch: Batch) -> None:
    """Raises: RequestError: a task reads a blob that the batch does not name, so that nobody would look after it."""
    named = {(each.digest, each.size) for each in batch.blobs}
    for task in batch.tasks:
        for item in task.inputs:
            source = item.source
            if isinstance(source, BlobRef) and (source.digest, source.size) not in named:
                raise RequestError(
                    f"task {task.id}: input {item.name!r} is blob {source.digest[:12]!r}, which the batch does not name"
                )


def _placed_of(host: ApplicationHost) -> Signed:
    submitted = host.machine.state.placed
    assert submitted is not None, "the first entry of every application"
    return submitted.placed
