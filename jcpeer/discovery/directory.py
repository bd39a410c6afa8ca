"""Who is in the grid now, as one node sees it, connected or not.

A node is in the directory once its own signed record was heard, from itself or from others that pass it on, until it
is lost: by those connected to it from a broken connection, by all others from what those tell. Other ways of hearing of
nodes (mDNS, the runtime directory, the address book) are reasons to dial (`discovery.connections`), never to believe.

- One entry a node; the highest (incarnation, version) of its record wins, whoever brought it.
- Who is connected to a node knows best: what others say of its death is passed on to it, so that it can refute it, by a
  record of a higher version. To leave it time, what others say counts after `SUSPECT_S`; so it is too with one whom
  nobody here ever reached.
- A member may be hostile. What it makes up of others dies with their refutation; it cannot make others say or keep more
  than the limits below.
- What is new of who is there is passed on at once, to a few; what a node is doing at present is told to those connected
  to it, and reaches the others when two nodes compare what they know. So an idle grid is silent but for that.
- `Joined`, `Changed`... and `Left` of a node alternate, so that whoever listens needs no memory of its own.

Left to others: connections and heartbeats, what is done about a node that left (coordinator, participant).

Source: incarnations, suspicion and refutation are those of SWIM (Das, Gupta and Motivala 2002); comparing now and then
is the anti-entropy of Demers et al. (1987).
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, assert_never

from attrs import define, frozen

from jcpeer.discovery.connections import Unreached
from jcpeer.discovery.members import MEMBERS_MAX, Member, Members, rank_of
from jcpeer.discovery.neighbours import EVERYBODY_MAX, neighbours
from jcpeer.discovery.outbox import Outbox, frames
from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId, node_key
from jcpeer.net.events import PeerDown, PeerUp, Received
from jcpeer.values import evolve
from jcpeer.wire.messages import (
    Compare,
    Gossip,
    Known,
    KnownNode,
    News,
    NodeRecord,
    Obituary,
    Wanted,
)
from jcpeer.wire.requests import SeenNode

Proof = Literal["refused", "silent", "left"]

TELL_INTERVAL_S = 0.2
"""What changes within it is told as one: each word of it is signed, and checked by everybody who hears it."""
TELL_INTERVAL_S_PER_MEMBER = 0.25
"""The same in a large grid, so that what all tell together does not grow with its square."""
PASS_ON_S = 0.2
PASS_ON_S_MAX = 2.5
"""What is new is passed on so much later, together with what else came: in a small grid soon, in one of hundreds of
nodes, where something comes all the time, seldom."""
CHOOSE_S = 4.0
"""In a large grid neighbours are chosen so long after somebody came or went: of many who come at once each would
change them. In a small one, where all are neighbours, it is done at once."""
FANOUT = 4
"""To so many. That leaves a few per cent of the nodes out, to whom it comes when nodes compare."""
SUSPECT_S: Mapping[Proof, float] = {"silent": 3.0, "refused": 1.0, "left": 1.0}
"""Between the word of others that a node died and its end here; longer where they only guess."""
COMPARE_S = 20.0
"""Between comparisons, give or take a quarter."""
COMPARE_AT_FIRST_S = 5.0
"""A newcomer compares with the first to whom it is connected, then with another after this, then every `COMPARE_S`."""
LIST_S = 1.0
"""So often at most a peer is told who is known here: its question is small, and the answer is not."""
UNREADABLE_MAX = 64
"""News of others that no member signed; from who brought so many over one connection no more are read."""
VERSION_MAX = 2**62
"""No node changes so often; whatever is said to have, is not believed, so that every death can be refuted."""

# --- events, beside those of `net.events`


@frozen
class RecordChanged:
    """What this node offers, or is doing, has changed. The directory counts versions."""

    record: NodeRecord


@frozen
class Tick:
    """Time passed."""


Event = PeerUp | PeerDown | Received | Unreached | RecordChanged | Tick

# --- effects


@frozen
class Tell:
    """Send a peer a message."""

    peer: NodeId
    message: Gossip | Compare | Known | Wanted


@frozen
class Publish:
    """Announce the node's record by every way of discovery."""

    record: NodeRecord


@frozen
class Joined:
    """This node is now in the directory."""

    record: NodeRecord


@frozen
class Changed:
    record: NodeRecord


@frozen
class Left:
    """A node that had joined is out; "refused" is proof that its process is gone, "silent" a guess."""

    node: NodeId
    why: str
    proof: Proof


