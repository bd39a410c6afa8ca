"""One copy of one application's journal: obeying, voting, taking over, coordinating, leaving.

Raft (Ongaro 2014) with one small group per application, candidates in rank order instead of by chance, two quorum sizes
as parameters, and a candidate that adopts the best journal among its voters instead of needing the best itself. Fencing
by epoch and `ack` + `votes` > seats carry the safety; beliefs and leases only decide when a takeover is tried.

- Epoch 1 belongs to the first seat of the set that the submitter signed; any other is won (`candidacy`).
- A promise is on the disk before anything is said that rests on it, and never goes down.
- What was committed under a quorum stays; what was not is replaced where the coordinator has something else.

The parts: `log` the shape of the journal, `state` what was promised and who is in reach, `belief` whether the
coordinator lives, `following` obeying it, `voting` answering candidates, `candidacy` being one, `leading` coordinating,
`seating` keeping the set whole. Left to the shell (`node.copies`): the entries, the disk, signatures and mandates.
"""

from __future__ import annotations

from math import inf
from typing import Literal, assert_never

from jcpeer.application.manifest import Placed, ReplicaSet, Seat
from jcpeer.errors import LocalProtocolError
from jcpeer.ft.belief import GRANTED_S, Belief
from jcpeer.ft.candidacy import Candidacy
from jcpeer.ft.events import (
    BeginReign,
    Down,
    Dropped,
    Effect,
    EndReign,
    Event,
    Heard,
    Heeded,
    LogShape,
    Newcomers,
    PassOnReign,
    Promised,
    Recorded,
    Recover,
    ReignHeard,
    Retire,
    Send,
    Tick,
    Told,
    Unproven,
    Up,
    Woke,
    Written,
)
from jcpeer.ft.following import Following
from jcpeer.ft.leading import Leading
from jcpeer.ft.log import Log, QuorumSince
from jcpeer.ft.seating import Seating
from jcpeer.ft.state import CopyState
from jcpeer.ft.voting import Voting
from jcpeer.ids import AppId, Epoch, NodeId, short
from jcpeer.wire.codec import unpack
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import (
    AppendEntries,
    AskVote,
    Differs,
    GiveUpSeat,
    Kept,
    NoSeat,
    Retired,
    VoteAnswer,
    WantEntries,
)

Role = Literal["coordinator", "candidate", "follower", "learner"]

BACKOFF_S = 0.3
"""After a takeover that came to nothing; differs by rank, and grows up to the next."""
BACKOFF_S_MAX = 2.0
RECOVERED_EPOCHS = 1000
"""An epoch by the user's word is so much higher than any that was heard of: there may be some that were not."""
FORGOTTEN_S = 60.0
"""A newcomer that never got a seat is of no use to anybody after so long without a coordinator."""


