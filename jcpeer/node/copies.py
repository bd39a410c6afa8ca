"""All copies that this node keeps of applications' journals: which there are, and what reaches them.

A copy comes by a submission, by the journal of an earlier run, or by a coordinator that says that this node has a seat
(or is invited to one). What a copy leads to, a coordinator that begins or ends here, is for `node.applications`.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, Protocol

import structlog
import trio

from jcpeer.application.manifest import Placed, Seat
from jcpeer.errors import MembershipError
from jcpeer.ft.events import BeginReign, Diverging, LogShape, Newcomers, Retire, Woke
from jcpeer.ft.journal import Written
from jcpeer.ids import AppId, NodeId, app_key, node_key, short
from jcpeer.net.events import Proof
from jcpeer.node.alarm import Alarm
from jcpeer.node.aside import Aside
from jcpeer.node.copy import Copy
from jcpeer.node.parts import Parts
from jcpeer.node.past import Past, past_of
from jcpeer.node.reigns import Known
from jcpeer.node.safety import Safety
from jcpeer.node.supervision import Supervision
from jcpeer.rdv.placement import Candidate, newcomers, open_placed
from jcpeer.wire.codec import unpack
from jcpeer.wire.facts import ReplicasChanged, Tombstone
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import NodeRecord, Signed
from jcpeer.wire.replication import (
    AppendEntries,
    AskAlive,
    AskVote,
    Buried,
    NoSeat,
    Reign,
    ReplicaMessage,
    Underway,
    VoteAnswer,
)
from jcpeer.wire.requests import Forgotten

log = structlog.get_logger()

NEWCOMERS_LOOKED_AT = 16
"""Of the members nearest to the key, so many are looked at when a set wants another one."""


class Hosting(Protocol):
    """Begins and ends this node's coordinators, and tells them of their journals."""

    def begin(self, copy: Copy, reign: BeginReign, mandate: Mandate | None) -> None: ...
    def end(self, copy: Copy, why: str) -> None: ...
    def introduced(self, copy: Copy, node: NodeId) -> None: ...
    def committed(self, copy: Copy, index: int) -> None: ...
    def change(self, copy: Copy, fact: ReplicasChanged) -> None: ...
    def supervised(self, copy: Copy, ftc: NodeId | None) -> None: ...
    def stalled(self, copy: Copy, missing: tuple[NodeId, ...]) -> None: ...
    def diverging(self, copy: Copy, effect: Diverging) -> None: ...
    def failed(self, copy: Copy, fault: str) -> None: ...
    def dropped(self, copy: Copy) -> None: ...


