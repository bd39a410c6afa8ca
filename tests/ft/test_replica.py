"""One copy of a journal: what each event makes of it."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header, Placed, ReplicaSet, Seat, Takeover
from jcpeer.errors import LocalProtocolError
from jcpeer.ft import events as ft
from jcpeer.ft.events import Heard, LogShape, Run, SetChange
from jcpeer.ft.replica import Replica
from jcpeer.ids import Epoch, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import Cancelled, Entry, ReplicasChanged
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
from tests.ft.little_world import APP, VOTE, World

A, B, C, D = (NodeId(name) for name in ("n0", "n1", "n2", "n3"))
E1, E2, E3 = Epoch(1, A), Epoch(2, B), Epoch(3, C)
E3_OF_B = Epoch(3, B)
SEAT = {node: Seat(node, f"j.{node}") for node in (A, B, C, D)}
SET = ReplicaSet(0, (SEAT[A], SEAT[B], SEAT[C]), quorum=True)
THREE_OF_EPOCH_1 = LogShape((Run(1, E1),), last_index=3, committed=2, promised=E1)


def placed(replicas: int = 3, takeover: Takeover = "default") -> Signed:
    return Signed(pack(Placed(APP, Header("x", 0.0, b"", replicas=replicas, takeover=takeover), SET.seats)), b"")


def copy_of(
    node: NodeId, shape: LogShape = THREE_OF_EPOCH_1, *, first_set: ReplicaSet = SET, learner: bool = False
) -> Replica:
    return Replica(
        app=APP, me=SEAT[node], placed=placed(), first_set=first_set, shape=shape, now_s=0.0, learner=learner
    )


def entries(first: int, last: int, epoch: Epoch) -> tuple[Entry, ...]:
    return tuple([Entry(epoch, index, 0.0, Cancelled(TaskId(f"t{index}"))) for index in range(first, last + 1)])


def append(after: int, after_epoch: Epoch | None, *more: Entry, epoch: Epoch = E2, committed: int = 0) -> AppendEntries:
    return AppendEntries(APP, epoch, after, after_epoch, more, (), committed)


def follower_of(coordinator: NodeId, epoch: Epoch, *, shape: LogShape = THREE_OF_EPOCH_1, me: NodeId = C) -> Replica:
    copy = copy_of(me, shape)
    copy.start(now_s=0.0)
    for node in (A, B, C):
        if node != me:
            copy.handle(ft.Up(node), now_s=0.0)
    copy.handle(ft.ReignHeard(coordinator, epoch, SET, invited=False), now_s=0.0)
    copy.handle(ft.Promised(epoch), now_s=0.0)
    return copy


def coordinator_of_two() -> Replica:
    """The first seat, in epoch 1, with one entry; the second has answered, the third is not there."""
    copy = copy_of(A, LogShape())
    copy.open(now_s=0.0)
    copy.handle(ft.Promised(E1), now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    copy.handle(ft.Recorded(entries(1, 1, E1)), now_s=0.0)
    copy.handle(ft.Written(1), now_s=0.0)
    copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, 1)), now_s=0.0)
    assert copy.committed == 1
    return copy


# --- beginning


def test_nothing_of_the_first_epoch_is_said_before_its_promise_is_on_the_disk() -> None:
    copy = copy_of(A, LogShape())
    assert copy.open(now_s=0.0) == [ft.Promise(E1), ft.BeginReign(E1, (), None, 0.0)]
    assert copy.handle(ft.Up(B), now_s=0.0) == []
    assert copy.handle(ft.Promised(E1), now_s=0.0)[0] == ft.SendReign(B)


def test_the_only_seat_takes_over_at_once_after_a_restart() -> None:
    alone = ReplicaSet(0, (SEAT[A],), quorum=False)
    copy = copy_of(A, first_set=alone)
    assert copy.start(now_s=5.0) == [ft.Promise(Epoch(2, A))]
    assert copy.handle(ft.Promised(Epoch(2, A)), now_s=5.0) == [ft.BeginReign(Epoch(2, A), (), None, 5.0)]


def test_a_new_journal_beside_the_lost_only_seat_is_no_seat() -> None:
    copy = copy_of(A, LogShape(), first_set=ReplicaSet(0, (Seat(A, "lost"),), quorum=False), learner=True)
    assert copy.start(now_s=0.0) == []
    assert copy.handle(ft.Tick(), now_s=30.0) == []
    assert copy.unsure


# --- obeying


def test_entries_are_acknowledged_only_when_promise_and_entries_are_on_the_disk() -> None:
    copy = copy_of(C)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    assert copy.handle(ft.ReignHeard(B, E2, SET, invited=False), now_s=0.0) == [ft.Promise(E2)]
    new = entries(4, 5, E2)
    assert copy.handle(Heard(B, append(3, E1, *new)), now_s=0.0) == [ft.Write(new, (), synced=False)]
    assert copy.handle(ft.Written(5), now_s=0.0) == []
    assert copy.handle(ft.Promised(E2), now_s=0.0) == [ft.Send(B, Kept(APP, E2, SEAT[C].journal, 5))]


def test_entries_of_a_reign_that_was_not_announced_change_nothing() -> None:
    copy = follower_of(A, E1)
    assert copy.handle(Heard(B, append(3, E1, *entries(4, 4, E2))), now_s=0.0) == []
    assert copy.last_index == 3


def test_a_lower_epoch_is_refused_and_told_of_the_promise() -> None:
    copy = follower_of(B, E2)
    effects = copy.handle(Heard(A, append(3, E1, *entries(4, 4, E1), epoch=E1)), now_s=0.0)
    (answer,) = [each.message for each in effects if isinstance(each, ft.Send)]
    assert isinstance(answer, VoteAnswer)
    assert (answer.granted, answer.highest, copy.last_index) == (False, E2, 3)


def test_a_conflict_takes_back_what_was_not_committed_and_late_duplicates_change_nothing() -> None:
    copy = follower_of(B, E2)
    first = append(2, E1, *entries(3, 4, E2))
    effects = copy.handle(Heard(B, first), now_s=0.0)
    assert effects == [ft.Truncate(2), ft.Write(entries(3, 4, E2), (), synced=False)]
    copy.handle(Heard(B, append(4, E2, *entries(5, 9, E2))), now_s=0.0)
    assert copy.handle(Heard(B, first), now_s=0.0) == []
    assert copy.last_index == 9


def test_where_journals_differ_the_hint_skips_the_whole_epoch() -> None:
    copy = follower_of(C, E3, shape=LogShape((Run(1, E1), Run(4, E2)), 9, 0, promised=E2), me=B)
    effects = copy.handle(Heard(C, append(7, E3, epoch=E3)), now_s=0.0)
    assert effects == [ft.Send(C, Differs(APP, E3, SEAT[B].journal, 3))]


def test_taking_back_what_was_committed_by_a_quorum_is_a_broken_promise() -> None:
    copy = follower_of(B, E2)
    with pytest.raises(LocalProtocolError, match="ours is committed"):
        copy.handle(Heard(B, append(1, E1, *entries(2, 2, E2))), now_s=0.0)


def test_what_is_called_committed_reaches_no_further_than_what_agrees() -> None:
    copy = follower_of(B, E2)
    assert ft.Committed(3) in copy.handle(Heard(B, append(3, E1, committed=99)), now_s=0.0)


# --- voting


def test_a_vote_is_given_once_the_promise_is_on_the_disk_and_never_for_a_lower_epoch() -> None:
    copy = copy_of(C)
    copy.start(now_s=0.0)
    assert copy.handle(Heard(B, AskVote(APP, E2, False, placed())), now_s=0.0) == [ft.Promise(E2)]
    (send,) = copy.handle(ft.Promised(E2), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert (send.message.granted, send.message.last_index, send.message.last_epoch) == (True, 3, E1)
    (refused,) = copy.handle(Heard(A, AskVote(APP, Epoch(2, A), False, placed())), now_s=0.0)
    assert isinstance(refused, ft.Send)
    assert isinstance(refused.message, VoteAnswer)
    assert not refused.message.granted


def test_a_pre_vote_promises_nothing() -> None:
    copy = copy_of(C)
    copy.start(now_s=0.0)
    (send,) = copy.handle(Heard(B, AskVote(APP, E2, True, placed())), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert send.message.granted
    assert copy.promised == E1


def test_while_the_coordinator_lives_votes_are_refused_and_given_as_soon_as_it_is_lost() -> None:
    copy = follower_of(A, E1)
    send, check = copy.handle(Heard(B, AskVote(APP, E2, True, placed())), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert (send.message.granted, send.message.hears) == (False, A)
    assert isinstance(check, ft.Send)
    assert check.node == A  # which is asked whether it lives
    (late,) = copy.handle(ft.Down(A, "refused"), now_s=0.1)
    assert isinstance(late, ft.Send)
    assert isinstance(late.message, VoteAnswer)
    assert (late.node, late.message.granted) == (B, True)


def test_a_copy_that_may_have_lost_something_says_so_until_it_has_caught_up() -> None:
    shape = LogShape((Run(1, E1),), 1, 1, promised=E1, unsure=True)
    copy = copy_of(C, shape)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    (send,) = copy.handle(Heard(B, AskVote(APP, E2, True, placed())), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert (send.message.granted, send.message.unsure) == (True, True)
    copy.handle(ft.ReignHeard(B, E2, SET, invited=False), now_s=0.0)
    copy.handle(ft.Promised(E2), now_s=0.0)
    copy.handle(Heard(B, append(5, E2)), now_s=0.0)  # it has five, so the copy has to
    copy.handle(Heard(B, append(1, E1, *entries(2, 4, E2))), now_s=0.0)
    assert ft.Sure() not in copy.handle(ft.Written(4), now_s=0.0)
    copy.handle(Heard(B, append(4, E2, *entries(5, 5, E2))), now_s=0.0)
    assert ft.Sure() in copy.handle(ft.Written(5), now_s=0.0)


def test_a_copy_that_was_made_anew_does_not_vote_before_it_has_caught_up() -> None:
    copy = copy_of(C, LogShape(), learner=True)
    copy.start(now_s=0.0)
    (send,) = copy.handle(Heard(B, AskVote(APP, E2, True, placed())), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert not send.message.granted


def test_entries_are_sent_only_to_the_candidate_that_was_promised_this_very_epoch() -> None:
    copy = copy_of(C)
    copy.start(now_s=0.0)
    copy.handle(Heard(B, AskVote(APP, E2, False, placed())), now_s=0.0)
    copy.handle(ft.Promised(E2), now_s=0.0)
    assert copy.handle(Heard(A, WantEntries(APP, Epoch(2, A), 0, None, 3)), now_s=0.0) == []
    ships = copy.handle(Heard(B, WantEntries(APP, E2, 1, E1, 3)), now_s=0.0)
    assert ships == [ft.Ship(B, E2, 1, E1, 3, 0)]


# --- taking over


def granted(epoch: Epoch, *, pre: bool, last: int = 3, last_epoch: Epoch = E1, journal: str = "j.n2") -> VoteAnswer:
    return VoteAnswer(APP, epoch, pre, True, journal, last, last_epoch, vote=None if pre else VOTE)


def candidate() -> Replica:
    """The second seat, whose coordinator died, and which has promised itself epoch 2."""
    copy = follower_of(A, E1, me=B)
    (ask,) = copy.handle(ft.Down(A, "refused"), now_s=1.0)
    assert ask == ft.Send(C, AskVote(APP, E2, True, placed()))
    assert copy.handle(Heard(C, granted(E2, pre=True)), now_s=1.0) == [ft.Promise(E2)]
    assert copy.handle(ft.Promised(E2), now_s=1.0) == [ft.Send(C, AskVote(APP, E2, False, placed()))]
    return copy


def test_the_first_in_rank_asks_at_once_when_the_coordinator_is_refused_and_the_next_waits() -> None:
    candidate()
    third = follower_of(A, E1)
    assert third.handle(ft.Down(A, "refused"), now_s=1.0) == []
    assert third.wake_s() == pytest.approx(1.15)


def test_with_enough_votes_it_reigns_and_shows_them() -> None:
    effects = candidate().handle(Heard(C, granted(E2, pre=False)), now_s=1.0)
    assert effects[0] == ft.BeginReign(E2, (VOTE,), A, 1.0)
    assert ft.SendReign(C) in effects


def test_the_vote_of_another_journal_than_the_seat_s_does_not_count() -> None:
    assert candidate().handle(Heard(C, granted(E2, pre=False, journal="restored")), now_s=1.0) == []


def test_the_best_journal_among_the_voters_is_adopted_before_it_reigns() -> None:
    copy = candidate()
    better = granted(E2, pre=False, last=5, last_epoch=E1)
    assert copy.handle(Heard(C, better), now_s=1.0) == [ft.Send(C, WantEntries(APP, E2, 3, E1, 5))]
    new = entries(4, 5, E1)
    assert copy.handle(Heard(C, append(3, E1, *new)), now_s=1.0) == [ft.Write(new, (), synced=False)]
    assert copy.handle(ft.Written(5), now_s=1.1)[0] == ft.BeginReign(E2, (VOTE,), A, 1.0)


def test_where_the_adopted_journal_has_a_newer_set_the_votes_are_counted_in_it() -> None:
    copy = candidate()
    copy.handle(ft.Up(D), now_s=1.0)
    copy.handle(Heard(C, granted(E2, pre=False, last=4)), now_s=1.0)
    four = ReplicaSet(1, (*SET.seats, SEAT[D]), quorum=True)
    change = Entry(E1, 4, 0.0, ReplicasChanged(four, VOTE))
    write, ask = copy.handle(Heard(C, append(3, E1, change)), now_s=1.0)
    assert write == ft.Write((change,), (), synced=True)
    assert ask == ft.Send(D, AskVote(APP, E2, False, placed(), 1))
    copy.handle(ft.Written(4), now_s=1.0)
    effects = copy.handle(Heard(D, granted(E2, pre=False, journal="j.n3")), now_s=1.0)
    assert effects[0] == ft.BeginReign(E2, (VOTE, VOTE), A, 1.0)


def test_whom_an_uncommitted_change_took_out_is_asked_too_since_only_its_vote_may_prove_the_reign() -> None:
    after = ReplicaSet(1, (SEAT[B], SEAT[C], SEAT[D]), quorum=True)
    copy = follower_of(B, E2, shape=LogShape((Run(1, E1),), 3, 2, (SetChange(3, after),), promised=E1))
    copy.handle(ft.Up(D), now_s=0.0)
    asked = copy.handle(ft.Down(B, "refused"), now_s=1.0)
    assert {each.node for each in asked if isinstance(each, ft.Send)} == {A, D}
    assert copy.handle(Heard(D, granted(E3, pre=True, journal=SEAT[D].journal)), now_s=1.0) == []
    assert copy.handle(Heard(A, granted(E3, pre=True, journal=SEAT[A].journal)), now_s=1.0) == [ft.Promise(E3)]
    copy.handle(ft.Promised(E3), now_s=1.0)
    assert copy.handle(Heard(D, granted(E3, pre=False, journal=SEAT[D].journal)), now_s=1.0) == []
    effects = copy.handle(Heard(A, granted(E3, pre=False, journal=SEAT[A].journal)), now_s=1.0)
    assert effects[0] == ft.BeginReign(E3, (VOTE, VOTE), B, 1.0)


def test_whom_an_uncommitted_change_took_out_is_not_waited_for_where_it_is_out_of_reach() -> None:
    after = ReplicaSet(1, (SEAT[B], SEAT[C], SEAT[D]), quorum=True)
    copy = follower_of(B, E2, shape=LogShape((Run(1, E1),), 3, 2, (SetChange(3, after),), promised=E1))
    copy.handle(ft.Up(D), now_s=0.0)
    copy.handle(ft.Down(A, "refused"), now_s=0.5)
    copy.handle(ft.Down(B, "refused"), now_s=1.0)
    assert copy.handle(Heard(D, granted(E3, pre=True, journal=SEAT[D].journal)), now_s=1.0) == [ft.Promise(E3)]


def unsure_candidate() -> Replica:
    """The second seat, after its machine went down."""
    copy = copy_of(B, evolve(THREE_OF_EPOCH_1, unsure=True))
    copy.start(now_s=0.0)
    for node in (A, C):
        copy.handle(ft.Up(node), now_s=0.0)
    copy.handle(ft.Tick(), now_s=9.0)
    assert copy.handle(Heard(C, evolve(granted(E2, pre=True), unsure=True)), now_s=9.0) == []
    return copy


def test_where_too_few_are_sure_all_seats_elect_and_it_is_said_what_that_is_worth() -> None:
    copy = unsure_candidate()
    everybody = Heard(A, evolve(granted(E2, pre=True, journal=SEAT[A].journal), unsure=True))
    assert copy.handle(everybody, now_s=9.0) == [ft.Promise(E2)]
    copy.handle(ft.Promised(E2), now_s=9.0)
    assert copy.handle(Heard(C, evolve(granted(E2, pre=False), unsure=True)), now_s=9.0) == []
    vote = evolve(granted(E2, pre=False, journal=SEAT[A].journal), unsure=True)
    sure, begin, *_ = copy.handle(Heard(A, vote), now_s=9.0)
    assert sure == ft.Sure()
    assert begin == ft.BeginReign(E2, (VOTE, VOTE), None, 9.0, unsure=True)


def test_enough_who_are_sure_need_nobody_else() -> None:
    copy = unsure_candidate()
    copy.handle(Heard(C, granted(E2, pre=True)), now_s=9.0)  # it has caught up meanwhile
    enough = Heard(A, granted(E2, pre=True, journal=SEAT[A].journal))
    assert copy.handle(enough, now_s=9.0) == [ft.Promise(E2)]


def test_a_seat_whose_journal_is_no_more_is_not_waited_for() -> None:
    copy = unsure_candidate()
    gone = VoteAnswer(APP, E2, True, False, "new")
    assert copy.handle(Heard(A, gone), now_s=9.0) == [ft.Promise(E2)]


def test_a_copy_that_was_made_anew_counts_for_nothing_even_alone_in_its_set() -> None:
    copy = copy_of(A, LogShape(), first_set=ReplicaSet(0, (SEAT[A],), quorum=False), learner=True)
    assert copy.start(now_s=0.0) == []
    assert ft.Promise(Epoch(1, A)) not in copy.handle(ft.Tick(), now_s=30.0)


def test_the_only_seat_goes_on_after_its_machine_went_down_and_says_what_that_is_worth() -> None:
    alone = ReplicaSet(0, (SEAT[A],), quorum=False)
    copy = copy_of(A, evolve(THREE_OF_EPOCH_1, unsure=True), first_set=alone)
    assert copy.start(now_s=5.0) == [ft.Promise(Epoch(2, A))]
    effects = copy.handle(ft.Promised(Epoch(2, A)), now_s=5.0)
    assert effects == [ft.Sure(), ft.BeginReign(Epoch(2, A), (), None, 5.0, unsure=True)]


def test_silence_must_last_where_one_journal_suffices() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    copy = copy_of(B, first_set=two)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(A), now_s=0.0)
    copy.handle(ft.ReignHeard(A, E1, two, invited=False), now_s=0.0)
    copy.handle(ft.Down(A, "silent"), now_s=10.0)
    assert copy.wake_s() == pytest.approx(25.0)
    copy.handle(ft.Down(A, "refused"), now_s=12.0)
    assert copy.role == "candidate"


def test_whoever_wakes_asks_nothing_before_it_has_waited_for_news() -> None:
    copy = follower_of(A, E1, me=B)
    assert copy.handle(ft.Woke(), now_s=30.0) == []
    assert copy.wake_s() == pytest.approx(31.0)


# --- coordinating


def test_an_entry_is_committed_on_most_journals_the_own_one_once_it_is_on_the_disk() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Recorded(entries(2, 2, E1)), now_s=1.0)
    assert copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, 2)), now_s=1.0) == []
    assert copy.handle(ft.Written(2), now_s=1.0)[0] == ft.Committed(2)


def test_another_journal_of_the_same_node_does_not_count() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Recorded(entries(2, 2, E1)), now_s=1.0)
    copy.handle(ft.Written(2), now_s=1.0)
    assert ft.Committed(2) not in copy.handle(Heard(B, Kept(APP, E1, "restored", 2)), now_s=1.0)


def test_entries_of_earlier_epochs_are_committed_by_one_of_the_own_only() -> None:
    copy = candidate()
    copy.handle(Heard(C, granted(E2, pre=False)), now_s=1.0)
    copy.handle(Heard(C, Kept(APP, E2, SEAT[C].journal, 3)), now_s=1.0)
    assert copy.committed == 2
    copy.handle(ft.Recorded(entries(4, 4, E2)), now_s=1.0)
    copy.handle(ft.Written(4), now_s=1.0)
    assert ft.Committed(4) in copy.handle(Heard(C, Kept(APP, E2, SEAT[C].journal, 4)), now_s=1.0)


def test_whoever_comes_is_told_of_the_reign_and_asked_where_it_stands_before_it_gets_entries() -> None:
    copy = coordinator_of_two()
    assert copy.handle(ft.Up(C), now_s=1.0) == [ft.SendReign(C), ft.Ship(C, E1, 1, E1, 1, 1)]
    more = copy.handle(ft.Recorded(entries(2, 2, E1)), now_s=1.0)
    assert [each.node for each in more if isinstance(each, ft.Ship)] == [B]
    probe = copy.handle(Heard(C, Differs(APP, E1, SEAT[C].journal, 0)), now_s=1.0)
    assert probe == [ft.Ship(C, E1, 0, None, 0, 1)]
    assert ft.Ship(C, E1, 0, None, 2, 1) in copy.handle(Heard(C, Kept(APP, E1, SEAT[C].journal, 0)), now_s=1.0)


def test_a_higher_reign_ends_one_s_own() -> None:
    copy = coordinator_of_two()
    effects = copy.handle(ft.ReignHeard(B, E2, SET, invited=False), now_s=1.0)
    assert isinstance(effects[0], ft.EndReign)
    assert ft.Promise(E2) in effects
    assert copy.role == "follower"


def test_a_seat_that_has_promised_more_makes_the_coordinator_stand_again() -> None:
    copy = coordinator_of_two()
    refusal = VoteAnswer(APP, E1, False, False, SEAT[B].journal, highest=Epoch(7, C))
    end, *asks = copy.handle(Heard(B, refusal), now_s=1.0)
    assert isinstance(end, ft.EndReign)
    assert asks == [ft.Send(node, AskVote(APP, Epoch(8, A), True, placed())) for node in (B, C)]


def test_too_few_in_reach_is_said_with_names_after_a_while_and_taken_back() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Down(B, "silent"), now_s=1.0)
    assert copy.handle(ft.Tick(), now_s=5.9) == []
    assert copy.handle(ft.Tick(), now_s=6.0) == [ft.Stalled((B, C))]
    assert ft.Stalled(()) in copy.handle(ft.Up(B), now_s=9.0)


def test_a_coordinator_that_woke_promises_nothing_before_the_others_have_answered() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Recorded(entries(2, 2, E1)), now_s=1.0)
    assert ft.SendReign(B) in copy.handle(ft.Woke(), now_s=40.0)
    assert copy.handle(ft.Written(2), now_s=40.0) == []
    assert copy.committed == 1


def test_where_one_s_own_journal_suffices_nothing_is_promised_just_after_a_sleep_either() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    copy = copy_of(A, LogShape(), first_set=two)
    copy.open(now_s=0.0)
    copy.handle(ft.Promised(E1), now_s=0.0)
    copy.handle(ft.Woke(), now_s=40.0)
    copy.handle(ft.Recorded(entries(1, 1, E1)), now_s=40.0)
    assert copy.handle(ft.Written(1), now_s=40.0) == []
    assert ft.Committed(1) in copy.handle(ft.Tick(), now_s=41.0)


def test_who_leaves_hands_over_to_the_next_in_rank_once_that_has_everything() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Recorded(entries(2, 2, E1)), now_s=1.0)
    copy.handle(ft.Written(2), now_s=1.0)
    assert copy.handle(ft.Retire(), now_s=1.0) == []
    effects = copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, 2)), now_s=1.1)
    assert effects[-2:] == [ft.Send(B, Retired(APP, E1, B)), ft.EndReign("this node leaves")]


def test_the_named_successor_stands_at_once() -> None:
    copy = follower_of(A, E1)
    effects = copy.handle(Heard(A, Retired(APP, E1, C)), now_s=1.0)
    assert [each.node for each in effects if isinstance(each, ft.Send)] == [A, B]


# --- seats


def test_a_dead_seat_is_replaced_newcomer_first() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Up(C), now_s=0.0)
    copy.handle(ft.Up(D), now_s=0.0)
    copy.handle(ft.Down(C, "silent"), now_s=1.0)
    copy.handle(ft.Newcomers((SEAT[D],)), now_s=2.0)
    assert ft.SendReign(D, invited=True) in copy.handle(ft.Tick(), now_s=11.0)
    four = ReplicaSet(1, (*SET.seats, SEAT[D]), quorum=True)
    uninvited = copy.handle(Heard(D, Kept(APP, E1, SEAT[D].journal, 1)), now_s=11.1)
    assert ft.ChangeSet(four) not in uninvited  # it may be about to drop its copy
    assert ft.ChangeSet(four) in copy.handle(Heard(D, Kept(APP, E1, SEAT[D].journal, 1, invited=True)), now_s=11.1)
    copy.handle(ft.Recorded((Entry(E1, 2, 0.0, ReplicasChanged(four, VOTE)),)), now_s=11.1)
    copy.handle(ft.Written(2), now_s=11.1)
    effects = copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, 2)), now_s=11.2)  # in the set before: two of three
    assert ft.Committed(2) in effects
    assert ft.ChangeSet(ReplicaSet(2, (SEAT[A], SEAT[B], SEAT[D]), quorum=True)) in effects


def test_who_gives_up_its_seat_is_replaced_at_once() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Up(C), now_s=0.0)
    copy.handle(ft.Newcomers((SEAT[D],)), now_s=1.0)
    assert ft.SendReign(D, invited=True) in copy.handle(Heard(C, GiveUpSeat(APP)), now_s=1.0)


def test_who_left_and_comes_back_may_have_a_seat_again() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Up(D), now_s=0.0)
    copy.handle(Heard(D, GiveUpSeat(APP)), now_s=1.0)
    copy.handle(ft.Down(C, "refused"), now_s=1.0)
    copy.handle(ft.Newcomers((SEAT[D],)), now_s=2.0)
    assert ft.SendReign(D, invited=True) not in copy.handle(ft.Tick(), now_s=12.0)
    copy.handle(ft.Down(D, "left"), now_s=12.0)
    assert ft.SendReign(D, invited=True) in copy.handle(ft.Up(D), now_s=13.0)


def test_an_empty_seat_is_taken_out_at_once() -> None:
    copy = coordinator_of_two()
    copy.handle(ft.Up(C), now_s=0.0)
    effects = copy.handle(Heard(C, NoSeat(APP, E1, "new")), now_s=1.0)
    assert effects == [ft.ChangeSet(ReplicaSet(1, (SEAT[A], SEAT[B]), quorum=True))]


def test_a_change_that_makes_a_quorum_waits_for_all_seats() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    copy = copy_of(A, LogShape(), first_set=two)
    copy.open(now_s=0.0)
    copy.handle(ft.Promised(E1), now_s=0.0)
    for node in (B, D):
        copy.handle(ft.Up(node), now_s=0.0)
    copy.handle(ft.Recorded(entries(1, 1, E1)), now_s=0.0)
    assert ft.Committed(1) in copy.handle(ft.Written(1), now_s=0.0)
    assert ft.SendReign(D, invited=True) in copy.handle(ft.Newcomers((SEAT[D],)), now_s=0.0)
    three = ReplicaSet(1, (SEAT[A], SEAT[B], SEAT[D]), quorum=True)
    assert ft.ChangeSet(three) in copy.handle(Heard(D, Kept(APP, E1, SEAT[D].journal, 1, invited=True)), now_s=0.0)
    copy.handle(ft.Recorded((Entry(E1, 2, 0.0, ReplicasChanged(three, VOTE)),)), now_s=0.0)
    copy.handle(ft.Written(2), now_s=0.0)
    assert ft.Committed(2) not in copy.handle(Heard(D, Kept(APP, E1, SEAT[D].journal, 2)), now_s=0.0)
    assert ft.Committed(2) in copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, 2)), now_s=0.0)


def test_a_seat_under_a_journal_that_is_not_this_one_is_said_to_be_empty() -> None:
    copy = Replica(
        app=APP, me=Seat(C, "new"), placed=placed(), first_set=SET, shape=LogShape(), now_s=0.0, learner=True
    )
    copy.start(now_s=0.0)
    copy.handle(ft.Up(A), now_s=0.0)
    effects = copy.handle(ft.ReignHeard(A, E1, SET, invited=False), now_s=0.0)
    assert effects[-2:] == [ft.SeatEmpty(), ft.Send(A, NoSeat(APP, E1, "new"))]


# --- where nobody else is needed


def test_what_both_sides_of_a_split_committed_is_told_before_it_is_taken_back() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    copy = copy_of(A, LogShape((Run(1, E1),), 3, 3, promised=E1), first_set=two)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    copy.handle(ft.ReignHeard(B, E2, two, invited=False), now_s=0.0)
    copy.handle(ft.Promised(E2), now_s=0.0)
    conflict = append(1, E1, *entries(2, 2, E2))
    assert copy.handle(Heard(B, conflict), now_s=0.0) == [ft.Diverging(B, E2, 1)]
    assert copy.handle(ft.Told(), now_s=1.0) == [ft.Send(B, Differs(APP, E2, SEAT[A].journal, 1))]
    assert copy.handle(Heard(B, conflict), now_s=1.1)[0] == ft.Truncate(1, even_committed=True)


def test_what_a_copy_committed_alone_by_its_user_s_word_gives_way_to_a_later_reign() -> None:
    """The others never heard of it, and elected one of them meanwhile. What came before it stays."""
    alone, later = Epoch(1001, B), Epoch(1003, A)  # started again, this copy reigns alone in 1002
    only_b = SetChange(5, ReplicaSet(1, (SEAT[B],), quorum=False))
    for committed, gives_way in ((6, True), (4, False)):
        shape = LogShape((Run(1, E1), Run(4, alone)), 6, committed, (only_b,), promised=alone)
        copy = follower_of(A, later, shape=shape, me=B)
        conflict = append(3, E1, *entries(4, 6, later), epoch=later)
        if gives_way:
            assert copy.handle(Heard(A, conflict), now_s=0.0) == [ft.Diverging(A, later, 3)]
        else:  # no change to a set without a quorum is committed
            with pytest.raises(LocalProtocolError, match="ours is committed"):
                copy.handle(Heard(A, conflict), now_s=0.0)


def test_by_its_user_s_word_a_copy_goes_on_alone_in_an_epoch_far_above() -> None:
    copy = follower_of(A, E1, me=B)
    copy.handle(ft.Down(A, "silent"), now_s=1.0)
    alone = Epoch(1001, B)
    assert ft.Promise(alone) in copy.handle(ft.Recover(), now_s=20.0)
    begin = copy.handle(ft.Promised(alone), now_s=20.0)
    only_b = ReplicaSet(1, (SEAT[B],), quorum=False)
    assert begin == [ft.BeginReign(alone, (), A, 20.0, alone=only_b)]
    first, second = entries(4, 5, alone)
    recorded = copy.handle(ft.Recorded((first, evolve(second, fact=ReplicasChanged(only_b, VOTE)))), now_s=20.0)
    assert recorded == []
    assert not copy.shown  # nobody hears of it before its disk knows it, and who comes into reach does not either
    assert copy.handle(ft.Up(C), now_s=20.0) == []
    assert copy.handle(ft.Written(4), now_s=20.0) == [ft.Committed(4)]
    written = copy.handle(ft.Written(5), now_s=20.0)
    assert written[0] == ft.Committed(5)
    assert copy.shown


def test_a_later_seat_that_never_heard_of_anything_stands_in_the_second_epoch() -> None:
    copy = copy_of(B, LogShape())
    copy.start(now_s=0.0)
    for node in (A, C):
        copy.handle(ft.Up(node), now_s=0.0)
    asked = [each.message for each in copy.handle(ft.Tick(), now_s=9.0) if isinstance(each, ft.Send)]
    assert [each.epoch for each in asked if isinstance(each, AskVote)] == [E2, E2]


def test_who_is_deposed_passes_that_on_to_those_who_followed_it() -> None:
    """After a split in which each side took the seats of the other away nobody else knows of them."""
    two = ReplicaSet(0, (SEAT[A], SEAT[C]), quorum=False)
    deposed = copy_of(A, LogShape(), first_set=two)
    deposed.open(now_s=0.0)
    deposed.handle(ft.Promised(E1), now_s=0.0)
    deposed.handle(ft.Up(C), now_s=0.0)
    effects = deposed.handle(ft.ReignHeard(B, E2, two, invited=False), now_s=20.0)
    assert effects[:2] == [ft.EndReign("n1 coordinates, in epoch 2"), ft.PassOnReign((C,))]

    follower = follower_of(A, E1, me=C)
    effects = follower.handle(ft.ReignHeard(B, E2, SET, invited=False, passed_on=True), now_s=20.0)
    (asked,) = [each for each in effects if isinstance(each, ft.Send)]
    assert asked.node == B  # which does not know of this copy, and says that it coordinates once it is asked
    assert isinstance(asked.message, AskVote)
    assert asked.message.pre


def test_a_coordinator_of_whom_nothing_is_in_the_own_journal_is_waited_for_and_asked() -> None:
    """Alone this copy would win, in a still higher epoch, and take back what the other side of a split has shown."""
    two = ReplicaSet(0, (SEAT[A], SEAT[C]), quorum=False)
    copy = copy_of(C, THREE_OF_EPOCH_1, first_set=two)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(A), now_s=0.0)
    copy.handle(ft.ReignHeard(B, E2, two, invited=False, passed_on=True), now_s=20.0)
    assert copy.rivals == {B}  # to whom a connection is wanted
    assert 34.0 < copy.wake_s() <= 35.0
    copy.handle(ft.Up(B), now_s=21.0)
    asked = [each.node for each in copy.handle(ft.Tick(), now_s=23.0) if isinstance(each, ft.Send)]
    assert asked == [A, B]
    effects = copy.handle(Heard(A, VoteAnswer(APP, Epoch(3, C), True, True, SEAT[A].journal)), now_s=23.0)
    assert effects == []  # the vote of its set would do, but who may coordinate has not answered yet


def test_votes_of_a_set_that_has_been_outlived_do_not_depose_anybody() -> None:
    before = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    after = ReplicaSet(1, (SEAT[A], SEAT[C], SEAT[D]), quorum=True)
    shape = LogShape((Run(1, E1),), 3, 3, (SetChange(2, after),), promised=E1)
    copy = copy_of(C, shape, first_set=before)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(A), now_s=0.0)
    copy.handle(ft.ReignHeard(A, E1, after, invited=False), now_s=0.0)
    (send,) = copy.handle(ft.ReignHeard(B, E2, before, invited=False), now_s=1.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    assert (send.node, send.message.highest) == (A, E2)  # who will outbid it
    assert copy.promised == E1


def grown(node: NodeId, *, committed: int = 3) -> Replica:
    """A copy of what went on without a quorum, and came to need one in epoch 2 with its second entry."""
    before = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    after = ReplicaSet(1, (SEAT[A], SEAT[B], SEAT[C]), quorum=True)
    shape = LogShape((Run(1, E1), Run(2, E2)), 3, committed, (SetChange(2, after),), promised=E2)
    copy = copy_of(node, shape, first_set=before)
    copy.start(now_s=0.0)
    for other in {A, B, C} - {node}:
        copy.handle(ft.Up(other), now_s=0.0)
    return copy


def test_who_lacks_what_a_quorum_has_promised_since_gets_no_vote_whatever_its_epoch() -> None:
    def answer(copy: Replica, since: Epoch | None, *, bound: bool) -> VoteAnswer:
        question = AskVote(APP, Epoch(9, A), True, placed(), 1, since, bound)
        (send,) = [each for each in copy.handle(Heard(A, question), now_s=0.0) if isinstance(each, ft.Send)]
        assert isinstance(send.message, VoteAnswer)
        return send.message

    refusal = answer(grown(B), None, bound=False)
    assert (refusal.granted, refusal.quorum_since, refusal.bound) == (False, E2, True)
    assert answer(grown(B), E2, bound=False).granted  # the very same quorum, of which it was not told
    assert not answer(grown(B), E3, bound=False).granted
    assert answer(grown(B), E3, bound=True).granted  # made without each other: the later one stands
    assert not answer(grown(B), E1, bound=True).granted
    assert answer(grown(B, committed=1), None, bound=False).granted


def test_a_candidate_gives_way_to_who_has_what_a_quorum_has_promised_since() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    copy = copy_of(B, LogShape((Run(1, E1),), 3, 3, promised=E1), first_set=two)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(A), now_s=0.0)
    copy.handle(ft.Tick(), now_s=9.0)
    refusal = VoteAnswer(APP, E2, True, False, SEAT[A].journal, 3, E2, quorum_since=E2, bound=True)
    assert ft.Promise(E2) not in copy.handle(Heard(A, refusal), now_s=9.0)
    assert copy.role == "follower"


def test_a_coordinator_gives_way_to_it_too_and_is_told_by_whoever_refuses_its_reign() -> None:
    two = ReplicaSet(0, (SEAT[A], SEAT[B]), quorum=False)
    (send,) = grown(B).handle(ft.ReignHeard(A, Epoch(9, A), two, invited=False), now_s=0.0)
    assert isinstance(send, ft.Send)
    assert isinstance(send.message, VoteAnswer)
    copy = copy_of(A, LogShape(), first_set=two)
    copy.open(now_s=0.0)
    copy.handle(ft.Promised(E1), now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    effects = copy.handle(Heard(B, evolve(send.message, epoch=E1)), now_s=0.0)
    assert [type(each) for each in effects] == [ft.EndReign]
    assert copy.role == "follower"


def test_what_went_on_without_the_quorum_is_not_adopted_though_its_epoch_is_higher() -> None:
    copy = grown(B)
    copy.handle(ft.Tick(), now_s=9.0)
    copy.handle(Heard(A, granted(E3_OF_B, pre=True, last=9, last_epoch=E2, journal=SEAT[A].journal)), now_s=9.0)
    copy.handle(ft.Promised(E3_OF_B), now_s=9.0)
    alone = granted(E3_OF_B, pre=False, last=9, last_epoch=Epoch(2, C), journal=SEAT[A].journal)
    assert copy.handle(Heard(A, alone), now_s=9.0)[0] == ft.BeginReign(E3_OF_B, (VOTE,), None, 9.0)


def test_a_coordinator_that_does_not_outbid_a_promise_is_not_waited_for() -> None:
    copy = follower_of(B, E2)
    copy.handle(ft.Up(A), now_s=1.0)
    copy.handle(ft.Down(B, "refused"), now_s=1.0)
    copy.handle(ft.ReignHeard(A, E1, SET, invited=False), now_s=1.0)
    assert copy.wake_s() < 3.0


# --- all together


def test_what_is_recorded_is_committed_by_most_journals_and_survives_the_coordinator() -> None:
    world = World(seed=1)
    world.open()
    world.propose(3)
    world.run(1.0)
    assert len(world.acknowledged) == 3
    world.crash(A)
    assert world.run(0.5, lambda: bool(world.coordinators()))
    assert [each.id for each in world.coordinators()] == [B]
    world.propose(2)
    world.run(1.0)
    assert len(world.acknowledged) == 5
    world.restart(A)
    world.run(2.0)
    copy = world.nodes[A].replica
    assert copy is not None
    assert (copy.role, copy.coordinator, copy.last_index) == ("follower", B, len(world.chosen))


def test_who_knows_the_end_stands_no_more_though_a_later_reign_follows_it() -> None:
    shape = LogShape((Run(1, E1), Run(4, E2)), 4, 3, promised=E2, ended_index=3)
    copy = copy_of(C, shape)
    assert copy.start(now_s=0.0) == []
    assert copy.handle(ft.Tick(), now_s=60.0) == []
    assert copy.wake_s() == float("inf")


def test_a_promise_of_an_earlier_epoch_is_not_the_one_that_a_candidate_waits_for() -> None:
    copy = follower_of(A, E1, me=B)
    copy.handle(Heard(C, AskVote(APP, Epoch(2, C), False, placed())), now_s=0.0)
    copy.handle(ft.Down(A, "refused"), now_s=0.0)
    copy.handle(Heard(C, AskVote(APP, Epoch(2, C), False, placed())), now_s=0.0)  # promised, and not yet on the disk
    copy.handle(ft.Tick(), now_s=9.0)
    assert copy.handle(Heard(C, granted(E3_OF_B, pre=True)), now_s=9.0) == [ft.Promise(E3_OF_B)]
    assert [type(each) for each in copy.handle(ft.Promised(Epoch(2, C)), now_s=9.0)] == []
    assert copy.handle(ft.Promised(E3_OF_B), now_s=9.0)[0] == ft.Send(C, AskVote(APP, E3_OF_B, False, placed()))


def test_what_is_acknowledged_is_what_the_disk_has_and_not_what_is_on_its_way_there() -> None:
    copy = follower_of(B, E2)
    copy.handle(Heard(B, append(3, E1, *entries(4, 5, E2))), now_s=0.0)
    copy.handle(Heard(B, append(5, E2, *entries(6, 9, E2))), now_s=0.0)
    assert copy.handle(ft.Written(5), now_s=0.0) == [ft.Send(B, Kept(APP, E2, SEAT[C].journal, 5))]


def test_a_seat_that_missed_the_end_learns_it_by_standing() -> None:
    world = World(seed=1)
    world.open()
    world.run(1.0)
    world.cut(C, A)
    world.cut(C, B)
    world.run(5.0)
    (coordinator,) = world.coordinators()
    world.finish(coordinator)
    world.run(1.0)
    world.heal()
    world.run(0.005)  # C is told of nothing yet
    world.crash(A)
    world.run(10.0)
    for node in (B, C):
        copy = world.nodes[node].replica
        assert copy is not None
        assert 0 < copy.shape().ended_index <= copy.committed, node
