"""A node's participation at work: a child that feeds the participant machine and performs its effects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import structlog
import trio

from jcpeer.application.manifest import Batch, Header
from jcpeer.application.task import INLINE_BYTES_MAX, BlobRef, Task
from jcpeer.coordinator.orders import blobs_of
from jcpeer.errors import MembershipError, NoWayError, RemoteProtocolError, StorageError, UnreachableError
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, digest_of, short
from jcpeer.membership.signed import open_signed
from jcpeer.node.executing import Executing
from jcpeer.node.helpers import Helpers
from jcpeer.node.parts import Parts
from jcpeer.node.reigns import Reigns, Shown
from jcpeer.rdv.placement import open_placed
from jcpeer.values import evolve
from jcpeer.wire.messages import (
    Assign,
    AttemptOrder,
    Decline,
    Fetched,
    Hand,
    NotNeeded,
    OrderedInput,
    Probe,
    ProbeAnswer,
    Recruit,
    Release,
    Signed,
    Taken,
    Vouched,
)
from jcpeer.work import vouching
from jcpeer.work.engagement import name_of
from jcpeer.work.events import (
    Assigned,
    AttemptKey,
    CalledUp,
    DiskMeasured,
    Drain,
    DropBlobs,
    Effect,
    Event,
    Fetch,
    Find,
    Found,
    Handed,
    InputsHere,
    InputsMissing,
    Kill,
    Leave,
    Ordered,
    PolicyChanged,
    Quiet,
    Send,
    SendHand,
    Start,
    Tick,
    Told,
)
from jcpeer.work.execution import Content
from jcpeer.work.participant import ParticipantMachine
from jcpeer.work.policy import Opening
from jcpeer.work.rights import name_of_right, settled_inputs
from jcpeer.work.transfer import Transfer
from jcpeer.work.vouching import NOT_SHOWN

log = structlog.get_logger()

ATTACHED_BYTES_MAX = 1024 * 1024
"""Small inputs that go with what is handed over; the others are fetched."""
FIND_S = 1.0
"""For finding members by key; after that nobody else is asked."""
ACQUAINTANCE_S = 2.5
"""Within this all nodes see one that has come."""
FETCH_AGAIN_S = 0.2
LOOKED_UP_MAX = 100
"""Small inputs that are looked for in the journal without a turn for others."""
DROPPED_MAX = 100
"""Blobs that are deleted without a turn for others."""
HELD_AT_ONCE = 10_000
"""Names of blobs in one frame."""
SHOW_AGAIN_S = 1.0
"""What a coordinator showed may have been lost with a connection, or forgotten: after that it may show it again."""
"""A followed log is looked at this often: its writer is a foreign process that does not tell."""


class Participation:
    """Owns the participant machine; everybody else posts events."""

    def __init__(
        self,
        parts: Parts,
        *,
        user: str,
        slots: int,
        memory_bytes: int,
        disk_bytes: int,
        opening: Opening,
        gpus: tuple[str, ...] = (),
        reigns: Reigns,
        changed: Callable[[], None],
        hosted_here: Callable[[AppId], bool] = lambda app: False,
        journalled: Callable[[AppId, Digest], bytes | None] = lambda app, digest: None,
        offers: Callable[[Task], bool] = lambda task: True,
        helpers: Helpers | None = None,
    ) -> None:
        """`hosted_here`: this node coordinates the application, too, and its results are for that side to keep.
        `journalled`: a small blob of an application, where this node has its journal.
        `offers`: it has what such a task needs. `helpers` name nodes that may take tasks over."""
        self._post, self._events = trio.open_memory_channel[Event](math.inf)
        self.machine = ParticipantMachine(
            user=user,
            slots=slots,
            memory_bytes=memory_bytes,
            gpus=gpus,
            trust_grid=parts.config.trust_grid,
            share_half_life_s=parts.config.share_half_life_s,
            offers=offers,
        )
        self.post(DiskMeasured(disk_bytes))
        self.post(PolicyChanged(opening.policy, opening.opens_in_s))
        self._helpers = helpers
        self._user = user
        self._vouched = vouching.Vouched()
        self._reigns = reigns
        self._reign_shown: dict[AppId, Shown] = {}
        """To those who were handed attempts in epochs that need a proof."""
        self._parts = parts
        self._node_changed = changed
        self._hosted_here = hosted_here
        self._journalled = journalled
        self._transfer: Transfer | None = None
        self._fetching: dict[AttemptKey, trio.CancelScope] = {}
        self._application_blobs: dict[AppId, set[Digest]] = {}
        self._executing = Executing(parts, tell=self.post, left=self._note_blob, have_again=self._have_again)
        self.open_log = self._executing.open_log

    def post(self, event: Event) -> None:
        """Have the machine handle this; never blocks."""
        self._post.send_nowait(event)

    # --- what comes from the network

    def called_up(self, node: NodeId, recruit: Recruit) -> None:
        """Check who asks before anything is promised."""
        try:
            header = self._header_of(recruit.app, recruit.placed, coordinator=node, epoch=recruit.epoch)
        except (MembershipError, RemoteProtocolError) as error:
            log.warning("call-up refused", node=node, reason=str(error))
            retry_s = None if recruit.epoch.counter == 1 else SHOW_AGAIN_S
            self._parts.network.send(node, Decline(recruit.app, recruit.epoch, str(error), retry_s))
            return
        if self.machine.epoch_of(recruit.app) not in (None, recruit.epoch):
            self._tell_what_is_held(node, recruit.app)
        self.post(CalledUp(node, recruit, header))

    def over(self, app: AppId) -> None:
        """The application has ended, as others know whose word counts as that of its coordinator, which is gone."""
        coordinator, epoch = self.machine.coordinator_of(app), self.machine.epoch_of(app)
        if coordinator is not None and epoch is not None:
            self.post(Ordered(coordinator, Release(app, epoch, ended=True)))

    def _tell_what_is_held(self, coordinator: NodeId, app: AppId) -> None:
        """A new coordinator knows only who made things, not who fetched them."""
        store = self._parts.store
        held = sorted(
            each
            for each in self._application_blobs.get(app, ())
            if store.has(each) and store.size(each) > INLINE_BYTES_MAX
        )
        for at in range(0, len(held), HELD_AT_ONCE):
            self._parts.network.send(coordinator, Fetched(app, tuple(held[at : at + HELD_AT_ONCE])))

    def _header_of(self, app: AppId, signed: Signed, *, coordinator: NodeId, epoch: Epoch) -> Header:
        """Of an application, by a signature that holds, and that makes this node its coordinator; or by a reign.

        Raises:
            MembershipError: it does not hold.
            RemoteProtocolError: it is for something else, or for somebody else.
        """
        placed, _ = open_placed(signed, root=self._parts.standing.membership.root, now_s=None)
        if placed.app != app:
            raise RemoteProtocolError("the application is not what its signer says")
        if why := self._reigns.may_order(placed, coordinator, epoch):
            raise RemoteProtocolError(f"{placed.header.name:.80}: node …{short(coordinator)} {why}")
        return placed.header

    def vouched(self, node: NodeId, message: Vouched) -> None:
        """A coordinator shows what the application's submitter signed."""
        app, root = message.app, self._parts.standing.membership.root
        if self.machine.coordinator_of(app) != node:
            return
        try:
            batch, certificate = open_signed(message.batch, Batch, root=root, now_s=None)
        except MembershipError as error:
            log.warning("a batch is not believed", node=node, reason=str(error))
            return
        if (batch.app, certificate.user) == (app, self.machine.user_of(app)):
            self._vouched.add(app, batch.tasks, wanted=lambda each: self.machine.coordinator_of(each) is not None)

    def assigned(self, node: NodeId, assign: Assign, *, user: str) -> None:
        """Store what the orders carry, and see what they still want. A node of another user than ours may order what
        the submitter signed."""
        if not self._works_for(user):
            fault = next((why for each in assign.orders if (why := self._vouched.fault(assign.app, each))), "")
            if fault:
                log.warning("orders refused", node=node, app=assign.app, reason=fault)
                retry_s = SHOW_AGAIN_S if fault == NOT_SHOWN else None
                refused = tuple(name_of(each, assign.epoch) for each in assign.orders)
                why = f"its coordinator {fault}"
                self._parts.network.send(node, Decline(assign.app, assign.epoch, why, retry_s, refused=refused))
                return
        if self.machine.coordinator_of(assign.app) != node:
            self.post(Assigned(node, assign, {}))  # which declines it; nothing of it is kept
            return
        absent = self._absent(node, node, assign.app, assign.epoch, assign.orders, assign.blobs)
        self.post(Assigned(node, assign, absent))

    def handed(self, node: NodeId, hand: Hand, *, user: str) -> None:
        """The same of what another participant, of this user, hands over; it holds what its attempts left.

        What is handed over bears no signature of the submitter: who may hand commands to this node is who might as well
        submit them to it.
        """
        try:
            if not self._works_for(user):
                raise RemoteProtocolError(f"takes nothing from nodes of user {user!r:.80}")
            header = self._header_of(hand.app, hand.placed, coordinator=hand.coordinator, epoch=hand.epoch)
        except (MembershipError, RemoteProtocolError) as error:
            log.warning("hand refused", node=node, reason=str(error))
            self._parts.network.send(node, Taken(hand.app, hand.search, ()))
            return
        orders = tuple(
            evolve(order, inputs=tuple(evolve(each, holders=(node, *each.holders)) for each in order.inputs))
            for order in hand.orders
        )
        hand = evolve(hand, orders=orders)
        absent = self._absent(node, hand.coordinator, hand.app, hand.epoch, orders, hand.blobs)
        self.post(Handed(node, hand, header, absent))

    def told(self, node: NodeId, message: Probe | ProbeAnswer | NotNeeded | Taken, *, user: str) -> None:
        """What else participants say to each other. Room is held for those who could use it."""
        if isinstance(message, Probe) and not self._works_for(user):
            refused = ProbeAnswer(message.app, message.search, 0, reason="takes nothing from nodes of that user")
            self._parts.network.send(node, refused)
            return
        if isinstance(message, Taken) and not message.attempts and message.app in self._reign_shown:
            self._reign_shown[message.app].forget(node)
        self.post(Told(node, message))

    def _works_for(self, user: str) -> bool:
        return self._parts.config.trust_grid or user == self._user

    def _absent(
        self,
        node: NodeId,
        coordinator: NodeId,
        app: AppId,
        epoch: Epoch,
        orders: tuple[AttemptOrder, ...],
        blobs: Mapping[Digest, bytes],
    ) -> dict[AttemptName, tuple[OrderedInput, ...]]:
        """Store what came with orders; returns what is still to be fetched, for the ordered attempts and for those that
        may follow them."""
        store = self._parts.store
        for digest, data in blobs.items():
            if digest_of(data) != digest:
                log.warning("a blob is not what its name says", node=node, digest=digest[:12])
                continue
            try:
                store.put(data)
            except StorageError as error:
                log.warning("an input could not be stored", reason=str(error))
        absent: dict[AttemptName, tuple[OrderedInput, ...]] = {}
        pinned: set[Digest] = set()
        for order in orders:
            inputs = {name_of(order, epoch): order.inputs}
            inputs |= {name_of_right(each, epoch): settled_inputs(each, (coordinator,)) for each in order.rights}
            for name, needed in inputs.items():
                if sum([each.blob.size for each in needed]) > INLINE_BYTES_MAX:
                    pinned.update([each.blob.digest for each in needed])
                missing = tuple(each for each in needed if not store.has(each.blob.digest))
                if missing:
                    absent[name] = missing
        if pinned:  # of others there may be millions; one that is crowded out is had once more (`Executing`)
            store.pin(app, pinned)
            self._application_blobs.setdefault(app, set()).update(pinned)
        return absent

    # --- the machine

    async def run(self, transfer: Transfer) -> None:
        self._transfer = transfer
        async with trio.open_nursery() as nursery:
            while True:
                effects: list[Effect] = []
                with trio.move_on_at(self.machine.wake_s()) as scope:
                    effects = self.machine.handle(await self._events.receive(), now_s=trio.current_time())
                if scope.cancelled_caught:
                    effects = self.machine.handle(Tick(), now_s=trio.current_time())
                while True:
                    try:
                        event = self._events.receive_nowait()
                    except trio.WouldBlock:
                        break
                    effects += self.machine.handle(event, now_s=trio.current_time())
                effects += self.machine.handle(Quiet(), now_s=trio.current_time())
                for effect in effects:
                    self._perform(effect, transfer, nursery)
                self._node_changed()

    def _perform(self, effect: Effect, transfer: Transfer, nursery: trio.Nursery) -> None:
        match effect:
            case Send():
                self._parts.network.send(effect.node, effect.message)
            case Fetch():
                self._fetching[effect.key] = scope = trio.CancelScope()
                nursery.start_soon(self._fetch, effect, transfer, scope)
            case Find():
                self._find(effect, nursery)
            case SendHand():
                self._send_hand(effect)
            case Start():
                self._executing.start(effect, nursery)
            case Kill():
                if effect.key in self._fetching:
                    self._fetching[effect.key].cancel()
                self._executing.kill(effect.key)
            case DropBlobs():
                self._vouched.forget(effect.app)
                self._reign_shown.pop(effect.app, None)
                blobs = self._application_blobs.pop(effect.app, set())
                if not self._hosted_here(effect.app):
                    self._parts.store.release(effect.app)
                    self._parts.store.drop(itertools.islice(blobs, DROPPED_MAX))  # as a rule, that is all
                    if len(blobs) > DROPPED_MAX:
                        nursery.start_soon(self._drop, list(blobs))

    async def _drop(self, blobs: Sequence[Digest]) -> None:
        """The system takes its time to delete thousands of files; others of this node have their turns meanwhile."""
        for start in range(0, len(blobs), DROPPED_MAX):
            self._parts.store.drop(blobs[start : start + DROPPED_MAX])
            await trio.lowlevel.checkpoint()

    async def leave(self, reason: str, *, in_reach: Callable[[NodeId], bool]) -> None:
        """Hand everything back, and return when nothing runs and no coordinator in reach needs what only we have."""
        self.post(Leave(reason))
        while not self.machine.closed or self.under_way or any(map(in_reach, self.machine.farewell.awaited)):
            await trio.sleep(0.01)

    async def follow(self, apps: Collection[AppId]) -> None:
        """Return when other nodes coordinate these, as far as this one works for them."""
        while any(self.machine.works_for(self._parts.identity.node, app) for app in apps):
            await trio.sleep(0.01)

    def drain(self, reason: str) -> None:
        """Take nothing new, and give back what does not run yet."""
        self.post(Drain(reason))

    @property
    def under_way(self) -> int:
        """Attempts that run, or fetch what they read."""
        return len(self._fetching) + len(self._executing)

    # --- successors

    def _find(self, find: Find, nursery: trio.Nursery) -> None:
        known = self._helpers.known(find.task, self.machine.user_of(find.app)) if self._helpers else ()
        if known is None:
            nursery.start_soon(self._find_beyond, find)
        else:
            self.post(Found(find.search, known))

    async def _find_beyond(self, find: Find) -> None:
        assert self._helpers is not None
        with trio.move_on_after(FIND_S):
            self.post(Found(find.search, await self._helpers.beyond(find.app, find.search)))
            return
        self.post(Found(find.search, ()))

    def _send_hand(self, effect: SendHand) -> None:
        blobs: dict[Digest, bytes] = {}
        size = 0
        for order in effect.hand.orders:
            for blob in blobs_of(order):
                if blob.small and blob.digest not in blobs and size <= ATTACHED_BYTES_MAX:
                    content = self._parts.store.content(blob.digest)
                    if content is not None:
                        blobs[blob.digest] = content if isinstance(content, bytes) else content.read_bytes()
                        size += blob.size
        self._show_reign(effect.node, effect.hand)
        self._parts.network.send(effect.node, evolve(effect.hand, blobs=blobs))

    def _show_reign(self, node: NodeId, hand: Hand) -> None:
        """Who is handed something may not have heard of the coordinator."""
        known = self._reigns.known(hand.app)
        if known is None or known.epoch != hand.epoch or known.mandate is None:
            return
        if self._reign_shown.setdefault(hand.app, Shown()).first(node, hand.epoch):
            self._parts.network.send(node, known.reign)

    # --- fetching

    def _note_blob(self, app: AppId, digest: Digest) -> None:
        self._application_blobs.setdefault(app, set()).add(digest)

    async def _fetch(self, effect: Fetch, transfer: Transfer, scope: trio.CancelScope) -> None:
        missing: dict[Digest, str] = {}
        no_room = ""
        with scope:
            try:
                missing = await self._bring(await self._elsewhere(effect.key.app, effect.inputs), transfer)
            except StorageError as error:
                no_room = str(error)
        self._fetching.pop(effect.key, None)
        if scope.cancelled_caught:
            return
        here = self._parts.store.has
        fetched = tuple(each.blob.digest for each in effect.inputs if here(each.blob.digest))
        coordinator = self.machine.coordinator_of(effect.key.app)
        if fetched and coordinator is not None:
            self._parts.network.send(coordinator, Fetched(effect.key.app, fetched))
        if no_room:
            log.warning("the inputs of a task could not be stored", task=effect.key.name.task, reason=no_room)
            self.post(InputsMissing(effect.key, (), no_room))
        elif missing:
            self.post(InputsMissing(effect.key, tuple(missing), next(iter(missing.values()))))
        else:
            self.post(InputsHere(effect.key))

    async def _elsewhere(self, app: AppId, inputs: Iterable[OrderedInput]) -> list[OrderedInput]:
        """Those that are neither in the store nor in the journal, from which they get there.

        Raises:
            StorageError: there is no room for one.
        """
        left, store = [], self._parts.store
        for number, each in enumerate(inputs, start=1):
            if number % LOOKED_UP_MAX == 0:
                await trio.lowlevel.checkpoint()
            data = None
            if each.blob.small and not store.has(each.blob.digest):
                data = self._journalled(app, each.blob.digest)
            if data is not None:
                store.put(data, named=each.blob.digest)
            if not store.has(each.blob.digest):
                left.append(each)
        return left

    async def _have_again(self, app: AppId, each: OrderedInput) -> Content | None:
        """What was here when its attempt was ordered, and was crowded out by others since.

        Raises:
            StorageError: there is no room for it.
        """
        for absent in await self._elsewhere(app, [each]):
            with suppress(UnreachableError):
                if self._transfer is not None:
                    await self._transfer.fetch(absent.blob, absent.holders)
        return self._parts.store.content(each.blob.digest)

    async def _bring(self, inputs: Sequence[OrderedInput], transfer: Transfer) -> dict[Digest, str]:
        """Fetch these; returns why some cannot be had. A holder that has just come to the grid, or come back, may be
        known to the coordinator a little sooner than to us, so for a while they are tried again: unless we know that
        there is no way to any of them.

        Raises:
            StorageError: there is no room for one.
        """
        for holder, blobs in _by_holder(inputs).items():
            await transfer.fetch_many(blobs, holder)
        until_s = trio.current_time() + ACQUAINTANCE_S
        while True:
            missing: dict[Digest, str] = {}
            no_way = False
            for each in inputs:
                try:
                    if not self._parts.store.has(each.blob.digest):
                        await transfer.fetch(each.blob, each.holders)
                except UnreachableError as error:
                    missing[each.blob.digest] = str(error)
                    no_way = no_way or isinstance(error, NoWayError)
            if not missing or no_way or trio.current_time() >= until_s:
                return missing
            await trio.sleep(FETCH_AGAIN_S)


def _by_holder(inputs: Iterable[OrderedInput]) -> dict[NodeId, list[BlobRef]]:
    """These blobs by whoever is to be asked first."""
    found: dict[NodeId, list[BlobRef]] = {}
    for each in inputs:
        if each.holders:
            found.setdefault(each.holders[0], []).append(each.blob)
    return found
