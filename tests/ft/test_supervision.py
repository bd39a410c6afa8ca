"""The FTC knows where attempts run, hears those participants, and tells the coordinator whom it misses."""

from __future__ import annotations

from jcpeer.ft.supervision import ASKED_S, HELD_S, Asked, Down, Hold, Send, Supervisor, Tick, Told, Up
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.replication import Alive, AskAlive, Suspect, Underway, UnderwayAttempt

APP = AppId("a" * 40)
ME, BOSS, ADA, BEN = (NodeId(each) for each in ("me", "boss", "ada", "ben"))
EPOCH = Epoch(3, BOSS)
ASK = Asked(BOSS, AskAlive(APP, EPOCH, ADA))


def at(name: str, node: NodeId) -> UnderwayAttempt:
    return UnderwayAttempt(AttemptName(TaskId(name), 3, 1), node)


def supervisor(*underway: UnderwayAttempt) -> Supervisor:
    made = Supervisor(APP, me=ME, up=frozenset({BEN}))
    made.handle(Told(Underway(APP, EPOCH, underway, whole=True)), now_s=0.0)
    return made


def test_connections_are_held_to_those_that_run_attempts_and_given_up_a_while_after() -> None:
    made = supervisor(at("first", ADA), at("own", ME), at("theirs", BOSS))
    given = Told(Underway(APP, EPOCH, (at("second", BEN),), (at("first", ADA).attempt,)))
    assert made.handle(given, now_s=1.0) == [Hold(frozenset({ADA, BEN}))]
    assert made.wake_s() == HELD_S
    assert made.handle(Tick(), now_s=HELD_S) == [Hold(frozenset({BEN}))]
    assert made.handle(Tick(), now_s=1.0 + HELD_S) == [], "it runs one still"


def test_the_coordinator_hears_who_is_missed_and_by_what_proof() -> None:
    made = supervisor(at("first", ADA))
    made.handle(Up(ADA), now_s=0.0)
    assert made.handle(Down(ADA, "refused"), now_s=0.0) == [Send(BOSS, Suspect(APP, EPOCH, ADA, "refused"))]
    assert made.handle(Down(BEN, "silent"), now_s=0.0) == [], "that one runs nothing"
    assert made.handle(Down(ADA, "parted"), now_s=0.0) == []


def test_an_answer_is_given_at_once_where_it_is_known() -> None:
    made = supervisor(at("first", ADA))
    made.handle(Up(ADA), now_s=0.0)
    assert made.handle(ASK, now_s=0.0) == [Send(BOSS, Alive(APP, EPOCH, ADA))]
    made.handle(Down(ADA, "silent"), now_s=0.0)
    assert made.handle(ASK, now_s=0.0) == [Send(BOSS, Suspect(APP, EPOCH, ADA, "silent"))]


def test_who_is_not_connected_yet_is_waited_for_a_moment() -> None:
    made = supervisor()
    assert made.handle(ASK, now_s=0.0) == [Hold(frozenset({ADA}))]
    assert made.wake_s() == ASKED_S
    assert made.handle(Up(ADA), now_s=0.1) == [Send(BOSS, Alive(APP, EPOCH, ADA))]
    other = supervisor()
    other.handle(ASK, now_s=0.0)
    assert other.handle(Tick(), now_s=ASKED_S) == [Send(BOSS, Suspect(APP, EPOCH, ADA, "silent"))]
    assert other.handle(Down(ADA, "refused"), now_s=1.0) == [Send(BOSS, Suspect(APP, EPOCH, ADA, "refused"))]


def test_only_the_coordinator_of_the_epoch_is_answered() -> None:
    made = supervisor(at("first", ADA))
    assert not made.handle(Asked(BEN, ASK.message), now_s=0.0)
    assert not made.handle(Asked(BEN, AskAlive(APP, Epoch(2, BEN), ADA)), now_s=0.0)
    made.handle(Told(Underway(APP, Epoch(4, BEN), (at("first", ADA),), whole=True)), now_s=0.0)
    assert made.handle(Down(ADA, "silent"), now_s=0.0) == [Send(BEN, Suspect(APP, Epoch(4, BEN), ADA, "silent"))]
