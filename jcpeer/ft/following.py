"""Obeying a coordinator: its entries, in order, onto this disk (Ongaro 2014, section 3.5).

- Entries are taken only in the highest reign that was heard of, from its node, and not below a promise.
- Nothing is acknowledged before the promise of that epoch is on the disk.
- Only a real conflict truncates: an entry of another epoch at the same index. What comes twice, or late, changes
  nothing. Nothing that was committed is ever taken back, but where no quorum had promised it (`Diverging`), and from a
  copy that does not count.
- A copy of which something may be missing, or that is new, catches up with all that its coordinator had when it said
  so first: whatever this journal was once counted for is part of that. Before, it is not sure.
"""

from __future__ import annotations

from jcpeer.errors import LocalProtocolError
from jcpeer.ft.events import (
    Committed,
    Diverging,
    Dropped,
    Effect,
    SeatEmpty,
    Send,
    Truncate,
    Write,
)
from jcpeer.ft.state import CopyState
from jcpeer.ids import Epoch, NodeId, short
from jcpeer.wire.facts import ReplicasChanged
from jcpeer.wire.replication import AppendEntries, Differs, Kept, NoSeat


class Following:
    """One reign, as a copy obeys it."""

    def __init__(self, state: CopyState, node: NodeId, epoch: Epoch, *, invited: bool, recovered: bool) -> None:
        self._state = state
        self.coordinator = node
        self.epoch = epoch
        self.invited = invited
        self._recovered = recovered
        self._agreed: int | None = None
        """Up to here the journal is known to be the coordinator's."""
        self._goal: int | None = None
        """What the coordinator had when it first spoke."""
        self._told: bool = False
        self._diverging_after: int | None = None
        self.dropped = False

    # --- entries

    def append(self, message: AppendEntries) -> list[Effect]:
        log = self._state.log
        entries = message.entries
        end = message.after_index + len(entries)
        if self._goal is None:
            self._goal = end
        if not log.has(message.after_index, message.after_epoch):
            return self._differ(message.after_index)
        conflict = log.conflict(entries)
        effects: list[Effect] = []
        if conflict is not None:
            if conflict <= log.committed and not self._told:
                return self._diverge(conflict)
            effects.append(Truncate(conflict - 1, even_committed=conflict <= log.committed))
            log.truncate(conflict - 1)
        new = entries[max(log.last_index - message.after_index, 0) :]
        if new or message.blobs:  # those of an entry that is to follow may come before it
            synced = any(isinstance(each.fact, ReplicasChanged) for each in new)
            log.append(new)
            effects.append(Write(new, message.blobs, synced))
        self._agreed = max(self._agreed or 0, end)
        effects += self._commit(message.committed)
        if log.written >= self._agreed:
            effects += self.acknowledge()
        return effects

    def acknowledge(self) -> list[Effect]:
        """Say how far this journal is kept: after each entry that was written, and each promise."""
        state = self._state
        if self._agreed is None or not state.holds(self.epoch):
            return []
        kept = min(self._agreed, state.log.written)
        answer = Kept(state.app, self.epoch, state.me.journal, kept, invited=self.invited)
        effects: list[Effect] = [Send(self.coordinator, answer)]
        if state.unsure and self._goal is not None and kept >= self._goal:
            effects += state.catch_up()
        return effects + self._leave()

    def hear_again(self, *, invited: bool) -> None:
        """The coordinator speaks of its reign once more: what it has now is what to catch up with."""
        self.invited, self._goal = invited, None

    def remind(self) -> list[Effect]:
        """The connection parted for want of use: have it again."""
        return self.acknowledge()

    def told(self) -> list[Effect]:
        """The coordinator knows what this journal has that its own has not: that may go."""
        if self._diverging_after is None:
            return []
        self._told = True
        after_index, self._diverging_after = self._diverging_after, None
        return [Send(self.coordinator, Differs(self._state.app, self.epoch, self._state.me.journal, after_index))]

    def _commit(self, told: int) -> list[Effect]:
        log = self._state.log
        committed = min(told, self._agreed or 0)
        if committed <= log.committed:
            return []
        log.committed = committed
        return [Committed(committed), *self._leave()]

    def _differ(self, after_index: int) -> list[Effect]:
        log = self._state.log
        hint = log.before_run(after_index)
        if after_index <= log.committed and not self._may_cut(log.was_available()):
            raise LocalProtocolError(
                f"{short(self._state.app)}: the coordinator of epoch {self.epoch.counter} has another entry at "
                f"{after_index}, where ours is committed"
            )
        return [Send(self.coordinator, Differs(self._state.app, self.epoch, self._state.me.journal, hint))]

    def _diverge(self, conflict: int) -> list[Effect]:
        if not self._may_cut(self._state.log.needed_no_quorum(conflict)):
            raise LocalProtocolError(
                f"{short(self._state.app)}: the coordinator of epoch {self.epoch.counter} has another entry at "
                f"{conflict}, where ours is committed"
            )
        self._agreed = max(self._agreed or 0, conflict - 1)
        if self._diverging_after is not None:
            return []
        self._diverging_after = conflict - 1
        return [Diverging(self.coordinator, self.epoch, conflict - 1)]

    def _may_cut(self, available: bool) -> bool:
        """Nobody was promised that this very copy keeps what it takes for committed. One that is unsure, or has no
        seat, is not asked by those who elect after a power cut, and may have what all who have a seat lost."""
        return available or self._recovered or self._state.unsure or not self._state.seated

    # --- the seat

    def look_for_seat(self) -> list[Effect]:
        """The coordinator spoke: does it mean this very journal?"""
        state = self._state
        seat = state.log.latest.seat_of(state.me.node)
        if self.invited or seat is None or seat == state.me:
            return []
        return [SeatEmpty(), Send(self.coordinator, NoSeat(state.app, self.epoch, state.me.journal))]

    def _leave(self) -> list[Effect]:
        """Without a seat in a set that is settled, and with no prospect of one, there is nothing to keep."""
        state, log = self._state, self._state.log
        if state.seated:
            self.invited = False
            return []
        caught_up = self._goal is not None and min(self._agreed or 0, log.written) >= self._goal
        if self.invited or self.dropped or not caught_up or log.changed_at > log.committed:
            return []
        self.dropped = True
        return [Dropped()]

    def check(self) -> None:
        """Assert what holds after each event."""
        assert self._state.promised == self.epoch
        assert self._agreed is None or self._agreed <= self._state.log.last_index
