"""One attempt to take over, from the question that changes nothing to the adopted journal.

1. *Asking*: would enough seats vote? (Pre-vote, Ongaro 2014, section 9.6: a copy that was cut off disturbs nobody.)
2. *Promising*: this copy's own promise of the new epoch goes to the disk.
3. *Electing*: enough seats promise the same. (Lamport's phase 1: nothing of a lower epoch can be acknowledged by enough
   journals any more.)
4. *Adopting*: the journal whose last entry has the highest epoch, and then the longest, among those that voted: all
   that was ever acknowledged is in it. Where it brings a newer set, the votes are counted again in that one.
5. *Settling*: all of it is on this disk; then it reigns.

Whatever goes wrong ends the attempt; another follows after a while, which is different for each rank.

What is enough: where a quorum is needed, most of the seats, each sure to have all that it had acknowledged. Or all
seats, sure or not: after a power cut that hit everybody no journal is sure. Then nothing of a lower epoch can be
acknowledged any more as before; and an acknowledged entry that any disk still has is in the best journal of all,
since each journal with a later epoch began as one that had it. What no disk has any more nobody can bring back, so to
wait would help nobody; for the same reason a seat need not vote whose node says that this journal is no more. Short of
all, to wait does help: the one that is absent may be the only one that still has an entry. Where
no quorum is needed one copy goes on without asking for more than what those in reach have, so to be unsure changes
nothing. A copy that is new (`CopyState.new`) never counts: it may have been counted for something under the same name.
"""

from __future__ import annotations

from typing import Literal

from jcpeer.application.manifest import Seat
from jcpeer.errors import LocalProtocolError
from jcpeer.ft.events import Effect, Send, Truncate, Write
from jcpeer.ft.log import QuorumSince
from jcpeer.ft.state import CopyState
from jcpeer.ft.voting import ask_vote
from jcpeer.ids import Epoch, NodeId, short
from jcpeer.wire.facts import ReplicasChanged
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import AppendEntries, Differs, VoteAnswer, WantEntries

ANSWER_S = 1.0
"""So long answers are waited for."""
PIECE_S = 3.0
"""And so long the next piece of a journal that is adopted."""
PIECE_ENTRIES = 4096
STEP_BACK_S = 4.0

Phase = Literal["asking", "promising", "electing", "adopting", "settling", "won", "failed"]


