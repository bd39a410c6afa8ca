"""One application's copy on this node: a journal and the machine that decides about it.

    messages, connections, the disk → Copy → ft.replica → effects → the disk, the network, and whoever coordinates

While the machine reigns, the node's coordinator records its facts here, and hears from here what is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import structlog
import trio
from attrs import define, evolve, field, frozen

from jcpeer.application.manifest import Placed, ReplicaSet, Seat
from jcpeer.coordinator.underway import UnderwayMemory
from jcpeer.errors import MembershipError
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
    LogShape,
    Promise,
    Promised,
    Recorded,
    ReignHeard,
    Run,
    SeatEmpty,
    Send,
    SendReign,
    SetChange,
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
from jcpeer.ft.mandate import Proofs
from jcpeer.ft.replica import Replica
from jcpeer.ids import AppId, Digest, Epoch, NodeId, short
from jcpeer.membership.signed import open_signed, sign
from jcpeer.net.events import Proof
from jcpeer.node.parts import Parts
from jcpeer.node.reigns import Known
from jcpeer.node.safety import Safety, SeatNow
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import AttemptLost, Ended, Entry, Finished, ReplicasChanged, Submitted, TookOver
from jcpeer.wire.mandates import Mandate, Recovered, Seated, Vote
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import (
    AppendEntries,
    AskVote,
    Differs,
    DivergedTaken,
    GiveUpSeat,
    Kept,
    NoSeat,
    Reign,
    Retired,
    Underway,
    VoteAnswer,
    WantEntries,
)
from jcpeer.wire.requests import Moved, NodeName

log = structlog.get_logger()

RECENT_ENTRIES_MAX = 4000
RECENT_BYTES_MAX = 8 * 2**20
"""Recorded lately, and so at hand for replicas that keep up; the others are sent what the disk has."""
FRAME_BYTES_MAX = 2**20
"""Of entries and blobs in one frame, about; far below the frame limit, so that nothing else waits long behind it. A
single entry may exceed it."""
FRAME_ENTRIES_MAX = 500
ENTRY_BYTES = 300
NAMED_BLOB_BYTES = 150
"""What an outcome takes, roughly, beside the data of small outputs; and each blob that it names."""


Said = AppendEntries | Kept | Differs | NoSeat | AskVote | VoteAnswer | WantEntries | Retired | GiveUpSeat


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
    def dropped(self, copy: Copy) -> None: ...
    def moved(self, copy: Copy) -> None:
        """Its set, its coordinator or what it waits for may be others now."""


@frozen
class _Recent:
    """An entry, and the small blobs without which nobody may have it; `size` is that of the entry alone."""

    entry: Entry
    blobs: Mapping[Digest, bytes]
    size: int

    @property
    def all_bytes(self) -> int:
        return self.size + sum(map(len, self.blobs.values()))


@define
class _Frame:
    """What goes out together."""

    entries: list[Entry] = field(factory=list)
    blobs: dict[Digest, bytes] = field(factory=dict)
    size: int = 0

    def has_room(self, more_bytes: int) -> bool:
        """An empty one has room for anything."""
        fits = len(self.entries) < FRAME_ENTRIES_MAX and self.size + more_bytes <= FRAME_BYTES_MAX
        return fits or not self.size


@frozen
class Past:
    """What a journal tells about a copy when the node starts."""

    shape: LogShape
    placed: Signed | None
    facts: tuple[Submitted | TookOver | ReplicasChanged, ...]
    """What proves its sets."""


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
        self.proofs = Proofs(opened, root=parts.standing.membership.root)
        for fact in past.facts:
            self.proofs.recorded(fact)
        self._stated: set[tuple[Epoch, int]] = set()
        """Sets about which a coordinator has this node's word, if nothing was lost."""
        self._ftc: NodeId | None = None
        self._missed: dict[NodeId, float] = {}
        """Since when there has been no connection to a replica."""
        self._promised = past.shape.promised
        self._mandate: Mandate | None = None
        self._reigning = Epoch(0, NodeId(""))
        self._events: deque[Event] = deque()
        self._busy = False
        self._recent: deque[_Recent] = deque()
        self._recent_bytes = 0
        self._loose: dict[Digest, bytes] = {}
        """Small blobs recorded since the last entry: the other copies get them along with the next one, without which
        nothing is promised on their strength."""
        self._ended_index = past.shape.last_index if past.shape.ended else 0
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
        self._events.append(event)
        self._drain()

    def heard(self, node: NodeId, message: object) -> None:
        """A message of a replica, or of who would be one; what is signed in it is checked here."""
        match message:
            case VoteAnswer():
                if message.granted and not message.pre and not self._is_vote_of(node, message):
                    return
                self.proofs.note(*message.seated)
            case Kept():
                self.proofs.note(*message.seated)
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

    def reign_heard(self, known: Known, *, invited: bool) -> None:
        """Some node coordinates, by right; this one is `invited` to keep a copy."""
        if known.mandate is not None:
            self.proofs.noted_mandate(known.mandate)
        recovered = known.mandate is not None and known.mandate.recovered is not None
        self.post(ReignHeard(known.coordinator, known.epoch, known.proven, invited, recovered))

    def written(self, written: journal.Written) -> None:
        """The disk has so much of it."""
        self.post(Written(written.index))
        if written.promised is not None and written.promised != self._promised:
            self._promised = written.promised
            self.post(Promised(written.promised))

    def up(self, node: NodeId) -> None:
        self._stated.clear()
        self._missed.pop(node, None)
        self.post(Up(node))

    def down(self, node: NodeId, proof: Proof) -> None:
        if node in self.replica_set.nodes:
            self._missed.setdefault(node, trio.current_time())
        self.post(Down(node, proof))

    def tick(self) -> None:
        self.post(Tick())

    def record(self, entries: tuple[Entry, ...], blobs: Mapping[Digest, bytes]) -> None:
        """This node's coordinator recorded these; small blobs come with the first of them, if there is any."""
        if not self.reigns:
            return  # it was just deposed
        synced = any(isinstance(each.fact, ReplicasChanged | TookOver) for each in entries)
        self._parts.journal.append(self.app, entries, blobs, synced=synced)
        self._loose.update(blobs)
        for each in entries:
            self._note_entry(each)
            self._remember(_Recent(each, self._loose, _size_of(each)))
            self._loose = {}
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
        while self._events:
            event = self._events.popleft()
            self._perform_all(self.machine.handle(event, now_s=trio.current_time()))

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
                network.send(effect.node, self._signed(effect.message))
            case SendReign():
                network.send(effect.node, self.reign(invited=effect.invited))
                self._court.introduced(self, effect.node)
            case Ship():
                self._ship(effect)
            case Write():
                kept.append(self.app, effect.entries, effect.blobs, synced=effect.synced)
                for each in effect.entries:
                    self._note_entry(each)
            case Truncate():
                kept.truncate(self.app, after_index=effect.after_index, even_committed=effect.even_committed)
                self._forget_recent()
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
                self._forget_recent()
                self._court.end(self, effect.why)
            case ChangeSet():
                self._court.change(self, self._change_to(effect.replica_set))
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
        self._forget_recent()
        if effect.epoch.counter == 1:
            self._mandate = None
        elif effect.recovered:
            alone = ReplicaSet(self.replica_set.number + 1, (self._me,), quorum=False)
            self.proofs.recovered(self._sign(Recovered(self.app, effect.epoch, alone)))
            self._mandate = self.proofs.mandate(effect.epoch, ())
        else:
            own = self._sign(Vote(self.app, effect.epoch, self._me.journal))
            self.proofs.note(*self._own_statements())
            self._mandate = self.proofs.mandate(effect.epoch, (own, *effect.votes))
            if self._mandate is None:
                self.post(Unproven())
                return
        self._court.begin(self, effect, self._mandate)

    def reign(self, *, invited: bool = False) -> Reign:
        """What says that this node coordinates, and by what right."""
        return Reign(self.app, self._reigning, self.placed, self._mandate, invited)

    # --- entries on their way

    def _remember(self, recent: _Recent) -> None:
        self._recent.append(recent)
        self._recent_bytes += recent.all_bytes
        written = self._parts.journal.written_index(self.app)
        while self._recent and self._recent[0].entry.index <= written and self._crowded:
            self._recent_bytes -= self._recent.popleft().all_bytes

    def _forget_recent(self) -> None:
        self._recent.clear()
        self._recent_bytes = 0
        self._loose = {}

    @property
    def _crowded(self) -> bool:
        return len(self._recent) > RECENT_ENTRIES_MAX or self._recent_bytes > RECENT_BYTES_MAX

    def _ship(self, effect: Ship) -> None:
        after, epoch = effect.after_index, effect.after_epoch
        for frame in self._frames(effect.after_index, effect.last_index):
            entries = tuple(frame.entries)
            message = AppendEntries(self.app, effect.epoch, after, epoch, entries, frame.blobs, effect.committed)
            self._parts.network.send(effect.node, message)
            if entries:
                after, epoch = entries[-1].index, entries[-1].epoch

    def _frames(self, after: int, last: int) -> Iterator[_Frame]:
        """Cut so that none is long; at least one. Blobs go before their entry or beside it: whoever has it has them."""
        frame = _Frame()
        for each in self._entries(after, last):
            for digest, data in each.blobs.items():
                if not frame.has_room(len(data)):
                    yield frame
                    frame = _Frame()
                frame.blobs[digest] = data
                frame.size += len(data)
            if not frame.has_room(each.size):
                yield frame
                frame = _Frame()
            frame.entries.append(each.entry)
            frame.size += each.size
        if frame.entries or last <= after:
            yield frame

    def _entries(self, after: int, last: int) -> Iterator[_Recent]:
        if self._recent and self._recent[0].entry.index <= after + 1:
            first = self._recent[0].entry.index
            for at in range(after + 1 - first, min(last + 1 - first, len(self._recent))):
                yield self._recent[at]
            return
        kept = self._parts.journal
        begin = max(0, after - 1)  # blobs that came alone stand with the entry that was the last one then
        for entry in kept.read(self.app, after_index=after):
            if entry.index > last:
                return
            yield _Recent(entry, dict(kept.blobs(self.app, after_index=begin, up_to=entry.index)), _size_of(entry))
            begin = entry.index

    def _note_entry(self, entry: Entry) -> None:
        match entry.fact:
            case Submitted() | TookOver() | ReplicasChanged():
                self.proofs.recorded(entry.fact)
            case Ended():
                self._ended_index = entry.index
            case _:
                pass

    # --- what is signed

    def _sign(self, value: Vote | Seated | Recovered) -> Signed:
        return sign(value, self._parts.identity, self._parts.standing.membership.chain)

    def _signed(self, message: Said) -> Said:
        if isinstance(message, VoteAnswer) and message.granted and not message.pre:
            vote = self._sign(Vote(self.app, message.epoch, self._me.journal))
            return evolve(message, vote=vote, seated=self._own_statements())
        if isinstance(message, Kept) and (message.epoch, self.replica_set.number) not in self._stated:
            self._stated.add((message.epoch, self.replica_set.number))
            return evolve(message, seated=self._own_statements())
        return message

    def _own_statements(self) -> tuple[Signed, ...]:
        """About the latest set, unless the submitter signed that one."""
        latest = self.replica_set
        return (self._sign(Seated(self.app, latest, self._me.journal)),) if latest.number else ()

    def _change_to(self, replica_set: ReplicaSet) -> ReplicasChanged:
        statement = self._sign(Seated(self.app, replica_set, self._me.journal))
        links = self.proofs.links(self.replica_set)
        return ReplicasChanged(replica_set, statement, links[-1].statements if links else ())

    def _is_vote_of(self, node: NodeId, answer: VoteAnswer) -> bool:
        membership = self._parts.standing.membership
        try:
            if answer.vote is None:
                raise MembershipError("a vote that is not signed")
            vote, certificate = open_signed(answer.vote, Vote, root=membership.root, now_s=self._parts.clock_s())
        except MembershipError as error:
            log.warning("a vote is not believed", node=short(node), reason=str(error))
            return False
        return certificate.node == node and vote == Vote(self.app, answer.epoch, answer.journal)


