"""One application's copy on this node: a journal and the machine that decides about it.

    messages, connections, the disk → Copy → ft.replica → effects → the disk, the network, and whoever coordinates

While the machine reigns, the node's coordinator records its facts here, and hears from here what is committed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
import trio

from jcpeer.application.manifest import Placed, ReplicaSet, Seat
from jcpeer.coordinator.underway import UnderwayMemory
from jcpeer.ft import journal
from jcpeer.ft.events import (
    BeginReign,
    ChangeSet,
    Committed,
    Diverging,
    Down,
    Dropped,
    Effect,
    EndReign,
    Event,
    Heard,
    PassOnReign,
    Promise,
    Promised,
    Recorded,
    ReignHeard,
    SeatEmpty,
    Send,
    SendReign,
    Ship,
    Stalled,
    Sure,
    Tick,
    Told,
    Truncate,
    Unproven,
    Up,
    Write,
    Written,
)
from jcpeer.ft.replica import Replica
from jcpeer.ids import Digest, Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.node.attesting import Attesting
from jcpeer.node.parts import Parts
from jcpeer.node.past import Past
from jcpeer.node.reigns import Known
from jcpeer.node.safety import Safety, SeatNow
from jcpeer.node.shipping import Shipping
from jcpeer.wire.facts import Brought, Ended, Entry, ReplicasChanged, Submitted, TookOver
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import (
    DivergedTaken,
    Kept,
    Reign,
    Underway,
    VoteAnswer,
)
from jcpeer.wire.requests import Moved, NodeName

log = structlog.get_logger()


class Court(Protocol):
    """Whom a copy tells what concerns the whole node."""

    def begin(self, copy: Copy, reign: BeginReign, mandate: Mandate | None) -> None:
        """This node coordinates the application from now on."""

    def end(self, copy: Copy, why: str) -> None:
        """It does so no longer."""

    def introduced(self, copy: Copy, node: NodeId) -> None:
        """A replica was told that this node coordinates; what is told it next it will take."""

    def committed(self, copy: Copy, index: int) -> None: ...
    def change(self, copy: Copy, fact: ReplicasChanged) -> None:
        """Have the coordinator record this."""

    def told(self, copy: Copy, message: Underway) -> None:
        """The coordinator says what is under way."""

    def supervised(self, copy: Copy, ftc: NodeId | None) -> None:
        """While it reigns: that one supervises participants, too."""

    def stalled(self, copy: Copy, missing: tuple[NodeId, ...]) -> None: ...
    def diverging(self, copy: Copy, effect: Diverging) -> None: ...
    def failed(self, copy: Copy, fault: str) -> None: ...
    def dropped(self, copy: Copy) -> None: ...
    def moved(self, copy: Copy) -> None:
        """Its set, its coordinator or what it waits for may be others now."""


class Copy:
    """Owns the replica machine of one application."""

    def __init__(
        self,
        parts: Parts,
        court: Court,
        placed: Signed,
        opened: Placed,
        past: Past,
        *,
        learner: bool = False,
    ) -> None:
        """`opened` is what `placed` says, checked."""
        self.placed = placed
        self.header = opened.header
        self.app = opened.app
        self.underway = UnderwayMemory()
        """Which attempts are at participants, as the coordinator says."""
        self._parts = parts
        self._court = court
        self._me = Seat(parts.identity.node, parts.journal.id)
        self.machine = Replica(
            app=self.app,
            me=self._me,
            placed=placed,
            first_set=opened.first_set,
            shape=past.shape,
            now_s=trio.current_time(),
            learner=learner,
        )
        self._attesting = Attesting(parts, opened, latest=lambda: self.machine.replica_set)
        self._proofs = self._attesting.proofs
        for fact in past.facts:
            self._proofs.recorded(fact)
        self._ftc: NodeId | None = None
        self._missed: dict[NodeId, float] = {}
        """Since when there has been no connection to a replica."""
        self._promised = past.shape.promised
        self._mandate: Mandate | None = None
        self._heard_last: Reign | None = None
        self._reigning = Epoch(0, NodeId(""))
        self.fault: str | None = None
        """Why it does nothing any more."""
        self._events: deque[Event] = deque()
        self._busy = False
        self._shipping = Shipping(self.app, parts.journal, parts.network)
        self._ended_index = past.shape.ended_index
        self.committed = past.shape.committed

    @property
    def replica_set(self) -> ReplicaSet:
        return self.machine.replica_set

    @property
    def reigns(self) -> bool:
        return self.machine.role == "coordinator"

    @property
    def is_ftc(self) -> bool:
        """This node supervises participants, beside the coordinator."""
        return not self.over and not self.reigns and self.machine.ftc == self._me.node

    @property
    def over(self) -> bool:
        """The application has ended, and that is committed."""
        return 0 < self._ended_index <= self.committed

    # --- what it hears

    def open(self) -> None:
        """Of a new application, whose first seat is ours."""
        self._perform_all(self.machine.open(now_s=trio.current_time()))

    def start(self) -> None:
        """Of one that is in the journal, or in which we were given a seat."""
        self._perform_all(self.machine.start(now_s=trio.current_time()))

    def post(self, event: Event) -> None:
        """Have the machine handle this, once what came before is done with."""
        if self.fault is not None:
            return
        self._events.append(event)
        self._drain()

    def heard(self, node: NodeId, message: object) -> None:
        """A message of a replica, or of who would be one; what is signed in it is checked here."""
        match message:
            case VoteAnswer():
                if message.granted and not message.pre and not self._attesting.is_vote_of(node, message):
                    return
                self._proofs.note(*message.seated)
            case Kept():
                self._proofs.note(*message.seated)
                if message.epoch == self.machine.epoch:
                    self._shipping.kept(node, message.index)
            case Underway():
                self._note_underway(node, message)
                return
            case DivergedTaken():
                if (node, message.epoch) == (self.machine.coordinator, self.machine.epoch):
                    self.post(Told())
                return
            case _:
                pass
        self.post(Heard(node, message))  # type: ignore[arg-type]

    def reign_heard(self, node: NodeId, known: Known, *, invited: bool) -> None:
        """Some node coordinates, by right, as this one says; this copy is `invited` to be kept."""
        self._heard_last = known.reign
        if known.mandate is not None:
            self._proofs.noted_mandate(known.mandate)
        recovered = known.mandate is not None and known.mandate.recovered is not None
        coordinator = known.coordinator
        self.post(ReignHeard(coordinator, known.epoch, known.proven, invited, recovered, node != coordinator))

    def written(self, written: journal.Written) -> None:
        """The disk has so much of it."""
        self.post(Written(written.index))
        if written.promised is not None and written.promised != self._promised:
            self._promised = written.promised
            self.post(Promised(written.promised))

    def up(self, node: NodeId) -> None:
        self._attesting.connection_changed()
        self._missed.pop(node, None)
        self.post(Up(node))

    def down(self, node: NodeId, proof: Proof) -> None:
        if node in self.replica_set.nodes:
            self._missed.setdefault(node, trio.current_time())
        self.post(Down(node, proof))

    def wake_s(self) -> float:
        """When a tick has something to do."""
        return self.machine.wake_s() if self.fault is None else math.inf

    def tick(self) -> None:
        self.post(Tick())

    def record(self, entries: tuple[Entry, ...], blobs: Mapping[Digest, bytes]) -> None:
        """This node's coordinator recorded these; small blobs come with the first of them, if there is any."""
        if not self.reigns:
            return  # it was just deposed
        synced = any(isinstance(each.fact, ReplicasChanged | TookOver) for each in entries)
        index = entries[0].index if entries else self.machine.last_index
        brought = [Brought(index, digest, data) for digest, data in blobs.items()]
        self._parts.journal.append(self.app, entries, brought, synced=synced)
        self._shipping.recorded(entries, brought)
        for each in entries:
            self._note_entry(each)
        if entries:
            self.post(Recorded(entries))

    def _note_underway(self, node: NodeId, message: Underway) -> None:
        if (node, message.epoch) != (self.machine.coordinator, self.machine.epoch):
            return
        self.underway.heard(message)
        self._court.told(self, message)

    def moved(self, name_of: Callable[[NodeId], str]) -> Moved:
        """What to tell who takes this node for the coordinator."""
        machine = self.machine
        others = tuple([each for each in self.replica_set.nodes if each != self._me.node])
        node = machine.coordinator if not self.reigns else None  # ours is on its way
        coordinator = NodeName(node, name_of(node)) if node is not None else None
        missing = () if coordinator else tuple([NodeName(each, name_of(each)) for each in machine.stalled])
        return Moved(self.app, machine.epoch.counter if machine.epoch else 0, coordinator, others, missing)

    def missed_for(self, node: NodeId) -> float | None:
        """Seconds since the connection to a replica was lost; None where there was none since this node began."""
        since_s = self._missed.get(node)
        return None if since_s is None else trio.current_time() - since_s

    def safety(self) -> Safety:
        """How the copies stand, as far as this one sees it."""
        machine = self.machine

        def seat(node: NodeId) -> SeatNow:
            if node == machine.coordinator:
                return SeatNow(node, "coordinator")
            if node in machine.missing:
                return SeatNow(node, "missing", self.missed_for(node) or 0.0)
            return SeatNow(node, "copy")

        seats = tuple([seat(each) for each in self.replica_set.nodes])
        return Safety(seats, self.replica_set.quorum, machine.ftc, bool(machine.stalled))

    # --- the machine

    def _drain(self) -> None:
        if self._busy:
            return  # whoever is at it goes on with this
        while self._events and self.fault is None:
            event = self._events.popleft()
            try:
                self._perform_all(self.machine.handle(event, now_s=trio.current_time()))
            except Exception as error:  # a bug in one application's copy is no reason to fail all else
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        """It does nothing any more, and its journal stays as it is: better no copy than one that breaks its word."""
        self.fault = f"internal error: {error!r}"
        self._events.clear()
        log.error("a copy stalls", app=self.app, name=self.header.name, exc_info=error)
        self._court.failed(self, self.fault)

    def _perform_all(self, effects: list[Effect]) -> None:
        self._busy = True
        try:
            for effect in effects:
                self._perform(effect)
        finally:
            self._busy = False
        self._court.moved(self)
        if self.reigns and self.machine.ftc != self._ftc:
            self._ftc = self.machine.ftc
            self._court.supervised(self, self._ftc)
        self._drain()

    def _perform(self, effect: Effect) -> None:
        kept, network = self._parts.journal, self._parts.network
        match effect:
            case Send():
                network.send(effect.node, self._attesting.signed(effect.message))
            case SendReign():
                network.send(effect.node, self.reign(invited=effect.invited))
                self._shipping.begin_anew(effect.node)
                self._court.introduced(self, effect.node)
            case PassOnReign():
                assert self._heard_last is not None, "it ended ours"
                for node in effect.nodes:
                    network.send(node, self._heard_last)
            case Ship():
                self._shipping.ship(effect)
            case Write():
                kept.append(self.app, effect.entries, effect.blobs, synced=effect.synced)
                for each in effect.entries:
                    self._note_entry(each)
            case Truncate():
                kept.truncate(self.app, after_index=effect.after_index, even_committed=effect.even_committed)
                self._shipping.forget()
                if self._ended_index > effect.after_index:
                    self._ended_index = 0
            case Promise():
                kept.promise_soon(self.app, effect.epoch)
            case Committed():
                self.committed = effect.index
                kept.note_committed(self.app, effect.index)
                self._court.committed(self, effect.index)
            case BeginReign():
                self._begin_reign(effect)
            case EndReign():
                self._shipping.forget()
                self._court.end(self, effect.why)
            case ChangeSet():
                self._court.change(self, self.change_to(effect.replica_set))
            case Stalled():
                self._court.stalled(self, effect.missing)
            case Diverging():
                self._court.diverging(self, effect)
            case Sure():
                kept.sure(self.app)
            case Dropped():
                self._court.dropped(self)
            case SeatEmpty():
                log.warning("this node's journal is not the one that has the seat", app=self.app)

    def _begin_reign(self, effect: BeginReign) -> None:
        self._reigning, self._ftc = effect.epoch, None
        self._shipping.forget()
        self._mandate = self._attesting.mandate(effect) if effect.epoch.counter > 1 else None
        if self._mandate is None and effect.epoch.counter > 1:
            self.post(Unproven())
            return
        if effect.unsure:
            log.warning("goes on after machines went down: what was acknowledged last may be lost", app=self.app)
        self._court.begin(self, effect, self._mandate)

    def change_to(self, replica_set: ReplicaSet) -> ReplicasChanged:
        """The fact by which this set follows on the latest."""
        return self._attesting.change_to(replica_set)

    @property
    def shown(self) -> bool:
        """Others may hear of this node's reign."""
        return self.machine.shown

    def reign(self, *, invited: bool = False) -> Reign:
        """What says that this node coordinates, and by what right."""
        return Reign(self.app, self._reigning, self.placed, self._mandate, invited)

    def _note_entry(self, entry: Entry) -> None:
        match entry.fact:
            case Submitted() | TookOver() | ReplicasChanged():
                self._proofs.recorded(entry.fact)
            case Ended():
                self._ended_index = entry.index
            case _:
                pass
