"""Finding nodes and records by key (Kademlia): what one node asks, answers, keeps and keeps up.

- Only checked members are believed in: a contact that somebody names is asked, and is known once it has answered
  itself, over a connection whose handshake proved its id. Its key follows from its id.
- A lookup ends with nodes that answered within it (`lookup`).
- A request that is not answered in `TIMEOUT_S` is taken for a death, except where the directory vouches for the node:
  then it is one for that lookup only.
- Each node begins anew from somebody beyond its table now and then (`upkeep`), and asks those of its table whom nobody
  watches, one at a time, whether they live. What the directory watches costs nothing.
- Whatever is malformed is refused and counted, and changes nothing else.

Left to others: connections and their certificates (`net`), whether a record is genuine (the judge).
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import assert_never

from attrs import define, field, frozen

from jcpeer.dht.book import Book, Known
from jcpeer.dht.checking import addresses_from, contacts_from, key_from, news_from
from jcpeer.dht.lookup import Lookup
from jcpeer.dht.publishing import Publication, Publications
from jcpeer.dht.records import Judge, Rank, Records, spell
from jcpeer.dht.table import BUCKET_SIZE, Entry
from jcpeer.dht.upkeep import MAX_S, Upkeep
from jcpeer.errors import RemoteProtocolError
from jcpeer.ids import KEY_BITS, NodeId
from jcpeer.wire.messages import (
    Contact,
    FindNode,
    FoundNodes,
    News,
    Ping,
    Pong,
    RecordStored,
    Signed,
    StoreRecord,
)

SLOW_S = 0.3
"""A request that takes longer is made once more, and waited for beside others; three round trips of 100 ms, as a first
one needs, fit."""
TIMEOUT_S = 1.0
STALE_S = 20.0
"""Whoever was not heard for so long, and is watched by nobody, is asked whether it lives."""
PING_S = 1.0
"""At least, between two such questions."""

KeyMessage = Ping | Pong | FindNode | FoundNodes | StoreRecord | RecordStored

# --- events


@frozen
class Seen:
    """A checked member lives. `watched`: `Gone` will tell when it does no more."""

    contact: Contact
    watched: bool = True


@frozen
class Unwatched:
    """Nobody will tell any more when this member is gone; for the present it lives."""

    node: NodeId


@frozen
class Gone:
    """A member was lost, or left."""

    node: NodeId


@frozen
class Heard:
    """A member said something over a checked connection. `addresses` are its own word of where it can be dialled, if
    that is known."""

    peer: NodeId
    message: KeyMessage
    addresses: tuple[str, ...] = ()


@frozen
class Unreached:
    """What was sent to this node could not be delivered."""

    peer: NodeId


@frozen
class Renewed:
    """This node's own addresses and news are now these."""

    contact: Contact
    news: News | None = None


@frozen
class Find:
    """Which live nodes are nearest to this key? Answered by `Found`. `introduce`: and what is their news?"""

    call: int
    key: int
    count: int = BUCKET_SIZE
    introduce: bool = False


@frozen
class FindRecord:
    """Which record is kept under this key? Answered by `Found`."""

    call: int
    key: int


@frozen
class Abandon:
    """Nobody waits for this call any more."""

    call: int


@frozen
class Publish:
    """Keep this record up under its key, in place of an earlier one, until `Withdraw`."""

    key: int
    record: Signed


@frozen
class Withdraw:
    key: int


@frozen
class Tick:
    """Time passed."""


Event = Seen | Unwatched | Gone | Heard | Unreached | Renewed | Find | FindRecord | Abandon | Publish | Withdraw | Tick

# --- effects


@frozen
class Send:
    """Say this to a node that may have to be dialled first. Without addresses it answers over a connection that is."""

    contact: Contact
    message: KeyMessage


@frozen
class FoundNode:
    contact: Contact
    news: News | None = None


@frozen
class Found:
    """The nodes nearest to the key, nearest first, this one included; the highest record that any of them keeps."""

    call: int
    nodes: tuple[FoundNode, ...]
    record: Signed | None = None
    requests: int = 0


@frozen
class Published:
    """A record was stored again on so many nodes; the others said why not."""

    key: int
    kept: int
    refusals: tuple[tuple[NodeId, str], ...] = ()


@frozen
class Nonsense:
    """A peer said what no sound node says; it was not heeded."""

    peer: NodeId
    why: str


Effect = Send | Found | Published | Nonsense

# --- what is under way


@define(eq=False)
class _Storing:
    """A record on its way to those that are to keep it."""

    publication: Publication
    waits_for: int
    kept: int = 0
    refusals: list[tuple[NodeId, str]] = field(factory=list)


