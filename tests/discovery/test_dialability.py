"""Whether others can connect to this node: whom it asks, and what it makes of the answers."""

from __future__ import annotations

import math

import pytest

from jcpeer.discovery.dialability import (
    AGAIN_S,
    AGAIN_UNREACHED_S,
    ANSWER_S,
    SETTLE_S,
    Answered,
    Ask,
    Dialability,
    Found,
    Moved,
    PeerCame,
    PeerWent,
    Tick,
)
from jcpeer.ids import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def with_peers(*peers: NodeId, nearby: frozenset[NodeId] = frozenset()) -> Dialability:
    machine = Dialability(is_nearby=lambda peer: peer in nearby)
    for peer in peers:
        assert machine.handle(PeerCame(peer), now_s=0.0) == []
    return machine


def asked(machine: Dialability) -> tuple[Ask, float]:
    """Whom it asks when it is time, and when that is."""
    now_s = machine.wake_s()
    assert machine.handle(Tick(), now_s=now_s - 0.01) == [], "not before"
    [ask] = machine.handle(Tick(), now_s=now_s)
    assert isinstance(ask, Ask)
    return ask, now_s


def answer(machine: Dialability, reached: bool, *, after_s: float = 0.1) -> tuple[NodeId, list[Found]]:
    """Whom it asks next, and what it finds from that answer."""
    ask, now_s = asked(machine)
    effects = machine.handle(Answered(ask.peer, ask.call, reached), now_s=now_s + after_s)
    assert all(isinstance(each, Found) for each in effects)
    return ask.peer, effects  # type: ignore[return-value]


def test_nobody_is_asked_before_a_peer_came_and_the_first_a_little_later() -> None:
    machine = with_peers()
    assert machine.wake_s() == math.inf
    assert machine.handle(Tick(), now_s=100.0) == []
    machine.handle(PeerCame(A), now_s=100.0)
    assert machine.wake_s() == 100.0 + SETTLE_S


def test_one_success_is_enough_and_nothing_new() -> None:
    machine = with_peers(A, B)
    assert answer(machine, True) == (A, [])
    assert machine.wake_s() == pytest.approx(SETTLE_S + 0.1 + AGAIN_S)


def test_two_failures_of_different_peers_disprove_it_and_a_later_success_proves_it_again() -> None:
    machine = with_peers(A, B)
    assert answer(machine, False) == (A, [])
    peer, found = answer(machine, False)
    assert (peer, found) == (B, [Found(False)])
    assert machine.wake_s() == pytest.approx(SETTLE_S + 0.2 + AGAIN_UNREACHED_S)
    assert answer(machine, False) == (A, []), "that is known"
    assert answer(machine, True) == (B, [Found(True)])


def test_the_only_peer_is_asked_twice() -> None:
    machine = with_peers(A)
    assert answer(machine, False) == (A, [])
    assert answer(machine, False) == (A, [Found(False)])


def test_a_failure_between_successes_disproves_nothing() -> None:
    machine = with_peers(A, B)
    assert answer(machine, False) == (A, [])
    assert answer(machine, True) == (B, [])
    assert answer(machine, False) == (A, [])


def test_who_does_not_answer_says_nothing_and_the_next_is_asked() -> None:
    machine = with_peers(A, B)
    first, at_s = asked(machine)
    second, later_s = asked(machine)
    assert (first.peer, second.peer, later_s) == (A, B, at_s + ANSWER_S)
    assert machine.handle(Answered(A, first.call, False), now_s=later_s) == [], "too late"
    assert machine.handle(Answered(A, second.call, False), now_s=later_s) == [], "not asked"
    assert machine.handle(Answered(B, second.call, True), now_s=later_s) == []
    assert machine.wake_s() == later_s + AGAIN_S


def test_who_went_is_not_waited_for() -> None:
    machine = with_peers(A, B)
    ask, now_s = asked(machine)
    machine.handle(PeerWent(ask.peer), now_s=now_s + 1)
    assert asked(machine)[0].peer == B
    machine.handle(PeerWent(B), now_s=now_s + 2)
    assert machine.wake_s() == math.inf, "nobody is left to be asked"


def test_a_new_address_is_a_reason_to_ask_at_once() -> None:
    machine = with_peers(A, B)
    answer(machine, False)
    answer(machine, False)
    machine.handle(Moved(), now_s=20.0)
    assert machine.wake_s() == 20.0 + SETTLE_S
    assert answer(machine, True)[1] == [Found(True)]


def test_those_of_the_same_local_network_are_asked_only_while_nobody_else_is_there() -> None:
    machine = with_peers(A, B, nearby=frozenset({A}))
    assert answer(machine, False) == (B, [])
    assert answer(machine, False) == (B, [Found(False)])
    alone = with_peers(A, nearby=frozenset({A}))
    assert answer(alone, True) == (A, [])
    alone.handle(PeerCame(B), now_s=50.0)
    assert alone.wake_s() == 50.0 + SETTLE_S, "what it says counts for more"
    assert answer(alone, False) == (B, [])
    assert answer(alone, False) == (B, [Found(False)])
    alone.handle(PeerCame(C), now_s=60.0)
    assert alone.wake_s() > 60.0 + SETTLE_S, "a further one is no reason to ask"
