"""What an event costs a copy does not grow with its journal, nor what one costs the FTC with the attempts that are, or
were, under way: steps of the interpreter are counted, and whatever is gone through within one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jcpeer.ft import events as ft
from jcpeer.ft import supervision
from jcpeer.ft.events import Heard, LogShape
from jcpeer.ft.replica import Replica
from jcpeer.ft.supervision import HELD_S, Asked, Supervisor, Told
from jcpeer.ids import AttemptName, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.replication import AskAlive, AskVote, Differs, Kept, Underway, UnderwayAttempt, VoteAnswer, WantEntries
from tests.ft.little_world import APP, VOTE
from tests.ft.test_replica import E1, E2, E3, SEAT, A, B, C, append, copy_of, entries, follower_of, placed
from tests.steps import steps, watched

FEW, MANY = 200, 20_000
AT_ONCE = 100

Happening = tuple[str, Callable[[], object]]


def tell(copy: Replica, what: str, event: ft.Event, *, now_s: float = 0.0) -> Happening:
    def told() -> None:
        copy.handle(event, now_s=now_s)
        copy.wake_s()

    return what, told


def leading(count: int) -> Iterator[Happening]:
    copy = copy_of(A, LogShape())
    copy.open(now_s=0.0)
    copy.handle(ft.Promised(E1), now_s=0.0)
    for node in (B, C):
        copy.handle(ft.Up(node), now_s=0.0)
        copy.handle(Heard(node, Kept(APP, E1, SEAT[node].journal, 0)), now_s=0.0)
    for last in range(AT_ONCE, count + 1, AT_ONCE):
        copy.handle(ft.Recorded(entries(last - AT_ONCE + 1, last, E1)), now_s=0.0)
        copy.handle(ft.Written(last), now_s=0.0)
        copy.handle(Heard(B, Kept(APP, E1, SEAT[B].journal, last)), now_s=0.0)
        if last <= count // 2:  # the other one lags behind
            copy.handle(Heard(C, Kept(APP, E1, SEAT[C].journal, last)), now_s=0.0)
    assert copy.committed == count
    watched(copy)
    yield tell(copy, "an entry", ft.Recorded(entries(count + 1, count + 1, E1)))
    yield tell(copy, "that is on the disk", ft.Written(count + 1))
    yield tell(copy, "and on another", Heard(B, Kept(APP, E1, SEAT[B].journal, count + 1)))
    yield tell(copy, "more on the one that lags", Heard(C, Kept(APP, E1, SEAT[C].journal, count // 2 + 1)))
    yield tell(copy, "a moment that passes", ft.Tick(), now_s=0.2)
    yield tell(copy, "a loss", ft.Down(B, "silent"), now_s=0.3)
    yield tell(copy, "a return", ft.Up(B), now_s=0.4)
    yield tell(copy, "that differs", Heard(B, Differs(APP, E1, SEAT[B].journal, count // 2)), now_s=0.5)
    yield "how it stands", lambda: (copy.role, copy.ftc, copy.missing, copy.stalled, copy.rivals, copy.shape())


def following(count: int) -> Iterator[Happening]:
    copy = follower_of(B, E2, shape=LogShape(promised=E1))
    for last in range(AT_ONCE, count + 1, AT_ONCE):
        piece = entries(last - AT_ONCE + 1, last, E2)
        epoch = E2 if last > AT_ONCE else None
        copy.handle(Heard(B, append(last - AT_ONCE, epoch, *piece, committed=last - AT_ONCE)), now_s=0.0)
        copy.handle(ft.Written(last), now_s=0.0)
    assert copy.last_index == count
    watched(copy)
    news = append(count, E2, *entries(count + 1, count + 1, E2), committed=count)
    yield tell(copy, "an entry", Heard(B, news))
    yield tell(copy, "that is on the disk", ft.Written(count + 1))
    yield tell(copy, "the same again", Heard(B, news))
    yield tell(copy, "what begins elsewhere", Heard(B, append(count + 5, E2)))
    yield tell(copy, "a moment that passes", ft.Tick(), now_s=1.0)
    yield tell(copy, "the coordinator's loss", ft.Down(B, "refused"), now_s=2.0)
    yield tell(copy, "a question", ft.Tick(), now_s=10.0)
    epoch = evolve(E3, counter=3)
    answer = VoteAnswer(APP, epoch, True, True, SEAT[A].journal, last_index=count + 50, last_epoch=E2)
    yield tell(copy, "an answer", Heard(A, answer), now_s=10.1)
    yield tell(copy, "a promise", ft.Promised(epoch), now_s=10.2)
    yield tell(copy, "a vote", Heard(A, evolve(answer, pre=False, vote=VOTE)), now_s=10.3)
    more = append(count + 1, E2, *entries(count + 2, count + 50, E2), epoch=epoch)
    yield tell(copy, "what it adopts", Heard(A, more), now_s=10.4)
    assert copy.last_index == count + 50


def voting(count: int) -> Iterator[Happening]:
    shape = LogShape((ft.Run(1, E1),), last_index=count, committed=count, promised=E1)
    copy = copy_of(C, shape)
    copy.start(now_s=0.0)
    copy.handle(ft.Up(B), now_s=0.0)
    watched(copy)
    asked = AskVote(APP, E2, False, placed())
    yield tell(copy, "a question", Heard(B, asked), now_s=20.0)
    yield tell(copy, "a promise", ft.Promised(E2), now_s=20.0)
    yield tell(copy, "entries that are wanted", Heard(B, WantEntries(APP, E2, count // 2, E1, count)), now_s=20.0)
    assert copy.promised == E2


def supervising(count: int) -> Iterator[Happening]:
    nodes = [NodeId(f"node{at}") for at in range(10)]
    told = [
        UnderwayAttempt(AttemptName(TaskId(f"t{at}"), E1.counter, 1), nodes[at % len(nodes)], 2) for at in range(count)
    ]
    ftc = Supervisor(APP, me=B, up=frozenset(nodes[1:]))
    ftc.handle(Told(Underway(APP, E1, tuple(told), whole=True)), now_s=0.0)
    ended = tuple(each.attempt for each in told[: count // 2])
    ftc.handle(Told(Underway(APP, E1, (), ended)), now_s=0.0)
    watched(ftc)

    def happens(what: str, event: supervision.Event, now_s: float = 0.0) -> Happening:
        return what, lambda: (ftc.handle(event, now_s=now_s), ftc.wake_s())

    yield happens("one that begins", Told(Underway(APP, E1, (told[0],))))
    yield happens("one that ends", Told(Underway(APP, E1, (), (told[-1].attempt,))))
    yield happens("a loss", supervision.Down(nodes[1], "silent"))
    yield happens("a question", Asked(A, AskAlive(APP, E1, nodes[2])))
    yield happens("one about somebody else", Asked(A, AskAlive(APP, E1, nodes[0])))
    yield happens("some time that passes", supervision.Tick(), HELD_S + 1.0)


@pytest.mark.parametrize("world", [leading, following, voting, supervising])
def test_the_cost_of_an_event_is_independent_of_what_came_before(world: Callable[[int], Iterator[Happening]]) -> None:
    few, many = ({what: steps(do) for what, do in world(count)} for count in (FEW, MANY))
    dearer = {what: (few[what], many[what]) for what in few if many[what] >= 1.3 * few[what]}
    assert not dearer