@define(eq=False)
class _Search:
    """A lookup, and what it is for: a caller's call, a record to be stored, or else to be known."""

    lookup: Lookup
    call: int | None = None
    publication: Publication | None = None
    record: bool = False
    introduce: bool = False
    best: tuple[Rank, Signed] | None = None
    news: dict[NodeId, News] = field(factory=dict)
    late: list[int] = field(factory=list)
    """Requests that were not answered in time; a late answer still counts."""
    ended: bool = False


@define(eq=False)
class _Request:
    """Something that was asked; neither `search` nor `storing` means a ping."""

    entry: Entry
    message: FindNode | Ping | StoreRecord
    search: _Search | None = None
    storing: _Storing | None = None


class Kademlia:
    """One node's part in finding by key.

    Feed every event to `handle`, in order, and perform the effects in order; tick when `wake_s` says so. Invariants:
    see `check`.
    """

    def __init__(
        self,
        me: Contact,
        judge: Judge,
        *,
        watched: Callable[[NodeId], bool] = lambda node: False,
        near: Callable[[int, int], Iterable[Contact]] = lambda key, count: (),
        quiet_s: float = MAX_S,
        bucket_size: int = BUCKET_SIZE,
    ) -> None:
        """`watched`: whether `Gone` will tell when this member, just met, does no longer live. `near`: so many who are
        said to be near a key, by whoever else knows of nodes: lookups begin with them, too. `quiet_s`: the longest time
        between two beginnings anew."""
        self._watched = watched
        self._near = near
        self._me = Entry(me)
        self._news: News | None = None
        self._bucket_size = bucket_size
        self._book = Book(self._me, bucket_size=bucket_size)
        self.records = Records(self._me.long_id, judge)
        self.publications = Publications(bucket_size=bucket_size)
        self._upkeep = Upkeep(max_s=quiet_s)
        self._alone = True
        self._searches: dict[int, _Search] = {}
        self._requests: dict[int, _Request] = {}
        self._slow: deque[tuple[float, int]] = deque()
        self._late: deque[tuple[float, int]] = deque()
        self._ping_s = math.inf
        self._pinged: set[NodeId] = set()
        self._calls = 0
        self._draws = 0
        self._rounds = 0
        self._out: list[Effect] = []
        self.refused = 0
        """So much was said to this node that made no sense."""

    def knows(self, node: NodeId) -> bool:
        """Whether this member was ever met."""
        return self._book.get(node) is not None

    @property
    def key(self) -> int:
        """This node's own."""
        return self._me.long_id

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case Heard():
                if event.peer != self._me.id:
                    self._hear(event, now_s)
            case Tick():
                self._tick(now_s)
            case Seen():
                self._see(event, now_s)
            case Unwatched(node):
                if (known := self._book.get(node)) is not None:
                    known.watched = False
                    self._look_after_tables(now_s)
            case Gone(node) | Unreached(node):
                self._lose(node, now_s)
            case Find(call, key, count, introduce):
                lookup = self._lookup(key, count)
                self._searches[call] = search = _Search(lookup, call=call, introduce=introduce)
                self._advance(search, now_s)
            case FindRecord(call, key):
                self._find_record(call, key, now_s)
            case Abandon(call):
                if (abandoned := self._searches.pop(call, None)) is not None:
                    self._end(abandoned)
            case Publish(key, record):
                self._publish(key, record, now_s)
            case Withdraw(key):
                self.publications.withdraw(key)
            case Renewed(contact, news):
                self._me.contact, self._news = contact, news
            case _:
                assert_never(event)
        effects, self._out = self._out, []
        return effects

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        self._drop_answered()
        return min(
            self._slow[0][0] if self._slow else math.inf,
            self._late[0][0] if self._late else math.inf,
            self._ping_s,
            self._upkeep.wake_s(),
            self.publications.wake_s(),
            self.records.wake_s(),
        )

    def check(self) -> None:
        """Asserts the invariants."""
        self._book.check()
        self.records.check()
        self.publications.check()
        assert not self._out
        late = {number for _, number in self._late}
        for number, request in self._requests.items():
            waited_for = number in late
            assert waited_for or (request.search is not None and number in request.search.late), "waited for in vain"
        for call, search in self._searches.items():
            assert search.call == call
            assert not search.ended
            search.lookup.check()

    # --- who lives, and who does not

    def _see(self, event: Seen, now_s: float) -> None:
        entry = self._meet(event.contact.node, event.contact.addresses, now_s)
        if entry is not None:
            entry.watched = event.watched
            if not event.watched:
                self._look_after_tables(now_s)

    def _meet(self, node: NodeId, addresses: tuple[str, ...], now_s: float) -> Known | None:
        """A member showed that it lives."""
        met = self._book.met(node, addresses_from(addresses), now_s)
        if met is None:
            return None
        if met.change != "same":
            met.entry.watched = self._watched(node)
            if met.change == "back" or not met.entry.watched:  # else it has been there, and was only met now
                self._upkeep.changed(now_s, self._drawn(), returned=met.change == "back")
            self.publications.came(node, met.entry.long_id, now_s, self._drawn())
            if self._alone:
                self._alone = False
                self._upkeep.begin(now_s, self._drawn())
                self._search_self([met.entry], now_s)
            if not met.entry.watched:
                self._look_after_tables(now_s)
        if met.doubtful is not None and not met.doubtful.watched and now_s > met.doubtful.heard_s + STALE_S:
            self._ping(met.doubtful, now_s)
        return met.entry

    def _lose(self, node: NodeId, now_s: float) -> None:
        """A member is gone, as far as anybody can tell."""
        for number, request in [*self._requests.items()]:
            if request.entry.id == node:
                self._give_up(number, request, now_s)
        self._bury(node, now_s)

    def _bury(self, node: NodeId, now_s: float) -> None:
        if self._book.lost(node, now_s):
            self._upkeep.changed(now_s, self._drawn())
            self.publications.went(node, now_s, self._drawn())
            self._alone = len(self._book.table) == 0
            self._look_after_tables(now_s)  # one of those beside it may have moved up

    # --- what peers say

    def _hear(self, event: Heard, now_s: float) -> None:
        peer, message = event.peer, event.message
        try:
            match message:
                case Pong() | FoundNodes() | RecordStored():
                    self._answered(peer, message, event.addresses, now_s)
                case FindNode():
                    key = key_from(message.key)
                    self._meet(peer, event.addresses, now_s)
                    self._answer(peer, self._whom_i_know(key, peer, message, now_s))
                case StoreRecord(call, text, record):
                    key = key_from(text)
                    self._meet(peer, event.addresses, now_s)
                    self._answer(peer, RecordStored(call, self.records.keep(key, record, now_s)))
                case Ping(call):
                    self._meet(peer, event.addresses, now_s)
                    self._answer(peer, Pong(call))
                case _:
                    assert_never(message)
        except RemoteProtocolError as error:
            self._refuse(peer, str(error))

    def _whom_i_know(self, key: int, peer: NodeId, asked: FindNode, now_s: float) -> FoundNodes:
        nearest = self._book.table.nearest(key, self._bucket_size, exclude=peer)
        return FoundNodes(
            asked.call,
            tuple([entry.contact for entry in nearest]),
            record=self.records.get(key, now_s) if asked.record else None,
            news=self._news if asked.introduce else None,
        )

    def _answer(self, peer: NodeId, message: KeyMessage) -> None:
        known = self._book.get(peer)
        self._out.append(Send(known.contact if known is not None else Contact(peer, ()), message))

    def _refuse(self, peer: NodeId, why: str) -> None:
        self.refused += 1
        self._out.append(Nonsense(peer, why))

    # --- what peers answer

    def _answered(
        self, peer: NodeId, message: Pong | FoundNodes | RecordStored, addresses: tuple[str, ...], now_s: float
    ) -> None:
        if not 0 < message.call <= self._calls:
            raise RemoteProtocolError(f"an answer to call {message.call}, which was never made")
        request = self._requests.get(message.call)
        if request is None:
            self._meet(peer, addresses, now_s)  # nobody waits for it any more, but it lives
            return
        if request.entry.id != peer:
            raise RemoteProtocolError(f"an answer to call {message.call}, which was made to somebody else")
        entry = self._meet(peer, addresses or request.entry.contact.addresses, now_s) or request.entry
        match message:
            case FoundNodes() if request.search is not None:
                try:
                    contacts, news = contacts_from(message), news_from(message, peer)
                except RemoteProtocolError:
                    self._give_up(message.call, request, now_s)
                    raise
                del self._requests[message.call]
                self._take_in(request.search, entry, contacts, news, now_s)
                if message.record is not None and request.search.record:
                    try:
                        self._take_record(request.search, message.record)
                    except RemoteProtocolError as error:  # which says nothing of whom it names
                        self._refuse(peer, str(error))
                self._advance(request.search, now_s)
            case RecordStored(refusal=refusal) if request.storing is not None:
                del self._requests[message.call]
                self._count_stored(request.storing, peer, refusal)
            case Pong() if request.search is None and request.storing is None:
                del self._requests[message.call]
                self._pinged.discard(peer)
            case _:
                raise RemoteProtocolError(f"a {type(message).__name__} to a call that asked for something else")

    def _take_in(self, search: _Search, entry: Entry, contacts: list[Contact], news: News | None, now_s: float) -> None:
        search.lookup.answered(entry)
        search.lookup.named([self._book.entry_of(contact) for contact in contacts])
        if news is not None and search.introduce:
            search.news[entry.id] = news

    def _take_record(self, search: _Search, record: Signed) -> None:
        rank = self.records.judge(search.lookup.key, record)
        if search.best is None or rank.order > search.best[0].order:
            search.best = (rank, record)

    def _give_up(self, number: int, request: _Request, now_s: float) -> None:
        """Nothing came of a request."""
        search, storing = request.search, request.storing
        if search is not None and not search.ended:
            search.lookup.lost(request.entry.id)
            search.late.append(number)
            self._advance(search, now_s)
            return
        self._requests.pop(number, None)
        self._pinged.discard(request.entry.id)
        if storing is not None:
            self._count_stored(storing, request.entry.id, "no answer")

    # --- searches

    def _lookup(self, key: int, count: int) -> Lookup:
        return Lookup(key, count=count, seeds=self._seeds(key, count), me=self._me.id, myself=self._me)

    def _seeds(self, key: int, count: int) -> list[Entry]:
        nearest = self._book.table.nearest(key, count)
        nearest += [self._book.entry_of(each) for each in self._near(key, count) if each.node != self._me.id]
        if nearest:
            return nearest
        drawn = self._book.draw(self._drawn(), missing=True)  # everybody is gone: perhaps they are back
        return [drawn] if drawn is not None else []

    def _search_self(self, seeds: list[Entry], now_s: float) -> None:
        """Become known to the nodes nearest to this one, and know them, by way of these alone."""
        self._search(self.key, seeds, now_s)

    def _search(self, key: int, seeds: list[Entry], now_s: float) -> None:
        lookup = Lookup(key, count=self._bucket_size, seeds=seeds, me=self._me.id, myself=None)
        self._advance(_Search(lookup), now_s)

    def _find_record(self, call: int, key: int, now_s: float) -> None:
        self._searches[call] = search = _Search(self._lookup(key, self._bucket_size), call=call, record=True)
        if (mine := self.records.get(key, now_s)) is not None:
            with suppress(RemoteProtocolError):  # good when it was stored; a certificate may have run out since
                self._take_record(search, mine)
        self._advance(search, now_s)

    def _advance(self, search: _Search, now_s: float) -> None:
        if search.ended:
            return
        for entry in search.lookup.ask():
            message = FindNode(self._next_call(), spell(search.lookup.key), search.record, search.introduce)
            self._ask(_Request(entry, message, search=search), now_s)
        if search.lookup.over:
            self._end(search)
            if search.call is not None:
                self._searches.pop(search.call, None)
                self._out.append(self._result(search, search.call))
            elif search.publication is not None:
                self._store(search.publication, search.lookup.found, now_s)

    def _end(self, search: _Search) -> None:
        search.ended = True
        for number in search.late:
            self._requests.pop(number, None)
        search.late.clear()

    def _result(self, search: _Search, call: int) -> Found:
        news = search.news
        if search.introduce and self._news is not None:
            news[self._me.id] = self._news
        nodes = tuple([FoundNode(entry.contact, news.get(entry.id)) for entry in search.lookup.found])
        record = search.best[1] if search.best is not None else None
        return Found(call, nodes, record, search.lookup.asked)

    def _next_call(self) -> int:
        self._calls += 1
        return self._calls

    def _ask(self, request: _Request, now_s: float) -> None:
        call = request.message.call
        self._requests[call] = request
        self._slow.append((now_s + SLOW_S, call))
        self._late.append((now_s + TIMEOUT_S, call))
        self._out.append(Send(request.entry.contact, request.message))

    # --- records

    def _publish(self, key: int, record: Signed, now_s: float) -> None:
        try:
            rank = self.records.judge(key, record)
        except RemoteProtocolError as error:
            self._out.append(Published(key, 0, ((self._me.id, str(error)),)))
            return
        self.publications.publish(key, record, rank.lifetime_s, now_s)
        self._store_due(now_s)

    def _store_due(self, now_s: float) -> None:
        for publication in self.publications.due(now_s):
            search = _Search(self._lookup(publication.key, self._bucket_size), publication=publication)
            self._advance(search, now_s)

    def _store(self, publication: Publication, nearest: tuple[Entry, ...], now_s: float) -> None:
        if not self.publications.current(publication):
            return
        self.publications.stored(publication, {entry.id: entry.long_id for entry in nearest})
        storing = _Storing(publication, waits_for=len(nearest))
        for entry in nearest:
            if entry.id == self._me.id:
                refusal = self.records.keep(publication.key, publication.record, now_s)
                self._count_stored(storing, self._me.id, refusal)
            else:
                message = StoreRecord(self._next_call(), spell(publication.key), publication.record)
                self._ask(_Request(entry, message, storing=storing), now_s)

    def _count_stored(self, storing: _Storing, node: NodeId, refusal: str) -> None:
        storing.waits_for -= 1
        if refusal:
            storing.refusals.append((node, refusal))
        else:
            storing.kept += 1
        if storing.waits_for == 0:
            self._out.append(Published(storing.publication.key, storing.kept, tuple(storing.refusals)))

    # --- time

    def _tick(self, now_s: float) -> None:
        while self._slow and self._slow[0][0] <= now_s:
            request = self._requests.get(self._slow.popleft()[1])
            if request is not None:
                self._ask_again(request, now_s)
        while self._late and self._late[0][0] <= now_s:
            number = self._late.popleft()[1]
            request = self._requests.get(number)
            if request is not None:
                self._time_out(number, request, now_s)
        if now_s >= self._upkeep.wake_s():
            self._begin_anew(now_s)
        if now_s >= self._ping_s:
            self._ask_the_stalest(now_s)
        self._store_due(now_s)
        self.records.expire(now_s)

    def _ask_again(self, request: _Request, now_s: float) -> None:
        """An answer is slow: perhaps the request was lost with a connection that was just being closed."""
        search = request.search
        if search is None:
            self._out.append(Send(request.entry.contact, request.message))
        elif not search.ended:
            self._out.append(Send(request.entry.contact, request.message))
            search.lookup.slow(request.entry.id)
            self._advance(search, now_s)

    def _time_out(self, number: int, request: _Request, now_s: float) -> None:
        self._give_up(number, request, now_s)
        known = self._book.get(request.entry.id)
        if known is None or not known.watched:
            self._bury(request.entry.id, now_s)

    def _begin_anew(self, now_s: float) -> None:
        """Turn by turn from one that is missing, if any is, and from one that is beside the table."""
        last_loss_s = self._book.last_loss_s if self._book.anybody_missing else -math.inf
        self._upkeep.begun(now_s, self._drawn(), last_loss_s=last_loss_s)
        self._rounds += 1
        seed = self._book.draw(self._drawn(), missing=self._rounds % 2 == 0)
        if seed is not None:
            self._search_self([seed], now_s)
            self._search(self._beside_me(), [seed], now_s)

    def _beside_me(self) -> int:
        """A key that shares some first bits with this node's own, as its near ones do, and then no more.

        Nodes that share one bit more than others may all not know those, nor those them, though both know everybody
        else: whom each finds around itself is on its own side. Only somebody from elsewhere can tell.
        """
        nearest = self._book.table.nearest(self.key, self._bucket_size)
        spread = max((entry.long_id ^ self.key for entry in nearest), default=0).bit_length()
        bits = min(spread + int(self._drawn() * (KEY_BITS - spread + 1)), KEY_BITS)
        return self.key ^ (1 << bits >> 1 | int(self._drawn() * (1 << bits >> 1)))

    def _look_after_tables(self, now_s: float) -> None:
        """There is somebody in the table whom nobody watches."""
        self._ping_s = min(self._ping_s, now_s + STALE_S)

    def _ask_the_stalest(self, now_s: float) -> None:
        entry = self._book.stalest()
        if entry is None:
            self._ping_s = math.inf
        elif now_s < entry.heard_s + STALE_S:
            self._ping_s = entry.heard_s + STALE_S
        else:
            self._ping(entry, now_s)
            self._ping_s = now_s + PING_S

    def _ping(self, entry: Known, now_s: float) -> None:
        if entry.id not in self._pinged:
            self._pinged.add(entry.id)
            self._ask(_Request(entry, Ping(self._next_call())), now_s)

    def _drop_answered(self) -> None:
        """The heads of both queues wait for something."""
        for queue in (self._slow, self._late):
            while queue and queue[0][1] not in self._requests:
                queue.popleft()

    def _drawn(self) -> float:
        """From 0 to below 1, from the names alone: the same world is the same again."""
        self._draws += 1
        return zlib.crc32(f"{self._me.id} {self._draws}".encode()) / 2**32
