"""The failure detector, event by event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.ids import NodeId
from jcpeer.net.detector import CEILING, DOUBT, Detector, Doubt, Suspicion

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
TICK_S = 0.25


class Driven:
    """A detector that is ticked on time."""

    def __init__(self) -> None:
        self.detector = Detector(silence_s=3.0, tick_s=TICK_S)
        self.now_s = 100.0

    def run(self, seconds: float, *, beats: dict[NodeId, float] | None = None) -> list[tuple[float, NodeId]]:
        """Let time pass, with a sign of life of each peer at its period; when was whom suspected, counted from here."""
        return [(at_s, each.peer) for at_s, each in self.watch(seconds, beats=beats) if isinstance(each, Suspicion)]

    def watch(
        self, seconds: float, *, beats: dict[NodeId, float] | None = None
    ) -> list[tuple[float, Doubt | Suspicion]]:
        """The same, with doubts."""
        found = []
        start_s = self.now_s
        due = {peer: start_s + period_s for peer, period_s in (beats or {}).items()}
        while self.now_s < start_s + seconds:
            self.now_s += TICK_S
            for peer, at_s in due.items():
                if at_s <= self.now_s:
                    self.detector.heard(peer, self.now_s)
                    due[peer] = at_s + (beats or {})[peer]
            found += [(self.now_s - start_s, each) for each in self.detector.tick(self.now_s)]
            self.detector.check()
        return found


def test_a_peer_that_beats_is_never_suspected() -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    assert driven.run(600, beats={A: 0.5}) == []


def test_silence_beyond_the_floor_is_suspicion_once() -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    driven.detector.heard(B, driven.now_s)
    assert driven.run(60, beats={B: 0.5}) == [(3.25, A)]


def test_a_silence_is_doubted_once_before_it_is_suspected_and_the_next_one_again() -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    assert driven.watch(2.0) == [(1.75, Doubt(A))]
    driven.detector.heard(A, driven.now_s)
    assert driven.watch(20) == [(1.75, Doubt(A)), (3.25, Suspicion(A, 3.25))]


def test_a_restless_peer_is_given_more_time_but_not_without_end() -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    for _ in range(40):
        assert driven.run(2.0, beats={A: 2.0}) == []
        assert driven.run(1.0, beats={A: 0.5}) == []
    limit_s = driven.detector.limit_s(A)
    assert 3.0 < limit_s < 3.0 * CEILING
    [(suspected_s, _)] = driven.run(20)
    assert limit_s < suspected_s <= limit_s + TICK_S


def test_a_flood_of_messages_does_not_make_the_detector_impatient() -> None:
    driven = Driven()
    for step in range(10_000):
        driven.detector.heard(A, driven.now_s + step * 1e-4)
    driven.now_s += 1.0
    assert driven.detector.limit_s(A) == 3.0


@pytest.mark.parametrize("first", ["tick", "heard"])
def test_its_own_pause_is_not_counted_against_anybody(first: str) -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    driven.detector.heard(B, driven.now_s)
    driven.run(1.0)
    driven.now_s += 60.0  # the process was stopped
    if first == "heard":
        driven.detector.heard(B, driven.now_s)
    assert driven.detector.tick(driven.now_s) == []
    # A was silent for 1.25 s before and after the pause, so 1.75 s are left to it.
    assert driven.run(1.75, beats={B: 0.5}) == []
    assert driven.run(0.5, beats={B: 0.5}) == [(0.25, A)]


def test_a_forgotten_peer_is_not_suspected() -> None:
    driven = Driven()
    driven.detector.heard(A, driven.now_s)
    driven.detector.forget(A)
    driven.detector.forget(C)
    assert driven.run(10) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("heard"), st.sampled_from([A, B, C]), st.floats(0, 10)),
            st.tuples(st.sampled_from(["tick", "forget"]), st.sampled_from([A, B, C]), st.floats(0, 10)),
        )
    )
)
def test_whatever_happens_the_invariants_hold_and_no_suspect_was_heard_within_the_floor(
    steps: list[tuple[str, NodeId, float]],
) -> None:
    detector = Detector(silence_s=3.0, tick_s=TICK_S)
    heard_s: dict[NodeId, float] = {}
    now_s = 0.0
    for kind, peer, passed_s in steps:
        now_s += passed_s
        if kind == "heard":
            detector.heard(peer, now_s)
            heard_s[peer] = now_s
        elif kind == "forget":
            detector.forget(peer)
        else:
            for each in detector.tick(now_s):
                assert now_s - heard_s[each.peer] > (3.0 if isinstance(each, Suspicion) else DOUBT * 3.0)
        detector.check()
