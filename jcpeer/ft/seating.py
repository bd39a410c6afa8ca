"""Keeping the set whole: who is to get a seat, and who is to lose one.

One change at a time, and none before an entry of the own reign is committed (Ongaro 2014, section 4.1, and the
correction of 2015 to it). A newcomer first catches up, then gets a seat, and only then does a dead one lose its. A seat
whose journal is no more is taken out first: it can help nobody, and one seat less never needs more of the others.
A dead seat stays where there is nobody to take it: its journal may come back.
"""

from __future__ import annotations

from math import inf

from jcpeer.application.manifest import QUORUM_SEATS_MIN, ReplicaSet, Seat
from jcpeer.ft.events import ChangeSet, Effect
from jcpeer.ft.leading import DEAD_S, Leading
from jcpeer.ft.state import CopyState
from jcpeer.ids import NodeId

CATCH_UP_S = 10.0
"""A newcomer that has not moved on for so long is given up, for another."""
AGAIN_S = 30.0
"""And is not tried again before that."""


class Seating:
    """Of one reign."""

    def __init__(self, state: CopyState, leading: Leading) -> None:
        self._state = state
        self._leading = leading
        self._newcomers: tuple[Seat, ...] = ()
        self._leaving: set[NodeId] = set()
        self._looked_s = -inf
        self._given_up: dict[NodeId, float] = {}
        self._progress = (-1, inf)
        """Of the newcomer: how far it was, and since when."""
        self._looked_s = -inf
        self._ordered: int | None = None
        """The number of the set that the coordinator was told to record."""

    def offer(self, seats: tuple[Seat, ...]) -> None:
        self._newcomers = seats

    def leaves(self, node: NodeId) -> None:
        self._leaving.add(node)

    def comes_back(self, node: NodeId) -> None:
        """Whoever left and connects again has started anew."""
        self._leaving.discard(node)

    def wake_s(self) -> float:
        log, reach = self._state.log, self._state.reach
        dead = [lost.since_s + DEAD_S for node in log.latest.nodes if (lost := reach.lost(node)) is not None]
        times = [self._progress[1] + CATCH_UP_S] if self._leading.invited is not None else []
        return min([at_s for at_s in (*dead, *self._given_up.values(), *times) if at_s > self._looked_s], default=inf)

    def go_on(self, *, now_s: float) -> list[Effect]:
        """After each event: is there something to change?"""
        log, leading = self._state.log, self._leading
        self._looked_s = now_s
        self._given_up = {node: until_s for node, until_s in self._given_up.items() if until_s > now_s}
        if log.latest.number >= (self._ordered or 0):
            self._ordered = None
        if self._ordered is not None or not self._may_change():
            return []
        effects = self._watch_newcomer(now_s)
        removed = self._to_remove(now_s)
        if removed is not None:
            return effects + self._change(self._without(removed))
        if leading.invited is not None:
            if not leading.has_caught_up(leading.invited):
                return effects
            added, leading.invited = leading.invited, None
            return effects + self._change(self._with(added, now_s))
        if self._sound(now_s) < self._state.header.replicas:
            return effects + self._invite(now_s)
        return effects + self._settle_quorum(now_s)

    # --- rules

    def _may_change(self) -> bool:
        log = self._state.log
        if self._state.retired or log.ended_index or self._leading.alone is not None:
            return False
        return log.epoch_at(log.committed) == self._leading.epoch and log.changed_at <= log.committed

    def _bad(self, seat: Seat, now_s: float) -> bool:
        """It is to be replaced."""
        if seat == self._state.me:
            return False
        lost = self._state.reach.lost(seat.node)
        dead = lost is not None and now_s >= lost.since_s + DEAD_S
        return dead or seat.node in self._leaving or seat in self._leading.empty

    def _sound(self, now_s: float) -> int:
        return sum(not self._bad(seat, now_s) for seat in self._state.log.latest.seats)

    def _to_remove(self, now_s: float) -> Seat | None:
        latest = self._state.log.latest
        for seat in latest.seats:
            if seat in self._leading.empty and self._can_do_without(seat):
                return seat
        if len(latest.seats) <= self._state.header.replicas:
            return None
        bad = [seat for seat in latest.seats if self._bad(seat, now_s) and self._can_do_without(seat)]
        if bad:
            return bad[-1]
        if self._sound(now_s) <= self._state.header.replicas:
            return None
        spare = [seat for seat in latest.seats if seat != self._state.me and self._can_do_without(seat)]
        return spare[-1] if spare else None

    def _can_do_without(self, seat: Seat) -> bool:
        """Those who stay are enough, in reach, for what is promised in the smaller set."""
        rest = self._without(seat)
        in_reach = sum(each.node not in self._leading.missing() for each in rest.seats)
        return in_reach >= rest.enough

    def _watch_newcomer(self, now_s: float) -> list[Effect]:
        """Whoever makes no progress is given up; the seat goes to another."""
        seat = self._leading.invited
        if seat is None:
            return []
        peer = self._leading.peers.get(seat.node)
        match = peer.match if peer is not None and peer.reported else -1
        if match > self._progress[0]:
            self._progress = (match, now_s)
        lost = self._state.reach.lost(seat.node) is not None
        if not lost and now_s < self._progress[1] + CATCH_UP_S and seat not in self._leading.empty:
            return []
        self._given_up[seat.node] = now_s + AGAIN_S
        self._leading.uninvite()
        return []

    def _invite(self, now_s: float) -> list[Effect]:
        for seat in self._newcomers:
            taken = seat.node in self._state.log.latest.nodes or seat in self._leading.empty
            peer = self._leading.peers.get(seat.node)
            if taken or seat.node in self._given_up or seat.node in self._leaving or (peer and peer.visitor):
                continue  # a visitor is about to drop its copy
            if self._state.reach.lost(seat.node) is not None:
                continue
            self._leading.invited = seat
            self._progress = (-1, now_s)
            return self._leading.invite(seat.node, now_s=now_s)
        return []

    def _settle_quorum(self, now_s: float) -> list[Effect]:
        """A set that is large enough, and sound, is to be a quorum from now on, if nobody wanted it otherwise."""
        latest = self._state.log.latest
        if latest.quorum or not self._wants_quorum(latest.seats, now_s):
            return []
        return self._change(ReplicaSet(latest.number + 1, latest.seats, quorum=True))

    def _wants_quorum(self, seats: tuple[Seat, ...], now_s: float) -> bool:
        """All have to take part in that change, so it is made only while all do."""
        header = self._state.header
        wanted = header.takeover == "default" and min(header.replicas, len(seats)) >= QUORUM_SEATS_MIN
        return wanted and not any(self._bad(seat, now_s) or seat.node in self._leading.missing() for seat in seats)

    def _with(self, seat: Seat, now_s: float) -> ReplicaSet:
        latest = self._state.log.latest
        seats = (*latest.seats, seat)
        return ReplicaSet(latest.number + 1, seats, quorum=latest.quorum or self._wants_quorum(seats, now_s))

    def _without(self, seat: Seat) -> ReplicaSet:
        latest = self._state.log.latest
        seats = tuple([each for each in latest.seats if each != seat])
        return ReplicaSet(latest.number + 1, seats, quorum=latest.quorum)

    def _change(self, replica_set: ReplicaSet) -> list[Effect]:
        self._ordered = replica_set.number
        return [ChangeSet(replica_set)]