@frozen
class Neighbours:
    """With these the grid's sake wants a connection kept, and with no others."""

    nodes: frozenset[NodeId]


@frozen
class Disconnect:
    """The peer said what no sound node says."""

    peer: NodeId
    why: str


Effect = Tell | Publish | Joined | Changed | Left | Neighbours | Disconnect


@define(eq=False)
class _Up:
    """A connection that stands. `compares` and `listed`: what was asked of the peer, or told it, that it may answer."""

    incarnation: int
    address: str
    heard_s: float
    compares: bool = False
    listed: bool = False
    listed_s: float = -math.inf
    unreadable: int = 0


class Directory:
    """The nodes of a grid, as far as one of them has heard.

    Feed every event to `handle`, in order, and perform the effects in order; tick at least when `wake_s` says so.
    Invariants: see `check`.
    """

    def __init__(
        self, me: NodeRecord, *, sign: Callable[[NodeRecord], News], read: Callable[[News], NodeRecord]
    ) -> None:
        """`sign` makes news of our record; `read` checks those of others, and raises MembershipError."""
        self._me = me
        self._sign = sign
        self._read = read
        self._my_news = sign(me)
        self._told_s = -math.inf
        self._members = Members(me)
        self._up: dict[NodeId, _Up] = {}
        self._suspects: list[tuple[float, NodeId]] = []
        """A heap of when suspicions become certainties; those that were refuted stay till then."""
        self._neighbours: frozenset[NodeId] = frozenset()
        self._choose_s = math.inf
        """When neighbours are to be chosen anew, since somebody came or went."""
        self._outbox = Outbox()
        self._compared = 0
        self._compare_s = math.inf

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        match event:
            case Received():
                effects += self._receive(event, now_s)
            case PeerUp():
                effects += self._peer_up(event, now_s)
            case PeerDown():
                effects += self._peer_down(event, now_s)
            case Unreached():
                self._unreached(event.node, now_s)
            case RecordChanged():
                effects += self._record_changed(event.record, now_s)
            case Tick():
                effects += self._tick(now_s)
            case _:
                assert_never(event)
        if self._choose_s < math.inf and self._is_small:
            effects += self._choose_neighbours()  # in a small grid at once, in a large one with the next tick
        return effects

    def view(self, now_s: float) -> tuple[SeenNode, ...]:
        """Everybody in the directory for a person's eyes: this node first, then by name."""
        others = [self._seen(node, member, now_s) for node, member in self._members]
        others.sort(key=lambda seen: (seen.record.name, seen.record.node))
        myself = SeenNode(self._me, age_s=0.0, address=next(iter(self._me.addresses), ""), myself=True)
        return (myself, *others)

    def records(self) -> Iterator[NodeRecord]:
        """Everybody in the directory, this node first, the others in the order in which they came."""
        yield self._me
        yield from (member.record for _, member in self._members)

    def record_of(self, node: NodeId) -> NodeRecord | None:
        """What is known of a node that is in the directory."""
        if node == self._me.node:
            return self._me
        member = self._members.get(node)
        return member.record if member is not None else None

    def news_of(self, node: NodeId) -> News | None:
        """The same as that node signed it."""
        if node == self._me.node:
            return self._my_news
        member = self._members.get(node)
        return member.news if member is not None else None

    def neighbours_of(self, node: NodeId) -> frozenset[NodeId]:
        """With whom another node keeps connections, as far as it sees what we see."""
        return neighbours((node_key(node), node), self._members.ring)

    def near(self, key: int, count: int) -> list[NodeRecord]:
        """So many of the other members, by ascending XOR distance from a key."""
        return self._members.near(key, count)

    def __len__(self) -> int:
        """The members, this node included."""
        return len(self._members) + 1

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        tell_s = self._told_s + self.tell_interval_s if self._my_news.version != self._me.version else math.inf
        suspect_s = self._suspects[0][0] if self._suspects else math.inf
        compare_s = self._compare_s if self._up else math.inf
        return min(tell_s, suspect_s, self._outbox.due_s, self._choose_s, compare_s)

    def check(self) -> None:
        """Asserts the invariants."""
        assert self._me.node not in self._up, "connected to itself"
        self._members.check()
        suspects = set(self._suspects)
        for node, member in self._members:
            assert member.suspected is None or (member.buried_s, node) in suspects, "suspected for ever"
        assert self._my_news.version <= self._me.version, "told of a version to come"

    # --- connections

    def _peer_up(self, event: PeerUp, now_s: float) -> list[Effect]:
        if event.peer == self._me.node:
            return []
        if not self._up:
            self._compare_s = now_s + COMPARE_AT_FIRST_S
        self._up[event.peer] = _Up(event.hello.incarnation, event.address, now_s)
        effects: list[Effect] = []
        member = self._members.get(event.peer)
        if member is not None and member.record.incarnation < event.hello.incarnation:
            effects += self._bury(event.peer, "it started anew", "refused", now_s, tell=False)
        obituary = self._members.obituary_of(event.peer)
        deaths = (obituary,) if obituary is not None else ()
        if self._is_small or event.peer not in self._members:
            # Of a member we heard from others, and so it did of us: most connections in a large grid are for a moment.
            effects.append(Tell(event.peer, Gossip((self._my_news,), deaths)))
        if not self._compared or (self._is_small and self._me.node < event.peer):
            effects.append(self._compare_with(event.peer))
        return effects

    def _peer_down(self, event: PeerDown, now_s: float) -> list[Effect]:
        up = self._up.pop(event.peer, None)
        member = self._members.get(event.peer)
        if up is None or member is None or event.proof == "parted" or member.record.incarnation > up.incarnation:
            return []
        # A firewall that lets nobody in refuses for the node behind it, which may be alive.
        proven = event.proof != "refused" or member.record.dialable
        effects = self._bury(event.peer, event.why, event.proof if proven else "silent", now_s)
        self._doubt_those_nobody_vouches_for(now_s)
        return effects

    def _doubt_those_nobody_vouches_for(self, now_s: float) -> None:
        """Two that cannot be dialled know of each other by those that can. If none of these is connected any more, the
        death of the other would never be heard of."""
        if any(member.record.dialable for peer in self._up if (member := self._members.get(peer)) is not None):
            return
        for node, member in self._members:
            if not member.record.dialable:
                self._unreached(node, now_s)

    # --- what peers say

    def _receive(self, event: Received, now_s: float) -> list[Effect]:
        up = self._up.get(event.peer)
        if up is None:
            return []
        up.heard_s = now_s
        match event.message:
            case Gossip(news, deaths):
                effects: list[Effect] = []
                for each in news:
                    effects += self._hear_news(event.peer, each, now_s)
                for death in deaths:
                    effects += self._hear_death(event.peer, death, now_s)
                return effects
            case Compare(digest):
                if digest == self._members.digest or now_s < up.listed_s + LIST_S:
                    return []
                up.listed, up.listed_s = True, now_s
                return [self._list_for(event.peer)]
            case Known(nodes) if up.compares:
                up.compares = False
                return self._answer_list(event.peer, nodes[: MEMBERS_MAX + 1])
            case Wanted(nodes) if up.listed:
                up.listed = False
                return self._tell_of(event.peer, nodes)
            case _:
                return []

    def _hear_news(self, via: NodeId, news: News, now_s: float) -> list[Effect]:
        node, rank = news.node, (news.incarnation, news.version)
        known = self._members.get(node)
        if known is not None and rank <= known.rank:
            if via == node:
                known.suspected = None
            return []
        if node == self._me.node:
            return []
        obituary = self._members.obituary_of(node)
        if obituary is not None and via != node and self._members.is_dead(node, rank):
            return [Tell(via, Gossip(deaths=(obituary,)))]
        if known is None and len(self._members) >= MEMBERS_MAX:
            return []
        up = self._up[via]
        if via != node and up.unreadable >= UNREADABLE_MAX:
            return []
        try:
            record = self._read(news)
        except MembershipError as error:
            # Whoever passes on what we cannot read may be able to read it, by its clock or its version.
            up.unreadable += 1
            return [Disconnect(via, str(error))] if via == node else []
        return self._take(news, record, now_s)

    def _take(self, news: News, record: NodeRecord, now_s: float) -> list[Effect]:
        """A record that is newer than what was known of its node."""
        node = record.node
        known = self._members.get(node)
        effects: list[Effect] = []
        if known is not None and known.record.incarnation < record.incarnation:
            effects += self._bury(node, "it started anew", "refused", now_s, tell=False)
            known = None
        if known is None:
            is_news = self._members.put(news, record, now_s=now_s)
            self._choose_s = min(self._choose_s, now_s + CHOOSE_S)
            effects.append(Joined(record))
        else:
            is_news = known.suspected is not None or _offer(known.record) != _offer(record)
            known.suspected = None
            self._members.put(news, record, now_s=now_s)
            effects.append(Changed(record))
        if is_news:
            self._pass_on(news, now_s)
        return effects

    def _hear_death(self, via: NodeId, obituary: Obituary, now_s: float) -> list[Effect]:
        node = obituary.node
        if node == self._me.node:
            return self._refute(obituary, now_s)
        member = self._members.get(node)
        if member is None or obituary.version > VERSION_MAX:
            return []
        if obituary.incarnation > member.news.incarnation:
            # Of a start that was not heard of here; the one before is over as well. Only of that is a memory kept:
            # should nobody have started, nobody could refute it.
            obituary = evolve(obituary, incarnation=member.news.incarnation, version=member.news.version)
        if rank_of(obituary) < member.rank:
            return [Tell(via, Gossip((member.news,)))]
        if node in self._up:
            return [Tell(node, Gossip(deaths=(obituary,)))]  # it lives, and is the one who can say so
        self._suspect(member, obituary, now_s)
        return []

    def _unreached(self, node: NodeId, now_s: float) -> None:
        """Who should be connected to it cannot: unless it can to others, nobody but us will notice its death."""
        member = self._members.get(node)
        if member is not None and node not in self._up:
            self._suspect(member, Obituary(node, member.news.incarnation, member.news.version, "silent"), now_s)

    def _suspect(self, member: Member, obituary: Obituary, now_s: float) -> None:
        if member.suspected is None:
            member.suspected, member.buried_s = obituary, now_s + SUSPECT_S[obituary.proof]
            heapq.heappush(self._suspects, (member.buried_s, obituary.node))
            self._pass_on(obituary, now_s)

    def _refute(self, obituary: Obituary, now_s: float) -> list[Effect]:
        if obituary.incarnation < self._me.incarnation or obituary.version > VERSION_MAX:
            return []
        if obituary.version >= self._my_news.version:
            self._me = evolve(self._me, version=max(self._me.version, obituary.version + 1))
        self._pass_on_mine(now_s)
        return []

    # --- life and death

    def _bury(self, node: NodeId, why: str, proof: Proof, now_s: float, *, tell: bool = True) -> list[Effect]:
        member = self._members.drop(node)
        self._choose_s = min(self._choose_s, now_s + CHOOSE_S)
        # Of a later version others may have heard.
        version = max(member.news.version, member.suspected.version) if member.suspected else member.news.version
        obituary = Obituary(node, member.news.incarnation, version, proof)
        if tell:
            self._members.remember_dead(obituary, now_s=now_s)
            self._pass_on(obituary, now_s)
        return [Left(node, why, proof)]

    # --- spreading

    def _pass_on(self, what: News | Obituary, now_s: float) -> None:
        by_s = now_s + min(PASS_ON_S * max(1.0, len(self) / EVERYBODY_MAX), PASS_ON_S_MAX)
        self._outbox.put(what, by_s=by_s)

    def _pass_on_mine(self, now_s: float) -> None:
        """Have others believe that this node lives, be they connected or not; it is signed when it is told."""
        self._outbox.put_mine(by_s=now_s + PASS_ON_S)

    def _empty_outbox(self, now_s: float) -> list[Effect]:
        outbox, self._outbox = self._outbox, Outbox()
        effects = self._tell_change(now_s) if outbox.mine else []
        found = outbox.frames(self._my_news)
        return effects + [Tell(peer, frame) for peer in self._some_peers(now_s) for frame in found] if found else []

    def _some_peers(self, now_s: float, *, count: int = FANOUT) -> list[NodeId]:
        """A few of those connected, others each time; drawn from the time, since the same world is the same again."""
        peers = list(self._up)
        if len(peers) <= count:
            return peers
        first = _drawn(self._me.node, now_s) % len(peers)
        step = len(peers) // count
        return [peers[(first + number * step) % len(peers)] for number in range(count)]

    def _compare_with(self, peer: NodeId) -> Tell:
        self._compared += 1
        self._up[peer].compares = True
        return Tell(peer, Compare(self._members.digest))

    def _compare_interval_s(self) -> float:
        return COMPARE_S * (0.75 + _drawn(self._me.node, self._compared) % 1000 / 2000)

    def _list_for(self, peer: NodeId) -> Tell:
        news = (self._my_news, *(member.news for _, member in self._members))
        return Tell(peer, Known(tuple(KnownNode(each.node, each.incarnation, each.version) for each in news)))

    def _answer_list(self, peer: NodeId, nodes: tuple[KnownNode, ...]) -> list[Effect]:
        theirs = {each.node: rank_of(each) for each in nodes}
        lacking = [
            news
            for news in (self._my_news, *(member.news for _, member in self._members))
            if theirs.get(news.node, (-1, -1)) < (news.incarnation, news.version)
        ]
        wanted, deaths = [], []
        for node, rank in theirs.items():
            mine, obituary = self.news_of(node), self._members.obituary_of(node)
            if obituary is not None and rank <= rank_of(obituary):
                deaths.append(obituary)
            elif mine is None or (mine.incarnation, mine.version) < rank:
                wanted.append(node)
        effects: list[Effect] = [Tell(peer, frame) for frame in frames(lacking, deaths)]
        return [*effects, Tell(peer, Wanted(tuple(wanted)))] if wanted else effects

    def _tell_of(self, peer: NodeId, nodes: tuple[NodeId, ...]) -> list[Effect]:
        news = [news for node in nodes[:MEMBERS_MAX] if (news := self.news_of(node)) is not None]
        return [Tell(peer, frame) for frame in frames(news)]

    # --- this node's own record

    @property
    def _is_small(self) -> bool:
        """Everybody is connected to everybody."""
        return len(self) <= EVERYBODY_MAX

    @property
    def tell_interval_s(self) -> float:
        """So often at most is told what this node is doing."""
        if self._is_small:
            return TELL_INTERVAL_S
        return TELL_INTERVAL_S_PER_MEMBER * len(self)

    def _record_changed(self, record: NodeRecord, now_s: float) -> list[Effect]:
        before = self._me
        if evolve(record, version=before.version) == before:
            return []
        self._me = evolve(record, version=max(record.version, before.version + 1))
        if _offer(record) != _offer(before):
            self._me = evolve(self._me, version=max(self._me.version, self._my_news.version + 1))
            effects = self._tell_change(now_s)
            self._pass_on_mine(now_s)
            return effects
        if now_s >= self._told_s + self.tell_interval_s:
            return self._tell_change(now_s)
        return []  # the next tick after the interval tells it

    def _tell_change(self, now_s: float) -> list[Effect]:
        if self._my_news.version == self._me.version:
            return []
        self._my_news = self._sign(self._me)
        self._members.tell_mine(self._me)
        self._told_s = now_s
        gossip = Gossip((self._my_news,))
        return [Publish(self._me), *(Tell(peer, gossip) for peer in self._up)]

    # --- time

    def _tick(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        if now_s >= self._told_s + self.tell_interval_s:
            effects += self._tell_change(now_s)
        while self._suspects and self._suspects[0][0] <= now_s:
            buried_s, node = heapq.heappop(self._suspects)
            member = self._members.get(node)
            if member is not None and member.suspected is not None and member.buried_s == buried_s:
                effects += self._bury(node, _WHY[member.suspected.proof], member.suspected.proof, now_s)
        if now_s >= self._outbox.due_s:
            effects += self._empty_outbox(now_s)
        if now_s >= self._choose_s:
            effects += self._choose_neighbours()
        if self._up and now_s >= self._compare_s:
            self._compare_s = now_s + self._compare_interval_s()
            effects += [self._compare_with(peer) for peer in self._some_peers(now_s, count=1)[:1]]
            self._members.forget_old_dead(now_s=now_s)
        return effects

    def _choose_neighbours(self) -> list[Effect]:
        self._choose_s = math.inf
        chosen = neighbours((node_key(self._me.node), self._me.node), self._members.ring)
        if chosen == self._neighbours:
            return []
        self._neighbours = chosen
        return [Neighbours(chosen)]

    def _seen(self, node: NodeId, member: Member, now_s: float) -> SeenNode:
        up = self._up.get(node)
        heard_s = max(member.heard_s, up.heard_s) if up is not None else member.heard_s
        address = up.address if up is not None else next(iter(member.record.addresses), "")
        return SeenNode(member.record, age_s=max(0.0, now_s - heard_s), address=address, connected=up is not None)


_WHY: Mapping[Proof, str] = {
    "silent": "others say it fell silent",
    "refused": "others say its process is gone",
    "left": "others say it left",
}


def _offer(record: NodeRecord) -> NodeRecord:
    """The record without what the node is doing at present."""
    return evolve(record, version=0, state="idle", slots_used=0, load=0.0, disk_bytes=0)


def _drawn(node: NodeId, turn: float) -> int:
    return zlib.crc32(f"{node} {turn}".encode())