class Candidacy:
    """Feed it every event, then do what `effects` says; it ends as "won" or "failed"."""

    def __init__(
        self, state: CopyState, epoch: Epoch, *, wait_s: float, now_s: float, stranger: NodeId | None = None
    ) -> None:
        """`stranger`: who coordinates, as this copy last heard, without a seat in its set; it is asked, too."""
        self._state = state
        self._stranger = stranger
        self.epoch = epoch
        self.phase: Phase = "asking"
        self.until_s = now_s + wait_s
        self.why = ""
        self.step_back_s = 0.0
        """Somebody else is to stand first."""
        self._wait_s = wait_s
        self._answers: dict[NodeId, VoteAnswer] = {}
        self._asked: set[NodeId] = set()
        self._source: VoteAnswer | None = None
        self._source_node: NodeId | None = None
        self._piece_end = 0

    # --- what happens

    def begin(self, *, now_s: float) -> list[Effect]:
        return self._ask_all() + self._go_on(now_s)

    def promised(self, *, now_s: float) -> list[Effect]:
        if self.phase != "promising" or not self._state.holds(self.epoch):
            return []
        self._enter("electing", now_s)
        return self._ask_all() + self._go_on(now_s)

    def answered(self, node: NodeId, answer: VoteAnswer, *, now_s: float) -> list[Effect]:
        if answer.epoch != self.epoch or answer.pre != (self.phase == "asking") or self.phase == "promising":
            return []
        if node not in self._asked:
            return []
        self._answers[node] = answer
        quorum = _quorum_of(answer)
        if quorum is not None and quorum.binds(self._state.log.quorum):
            self.fail("another has what a quorum has promised, and this copy has not")
            self.step_back_s = ANSWER_S
            return []
        if answer.hears is not None and answer.hears not in (self._state.me.node, *self._asked):
            # A coordinator of which this copy knows nothing: asked, it will say that it coordinates.
            return [self._question(answer.hears)]
        return self._go_on(now_s) if self.phase in ("asking", "electing") else []

    def up(self, node: NodeId) -> list[Effect]:
        """What was asked of it before got lost."""
        asking = self.phase in ("asking", "electing")
        return [self._question(node)] if asking and node in self._to_ask else []

    def down(self, node: NodeId, *, now_s: float) -> list[Effect]:
        if node == self._source_node and self.phase == "adopting":
            self.fail("lost the voter whose journal was to be adopted")
            return []
        return self._go_on(now_s) if self.phase == "asking" else []

    def take(self, node: NodeId, message: AppendEntries, *, now_s: float) -> list[Effect]:
        """A piece of the journal that is adopted."""
        source, log = self._source, self._state.log
        if self.phase != "adopting" or source is None or node != self._source_node:
            return []
        entries = message.entries
        end = message.after_index + len(entries)
        if end > source.last_index or not log.has(message.after_index, message.after_epoch):
            return []
        if entries and (source.last_epoch is None or entries[-1].epoch > source.last_epoch):
            self.fail("the journal that was to be adopted has changed")
            return []
        effects: list[Effect] = []
        conflict = log.conflict(entries)
        if conflict is not None and conflict <= log.committed:
            if log.set_for(conflict).quorum:
                raise LocalProtocolError(
                    f"{short(self._state.app)}: a voter has another entry at {conflict}, committed"
                )
            # That voter is to coordinate: then what was promised here can be told before it goes.
            self.fail("would take back what it has promised")
            self.step_back_s = STEP_BACK_S
            return []
        if conflict is not None:
            effects.append(Truncate(conflict - 1))
            log.truncate(conflict - 1)
        new = entries[max(log.last_index - message.after_index, 0) :]
        if new or message.blobs:
            effects.append(Write(new, message.blobs, any(isinstance(each.fact, ReplicasChanged) for each in new)))
            log.append(new)
            self.until_s = now_s + PIECE_S
        if log.has(source.last_index, source.last_epoch):
            effects += self._elect_again(now_s)
        elif log.last_index >= self._piece_end:
            effects += self._want(log.last_index)
        return effects

    def differs(self, node: NodeId, message: Differs) -> list[Effect]:
        if self.phase != "adopting" or node != self._source_node:
            return []
        return self._want(min(message.after_index, self._state.log.last_index))

    def written(self) -> None:
        if self.phase == "settling" and self._state.log.written == self._state.log.last_index:
            self.phase = "won"

    def time_passed(self, *, now_s: float) -> list[Effect]:
        if now_s < self.until_s:
            return []
        if self.phase == "asking" and self._enough() and not self._somebody_hears():
            return self._promise(now_s)
        if self.phase == "electing" and self._enough():
            return self._adopt(now_s)
        if self.phase in ("asking", "electing", "adopting"):
            self.fail("too few votes in time")
        return []

    def fail(self, why: str) -> None:
        self.phase, self.why = "failed", why

    @property
    def votes(self) -> tuple[Signed, ...]:
        """Those of others, signed: where the latest set cannot be proven, those of the set before may be enough."""
        return tuple([answer.vote for answer in self._answers.values() if answer.granted and answer.vote])

    @property
    def unsure(self) -> bool:
        """What was promised last may be lost, as far as the votes tell."""
        state = self._state
        return state.unsure if not self._quorum else self._sure_voters() < state.log.latest.enough

    @property
    def ends_s(self) -> float:
        """When it fails by itself; promising and settling wait for the own disk, as long as it takes."""
        return self.until_s if self.phase in ("asking", "electing", "adopting") else float("inf")

    # --- what follows

    def _go_on(self, now_s: float) -> list[Effect]:
        if not self._enough() or not self._all_heard():
            return []
        if self.phase == "asking":
            return [] if self._somebody_hears() and not self._quorum else self._promise(now_s)
        return self._adopt(now_s) if self.phase == "electing" else []

    def _promise(self, now_s: float) -> list[Effect]:
        if self._state.promised is not None and self._state.promised >= self.epoch:
            self.fail("somebody else was promised a higher epoch")
            return []
        self._enter("promising", now_s)
        self._answers.clear()
        self._asked.clear()
        return self._state.promise(self.epoch)

    def _adopt(self, now_s: float) -> list[Effect]:
        log = self._state.log
        best, best_node = None, None
        for node, answer in self._answers.items():
            if log.quorum is not None and log.quorum.binds(_quorum_of(answer)):
                continue  # whatever its epochs: it was written without the quorum that this journal knows
            if answer.granted and _reaches(answer.last_epoch, answer.last_index) > (
                _reaches(best.last_epoch, best.last_index) if best else _reaches(log.last_epoch, log.last_index)
            ):
                best, best_node = answer, node
        if best is None:
            self.phase = "settling"
            self.written()
            return []
        self._source, self._source_node = best, best_node
        self._enter("adopting", now_s)
        self.until_s = now_s + PIECE_S
        return self._want(min(log.last_index, best.last_index))

    def _elect_again(self, now_s: float) -> list[Effect]:
        """The adopted journal may bring another set (4.1: whoever has it goes by it)."""
        if not self._state.seated:
            self.fail("there is no seat for this node in the set of the adopted journal")
            return []
        self._source = self._source_node = None
        self._enter("electing", now_s)
        return self._ask_all() + self._go_on(now_s)

    def _want(self, after_index: int) -> list[Effect]:
        state, source, node = self._state, self._source, self._source_node
        assert source is not None
        assert node is not None
        self._piece_end = min(after_index + PIECE_ENTRIES, source.last_index)
        after_epoch = state.log.epoch_at(after_index)
        return [Send(node, WantEntries(state.app, self.epoch, after_index, after_epoch, self._piece_end))]

    def _enter(self, phase: Phase, now_s: float) -> None:
        self.phase = phase
        self.until_s = now_s + max(self._wait_s, ANSWER_S)

    def _ask_all(self) -> list[Effect]:
        found: list[Effect] = []
        for node in self._to_ask:
            if node not in self._asked and self._state.reach.lost(node) is None:
                found.append(self._question(node))
        return found

    @property
    def _to_ask(self) -> tuple[NodeId, ...]:
        others = self._state.others
        if self._quorum:
            return (*others, *self._leaving)
        return others if self._stranger is None else (*others, self._stranger)

    @property
    def _leaving(self) -> tuple[NodeId, ...]:
        """Who has no seat in the latest set, and has one before an uncommitted change. That may have come to too few
        journals to be proven; then this copy may coordinate by votes of the set before, of which these are some."""
        log = self._state.log
        before = {node: None for _, each in log.uncommitted_changes() for node in each.nodes}
        return tuple([node for node in before if node not in log.latest.nodes])

    def _question(self, node: NodeId) -> Effect:
        self._asked.add(node)
        return Send(node, ask_vote(self._state, self.epoch, pre=self.phase == "asking"))

    # --- counting

    @property
    def _quorum(self) -> bool:
        return self._state.log.latest.quorum

    def _voters(self) -> set[NodeId]:
        """Those who voted with the very journal that has a seat in the latest set."""
        found = set()
        for node, answer in self._answers.items():
            if answer.granted and Seat(node, answer.journal) in self._state.log.latest.seats:
                found.add(node)
        return found

    def _sure_voters(self) -> int:
        """This copy included."""
        sure = [node for node in self._voters() if not self._answers[node].unsure]
        return len(sure) + (not self._state.unsure)

    def _enough(self) -> bool:
        state, latest = self._state, self._state.log.latest
        if not state.seated or state.new:
            return False
        if not latest.quorum:
            return True
        voters = 1 + len(self._voters())
        return self._sure_voters() >= latest.enough or (
            voters >= latest.enough and voters + self._seats_gone() == len(latest.seats)
        )

    def _seats_gone(self) -> int:
        """Of how many the journal is no more, as their nodes say."""
        latest = self._state.log.latest
        seats = {node: latest.seat_of(node) for node in self._answers}
        return sum(seat is not None and seat.journal != self._answers[node].journal for node, seat in seats.items())

    def _all_heard(self) -> bool:
        """Where one's own vote suffices, the others are heard first, as far as they are in reach: theirs may be the
        better journal. Where a quorum does, those are whose votes may be needed to prove it."""
        up, awaited = self._state.reach.up, self._leaving if self._quorum else self._to_ask
        return all(node in self._answers for node in awaited if node in up)

    def _somebody_hears(self) -> bool:
        return not self._quorum and any(
            each.hears not in (None, self._state.me.node) for each in self._answers.values()
        )


def _quorum_of(answer: VoteAnswer) -> QuorumSince | None:
    return QuorumSince(answer.quorum_since, answer.bound) if answer.quorum_since is not None else None


def _reaches(epoch: Epoch | None, index: int) -> tuple[int, str, int]:
    return (epoch.counter, epoch.node, index) if epoch is not None else (0, "", index)