def past_of(parts: Parts, app: AppId) -> Past:
    """What the journal has of an application.

    Raises:
        StorageError: it is damaged.
    """
    sets: list[SetChange] = []
    facts: list[Submitted | TookOver | ReplicasChanged] = []
    placed: Signed | None = None
    ended = False
    for entry in parts.journal.read(app):
        fact = entry.fact
        if isinstance(fact, Submitted):
            placed = fact.placed
        if isinstance(fact, ReplicasChanged):
            sets.append(SetChange(entry.index, fact.replica_set))
        if isinstance(fact, Submitted | TookOver | ReplicasChanged):
            facts.append(fact)
        ended = ended or isinstance(fact, Ended)
    kept = parts.journal
    shape = LogShape(
        runs=tuple(Run(first, epoch) for first, epoch in kept.shape(app)),
        last_index=kept.last_index(app),
        committed=kept.committed(app),
        sets=tuple(sets),
        promised=kept.promised(app),
        unsure=kept.unsure(app),
        ended=ended,
    )
    return Past(shape, placed, tuple(facts))


def _size_of(entry: Entry) -> int:
    """Of the entry in a frame. Of what comes by the thousand it is estimated, since packing it twice would cost."""
    match entry.fact:
        case Finished(outcome=outcome):
            named = NAMED_BLOB_BYTES * (len(outcome.outputs) + len(outcome.consumed))
            return ENTRY_BYTES + named + sum(len(each.data) for each in outcome.outputs if each.data)
        case AttemptLost():
            return ENTRY_BYTES
        case fact:
            return len(pack(fact))
