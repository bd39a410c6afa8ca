"""The applications that this node coordinates, and those that have ended and whose results it keeps.

Whether it coordinates one is decided by the copy of that application's journal (`node.copies`); what the journal says
is made into a coordinator, or into a view of the past, here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import structlog
import trio

from jcpeer.application.manifest import Placed
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import (
    Answer,
    Committed,
    Effect,
    Event,
    FtcChanged,
    Heard,
    NodeLost,
    NodeSeen,
    Record,
    SetChanged,
    Woke,
)
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.coordinator.task_record import TaskRecord
from jcpeer.errors import JcpeerError, MembershipError, RemoteProtocolError, RequestError, UnreachableError
from jcpeer.ft.events import BeginReign, Diverging
from jcpeer.ids import AppId, Digest, NodeId, short
from jcpeer.net.events import Proof
from jcpeer.node.aside import ElsewhereError
from jcpeer.node.copies import Copies
from jcpeer.node.copy import Copy
from jcpeer.node.handing_on import HandingOn
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.naming import ambiguous
from jcpeer.node.parts import Parts
from jcpeer.node.soundness import sound_report
from jcpeer.rdv.placement import open_placed
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.facts import Cancelled, Finished, ReplicasChanged, Submitted, Tombstone
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import (
    Confirm,
    Engaged,
    Fetched,
    GivenBack,
    NodeRecord,
    Release,
    Report,
    Signed,
    Started,
    Take,
)
from jcpeer.wire.replication import Buried, CannotKeep, Diverged, DivergedTaken, KeepBlobs, RanThere
from jcpeer.wire.requests import Moved
from jcpeer.work.execution import Content
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

AT_ONCE = 200
"""Entries of a journal, or tasks, that are gone through; then all else of the node has a turn."""
DIVERGED_BYTES_MAX = 2**20
"""Of what is told in one frame, about."""
OUTCOME_BYTES = 500
"""Of an outcome, beside the data of small outputs."""
HAND_ON_AGAIN_S = 1.0
LOOK_S = 0.5
"""Between looks at the clock while applications run here."""
KNOWN_S = 2.0
KNOWN_AGAIN_S = 0.05
"""So long others are given to hear that an application has ended before it is forgotten, and how often that is seen."""
PAUSE_S = LOOK_S + 1.0
"""Who looks so late was held up."""


class Applications:
    """Finds an application's host, starts hosts, and passes on what concerns them."""

    def __init__(
        self,
        parts: Parts,
        transfer: Transfer,
        nursery: trio.Nursery,
        copies: Copies,
        *,
        known_nodes: Callable[[], Iterable[NodeRecord]],
        changed: Callable[[], None],
        appeared: Callable[[ApplicationHost], None] = lambda host: None,
        forgotten: Callable[[ApplicationHost], None] = lambda host: None,
        handing_on: Callable[[], HandingOn],
    ) -> None:
        """`appeared`: an application lives here, since now or again; `forgotten`: nothing is kept of it any more;
        `handing_on`: by which another coordinator is given what only this one had."""
        self._parts = parts
        self._transfer = transfer
        self._nursery = nursery
        self._copies = copies
        copies.lead_to(self)
        self._known_nodes = known_nodes
        self._changed = changed
        self._appeared = appeared
        self._forgotten = forgotten
        self._handing_on = handing_on
        self._hosts: dict[AppId, ApplicationHost] = {}
        self._of_other_grids: set[AppId] = set()
        """This node was in another grid when it kept them: they concern nobody in this one but its own clients."""
        self._awake_s = parts.clock_s()
        self._running: dict[AppId, None] = {}
        self._beginning: dict[AppId, trio.CancelScope] = {}
        """Those whose journal is being read to go on with them."""
        self._begun = trio.Event()

    # --- beginnings and ends

    def recover(self) -> None:
        """Go on with what the journal holds, once the other replicas, if there are any, agree."""
        for app in self._parts.journal.applications():
            copy = self._copies.recover(app)
            if copy is None:
                continue
            state = ApplicationState()
            for entry in self._parts.journal.read(app):
                state.apply(entry)
            assert state.placed is not None, "a copy has a first entry"
            self._parts.store.pin(app, _blobs_of(state))
            if not self._is_of_this_grid(state.placed):
                self._of_other_grids.add(app)
            if copy.over:
                self._keep(copy, state)
            else:
                log.info("application goes on", app=app, name=state.header.name)
                copy.start()

    def _is_of_this_grid(self, submitted: Submitted) -> bool:
        try:
            open_placed(submitted.placed, root=self._parts.standing.membership.root, now_s=None)
        except MembershipError:
            return False
        return True

    def open(self, signed: Signed) -> ApplicationHost:
        """The host of this submission, of which nothing is here yet."""
        self._copies.open(signed)
        return self._hosts[unpack(signed.payload, Placed).app]

    def check_untouched(self, app: AppId) -> None:
        """Raises:
        ElsewhereError: there is a copy, or was, of an earlier run perhaps, or one that lost its seat.
        """
        copy = self._copies.get(app)
        if copy is not None or not self._parts.journal.untouched(app):
            raise ElsewhereError(Moved(app, copy.machine.epoch.counter if copy and copy.machine.epoch else 0))

    def take_seat(self, signed: Signed) -> None:
        """Of an application of which nothing is here yet: if nobody else coordinates it, this node stands for that."""
        self._copies.take_seat(signed, unpack(signed.payload, Placed))

    def begin(self, copy: Copy, reign: BeginReign, mandate: Mandate | None) -> None:
        """This node coordinates from now on."""
        if copy.machine.last_index or reign.alone is not None:
            scope = self._beginning[copy.app] = trio.CancelScope()
            self._nursery.start_soon(self._take_over, copy, reign, mandate, scope)
            return
        state, now_s = ApplicationState(), trio.current_time()
        state.epoch = reign.epoch
        host = self._host(copy, state)
        effects = host.machine.open(Submitted(copy.placed), now_s=now_s)
        if mandate is not None:
            effects += host.machine.take_over(
                epoch=reign.epoch,
                mandate=mandate,
                predecessor=reign.predecessor,
                unsure=reign.unsure,
                after_s=now_s - reign.since_s,
                underway=(),
                now_s=now_s,
            )
        # Together with the promise: a promise without an entry would be one that nobody can go on from.
        self._start(host, _recorded(copy, effects))

    async def _take_over(self, copy: Copy, reign: BeginReign, mandate: Mandate | None, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._parts.journal.note_places)
                state = await self.state_of(copy)
            absent = await self._take_stock(state)
            log.info("coordinates", app=copy.app, name=copy.header.name, epoch=reign.epoch.counter)
            if state.placed is None:
                state.epoch = reign.epoch
            host = self._host(copy, state)
            while host.machine.look_over(AT_ONCE):
                await trio.lowlevel.checkpoint()
            now_s = trio.current_time()
            effects = [] if state.placed is not None else host.machine.open(Submitted(copy.placed), now_s=now_s)
            effects += host.machine.take_over(
                epoch=reign.epoch,
                mandate=mandate,
                predecessor=reign.predecessor,
                unsure=reign.unsure,
                after_s=now_s - reign.since_s,
                underway=copy.underway.known(),
                now_s=now_s,
                absent=absent,
            )
            if reign.alone is not None:
                alone = SetChanged(copy.change_to(reign.alone))
                effects = _recorded(copy, [*effects, *host.machine.handle(alone, now_s=now_s)])
                while not copy.shown:
                    await self._copies.news()
            self._start(host, effects)
        if self._beginning.get(copy.app) is scope:
            del self._beginning[copy.app]

    async def _take_stock(self, state: ApplicationState) -> set[Digest]:
        """Pin what tasks read or left and no journal has; returns what of it this node should have, and has not: large
        inputs, and what our own attempts left. Others of this node have their turns meanwhile."""
        store, absent = self._parts.store, set()
        for number, record in enumerate(state.tasks.values(), start=1):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            inputs, left = list(_large_inputs(record)), [each.blob for each in record.apart]
            if not (inputs or left):
                continue
            store.pin(state.app, [each.digest for each in (*inputs, *left)])
            absent.update([each.digest for each in inputs if not store.has(each.digest)])
            if record.ran_by != self._parts.identity.node:
                continue
            left = [each for each in left if not store.has(each.digest)]
            kept = self._parts.journal.inline
            absent.update([each.digest for each in left if not (each.small and kept(state.app, each.digest))])
        return absent

    async def state_of(self, copy: Copy) -> ApplicationState:
        """What its journal says; others of this node have their turns meanwhile."""
        state = ApplicationState()
        for number, entry in enumerate(self._parts.journal.read(copy.app)):
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            state.apply(entry)
        return state

    def end(self, copy: Copy, why: str) -> None:
        """This node coordinates no longer."""
        if (scope := self._beginning.pop(copy.app, None)) is not None:
            scope.cancel()
        if (host := self._hosts.pop(copy.app, None)) is not None:
            log.info("coordinates no longer", app=copy.app, name=host.machine.state.header.name, why=why)
            host.depose(why)
            self._running.pop(copy.app, None)
            self._forgotten(host)

    def introduced(self, copy: Copy, node: NodeId) -> None:
        """A replica is to know what runs where."""
        if copy.app in self._running:
            for message in self._hosts[copy.app].machine.whole_underway():
                self._parts.network.send(node, message)

    def committed(self, copy: Copy, index: int) -> None:
        """The copy is on `ack` journals up to here."""
        if copy.app in self._running:
            self._hosts[copy.app].post(Committed(index))
            return
        written = self._parts.journal.written_index(copy.app) >= copy.committed
        if copy.over and written and copy.app not in self._hosts:
            self._nursery.start_soon(self._keep_ended, copy)

    async def _keep_ended(self, copy: Copy) -> None:
        """It ended while another node coordinated: what it left is kept here as well."""
        state = await self.state_of(copy)
        if self._copies.get(copy.app) is copy and copy.app not in self._hosts and copy.over:
            self._keep(copy, state)
            await self._drop_intermediate(copy.app, state)

    def _keep(self, copy: Copy, state: ApplicationState) -> None:
        host = self._hosts[copy.app] = self._host(copy, state)
        host.rest()
        if copy.app not in self._of_other_grids:
            self._appeared(host)

    def change(self, copy: Copy, fact: ReplicasChanged) -> None:
        """The coordinator is to record this set."""
        if copy.app in self._running:
            self._hosts[copy.app].post(SetChanged(fact))

    def supervised(self, copy: Copy, ftc: NodeId | None) -> None:
        """This replica watches participants from now on, beside the coordinator."""
        if copy.app in self._running:
            self._hosts[copy.app].post(FtcChanged(ftc))

    def stalled(self, copy: Copy, missing: tuple[NodeId, ...]) -> None:
        """Without these nothing can be promised."""
        if copy.app in self._hosts:
            names = [short(each) for each in missing]
            log.warning("application stalled" if missing else "application goes on", app=copy.app, missing=names)
            self._hosts[copy.app].stall(missing)

    def diverging(self, copy: Copy, effect: Diverging) -> None:
        """What this node journalled beyond the point of agreement is told to who coordinates: batches and the seal as a
        submitter would, then the rest."""
        if self._handing_on().given(copy.app, after_index=effect.after_index):
            self._nursery.start_soon(self._hand_on, copy, effect)
        else:
            self._tell_diverged(copy, effect)

    async def _hand_on(self, copy: Copy, effect: Diverging) -> None:
        def wanted() -> bool:
            return self._copies.get(copy.app) is copy and copy.machine.epoch == effect.epoch

        while wanted():
            try:
                await self._handing_on().hand_on(copy.app, after_index=effect.after_index, to=effect.coordinator)
            except UnreachableError as error:
                log.info("not handed on yet", app=copy.app, node=short(effect.coordinator), why=str(error))
                await trio.sleep(HAND_ON_AGAIN_S)
            else:
                if wanted():
                    self._tell_diverged(copy, effect)
                return

    def _tell_diverged(self, copy: Copy, effect: Diverging) -> None:
        """Outcomes go with the data of small outputs: whoever takes one answers for what it left."""
        part: list[RanThere] = []
        cancelled, size = [], 0
        for entry in self._parts.journal.read(copy.app, after_index=effect.after_index, with_data=True):
            match entry.fact:
                case Finished(node=node, outcome=outcome):
                    part.append(RanThere(outcome, node))
                    size += OUTCOME_BYTES + sum(len(each.data) for each in outcome.outputs if each.data)
                case Cancelled(task=task):
                    cancelled.append(task)
                case _:
                    pass
            if size > DIVERGED_BYTES_MAX:
                message = Diverged(copy.app, effect.epoch, tuple(part), (), last=False)
                self._parts.network.send(effect.coordinator, message)
                part, size = [], 0
        message = Diverged(copy.app, effect.epoch, tuple(part), tuple(cancelled), last=True)
        self._parts.network.send(effect.coordinator, message)

    def diverged(self, node: NodeId, message: Diverged) -> None:
        """Another replica coordinated as well, or followed one that did, and had this in its journal. It may have lost
        its seat since; what comes from one that never had any here is only held against ours."""
        copy, host = self._copies.get(message.app), self._hosts.get(message.app)
        if copy is None or host is None or message.epoch != copy.machine.epoch:
            return
        if message.app in self._running:
            if not copy.machine.ever_had_seat(node):
                tasks = host.machine.state.tasks
                done = [each for each in message.outcomes if (task := tasks.get(each.outcome.task)) and task.has_result]
                message = evolve(message, outcomes=tuple(done), cancelled=())
            host.post(Heard(node, message))
        elif copy.over and message.last:  # too late to be told of: what it ended in stands
            self._parts.network.send(node, DivergedTaken(message.app, message.epoch))

    def keep_blobs(self, node: NodeId, message: KeepBlobs) -> None:
        """The coordinator wants copies of blobs here."""
        copy = self._copies.get(message.app)
        if copy is not None and (node, message.epoch) == (copy.machine.coordinator, copy.machine.epoch):
            self._parts.store.pin(message.app, (each.digest for each in message.blobs))
            self._nursery.start_soon(self._fetch_copies, node, message)

    async def _fetch_copies(self, coordinator: NodeId, message: KeepBlobs) -> None:
        send, left = self._parts.network.send, list(message.blobs)

        def tell_of_those_here() -> None:
            here = {each.digest: None for each in left if self._parts.store.has(each.digest)}
            left[:] = [each for each in left if each.digest not in here]
            if here:
                send(coordinator, Fetched(message.app, tuple(here)))

        tell_of_those_here()
        for holder in message.holders[:1]:
            with suppress(JcpeerError):  # what does not come so is asked for one by one
                await self._transfer.fetch_many(left, holder)
            tell_of_those_here()
        for blob in left:
            try:
                await self._transfer.fetch(blob, message.holders)
            except JcpeerError as error:
                log.warning("a copy of a blob is not kept", app=message.app, blob=blob.digest[:12], why=str(error))
                send(coordinator, CannotKeep(message.app, (blob.digest,), str(error)))
            else:
                send(coordinator, Fetched(message.app, (blob.digest,)))

    def failed(self, copy: Copy, fault: str) -> None:
        """Its copy does nothing any more; what coordinates it here cannot either."""
        if (host := self._hosts.get(copy.app)) is not None and copy.app in self._running:
            host.fail(fault)
            self._running.pop(copy.app, None)

    def dropped(self, copy: Copy) -> None:
        """The node has no seat any more."""
        log.info("copy dropped", app=copy.app, name=copy.header.name)
        if (host := self._hosts.pop(copy.app, None)) is not None:
            self._running.pop(copy.app, None)
            self._forgotten(host)
        self._parts.store.release(copy.app)
        self._parts.journal.forget(copy.app)
        # What stays is that there was a copy: it forgot what it was counted for, so it neither votes nor begins anew.
        self._parts.journal.begin(copy.app, unsure=True)

    def _host(self, copy: Copy, state: ApplicationState) -> ApplicationHost:
        machine = Coordinator(
            state,
            me=self._parts.identity.node,
            now_s=trio.current_time(),
            clock_s=self._parts.clock_s(),
            submitter=self._submitter(copy.placed),
        )
        return ApplicationHost(machine, self._parts, self._transfer, copy)

    def _submitter(self, placed: Signed) -> NodeId | None:
        try:
            return open_placed(placed, root=self._parts.standing.membership.root, now_s=None)[1].node
        except MembershipError:
            return None  # it is of another grid

    def _start(self, host: ApplicationHost, first: list[Effect]) -> None:
        if not self._running:
            self._awake_s = self._parts.clock_s()  # nobody looked before
            self._begun.set()
        self._hosts[host.app] = host
        self._running[host.app] = None
        host.reign = host.copy.reign() if host.machine.epoch.counter > 1 else None
        for record in self._known_nodes():
            host.post(NodeSeen(record))
        self._nursery.start_soon(self._run, host, first)
        self._appeared(host)
        self._changed()

    async def _run(self, host: ApplicationHost, first: list[Effect]) -> None:
        await host.run(first)
        if host.deposed:
            return
        self._running.pop(host.app, None)
        self._changed()
        if host.fault is None and self._hosts.get(host.app) is host:
            await self._drop_intermediate(host.app, host.machine.state)

    async def _drop_intermediate(self, app: AppId, state: ApplicationState) -> None:
        """Of an application that has ended only the results are kept. Others of this node have their turns meanwhile,
        since the system takes its time to delete thousands of files."""
        results: set[Digest] = set()
        for number, record in enumerate(state.tasks.values(), start=1):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if record.is_final:
                results.update([each.blob.digest for each in record.apart])
        self._parts.store.release(app, keep=results)
        for number, record in enumerate(state.tasks.values(), start=1):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            self._parts.store.drop([each.blob.digest for each in record.outputs])

    async def end_is_known(self, host: ApplicationHost) -> None:
        """Return once the others that keep it know that it has ended, or take long: they are to forget it, too."""
        with trio.move_on_after(KNOWN_S):
            while host.ended is not None and host.copy.machine.has_untold:
                await trio.sleep(KNOWN_AGAIN_S)

    def forget(self, host: ApplicationHost) -> None:
        """Drop an ended application.

        Raises:
            RequestError: it still runs.
        """
        state, at_s = host.machine.state, self._parts.clock_s()
        if host.ended is None:
            raise RequestError(f"{state.header.name} has not ended; cancel it first")
        assert state.epoch is not None
        stone = Tombstone(
            host.app, state.header.name, state.header.user, host.ended, state.ended_at_s, at_s, state.epoch
        )
        self._bury(host.app, pack(stone), at_s=at_s)
        for node in state.replica_set.nodes:
            if node != self._parts.identity.node:
                self._parts.network.send(node, Buried(host.app, pack(stone)))

    def buried(self, node: NodeId, message: Buried) -> None:
        """Another replica was told to forget an application."""
        copy = self._copies.get(message.app)
        if copy is None or node not in copy.replica_set.nodes:
            return
        try:
            stone = unpack(message.tombstone, Tombstone)
        except RemoteProtocolError as error:
            log.warning("a tombstone is not believed", node=node, reason=str(error))
            return
        if stone.app == message.app and (copy.over or copy.machine.may_have_missed_an_end(stone.epoch)):
            self._bury(message.app, message.tombstone, at_s=self._parts.clock_s())

    def _bury(self, app: AppId, tombstone: bytes, *, at_s: float) -> None:
        self._parts.store.release(app)
        self._parts.journal.bury(app, tombstone, at_s=at_s)
        self._copies.drop(app)
        self._running.pop(app, None)  # who saw its end may be quicker than what is left to be done here
        if (host := self._hosts.pop(app, None)) is not None:  # a copy of what has just ended has none yet
            self._parts.store.drop(_blobs_of(host.machine.state))
            self._forgotten(host)

    def forget_old(self) -> None:
        """Drop what ended long ago, as the settings say."""
        before_s = self._parts.clock_s() - self._parts.config.results_kept_s
        for host in list(self):
            if host.ended is not None and host.machine.state.ended_at_s < before_s:
                log.info("results dropped for their age", app=host.app, name=host.machine.state.header.name)
                self.forget(host)
        self._parts.journal.forget_tombstones(before_s=self._parts.clock_s() - self._parts.config.tombstones_kept_s)

    # --- finding

    def __iter__(self) -> Iterator[ApplicationHost]:
        return iter(self._hosts.values())

    @property
    def coordinating(self) -> bool:
        return bool(self._running)

    async def coordinates(self) -> None:
        """Return while an application runs here."""
        while not self._running:
            self._begun = trio.Event()
            await self._begun.wait()

    def get(self, app: AppId) -> ApplicationHost | None:
        return self._hosts.get(app)

    def find(self, wanted: str, *, user: str, local: bool = False) -> ApplicationHost | None:
        """An application of this user: by id, by unique prefix of it, or by name, of which the latest counts if all
        earlier ones have ended. `local`: the user is a client of this very node.

        Raises:
            RequestError: several are meant.
        """

        def shown(host: ApplicationHost) -> bool:
            return host.machine.state.header.user == user or (local and host.app in self._of_other_grids)

        if (exact := self._hosts.get(AppId(wanted))) is not None:
            return exact if shown(exact) else None
        theirs = [each for each in self if shown(each)]
        named = [each for each in theirs if each.machine.state.header.name == wanted]
        running = [each for each in named if each.app in self._running]
        found = running or named[-1:]
        if not found and len(wanted) >= 2:
            found = [each for each in theirs if each.app.startswith(wanted)]
        if len(found) > 1:
            raise ambiguous(wanted, (each.app for each in found))
        return found[0] if found else None

    def content(self, digest: Digest) -> Content | None:
        """What this node holds under that name: in its store or, of an application that it hosts, in the journal."""
        content = self._parts.store.content(digest)
        if content is not None:
            return content
        return next((data for host in self if (data := host.small_blob(digest)) is not None), None)

    # --- what concerns them

    def heard(self, node: NodeId, message: Answer) -> None:
        host = self._hosts.get(message.app)
        if host is None:
            log.info("answer for an unknown application", node=node, app=message.app)
        elif message.app in self._running:
            host.post(Heard(node, sound_report(message) if isinstance(message, Report) else message))
        elif isinstance(message, Confirm | Engaged | Take | Started | Report | GivenBack):
            # It was out of reach when the end was told.
            self._parts.network.send(node, Release(host.app, host.machine.epoch, ended=True))

    def node_seen(self, record: NodeRecord) -> None:
        if self._running:
            self.note_pause()
            self._post_all(NodeSeen(record))

    def node_lost(self, node: NodeId, why: str, proof: Proof) -> None:
        self.note_pause()
        self._post_all(NodeLost(node, why, proof))

    def note_pause(self) -> None:
        """The clock on the wall runs on while the process is stopped, and while the machine is suspended. That it can
        be set does no harm here: whoever seems to have slept is only slower to give others up."""
        now_s = self._parts.clock_s()
        if self._running and now_s - self._awake_s > PAUSE_S:  # nobody looked while nothing ran
            self._post_all(Woke())
            self._copies.woke()
        self._awake_s = now_s

    def _post_all(self, event: Event) -> None:
        for app in list(self._running):
            self._hosts[app].post(event)


def _blobs_of(state: ApplicationState) -> set[Digest]:
    """All that the application's tasks read or left, but for what the journal has."""
    return {blob.digest for record in state.tasks.values() for blob in _unjournalled(record)}


def _unjournalled(record: TaskRecord) -> Iterator[BlobRef]:
    yield from _large_inputs(record)
    for each in record.apart:
        yield each.blob


def _large_inputs(record: TaskRecord) -> Iterator[BlobRef]:
    for each in record.spec.inputs:
        if isinstance(each.source, BlobRef) and not each.source.small:
            yield each.source


def _recorded(copy: Copy, effects: list[Effect]) -> list[Effect]:
    """The entries among these go into the journal; what is left."""
    copy.record(tuple([each.entry for each in effects if isinstance(each, Record)]), {})
    return [each for each in effects if not isinstance(each, Record)]
