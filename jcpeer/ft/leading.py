"""Coordinating, as far as copies are concerned: who has how much of the journal, and what is committed by that.

- Many entries are on their way to each copy at a time, up to a bound; a slow one stalls nobody.
- After each `Up`, a copy is told of the reign and asked where it stands; what was on its way before is forgotten.
- Only entries of the own epoch are committed by counting; what is before them follows (Ongaro 2014, section 3.6.2).
- An entry counts in the set that was in force when it was recorded: a change in the set before it (section 4.1). One
  that makes `quorum` binds nobody before all seats of the new set have it: until then one of them might go on alone.
  Only who is long lost, or empty, is not waited for; see `Replica._outlived`.
- A copy counts under the name of its journal. This node's own counts once it is on the disk.
"""

from __future__ import annotations

from math import inf

from attrs import define

from jcpeer.application.manifest import ReplicaSet, Seat
from jcpeer.ft.events import Committed, Effect, EndReign, Send, SendReign, Ship, Stalled
from jcpeer.ft.state import CopyState
from jcpeer.ids import Epoch, NodeId
from jcpeer.wire.replication import Differs, Kept, NoSeat, Retired

IN_FLIGHT_MAX = 512
"""Entries that a copy has not acknowledged; more are not sent. Each may carry as much as a small result, 64 KiB, and
what is queued for one peer has a limit of 64 MiB."""
TELL_S = 0.1
"""What is committed is told along with entries, or after so long alone."""
ASK_AGAIN_S = 2.0
"""A copy that does not say where it stands is told of the reign again."""
NO_PROGRESS_S = 5.0
"""So is one that has got entries, and does not say that it has them."""
STALLED_S = 5.0
DEAD_S = 10.0
"""Whoever is out of reach for so long is replaced."""
HAND_OVER_S = 1.0
HOLD_S = 1.0
"""After a sleep, where one's own journal would suffice: a later reign may be about to tell of itself."""
VISITORS_MAX = 8


@define
class Peer:
    """How far another copy is."""

    node: NodeId
    visitor: bool = False
    """It has no seat (any more), and is only to learn that."""
    journal: str = ""
    """As it called itself last."""
    next_index: int = 1
    match: int = 0
    probe: int | None = None
    """Asked whether it has the entry at this index; until it answers, nothing else is sent."""
    told: int = 0
    """Up to here it knows what is committed."""
    goal: int = 0
    """What the journal had when this copy was told of the reign: it has caught up with that."""
    ask_again_s: float = inf
    accepted: bool = False
    """It knows that it was invited; otherwise it may be about to drop its copy."""
    reported: bool = False
    """It has said how far its journal goes, since it came up."""