class Replica:
    """Feed every event to `handle`, in order, and perform the effects in order. Invariants: see `check`."""

    def __init__(
        self,
        *,
        app: AppId,
        me: Seat,
        placed: Signed,
        first_set: ReplicaSet,
        shape: LogShape,
        now_s: float,
        learner: bool = False,
    ) -> None:
        """`learner`: this copy is new, made because a coordinator invited this node; it is kept as unsure."""
        self._state = CopyState(
            app=app,
            me=me,
            placed=placed,
            header=unpack(placed.payload, Placed).header,
            log=Log(first_set, shape),
            promised=shape.promised,
            kept_promise=shape.promised,
            unsure=shape.unsure or learner,
            new=shape.new or learner,
        )
        self._state.note(shape.promised)
        self._state.note(self._state.log.last_epoch)
        self._belief = Belief(self._state, now_s=now_s)
        self._voting = Voting(self._state, self._belief)
        self._following: Following | None = None
        self._candidacy: Candidacy | None = None
        self._leading: Leading | None = None
        self._seating: Seating | None = None
        self._recovering: Epoch | None = None
        self._newcomers: tuple[Seat, ...] = ()
        self._tries = 0
        self._gone = False
        self._forgotten_s = now_s + FORGOTTEN_S if learner else inf

    # --- how it begins

    def open(self, *, now_s: float) -> list[Effect]:
        """This node is the first seat of a new application: it coordinates."""
        state = self._state
        if state.log.last_index or state.promised is not None or state.log.latest.seats[0] != state.me:
            raise LocalProtocolError(f"{short(state.app)} does not begin here")
        epoch = Epoch(1, state.me.node)
        effects = state.promise(epoch)
        return effects + self._begin_reign(epoch, (), predecessor=None, since_s=now_s, now_s=now_s)

    def start(self, *, now_s: float) -> list[Effect]:
        """After a restart, or as a copy that was just made because somebody wrote to it."""
        self._belief.know_nothing(now_s=now_s)
        return self._settle([], now_s)

    # --- for the shell and for people

    @property
    def role(self) -> Role:
        if self._leading is not None:
            return "coordinator"
        if self._state.unsure or not self._state.seated:
            return "learner"
        return "candidate" if self._candidacy is not None else "follower"

    @property
    def coordinator(self) -> NodeId | None:
        """As believed."""
        if self._leading is not None:
            return self._state.me.node
        return self._belief.coordinator if self._belief.faith in ("alive", "doubted") else None

    @property
    def epoch(self) -> Epoch | None:
        """Of the highest reign that this copy knows of."""
        return self._leading.epoch if self._leading is not None else self._belief.reign

    @property
    def replica_set(self) -> ReplicaSet:
        return self._state.log.latest

    @property
    def committed(self) -> int:
        return self._state.log.committed

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    @property
    def promised(self) -> Epoch | None:
        """No entry and no vote of a lower epoch any more, as soon as it is on the disk."""
        return self._state.promised

    @property
    def unsure(self) -> bool:
        return self._state.unsure

    @property
    def missing(self) -> tuple[NodeId, ...]:
        """Seats out of reach."""
        if self._leading is not None:
            return self._leading.missing()
        return tuple([node for node in self._state.others if node not in self._state.reach.up])

    def may_have_missed_an_end(self, epoch: Epoch) -> bool:
        """A seat says that the application ended in this epoch: whether that is an end for this copy, which may have
        been away. With a quorum it is one for all; with less another copy may have gone on in a later epoch."""
        known = [each for each in (self.epoch, self.promised) if each is not None]
        return self.role != "coordinator" and (self.replica_set.quorum or all(each <= epoch for each in known))

    @property
    def has_untold(self) -> bool:
        """It coordinates, and others in reach do not know yet what is committed."""
        return self._leading is not None and self._leading.has_untold

    @property
    def ftc(self) -> NodeId | None:
        """The next seat in rank after the coordinator that is in reach, this node included."""
        state = self._state
        coordinator = self.coordinator
        for node in state.order_after(coordinator):
            if node != coordinator and (node == state.me.node or node in state.reach.up):
                return node
        return None

    @property
    def stalled(self) -> tuple[NodeId, ...]:
        """Who is missing for a promise, where too few are in reach."""
        if self._leading is not None:
            return self._leading.stalled
        latest, missing = self._state.log.latest, self.missing
        return missing if len(latest.seats) - len(missing) < latest.enough else ()

    @property
    def rivals(self) -> frozenset[NodeId]:
        """Who may coordinate as well, unknown to this node, which does; or who does so without a seat in its set."""
        if self._leading is not None:
            return self._leading.rivals
        return frozenset() if self._belief.stranger is None else frozenset({self._belief.stranger})

    @property
    def shown(self) -> bool:
        """This node coordinates, and others may hear of it."""
        return self._leading is not None and self._leading.alone is None

    def ever_had_seat(self, node: NodeId) -> bool:
        """In some set of this journal."""
        return any(node in each.nodes for each in self._state.log.sets())

    def shape(self) -> LogShape:
        """The journal as ordered until now."""
        return self._state.log.shape(promised=self._state.promised, unsure=self._state.unsure, new=self._state.new)

    def wake_s(self) -> float:
        """When a `Tick` has something to do, if nothing else happens."""
        if self._gone:
            return inf
        times = [self._forgotten_s]
        if self._leading is not None and self._seating is not None:
            times += [self._leading.wake_s(), self._seating.wake_s()]
        elif self._candidacy is not None:
            times.append(self._candidacy.ends_s)
        elif self._may_stand():
            times += [self._belief.may_stand_s(), self._belief.check_s]
        return min(times)

    # --- events

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        return [] if self._gone else self._settle(self._handle(event, now_s), now_s)

    def _handle(self, event: Event, now_s: float) -> list[Effect]:
        match event:
            case Heard(node, message):
                return self._hear(node, message, now_s)
            case ReignHeard():
                return self._reign_heard(event, now_s)
            case Recorded():
                return self._recorded(event, now_s)
            case Written(index):
                return self._written(index, now_s)
            case Promised(epoch):
                return self._promised(epoch, now_s)
            case Up(node):
                return self._up(node, now_s)
            case Down():
                return self._down(event, now_s)
            case Newcomers(seats):
                self._newcomers = seats
                if self._seating is not None:
                    self._seating.offer(seats)
                return []
            case Retire():
                return self._retire(now_s)
            case Told():
                return self._following.told() if self._following is not None else []
            case Recover():
                return self._recover()
            case Unproven():
                effects = self._abdicate("it cannot be proven that it may")
                self._belief.know_nothing(now_s=now_s)
                return effects
            case Woke():
                return self._woke(now_s)
            case Tick():
                return self._time_passed(now_s)
            case _:
                assert_never(event)

    def _hear(self, node: NodeId, message: Heeded, now_s: float) -> list[Effect]:
        if message.app != self._state.app or node == self._state.me.node:
            return []
        leading, candidacy = self._leading, self._candidacy
        match message:
            case AppendEntries():
                return self._append(node, message, now_s)
            case AskVote():
                return self._vote_asked(node, message, now_s)
            case VoteAnswer():
                return self._vote_answered(node, message, now_s)
            case WantEntries():
                return self._voting.send_entries(node, message) if leading is None else []
            case Kept():
                return leading.kept(node, message, now_s=now_s) if leading is not None else []
            case Differs():
                if leading is not None:
                    return leading.differs(node, message, now_s=now_s)
                mine = candidacy is not None and candidacy.epoch == message.epoch
                return candidacy.differs(node, message) if candidacy is not None and mine else []
            case NoSeat():
                if leading is not None:
                    leading.no_seat(node, message)
                return []
            case Retired(_, epoch, successor):
                following = self._following
                if following is None or (following.coordinator, following.epoch) != (node, epoch):
                    return []
                self._belief.retire(successor, now_s=now_s)
                return self._voting.coordinator_lost()
            case GiveUpSeat():
                if self._seating is not None:
                    self._seating.leaves(node)
                return []
            case _:
                assert_never(message)

    # --- obeying

    def _reign_heard(self, event: ReignHeard, now_s: float) -> list[Effect]:
        state, belief, leading = self._state, self._belief, self._leading
        node, epoch = event.node, event.epoch
        state.note(epoch)
        if node == state.me.node:
            return []
        if leading is not None and epoch < leading.epoch:
            return leading.visit(node, now_s=now_s)
        if self._outlived(epoch, event.proven) and not event.recovered:
            return self._outdo(node, epoch, now_s)
        if belief.reign is not None and epoch < belief.reign:
            return [self._voting.refuse(node, epoch)]
        followers = tuple([each for each in leading.followers if each != node]) if leading is not None else ()
        effects: list[Effect] = self._abdicate(f"{short(node)} coordinates, in epoch {epoch.counter}")
        if followers:
            effects.append(PassOnReign(followers))
        if event.passed_on and (belief.reign is None or epoch > belief.reign):
            effects.append(self._voting.ask_for_reign(node))  # it says so itself, once it knows of this copy
        self._candidacy, self._tries, self._forgotten_s = None, 0, inf
        belief.hear(node, epoch, now_s=now_s)
        if state.promised is not None and epoch < state.promised:
            # It lives, and will rule again in a higher epoch once it knows, if it takes this copy for one of its own.
            belief.doubt(now_s=now_s)
            return [*effects, self._voting.refuse(node, epoch)]
        self._voting.forget_asked()
        effects += state.promise(epoch)
        following = self._following
        if following is None or following.epoch != epoch:
            following = Following(state, node, epoch, invited=event.invited, recovered=event.recovered)
            self._following = following
        else:
            following.hear_again(invited=event.invited)
        return effects + following.look_for_seat()

    def _outlived(self, epoch: Epoch, proven: ReplicaSet) -> bool:
        """Votes of a set in which one sufficed count no more once a later one is known to need a quorum: whoever was
        away meanwhile may have gone on alone, and must not take back what was promised since."""
        quorum = self._state.log.quorum
        return quorum is not None and quorum.committed and not proven.quorum and epoch > quorum.epoch

    def _outdo(self, node: NodeId, rival: Epoch, now_s: float) -> list[Effect]:
        following = self._following
        if self._leading is not None:
            return self._abdicate("somebody who was away reigns in a higher epoch") + self._stand(now_s)
        if following is None or not self._belief.alive:
            return [self._voting.refuse(node, rival)]  # which tells it what it lacks
        if rival < following.epoch:
            return []
        return [self._voting.report(following.coordinator, following.epoch, rival)]

    def _append(self, node: NodeId, message: AppendEntries, now_s: float) -> list[Effect]:
        state, candidacy, following = self._state, self._candidacy, self._following
        if candidacy is not None and message.epoch == candidacy.epoch:
            return candidacy.take(node, message, now_s=now_s)
        if self._leading is not None:
            return self._leading.visit(node, now_s=now_s) if message.epoch < self._leading.epoch else []
        highest = max((each for each in (state.promised, self._belief.reign) if each is not None), default=None)
        if highest is not None and message.epoch < highest:
            return [self._voting.refuse(node, message.epoch)]
        if following is None or (following.coordinator, following.epoch) != (node, message.epoch):
            return []  # of whose reign nothing was heard yet
        self._belief.check_s = inf
        return following.append(message)

    def _written(self, index: int, now_s: float) -> list[Effect]:
        log = self._state.log
        if min(index, log.last_index) <= log.written:
            return []
        log.written = min(index, log.last_index)
        if self._candidacy is not None:
            self._candidacy.written()
        if self._leading is not None:
            return self._leading.commit(now_s=now_s)
        return self._following.acknowledge() if self._following is not None else []

    def _promised(self, epoch: Epoch, now_s: float) -> list[Effect]:
        state = self._state
        if state.kept_promise is not None and epoch <= state.kept_promise:
            return []
        state.kept_promise = epoch
        effects = self._voting.promised()
        if self._candidacy is not None:
            effects += self._candidacy.promised(now_s=now_s)
        if self._leading is not None and state.holds(self._leading.epoch):
            effects += self._leading.begin(now_s=now_s) + self._leading.commit(now_s=now_s)
        if self._following is not None:
            effects += self._following.acknowledge()
        return effects

    # --- voting

    def _vote_asked(self, node: NodeId, question: AskVote, now_s: float) -> list[Effect]:
        state, belief = self._state, self._belief
        if self._leading is not None:
            state.note(question.epoch)
            return self._leading.visit(node, now_s=now_s)
        if belief.alive and belief.coordinator == node:
            belief.doubt(now_s=now_s)  # one that coordinates does not ask
        before = state.promised
        effects = self._voting.ask(node, question)
        if node in state.others and belief.coordinator is not None and belief.check(now_s=now_s):
            # Who asks has lost it. Over this connection it may have spoken long ago: asked, it speaks again.
            effects.append(self._voting.ask_for_reign(belief.coordinator))
        if state.promised != before:
            self._candidacy = None
            belief.wait(GRANTED_S, now_s=now_s)
        return effects

    def _vote_answered(self, node: NodeId, answer: VoteAnswer, now_s: float) -> list[Effect]:
        self._state.note(answer.highest)
        if self._leading is not None:
            return self._renew(node, answer, now_s)
        return self._candidacy.answered(node, answer, now_s=now_s) if self._candidacy is not None else []

    def _renew(self, node: NodeId, answer: VoteAnswer, now_s: float) -> list[Effect]:
        """A seat has promised a higher epoch, to somebody who did not win it perhaps: only a new reign gets it back."""
        leading = self._leading
        seated = Seat(node, answer.journal) in self._state.log.latest.seats
        if leading is None or not seated:
            return []
        if answer.bound and answer.quorum_since is not None:
            quorum = QuorumSince(answer.quorum_since, committed=True)
            if quorum.binds(self._state.log.quorum):
                effects = self._abdicate(f"{short(node)} has what a quorum has promised meanwhile")
                self._belief.know_nothing(now_s=now_s)
                return effects
        if answer.highest is None or answer.highest <= leading.epoch:
            return []
        effects = self._abdicate(f"{short(node)} has promised epoch {answer.highest.counter}")
        return effects + self._stand(now_s)

    # --- taking over

    def _may_stand(self) -> bool:
        if self._leading is not None or self._candidacy is not None or self._recovering is not None:
            return False
        log = self._state.log
        # Where it needs nobody's vote, a copy that never got anything would take all back that others have.
        bare = not log.last_index and not log.latest.quorum and bool(self._state.others)
        return not self._state.retired and not log.over and not bare

    def _stand(self, now_s: float) -> list[Effect]:
        state = self._state
        state.note(state.promised)
        epoch = Epoch(state.counter_max + 1, state.me.node)
        rank = state.rank_after(self._belief.coordinator)
        wait_s = min(BACKOFF_S * (1 + rank) * 2**self._tries, BACKOFF_S_MAX * (1 + rank / 4))
        self._tries = min(self._tries + 1, 8)
        self._candidacy = Candidacy(state, epoch, wait_s=wait_s, now_s=now_s, stranger=self._belief.stranger)
        return self._candidacy.begin(now_s=now_s)

    def _begin_reign(
        self,
        epoch: Epoch,
        votes: tuple[Signed, ...],
        *,
        predecessor: NodeId | None,
        since_s: float,
        now_s: float,
        alone: ReplicaSet | None = None,
        unsure: bool = False,
    ) -> list[Effect]:
        state = self._state
        effects = state.catch_up()
        self._following = self._candidacy = None
        self._tries = 0
        self._voting.forget_asked()
        self._belief.hear(state.me.node, epoch, now_s=now_s)
        self._belief.stand_s = inf
        self._leading = Leading(state, epoch, alone=alone, now_s=now_s)
        self._seating = Seating(state, self._leading)
        self._seating.offer(self._newcomers)
        effects.append(BeginReign(epoch, votes, predecessor, since_s, alone, unsure))
        return [*effects, *(self._leading.begin(now_s=now_s) if state.holds(epoch) else [])]

    def _abdicate(self, why: str) -> list[Effect]:
        if self._leading is None:
            return []
        ended = self._leading.ended
        self._leading = self._seating = None
        self._belief.coordinator = None
        return [] if ended else [EndReign(why)]

    # --- connections

    def _up(self, node: NodeId, now_s: float) -> list[Effect]:
        belief = self._belief
        self._state.reach.note_up(node)
        if self._leading is not None and self._seating is not None:
            self._seating.comes_back(node)
            return self._leading.up(node, now_s=now_s)
        if node == belief.coordinator and belief.successor is None:
            belief.doubt(now_s=now_s)
        belief.note_known(now_s=now_s)
        return self._candidacy.up(node) if self._candidacy is not None else []

    def _down(self, event: Down, now_s: float) -> list[Effect]:
        state, belief, node = self._state, self._belief, event.node
        interesting = {*state.log.latest.nodes, *[seat.node for seat in self._newcomers]}
        state.reach.note_lost(node, event.proof, now_s=now_s)
        state.reach.keep(interesting | ({belief.coordinator} if belief.coordinator else set()))
        if self._leading is not None:
            return self._leading.down(node, now_s=now_s, parted=event.proof == "parted")
        effects: list[Effect] = []
        if node == belief.coordinator:
            if event.proof == "parted":
                effects += self._following.remind() if self._following is not None else []
            elif belief.faith != "dead":
                belief.lose(event.proof, now_s=now_s)
                effects += self._voting.coordinator_lost()
        elif node in state.others:
            belief.pass_over(now_s=now_s)
        belief.note_known(now_s=now_s)
        if self._candidacy is not None:
            effects += self._candidacy.down(node, now_s=now_s)
        return effects

    # --- the node's own fate

    def _retire(self, now_s: float) -> list[Effect]:
        self._state.retired = True
        self._candidacy = None
        if self._leading is not None:
            return self._leading.retire(now_s=now_s)
        coordinator = self._belief.coordinator
        return [Send(coordinator, GiveUpSeat(self._state.app))] if self._belief.alive and coordinator else []

    def _recover(self) -> list[Effect]:
        state = self._state
        effects = self._abdicate("its user lets this copy go on alone")
        self._candidacy, self._following = None, None
        self._recovering = Epoch(state.counter_max + RECOVERED_EPOCHS, state.me.node)
        return effects + state.catch_up() + state.promise(self._recovering)

    def _woke(self, now_s: float) -> list[Effect]:
        if self._leading is not None:
            return self._leading.woke(now_s=now_s)
        self._candidacy = None
        self._belief.know_nothing(now_s=now_s)
        return []

    def _time_passed(self, now_s: float) -> list[Effect]:
        if self._leading is not None:
            return self._leading.time_passed(now_s=now_s)
        if self._candidacy is not None:
            return self._candidacy.time_passed(now_s=now_s)
        if now_s >= self._belief.check_s:
            self._belief.doubt(now_s=now_s)
            return self._voting.coordinator_lost()
        if now_s >= self._forgotten_s and not self._state.seated:
            self._gone = True
            return [Dropped()]
        return []

    def _recorded(self, event: Recorded, now_s: float) -> list[Effect]:
        leading = self._leading
        if leading is None or any(each.epoch != leading.epoch for each in event.entries):
            raise LocalProtocolError(f"entries of {short(self._state.app)} were recorded by nobody's right")
        self._state.log.append(event.entries)
        return leading.recorded(now_s=now_s)

    # --- what follows from whatever happened

    def _settle(self, effects: list[Effect], now_s: float) -> list[Effect]:
        if any(isinstance(each, Dropped) for each in effects):
            self._gone = True
            return effects
        effects = effects + self._settle_candidacy(now_s)
        if self._recovering is not None:
            effects += self._settle_recovery(now_s)
        if self._following is not None and self._following.epoch != self._state.promised:
            self._following = None  # outdone by a promise
        if self._leading is not None and self._seating is not None:
            effects += self._seating.go_on(now_s=now_s) + self._leading.hand_over_if_complete()
            if self._leading.ended:
                self._leading = self._seating = None
                self._belief.coordinator = None
        return effects

    def _settle_candidacy(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        failed = self._candidacy
        if failed is not None and failed.phase == "failed":
            self._candidacy = None
            self._belief.stand_s = now_s + failed.step_back_s  # if nothing came of asking: ask again
            if failed.epoch == self._state.promised:
                self._belief.stand_s += BACKOFF_S * (1 + self._state.rank_after(self._belief.coordinator))
        if self._may_stand() and now_s >= self._belief.may_stand_s():
            effects += self._stand(now_s)
        won = self._candidacy
        if won is not None and won.phase == "won":
            belief = self._belief
            since_s = now_s if belief.missed_s is None else belief.missed_s
            effects += self._begin_reign(
                won.epoch,
                won.votes,
                predecessor=belief.coordinator,
                since_s=since_s,
                now_s=now_s,
                unsure=won.unsure,
            )
        return effects

    def _settle_recovery(self, now_s: float) -> list[Effect]:
        epoch, log = self._recovering, self._state.log
        if epoch is None or not self._state.holds(epoch) or log.written < log.last_index:
            return []
        self._recovering = None
        if self._state.promised != epoch:
            return []
        alone = ReplicaSet(log.latest.number + 1, (self._state.me,), quorum=False)
        predecessor = self._belief.coordinator
        return self._begin_reign(epoch, (), predecessor=predecessor, since_s=now_s, now_s=now_s, alone=alone)

    def check(self) -> None:
        """Assert what holds after each event."""
        state = self._state
        state.log.check()
        assert state.kept_promise is None or (state.promised is not None and state.kept_promise <= state.promised)
        assert state.log.last_epoch is None or (state.promised is not None and state.log.last_epoch <= state.promised)
        assert sum(each is not None for each in (self._leading, self._candidacy, self._recovering)) <= 1
        if self._leading is not None:
            assert not state.unsure
            self._leading.check()
        if self._following is not None:
            self._following.check()
