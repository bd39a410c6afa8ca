"""Who may take over: what this copy answers when it is asked (Ongaro 2014, sections 3.4 and 9.6).

It promises at most once per epoch and never a lower one, and only a promise that is on the disk is given. How far the
candidate's own journal goes is no reason to refuse: the candidate adopts the best journal among its voters. What the
voter's own latest set says of its own seat is none either: a newcomer may be needed for a set of which it has not heard
yet (section 4.1), and the candidate counts only journals that have a seat in its set. But where an application went on
without a quorum and came to need one, whoever was away meanwhile may have gone on alone, in higher epochs: against
such a journal the voter stands by what the quorum has promised (`QuorumSince.binds`).

A copy that is unsure promises like any other, and says what it is: see `candidacy` for what that is worth.
"""

from __future__ import annotations

from jcpeer.ft.belief import Belief
from jcpeer.ft.events import Effect, Send, Ship
from jcpeer.ft.log import QuorumSince
from jcpeer.ft.state import CopyState
from jcpeer.ids import Epoch, NodeId, short
from jcpeer.wire.replication import AskVote, Differs, VoteAnswer, WantEntries


def ask_vote(state: CopyState, epoch: Epoch, *, pre: bool) -> AskVote:
    """This copy's question."""
    latest, quorum = state.log.latest.number, state.log.quorum
    since, bound = (quorum.epoch, quorum.committed) if quorum is not None else (None, False)
    return AskVote(state.app, epoch, pre, state.placed, latest, since, bound)


class Voting:
    """One copy's votes; not for one that coordinates."""

    def __init__(self, state: CopyState, belief: Belief) -> None:
        self._state = state
        self._belief = belief
        self._awaited: dict[NodeId, AskVote] = {}
        """Those who were refused because the coordinator lives, and their last question."""
        self._promising: AskVote | None = None

    def ask(self, node: NodeId, question: AskVote) -> list[Effect]:
        self._state.note(question.epoch)
        why = self._objection(node, question)
        if why:
            if self._belief.alive:
                self._awaited[node] = question
            return [self._answer(node, question.epoch, pre=question.pre, why=why)]
        self._awaited.pop(node, None)
        if question.pre:
            return [self._answer(node, question.epoch, pre=True)]
        effects = self._state.promise(question.epoch)
        self._promising = question
        return effects + self.promised()

    def promised(self) -> list[Effect]:
        """A promise is on the disk: whoever waits for it gets it."""
        question = self._promising
        if question is None or not self._state.holds(question.epoch):
            return []
        self._promising = None
        if self._state.promised != question.epoch:
            return []  # a higher one was made since, and the vote is worth nothing any more
        return [self._answer(question.epoch.node, question.epoch, pre=False)]

    def coordinator_lost(self) -> list[Effect]:
        """Those who asked before this copy knew are answered again: they need not ask twice."""
        awaited, self._awaited = self._awaited, {}
        return [effect for node, question in awaited.items() if question.pre for effect in self.ask(node, question)]

    def forget_asked(self) -> None:
        self._awaited.clear()

    def refuse(self, node: NodeId, epoch: Epoch) -> Effect:
        """What comes with this epoch is not obeyed here any more."""
        return self._answer(node, epoch, pre=False, why="has promised a higher epoch")

    def ask_for_reign(self, coordinator: NodeId) -> Effect:
        """Whoever coordinates says so when it is asked for a vote; it changes nothing."""
        state = self._state
        epoch = Epoch(state.counter_max + 1, state.me.node)
        return Send(coordinator, ask_vote(state, epoch, pre=True))

    def report(self, coordinator: NodeId, epoch: Epoch, rival: Epoch) -> Effect:
        """Somebody reigns in a higher epoch by a right that has been outlived: only a still higher one ends that."""
        return self._answer(coordinator, epoch, pre=False, why="has heard of a rival", highest=rival)

    def send_entries(self, node: NodeId, wanted: WantEntries) -> list[Effect]:
        """To a candidate that has this copy's promise; nobody can have changed the journal since."""
        state, log = self._state, self._state.log
        if state.promised != wanted.epoch or wanted.epoch.node != node or not state.holds(wanted.epoch):
            return []
        if not log.has(wanted.after_index, wanted.after_epoch):
            hint = log.before_run(wanted.after_index)
            return [Send(node, Differs(state.app, wanted.epoch, state.me.journal, hint))]
        last = max(min(log.last_index, wanted.last_index), wanted.after_index)
        return [Ship(node, wanted.epoch, wanted.after_index, wanted.after_epoch, last, committed=0)]

    def _objection(self, node: NodeId, question: AskVote) -> str:
        state, epoch = self._state, question.epoch
        if epoch.node != node:
            return "cannot vote for somebody else's epoch"
        if state.retired:
            return "is leaving"
        if state.new:
            return "is new, and has not caught up yet"
        if state.promised is not None and epoch < state.promised:
            return f"has promised epoch {state.promised.counter} to {short(state.promised.node)}"
        latest = state.log.latest
        if latest.number > question.set_number and node not in latest.nodes:
            return "knows a later set, in which you have no seat"
        asked = QuorumSince(question.quorum_since, question.bound) if question.quorum_since is not None else None
        if state.log.quorum is not None and state.log.quorum.binds(asked):
            return "has what a quorum has promised, and you have not"
        if self._belief.alive and self._belief.coordinator != node:
            return f"hears the coordinator {short(self._belief.coordinator or '')}"
        return ""

    def _answer(self, node: NodeId, epoch: Epoch, *, pre: bool, why: str = "", highest: Epoch | None = None) -> Effect:
        state, quorum = self._state, self._state.log.quorum
        if highest is None:
            highest = max((each for each in (state.promised, self._belief.reign) if each is not None), default=None)
        return Send(
            node,
            VoteAnswer(
                state.app,
                epoch,
                pre,
                not why,
                state.me.journal,
                last_index=state.log.last_index,
                last_epoch=state.log.last_epoch,
                highest=highest,
                why=why,
                hears=self._belief.coordinator if self._belief.alive else None,
                unsure=state.unsure,
                quorum_since=quorum.epoch if quorum is not None else None,
                bound=quorum is not None and quorum.committed,
            ),
        )