class Leading:
    """One reign of this node. Invariants: see `check`."""

    def __init__(self, state: CopyState, epoch: Epoch, *, alone: ReplicaSet | None, now_s: float) -> None:
        self._state = state
        self.epoch = epoch
        self.peers: dict[NodeId, Peer] = {}
        self.invited: Seat | None = None
        """The newcomer that catches up."""
        self.empty: set[Seat] = set()
        """Seats whose journals are no more."""
        self.stalled: tuple[NodeId, ...] = ()
        self.alone = alone
        """By the user's word this copy goes on alone, as this set, which counts at once. Nobody hears of the reign
        before it is on the disk: a node that fell in between would be the only one that can go on, and not know it."""
        self._now_s = now_s
        self._short_since_s = inf
        self._tell_s = inf
        self._hold_until_s = -inf
        self._retire_by_s = inf
        self.ended = False

    # --- who there is

    def begin(self, *, now_s: float) -> list[Effect]:
        """This node's promise is on the disk."""
        return self.look_around(now_s=now_s)

    def look_around(self, *, now_s: float) -> list[Effect]:
        """After anything that may change who is in reach, or who has a seat."""
        effects: list[Effect] = []
        wanted = self._wanted()
        self.empty &= set(self._state.log.latest.seats)
        for node in [each for each, peer in self.peers.items() if each not in wanted and not peer.visitor]:
            peer = self.peers[node]
            # Whoever has lost its seat is to hear of it; that is soon, or not at all.
            peer.visitor = True
        for node in wanted:
            if node in self._state.reach.up and (node not in self.peers or self.peers[node].visitor):
                effects += self._introduce(node, now_s=now_s)
        return effects + self._judge_reach(now_s)

    def up(self, node: NodeId, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        if node in self._wanted():
            effects += self._introduce(node, now_s=now_s)
        elif node in self.rivals:
            effects += self.visit(node, now_s=now_s)
        return effects + self._judge_reach(now_s)

    @property
    def rivals(self) -> frozenset[NodeId]:
        """Those without a seat any more who may coordinate as well, since there was a time when one journal sufficed:
        each side of a split takes the seats of the other away."""
        log = self._state.log
        if not log.was_available():
            return frozenset()
        return frozenset(node for each in log.sets() for node in each.nodes) - {*log.latest.nodes}

    def down(self, node: NodeId, *, now_s: float, parted: bool) -> list[Effect]:
        self.peers.pop(node, None)
        effects: list[Effect] = []
        if parted and self.alone is None and node in self._wanted():
            effects.append(SendReign(node, invited=self._is_invited(node)))  # and have the connection again
        return effects + self._judge_reach(now_s)

    def visit(self, node: NodeId, *, now_s: float) -> list[Effect]:
        """A copy asked who coordinates."""
        if node not in self._state.reach.up:
            return []
        if node in self._wanted():
            return self._introduce(node, now_s=now_s)
        visitors = [each for each, peer in self.peers.items() if peer.visitor]
        if node not in visitors and len(visitors) >= VISITORS_MAX:
            return []
        return self._introduce(node, now_s=now_s, visitor=True)

    def invite(self, node: NodeId, *, now_s: float) -> list[Effect]:
        """This newcomer is to catch up."""
        if node in self._state.reach.up:
            return self._introduce(node, now_s=now_s)
        return [SendReign(node, invited=True)]  # and have a connection

    def uninvite(self) -> None:
        """The newcomer was not worth the trouble."""
        if self.invited is not None and self.invited.node not in self._state.log.latest.nodes:
            self.peers.pop(self.invited.node, None)
        self.invited = None

    @property
    def followers(self) -> tuple[NodeId, ...]:
        """Who was told of this reign, and is to have the journal."""
        return tuple([node for node, peer in self.peers.items() if not peer.visitor])

    def woke(self, *, now_s: float) -> list[Effect]:
        """Whatever was known of others may be long past: nothing is promised before they have said where they stand."""
        nodes, self.peers = list(self.peers), {}
        self._hold_until_s = now_s + HOLD_S
        return [effect for node in nodes for effect in self.up(node, now_s=now_s)]

    # --- what they have

    def recorded(self, *, now_s: float) -> list[Effect]:
        """The journal has grown, perhaps by another set."""
        return self.look_around(now_s=now_s) + self._ship_all(now_s) + self.commit(now_s=now_s)

    def kept(self, node: NodeId, message: Kept, *, now_s: float) -> list[Effect]:
        peer = self.peers.get(node)
        if peer is None or message.epoch != self.epoch or message.index > self._state.log.last_index:
            return []
        self.empty.discard(Seat(node, message.journal))
        if peer.journal != message.journal:
            peer.journal, peer.match = message.journal, 0
        peer.match = max(peer.match, message.index)
        peer.reported = True
        peer.accepted = message.invited
        if peer.probe is not None or message.index >= peer.next_index:
            peer.probe, peer.ask_again_s = None, inf
            peer.next_index = message.index + 1
        effects = self.commit(now_s=now_s) + self._ship(peer, now_s)
        if peer.probe is None:
            peer.ask_again_s = now_s + NO_PROGRESS_S if peer.match < peer.next_index - 1 else inf
        self._take_leave()
        return effects

    def differs(self, node: NodeId, message: Differs, *, now_s: float) -> list[Effect]:
        peer = self.peers.get(node)
        if peer is None or message.epoch != self.epoch:
            return []
        if peer.probe is not None and message.after_index >= peer.probe:
            return []  # of an earlier question
        peer.match = min(peer.match, message.after_index)
        return self._probe(peer, min(message.after_index, self._state.log.last_index), now_s)

    def no_seat(self, node: NodeId, message: NoSeat) -> None:
        if message.epoch != self.epoch:
            return
        if self.invited is not None and self.invited.node == node:
            self.uninvite()
        peer = self.peers.get(node)
        if peer is not None and peer.visitor:
            del self.peers[node]
        self.empty |= {seat for seat in self._state.log.latest.seats if seat.node == node}

    def has_caught_up(self, seat: Seat) -> bool:
        """It has all that the journal had when it was told of the reign, and nearly all of the present."""
        peer = self.peers.get(seat.node)
        if peer is None or not peer.accepted or peer.journal != seat.journal:
            return False
        return peer.match >= peer.goal and self._state.log.last_index - peer.match < IN_FLIGHT_MAX

    def commit(self, *, now_s: float) -> list[Effect]:
        """Count."""
        log = self._state.log
        self._now_s = now_s
        reached = self._committable()
        if reached <= log.committed or log.epoch_at(reached) != self.epoch or not self._state.holds(self.epoch):
            return []
        if now_s < self._hold_until_s and len(log.latest.seats) > 1 and not log.latest.quorum:
            return []
        log.committed = reached
        if self.alone is not None and log.settled.number >= self.alone.number:
            self.alone = None
        self._tell_s = min(self._tell_s, now_s + TELL_S)
        return [Committed(reached), *self.look_around(now_s=now_s)]

    @property
    def has_untold(self) -> bool:
        """Somebody in reach does not know yet what is committed."""
        up, committed = self._state.reach.up, self._state.log.committed
        return any(peer.told < committed for peer in self.peers.values() if peer.node in up)

    # --- time

    def wake_s(self) -> float:
        hold_s = self._hold_until_s if self._committable() > self._state.log.committed else inf
        asks = [peer.ask_again_s for peer in self.peers.values()]
        stalled_s = inf if self.stalled else self._short_since_s + STALLED_S
        return min([self._tell_s, self._retire_by_s, stalled_s, hold_s if hold_s > -inf else inf, *asks])

    def time_passed(self, *, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        if now_s >= self._hold_until_s > -inf:
            self._hold_until_s = -inf
            effects += self.commit(now_s=now_s)
        if now_s >= self._tell_s:
            self._tell_s = inf
            for peer in self.peers.values():
                if peer.probe is None and peer.told < self._state.log.committed:
                    effects.append(self._frame(peer, peer.next_index - 1, peer.next_index - 1))
        for peer in list(self.peers.values()):
            if now_s >= peer.ask_again_s:
                effects += self._introduce(peer.node, now_s=now_s, visitor=peer.visitor)
        self._take_leave()
        effects += self.commit(now_s=now_s) + self._judge_reach(now_s)
        if now_s >= self._retire_by_s:
            effects += self._hand_over()
        return effects

    # --- leaving

    def retire(self, *, now_s: float) -> list[Effect]:
        """The successor is to have everything first, if that is soon."""
        self._retire_by_s = now_s + HAND_OVER_S
        return self.hand_over_if_complete()

    def hand_over_if_complete(self) -> list[Effect]:
        if self._retire_by_s == inf or self.ended:
            return []
        successor = self.successor
        if successor is None:
            return self._hand_over()
        log = self._state.log
        seat = log.latest.seat_of(successor)
        complete = seat is not None and self._match(seat) >= log.last_index and log.committed >= log.last_index
        return self._hand_over() if complete else []

    @property
    def successor(self) -> NodeId | None:
        """The next in rank that is in reach."""
        for node in self._state.order_after(self._state.me.node):
            if node != self._state.me.node and node in self._state.reach.up and node in self.peers:
                return node
        return None

    def _hand_over(self) -> list[Effect]:
        self.ended = True
        effects: list[Effect] = []
        successor = self.successor
        if successor is not None:
            effects += [Send(node, Retired(self._state.app, self.epoch, successor)) for node in self.followers]
        return [*effects, EndReign("this node leaves")]

    # --- counting

    def _committable(self) -> int:
        """The last index that enough journals have, whatever its epoch."""
        log = self._state.log
        reached = log.committed
        for after, last, counted in log.sets_in_force():
            kept = min(last, self._kept_by_enough(self.alone or counted))
            if kept > after:
                reached = max(reached, kept)
        for change, before in log.uncommitted_changes():
            makes_quorum = change.replica_set.quorum and not before.quorum
            awaited = [seat for seat in change.replica_set.seats if not self._hopeless(seat)]
            if makes_quorum and any(self._match(seat) < change.index for seat in awaited):
                reached = min(reached, change.index - 1)
        return reached

    def _hopeless(self, seat: Seat) -> bool:
        """Its journal is no more, or has been out of reach for long."""
        lost = self._state.reach.lost(seat.node)
        return seat in self.empty or (lost is not None and self._now_s >= lost.since_s + DEAD_S)

    def _kept_by_enough(self, counted: ReplicaSet) -> int:
        matches = sorted((self._match(seat) for seat in counted.seats), reverse=True)
        return matches[counted.enough - 1]

    def _match(self, seat: Seat) -> int:
        if seat == self._state.me:
            return self._state.log.written
        peer = self.peers.get(seat.node)
        return peer.match if peer is not None and peer.journal == seat.journal else 0

    def missing(self) -> tuple[NodeId, ...]:
        """Seats of the latest set that do not answer, or are empty."""
        latest = self.alone or self._state.log.latest
        return tuple([seat.node for seat in latest.seats if not self._in_reach(seat)])

    def _in_reach(self, seat: Seat) -> bool:
        return seat == self._state.me or (seat.node in self._state.reach.up and seat not in self.empty)

    def _judge_reach(self, now_s: float) -> list[Effect]:
        latest = self.alone or self._state.log.latest
        missing = self.missing()
        if len(latest.seats) - len(missing) >= latest.enough:
            self._short_since_s = inf
            if not self.stalled:
                return []
            self.stalled = ()
            return [Stalled(())]
        self._short_since_s = min(self._short_since_s, now_s)
        if now_s < self._short_since_s + STALLED_S or missing == self.stalled:
            return []
        self.stalled = missing
        return [Stalled(missing)]

    # --- sending

    def _wanted(self) -> list[NodeId]:
        """Who is to have the journal: all seats of the sets that count at present, and the newcomer."""
        log, me = self._state.log, self._state.me.node
        nodes = [node for node in log.latest.nodes if node != me]
        for _, before in log.uncommitted_changes():
            nodes += [node for node in before.nodes if node != me and node not in nodes]
        if self.invited is not None and self.invited.node not in nodes:
            nodes.append(self.invited.node)
        return nodes

    def _is_invited(self, node: NodeId) -> bool:
        return self.invited is not None and self.invited.node == node

    def _introduce(self, node: NodeId, *, now_s: float, visitor: bool = False) -> list[Effect]:
        if not self._state.holds(self.epoch) or self.alone is not None:
            return []
        peer = self.peers[node] = Peer(node, visitor=visitor, goal=self._state.log.last_index)
        return [
            SendReign(node, invited=self._is_invited(node)),
            *self._probe(peer, self._state.log.last_index, now_s),
        ]

    def _probe(self, peer: Peer, index: int, now_s: float) -> list[Effect]:
        peer.probe = index
        peer.next_index = index + 1
        peer.ask_again_s = now_s + ASK_AGAIN_S
        return [self._frame(peer, index, index)]

    def _ship_all(self, now_s: float) -> list[Effect]:
        return [effect for peer in self.peers.values() for effect in self._ship(peer, now_s)]

    def _ship(self, peer: Peer, now_s: float) -> list[Effect]:
        last = min(self._state.log.last_index, peer.match + IN_FLIGHT_MAX)
        if peer.probe is not None or last < peer.next_index:
            if peer.told < self._state.log.committed:
                self._tell_s = min(self._tell_s, now_s + TELL_S)
            return []
        after, peer.next_index = peer.next_index - 1, last + 1
        peer.ask_again_s = min(peer.ask_again_s, now_s + NO_PROGRESS_S)
        return [self._frame(peer, after, last)]

    def _frame(self, peer: Peer, after: int, last: int) -> Effect:
        log = self._state.log
        peer.told = min(log.committed, last)
        return Ship(peer.node, self.epoch, after, log.epoch_at(after), last, log.committed)

    def _take_leave(self) -> None:
        """A visitor that knows what it came for is not kept up to date."""
        log = self._state.log
        if log.changed_at > log.committed:
            return
        for peer in [each for each in self.peers.values() if each.visitor]:
            if min(peer.match, peer.told) >= log.changed_at:
                del self.peers[peer.node]

    def check(self) -> None:
        """Assert what holds after each event."""
        log = self._state.log
        assert self._state.promised is not None
        assert self._state.promised >= self.epoch
        assert log.last_epoch is None or log.last_epoch <= self.epoch
        for peer in self.peers.values():
            assert peer.node in self._state.reach.up
            assert peer.match <= log.last_index
            assert 1 <= peer.next_index <= log.last_index + 1
            assert peer.probe is None or peer.next_index == peer.probe + 1
            assert peer.probe is not None or peer.next_index - 1 - peer.match <= IN_FLIGHT_MAX
