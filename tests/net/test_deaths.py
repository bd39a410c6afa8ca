"""Who is given up after a silence, event by event."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from jcpeer.ids import NodeId
from jcpeer.net import detector
from jcpeer.net.deaths import CEILING, FLOOR, MARGIN, REMEMBERED_S, Deaths

A, B = NodeId("a"), NodeId("b")
SILENCE_S = 3.0
TICK_S = 0.5


class Driven:
    """Deaths that are ticked when they want to be."""

    def __init__(self) -> None:
        self.deaths = Deaths(silence_s=SILENCE_S, tick_s=TICK_S)
        self.now_s = 100.0

    def run(self, seconds: float) -> list[tuple[float, NodeId]]:
        """Let time pass; when was who given up, counted from here."""
        given_up = []
        start_s = self.now_s
        while (wake_s := self.deaths.wake_s()) <= start_s + seconds:
            self.now_s = max(self.now_s, wake_s)
            given_up += [(self.now_s - start_s, node) for node in self.deaths.tick(self.now_s)]
            self.deaths.check()
        self.now_s = start_s + seconds
        return given_up

    def pause(self, node: NodeId, seconds: float) -> list[tuple[float, NodeId]]:
        """It is silent for so long, is lost, and comes back."""
        self.deaths.down(node, self.now_s, silent_s=SILENCE_S)
        given_up = self.run(seconds - SILENCE_S)
        self.deaths.up(node, self.now_s)
        return given_up


def test_who_stays_silent_is_given_up_once_counted_from_its_last_sign_of_life() -> None:
    driven = Driven()
    driven.deaths.down(A, driven.now_s, silent_s=3.1)
    assert driven.run(60) == [(5.5, A)]  # 8.6 s in all, of which a tick may be the last
    assert driven.deaths.wake_s() == math.inf


def test_who_comes_back_after_five_seconds_is_not_given_up() -> None:
    driven = Driven()
    for _ in range(20):
        assert driven.pause(A, 5.0) == []
        assert driven.run(30) == []
        assert driven.deaths.limit_s(A, driven.now_s) == FLOOR * SILENCE_S


def test_a_connection_that_breaks_again_and_again_does_not_begin_a_new_silence() -> None:
    driven = Driven()
    driven.deaths.down(A, driven.now_s)
    driven.run(6)
    driven.deaths.down(A, driven.now_s)
    assert driven.run(60) == [(2.5, A)]


def test_a_node_is_given_more_time_after_a_long_pause_even_if_it_was_given_up_in_it_and_only_for_an_hour() -> None:
    driven = Driven()
    assert driven.pause(A, 10.0) != []
    assert driven.deaths.limit_s(A, driven.now_s) == MARGIN * 10.0
    assert driven.deaths.limit_s(B, driven.now_s) == FLOOR * SILENCE_S
    assert driven.pause(A, 10.0) == []
    driven.run(REMEMBERED_S + 1)
    assert driven.deaths.limit_s(A, driven.now_s) == FLOOR * SILENCE_S


def test_a_pause_beyond_every_limit_teaches_nothing() -> None:
    driven = Driven()
    [_] = driven.pause(A, 60.0)
    driven.deaths.down(B, driven.now_s, silent_s=60.0)
    driven.deaths.up(B, driven.now_s)
    driven.deaths.check()
    for node in (A, B):
        assert driven.deaths.limit_s(node, driven.now_s) == FLOOR * SILENCE_S


def test_its_own_pause_is_nobody_elses_death() -> None:
    driven = Driven()
    driven.deaths.down(A, driven.now_s)
    driven.run(4)
    driven.now_s += 60.0  # the process was stopped
    assert driven.deaths.tick(driven.now_s) == ()
    assert driven.run(3.5) == []
    assert [node for _, node in driven.run(2)] == [A]


def test_whose_end_is_known_is_not_given_up() -> None:
    driven = Driven()
    driven.deaths.down(A, driven.now_s)
    driven.deaths.forget(A)
    driven.deaths.forget(B)
    assert driven.run(60) == []


def test_suspicion_comes_before_death() -> None:
    assert detector.CEILING < FLOOR < CEILING


@given(
    st.lists(st.tuples(st.sampled_from(["down", "up", "forget", "tick"]), st.sampled_from([A, B]), st.floats(0, 40)))
)
def test_whatever_happens_the_invariants_hold_and_nobody_is_given_up_before_the_floor(
    steps: list[tuple[str, NodeId, float]],
) -> None:
    deaths = Deaths(silence_s=SILENCE_S, tick_s=TICK_S)
    down_s: dict[NodeId, float] = {}
    now_s = 0.0
    for kind, node, passed_s in steps:
        now_s += passed_s
        match kind:
            case "down":
                deaths.down(node, now_s)
                down_s.setdefault(node, now_s)
            case "up":
                deaths.up(node, now_s)
                down_s.pop(node, None)
            case "forget":
                deaths.forget(node)
                down_s.pop(node, None)
            case _:
                for dead in deaths.tick(now_s):
                    assert now_s - down_s[dead] > FLOOR * SILENCE_S
        deaths.check()