class Copies:
    """Owns each `Copy`. A child runs `run`."""

    def __init__(
        self,
        parts: Parts,
        *,
        hold: Callable[[frozenset[NodeId]], None],
        hold_watched: Callable[[frozenset[NodeId]], None],
        up: Callable[[], Iterable[NodeId]],
        known: Callable[[], Iterable[NodeRecord]],
        candidate: Callable[[NodeRecord], Candidate | None],
        changed: Callable[[], None],
    ) -> None:
        """`hold`: connections to these replicas are needed, `hold_watched`: to these participants; `up`: to whom there
        are some; `known`: the members, and `candidate` one of them with its certificate, if that holds; `changed`: this
        node may have another state now."""
        self._parts = parts
        self._hold = hold
        self._up = up
        self._known = known
        self._candidate = candidate
        self._changed = changed
        self._hosting: Hosting | None = None
        self._supervision = Supervision(parts.network, hold=hold_watched, up=up)
        self._supervised: set[AppId] = set()
        self._copies: dict[AppId, Copy] = {}
        self._needed: dict[AppId, frozenset[NodeId]] = {}
        """To whom each copy needs connections."""
        self._held: Counter[NodeId] = Counter()
        """How many copies need each of them."""
        self._wakes: list[tuple[float, AppId]] = []
        """When copies are to be seen to, the earliest first; some have changed their minds since."""
        self._wake_of: dict[AppId, float] = {}
        self._news = trio.Event()
        self._alarm = Alarm(self._wake_s, self._ring)

    def lead_to(self, hosting: Hosting) -> None:
        """Set once, before the first copy."""
        self._hosting = hosting

    async def run(self) -> NoReturn:
        """See to copies in time, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._supervision.run)
            await self._alarm.run()

    def __iter__(self) -> Iterator[Copy]:
        return iter(list(self._copies.values()))

    def get(self, app: AppId) -> Copy | None:
        return self._copies.get(app)

    # --- beginnings and ends

    def open(self, signed: Signed) -> Copy:
        """The copy of a new application, of which this node has the first seat."""
        placed = unpack(signed.payload, Placed)
        copy = self._add(signed, placed, Past(LogShape(), signed, ()))
        copy.open()
        self._introduce(copy)
        return copy

    def take_seat(self, signed: Signed, placed: Placed) -> Copy:
        """The copy of an application of which this node has a seat, and nothing else yet."""
        copy = self._add(signed, placed, past_of(self._parts.journal, placed.app))
        self._start(copy)
        return copy

    def recover(self, app: AppId) -> Copy | None:
        """The copy that an earlier run left, not started yet; None where nothing was in it."""
        past = past_of(self._parts.journal, app)
        if past.placed is None:
            return None
        return self._add(past.placed, unpack(past.placed.payload, Placed), past)

    def _add(self, signed: Signed, placed: Placed, past: Past, *, learner: bool = False) -> Copy:
        self._parts.journal.begin(placed.app, unsure=learner)
        copy = self._copies[placed.app] = Copy(self._parts, self, signed, placed, past, learner=learner)
        return copy

    def _start(self, copy: Copy) -> None:
        copy.start()
        self._introduce(copy)

    def _introduce(self, copy: Copy) -> None:
        """Once it has begun: before, it would take itself for one of an earlier run and stand for coordinator."""
        for node in self._up():
            copy.up(node)

    async def retire(self) -> frozenset[AppId]:
        """The node is about to leave: hand over what it coordinates, give up its other seats. Returns when it
        coordinates nothing any more that others could go on with: these were handed over."""
        handed = frozenset(copy.app for copy in self if copy.reigns and not copy.over)
        for copy in self:
            if not copy.over:
                copy.post(Retire())
        while any(copy.reigns and not copy.over and len(copy.replica_set.seats) > 1 for copy in self):
            await self.news()
        left = [copy for copy in map(self.get, handed) if copy is not None]
        return frozenset(copy.app for copy in left if len(copy.replica_set.seats) > 1)

    def drop(self, app: AppId) -> None:
        """Nothing of it is kept here any more; the journal is for others to clear."""
        if self._copies.pop(app, None) is not None:
            self._renew_hold(app)
            self._wake_of.pop(app, None)
            self._supervised.discard(app)
            self._supervision.end(app)

    # --- what reaches them

    def heard(self, node: NodeId, message: ReplicaMessage) -> None:
        """What concerns a copy that is here, or asks for one that is not."""
        copy = self._copies.get(message.app)
        if copy is not None:
            copy.heard(node, message)
        elif (tombstone := self._parts.journal.tombstone(message.app)) is not None:
            if not isinstance(message, Buried):
                self._parts.network.send(node, Buried(message.app, tombstone))
        elif isinstance(message, AskVote):
            self._hear_candidate(node, message)
        elif isinstance(message, AppendEntries):
            self._parts.network.send(node, NoSeat(message.app, message.epoch, self._parts.journal.id))

    def _hear_candidate(self, node: NodeId, ask: AskVote) -> None:
        """Of an application of which nothing is here but a seat, if that. It votes: a journal that never had anything
        has lost nothing, and who began the application may need it to go on."""
        try:
            placed, _ = open_placed(ask.placed, root=self._parts.standing.membership.root, now_s=None)
        except MembershipError as error:
            log.warning("a candidate is not believed", node=short(node), reason=str(error))
            return
        seated = Seat(self._parts.identity.node, self._parts.journal.id) in placed.first_set.seats
        if placed.app == ask.app and (seated or ask.app in self._parts.journal.applications()):
            self.take_seat(ask.placed, placed).heard(node, ask)
            return
        answer = VoteAnswer(ask.app, ask.epoch, ask.pre, False, self._parts.journal.id, why="it has no journal of it")
        self._parts.network.send(node, answer)

    def reign_heard(self, node: NodeId, reign: Reign, known: Known) -> None:
        """Somebody coordinates, and that was found right: its journal may be one that is to be kept here."""
        copy = self._copies.get(reign.app)
        if copy is None:
            if self._parts.journal.tombstone(reign.app) is not None:
                self.heard(node, reign)
                return
            seat = known.proven.seat_of(self._parts.identity.node)
            seated = seat is not None and seat.journal == self._parts.journal.id
            if not seated and not reign.invited:
                if seat is not None:
                    self._parts.network.send(node, NoSeat(reign.app, reign.epoch, self._parts.journal.id))
                return
            placed = unpack(reign.placed.payload, Placed)
            here = reign.app in self._parts.journal.applications()
            past = past_of(self._parts.journal, reign.app) if here else Past(LogShape(), reign.placed, ())
            copy = self._add(reign.placed, placed, past, learner=not seated)
            self._start(copy)
        if copy.placed.payload != reign.placed.payload:
            log.warning("an application was placed twice", app=reign.app, other=short(node))  # a set of its own
            return
        copy.reign_heard(node, known, invited=reign.invited)

    def written(self, app: AppId, written: Written) -> None:
        """The disk has more of a journal."""
        if (copy := self._copies.get(app)) is not None:
            copy.written(written)
            if copy.over and not copy.reigns:
                self._leading.committed(copy, copy.committed)  # others may have had the end before our own disk

    def peer_up(self, node: NodeId) -> None:
        for copy in self:
            copy.up(node)
        self._supervision.peer_up(node)

    def peer_down(self, node: NodeId, proof: Proof) -> None:
        for copy in self:
            copy.down(node, proof)
        self._supervision.peer_down(node, proof)

    def asked_about(self, node: NodeId, message: AskAlive) -> None:
        """A coordinator misses a participant."""
        self._supervision.asked(node, message)

    def woke(self) -> None:
        """This node was held up."""
        for copy in self:
            copy.post(Woke())

    def node_seen(self) -> None:
        """Somebody is new among the members, or gone: a set that wants another one may find it."""
        for copy in self:
            if copy.reigns:
                self._offer_newcomers(copy)

    def find(self, wanted: str, user: str) -> list[Copy]:
        """Of this user's applications those that are meant: by id, by name, or by a beginning of the id."""
        theirs = [each for each in self if each.header.user == user]
        return [each for each in theirs if each.app == wanted] or [
            each for each in theirs if each.header.name == wanted or each.app.startswith(wanted)
        ]

    async def news(self) -> None:
        """Return when something happened to a copy since the call."""
        self._news = trio.Event() if self._news.is_set() else self._news
        await self._news.wait()

    def known_of(self, wanted: str, user: str, *, name_of: Callable[[NodeId], str]) -> Aside | None:
        """What is said of an application that is coordinated elsewhere, or that was forgotten."""
        if found := self.find(wanted, user):
            return found[-1].moved(name_of)
        tombstone = self._parts.journal.tombstone(AppId(wanted))
        if tombstone is None:
            return None
        stone = unpack(tombstone, Tombstone)
        return Forgotten(stone) if stone.user == user else None

    def safety(self, app: AppId) -> Safety | None:
        """How the copies of an application stand, as far as this node sees it."""
        copy = self._copies.get(app)
        return copy.safety() if copy is not None else None

    # --- the court of each copy

    def introduced(self, copy: Copy, node: NodeId) -> None:
        self._leading.introduced(copy, node)

    def committed(self, copy: Copy, index: int) -> None:
        self._leading.committed(copy, index)

    def begin(self, copy: Copy, reign: BeginReign, mandate: Mandate | None) -> None:
        self._leading.begin(copy, reign, mandate)
        self._offer_newcomers(copy)
        self._changed()

    def end(self, copy: Copy, why: str) -> None:
        self._leading.end(copy, why)
        self._changed()

    def change(self, copy: Copy, fact: ReplicasChanged) -> None:
        self._leading.change(copy, fact)

    def supervised(self, copy: Copy, ftc: NodeId | None) -> None:
        self._leading.supervised(copy, ftc)

    def stalled(self, copy: Copy, missing: tuple[NodeId, ...]) -> None:
        self._leading.stalled(copy, missing)

    def diverging(self, copy: Copy, effect: Diverging) -> None:
        self._leading.diverging(copy, effect)

    def failed(self, copy: Copy, fault: str) -> None:
        self._leading.failed(copy, fault)

    def dropped(self, copy: Copy) -> None:
        self._leading.dropped(copy)
        self.drop(copy.app)

    def moved(self, copy: Copy) -> None:
        self._renew_hold(copy.app)
        self._renew_supervision(copy)
        self._note_wake(copy.app)
        self._alarm.look()
        self._news.set()

    def told(self, copy: Copy, message: Underway) -> None:
        if copy.app in self._supervised:
            self._supervision.told(message)

    def _renew_supervision(self, copy: Copy) -> None:
        if copy.is_ftc == (copy.app in self._supervised):
            return
        if not copy.is_ftc:
            self._supervised.discard(copy.app)
            self._supervision.end(copy.app)
        elif (known := copy.underway.known()) is not None and copy.machine.epoch is not None:
            self._supervised.add(copy.app)
            self._supervision.begin(copy.app, copy.machine.epoch, known)

    @property
    def _leading(self) -> Hosting:
        assert self._hosting is not None, "set before the first copy"
        return self._hosting

    # --- connections and newcomers

    def _renew_hold(self, app: AppId) -> None:
        """Of one copy: those of applications that ended are many, and this is asked at each step of any."""
        copy, before = self._copies.get(app), self._needed.pop(app, frozenset())
        if copy is not None and not copy.over:
            nodes = {*copy.replica_set.nodes, *copy.machine.rivals}
            self._needed[app] = frozenset(nodes - {self._parts.identity.node})
        needed, known = self._needed.get(app, frozenset()), len(self._held)
        for node in needed - before:
            self._held[node] += 1
        come = len(self._held) > known
        gone = [node for node in before - needed if self._held[node] == 1]
        self._held.subtract(before - needed)
        for node in gone:
            del self._held[node]
        if come or gone:
            self._hold(frozenset(self._held))

    def _offer_newcomers(self, copy: Copy) -> None:
        """The members near to the key that may take a seat."""
        replica_set = copy.replica_set
        if len(replica_set.seats) >= copy.header.replicas and not copy.machine.missing:
            return
        key, seated = app_key(copy.app), replica_set.nodes
        eligible = [
            each
            for each in self._known()
            if each.coordinates and each.dialable and each.journal and each.node not in seated
        ]
        eligible.sort(key=lambda each: node_key(each.node) ^ key)
        near = [found for each in eligible[:NEWCOMERS_LOOKED_AT] if (found := self._candidate(each)) is not None]
        keep = [found for each in self._known() if each.node in seated and (found := self._candidate(each)) is not None]
        copy.post(Newcomers(newcomers(near, keep, submitted_s=copy.header.submitted_s)))

    # --- in time

    def _note_wake(self, app: AppId) -> None:
        copy = self._copies.get(app)
        wake_s = math.inf if copy is None else copy.wake_s()
        if wake_s == self._wake_of.get(app, math.inf):
            return
        self._wake_of[app] = wake_s
        if wake_s < math.inf:
            heapq.heappush(self._wakes, (wake_s, app))

    def _wake_s(self) -> float:
        while self._wakes:
            wake_s, app = self._wakes[0]
            self._note_wake(app)  # one that has failed wakes no more
            if self._wake_of.get(app) == wake_s:
                return wake_s
            heapq.heappop(self._wakes)
        return math.inf

    def _ring(self) -> None:
        now_s = trio.current_time()
        due: dict[AppId, None] = {}
        while self._wakes and self._wakes[0][0] <= now_s:
            due[heapq.heappop(self._wakes)[1]] = None
        for app in due:
            self._wake_of.pop(app, None)
            copy = self._copies.get(app)
            if copy is not None and copy.wake_s() <= now_s:
                copy.tick()
                if copy.reigns:
                    self._offer_newcomers(copy)
            self._note_wake(app)
