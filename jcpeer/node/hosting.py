"""One application's coordinator at work: a child that feeds the machine and performs its effects."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

import structlog
import trio
from attrs import define, field, frozen

from jcpeer.application.manifest import Batch
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import (
    BatchAdded,
    Collect,
    Collected,
    CollectFailed,
    Effect,
    Event,
    Heard,
    InputsKept,
    NodeLost,
    Over,
    Quiet,
    Record,
    Send,
    SendOrders,
    Tell,
    TellReplicas,
    Tick,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.orders import blobs_of
from jcpeer.errors import RequestError, StorageError, UnreachableError
from jcpeer.ids import AppId, Digest, NodeId
from jcpeer.node.aside import ElsewhereError
from jcpeer.node.copy import Copy
from jcpeer.node.parts import Parts
from jcpeer.node.reigns import Shown
from jcpeer.values import evolve
from jcpeer.wire.facts import Entry, Finished, TasksAdded
from jcpeer.wire.messages import Assign, AttemptOrder, Decline, Signed, Vouched
from jcpeer.wire.replication import Reign
from jcpeer.wire.requests import Moved
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

EVENTS_AT_ONCE_MAX = 2000
"""So many events are taken before what is ready is placed, even if more wait."""
RECENT_ENTRIES_MAX = 4000
RECENT_DATA_BYTES_MAX = 4096
"""A recent entry keeps results up to this size with it; larger ones are looked up again."""
SHARED_MAX = 10_000
"""Beyond so many small blobs all are forgotten, and journalled with a batch once more."""
ATTACHED_BYTES_MAX = 1024 * 1024
"""Small inputs in one frame; far below the frame limit, so that nothing else waits long behind it."""


@define(eq=False)
class _Mark:
    """Somebody waits until this is met among the events, and what the journal had by then is committed."""

    committed: bool = True
    index: int = 0
    reached: trio.Event = field(factory=trio.Event)


@frozen
class _SmallBlobs:
    """That a batch is journalled with: those that came in it, and those that came before it."""

    own: Mapping[Digest, bytes]
    shared: Mapping[Digest, bytes]


class ApplicationHost:
    """Owns the coordinator machine of one application; everybody else posts events, or asks for views."""

    def __init__(self, machine: Coordinator, parts: Parts, transfer: Transfer, copy: Copy) -> None:
        """`copy`: the application's journal on this node."""
        self.machine = machine
        self.copy = copy
        self.fault: str | None = None
        """Set when the machine failed: the application is stalled, its journal kept."""
        self.missing: tuple[NodeId, ...] = ()
        """Replicas without which nothing can be promised at present: the application is stalled until they are back."""
        self.deposed = ""
        """Why this node no longer coordinates; empty while it does."""
        self._rests = False
        self._scope = trio.CancelScope()
        self._parts = parts
        self._transfer = transfer
        self._posts, self._events = trio.open_memory_channel[Event | _Mark](math.inf)
        self._arrived: dict[int, _SmallBlobs] = {}
        self._batches: dict[int, Signed] = {}
        """Those that may not be on the disk yet."""
        self._shared: set[Digest] = set()
        """Small blobs that were journalled with one batch, and may be read by tasks of the next."""
        self._shown: dict[NodeId, set[int]] = {}
        """Which batches a participant that asks for the submitter's word has been shown."""
        self.reign: Reign | None = None
        """By what right this node coordinates, where it has to be shown: from epoch 2 on."""
        self._reign_shown = Shown()
        self._news = trio.Event()
        self._batch_added = trio.Event()
        self._recent: deque[Entry] = deque(maxlen=RECENT_ENTRIES_MAX)
        self._told_index = min(machine.state.last_index, copy.committed)
        self._marks: deque[_Mark] = deque()
        self._finishes: deque[float] = deque(maxlen=1000)

    @property
    def app(self) -> AppId:
        return self.machine.app

    @property
    def open(self) -> bool:
        """It takes batches, as far as is known here."""
        state = self.machine.state
        return not (state.sealed or state.ended or self.deposed or self.fault)

    @property
    def ended(self) -> str | None:
        """How, once that is committed: it may be shown then."""
        state = self.machine.state
        return state.ended if self._rests or self._told_index >= state.ended_index else None

    def post(self, event: Event) -> None:
        """Have the machine handle this; never blocks. (The queue is bounded by what peers may send and by credits.)"""
        with contextlib.suppress(trio.ClosedResourceError):  # it has ended
            self._posts.send_nowait(event)

    def add_batch(
        self, batch: Batch, signed: Signed, small: Mapping[Digest, bytes], shared: Mapping[Digest, bytes]
    ) -> None:
        """A checked batch; its small blobs are journalled with it, so that they outlive a crowded store. Those in
        `shared` came before it, and may be read by tasks of the next one, too."""
        self._arrived[batch.number] = _SmallBlobs(small, shared)
        self.post(BatchAdded(batch, signed))

    def journals(self, digest: Digest) -> bool:
        """A small blob that was `shared`, and need not be journalled once more, as far as is remembered."""
        return digest in self._shared

    async def run(self, first: list[Effect]) -> None:
        """Until the end of the application is committed. A fault, be it the machine's or that of a full disk, ends up
        here and goes no further."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    over = self._perform(first, nursery)
                    while not over:
                        over = self._perform(await self._next_effects(), nursery)
                    nursery.cancel_scope.cancel()
        except Exception as error:
            self._stall(error)
        self._posts.close()
        self._settle(at_the_end=True)

    def rest(self) -> None:
        """It ended, elsewhere or in an earlier run: what is posted is not handled any more, and not waited for."""
        self._rests = True
        self._posts.close()

    def depose(self, why: str) -> None:
        """Another node coordinates: nothing more is decided or shown here."""
        self.deposed = why
        self._scope.cancel()
        self._tell_watchers()

    def fail(self, fault: str) -> None:
        """Its journal can take nothing any more: it is stalled, with what it has."""
        self.fault = fault
        self._scope.cancel()
        self._tell_watchers()

    def stall(self, missing: tuple[NodeId, ...]) -> None:
        """Nothing can be promised until these are back; or, where there are none, it goes on."""
        self.missing = missing
        self._tell_watchers()

    def _stall(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, StorageError):
            self.fault = f"{error}; then start the node again"
            log.error("application stalled", app=self.app, error=str(error))
        else:
            self.fault = f"internal error: {error!r}"
            log.error("application stalled", app=self.app, exc_info=error)
        self._tell_watchers()

    async def _next_effects(self) -> list[Effect]:
        effects: list[Effect] = []
        with trio.move_on_at(self.machine.wake_s()):
            effects += self._handle(await self._events.receive())
        if trio.current_time() >= self.machine.wake_s():
            effects += self._handle(Tick())
        for _ in range(EVENTS_AT_ONCE_MAX):
            try:
                event = self._events.receive_nowait()
            except trio.WouldBlock:
                break
            effects += self._handle(event)
        effects += self.machine.handle(Quiet(), now_s=trio.current_time())
        return effects

    def _handle(self, event: Event | _Mark) -> list[Effect]:
        if isinstance(event, _Mark):
            if not event.committed:
                event.reached.set()
                return []
            event.index = self.machine.state.last_index
            self._marks.append(event)
            self._settle()
            return []
        if isinstance(event, NodeLost) or (isinstance(event, Heard) and isinstance(event.message, Decline)):
            self._shown.pop(event.node, None)
            self._reign_shown.forget(event.node)
        return self.machine.handle(event, now_s=trio.current_time())

    # --- effects

    def _perform(self, effects: list[Effect], nursery: trio.Nursery) -> bool:
        """In order, but that entries recorded one after another reach the journal together. True at the end."""
        over = told = False
        entries: list[Entry] = []
        blobs: dict[Digest, bytes] = {}
        for effect in effects:
            if isinstance(effect, Record):
                self._hold_small_outputs(effect.entry)
                entries.append(effect.entry)
                if isinstance(effect.entry.fact, TasksAdded):
                    self._keep_batch(effect.entry.fact)
                    blobs |= self._take_small(effect.entry.fact.number)
                    self._wake_batches()
                continue
            match effect:
                case Send():
                    self._show_reign(effect.node)
                    self._parts.network.send(effect.node, effect.message)
                case SendOrders():
                    self._send_orders(effect)
                case Tell():
                    told = True
                    self._note_told(effect.entry)
                case InputsKept():
                    told = True
                case TellReplicas():
                    for node in self.machine.state.replica_set.nodes:
                        if node != self._parts.identity.node:
                            self._parts.network.send(node, effect.underway)
                case Collect():
                    nursery.start_soon(self._collect, effect.blob, effect.holders)
                case Over():
                    over = True
        if entries:
            # After the orders of the same burst: an order promises nothing, and may be on its way while we write.
            self.copy.record(tuple(entries), blobs)
        if told:
            if self._batches:
                self._drop_written_batches()
            self._tell_watchers()
        return over

    def _take_small(self, batch: int) -> dict[Digest, bytes]:
        """The small blobs of a batch that is being journalled."""
        arrived = self._arrived.pop(batch, None)
        if arrived is None:
            return {}
        if len(self._shared) > SHARED_MAX:
            self._shared.clear()
        self._shared.update(arrived.shared)
        return {**arrived.own, **arrived.shared}

    def _hold_small_outputs(self, entry: Entry) -> None:
        """Small results are handed on to the tasks that read them, so they are kept at hand."""
        if isinstance(entry.fact, Finished):
            for output in entry.fact.outcome.outputs:
                if output.data is not None:
                    self._parts.store.put(output.data, named=output.blob.digest)

    def small_blob(self, digest: Digest) -> bytes | None:
        """A small blob of the application, from the store or, if it was crowded out there, from the journal."""
        content = self._parts.store.content(digest)
        if content is not None:
            return content if isinstance(content, bytes) else content.read_bytes()
        data = self._parts.journal.inline(self.app, digest)
        if data is not None:
            self._parts.store.put(data, named=digest)
        return data

    def _show_reign(self, node: NodeId) -> None:
        """Before anything else of the epoch: nobody obeys us without."""
        if self.reign is not None and self._reign_shown.first(node, self.reign.epoch):
            self._parts.network.send(node, self.reign)

    def _send_orders(self, effect: SendOrders) -> None:
        self._vouch(effect)
        attach = set(effect.attach)
        for orders, blobs in self._frames(effect.orders, attach):
            self._parts.network.send(effect.node, Assign(self.app, self.machine.epoch, orders, blobs))

    def _vouch(self, effect: SendOrders) -> None:
        """Show a participant that does not take our word the batches of what it is ordered to run."""
        candidate = self.machine.roster.candidates.get(effect.node)
        own = self._parts.standing.membership.certificate.user
        if candidate is None or candidate.record.user == own or candidate.record.trusts_grid:
            return
        tasks = self.machine.state.tasks
        ordered = [task for order in effect.orders for task in (order.task, *(each.task.id for each in order.rights))]
        shown = self._shown.setdefault(effect.node, set())
        for number in sorted({tasks[each].batch for each in ordered} - shown):
            shown.add(number)
            self._parts.network.send(effect.node, Vouched(self.app, self._signed_batch(number)))

    def _keep_batch(self, fact: TasksAdded) -> None:
        """Until the disk has it."""
        self._drop_written_batches()
        self._batches[fact.number] = fact.batch

    def _drop_written_batches(self) -> None:
        written = self._parts.journal.written_index(self.app)
        indices = self.machine.state.batches
        self._batches = {each: batch for each, batch in self._batches.items() if indices[each] > written}

    def _signed_batch(self, number: int) -> Signed:
        """As it came, or as it was journalled."""
        if (recent := self._batches.get(number)) is not None:
            return recent
        entry = next(self._parts.journal.read(self.app, after_index=self.machine.state.batches[number] - 1))
        assert isinstance(entry.fact, TasksAdded)
        return entry.fact.batch

    def _frames(
        self, orders: tuple[AttemptOrder, ...], attach: set[Digest]
    ) -> Iterator[tuple[tuple[AttemptOrder, ...], dict[Digest, bytes]]]:
        """The orders cut so that no frame carries too many bytes; each blob goes with the first order that needs it."""
        part: list[AttemptOrder] = []
        blobs: dict[Digest, bytes] = {}
        size = 0
        for order in orders:
            for blob in blobs_of(order):
                digest = blob.digest
                if digest in attach:
                    attach.discard(digest)
                    if size > ATTACHED_BYTES_MAX:
                        continue  # it is fetched from us
                    data = self.small_blob(digest)
                    if data is not None:
                        blobs[digest] = data
                        size += len(data)
            part.append(order)
            if size > ATTACHED_BYTES_MAX:
                yield tuple(part), blobs
                part, blobs, size = [], {}, 0
        if part:
            yield tuple(part), blobs

    async def _collect(self, blob: BlobRef, holders: tuple[NodeId, ...]) -> None:
        here = self.small_blob(blob.digest) is not None if blob.small else self._parts.store.has(blob.digest)
        if not here:
            try:
                await self._transfer.fetch(blob, holders)
            except UnreachableError as error:
                log.warning("blob not fetched", app=self.app, blob=blob.digest[:12], error=str(error))
                self.post(CollectFailed(blob.digest, holders))
                return
        self._parts.store.pin(self.app, [blob.digest])
        if blob.small and (data := self.small_blob(blob.digest)) is not None:
            self.copy.record((), {blob.digest: data})  # small blobs in the store end with the node
        self.post(Collected(blob.digest))

    # --- news for clients

    def _note_told(self, entry: Entry) -> None:
        self._told_index = entry.index
        self._recent.append(_without_bulk(entry))
        if isinstance(entry.fact, Finished):
            self._finishes.append(trio.current_time())

    def _tell_watchers(self) -> None:
        self._settle()
        self._news.set()
        self._news = trio.Event()
        self._wake_batches()

    def _wake_batches(self) -> None:
        self._batch_added.set()
        self._batch_added = trio.Event()

    async def batch_added(self) -> None:
        """Return when one more batch has been recorded, or perhaps none will be."""
        await self._batch_added.wait()

    async def settled(self, *, committed: bool = True) -> None:
        """Return once everything posted before has been handled, and what came of it is committed if it has to be.

        Raises:
            RequestError: the application is stalled.
            ElsewhereError: another node took over, and what was posted may not be in its journal.
        """
        mark = _Mark(committed)
        try:
            self._posts.send_nowait(mark)
            await mark.reached.wait()
        except trio.ClosedResourceError:
            pass  # it has ended, and nothing is left to be handled
        if self.deposed:
            raise ElsewhereError(Moved(self.app, self.machine.epoch.counter))
        if self.fault is not None:
            raise RequestError(f"{self.machine.state.header.name} is stalled: {self.fault}")

    async def inputs_kept(self) -> None:
        """Return once all inputs are on as many nodes as a promise needs.

        Raises:
            RequestError: the application is stalled.
            ElsewhereError: another node took over.
        """
        while not self.machine.inputs_kept and not self.machine.over:
            await self.news()
            await self.settled()

    def _settle(self, *, at_the_end: bool = False) -> None:
        while self._marks and (at_the_end or self._marks[0].index <= self._told_index):
            self._marks.popleft().reached.set()
        while at_the_end:
            try:
                event = self._events.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            if isinstance(event, _Mark):
                event.reached.set()

    async def news(self) -> None:
        """Return when something was committed since the call."""
        await self._news.wait()

    @property
    def told_index(self) -> int:
        """Up to here, entries are committed and may be shown."""
        return self._told_index

    @property
    def told_epoch(self) -> int:
        """Of the last of these."""
        runs = self._parts.journal.shape(self.app)
        return max((epoch.counter for first, epoch in runs if first <= self._told_index), default=0)

    def entries_after(self, index: int, entries_max: int) -> list[Entry]:
        """So many committed entries after that index, oldest first; from memory if they are recent."""
        if self._recent and self._recent[0].index <= index + 1:
            skip = index + 1 - self._recent[0].index
            return [self._recent[at] for at in range(skip, min(len(self._recent), skip + entries_max))]
        entries = islice(self._parts.journal.read(self.app, after_index=index), entries_max)
        return [each for each in entries if each.index <= self._told_index]

    def rate(self) -> float:
        """Tasks finished a second, of late."""
        horizon_s = trio.current_time() - 5.0
        recent = sum(each > horizon_s for each in self._finishes)
        if not recent:
            return 0.0
        span_s = trio.current_time() - max(horizon_s, self._finishes[0])
        return recent / max(span_s, 0.2)


def _without_bulk(entry: Entry) -> Entry:
    fact = entry.fact
    if isinstance(fact, TasksAdded):
        return evolve(entry, fact=evolve(fact, batch=evolve(fact.batch, payload=b"")))
    if not isinstance(fact, Finished):
        return entry
    if sum(len(each.data or b"") for each in fact.outcome.outputs) <= RECENT_DATA_BYTES_MAX:
        return entry
    outputs = tuple(evolve(each, data=None) for each in fact.outcome.outputs)
    return evolve(entry, fact=evolve(fact, outcome=evolve(fact.outcome, outputs=outputs)))
