"""Whom to dial when, event by event, as whoever uses the connections sees it. `me` is m; ids sort as their letters."""

from __future__ import annotations

import pytest

from jcpeer.discovery.connections import Connections, Effect, Event, Notice, Tick, TurnedAway
from jcpeer.discovery.dialling import (
    ADDRESSES_MAX,
    AGAIN_S,
    CROWD,
    CROWD_SPACING_S,
    DIAL_S_MAX,
    NAMED_REST_S,
    OUTDATED_MAX,
    PATIENCE_S,
    STAGGER_S,
    TARGETS_MAX,
    Dial,
    Dialling,
)
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.net.events import DialFailed, PeerDown
from tests.discovery.people import GRID, address, node, seen, up

HOME = "/ip4/192.0.2.9/tcp/9"


class Driven:
    """Connections whose invariants are checked after each step."""

    def __init__(self, me: str = "m") -> None:
        self.connections = Connections(node(me))
        self.now_s = 100.0

    def on(self, event: Event) -> list[Effect]:
        effects = self.connections.handle(event, now_s=self.now_s)
        self.connections.check()
        return effects

    def after(self, seconds: float) -> list[Effect]:
        self.now_s += seconds
        return self.on(Tick())

    def need(self, *letters: str) -> list[Effect]:
        return self.connections.hold("test", frozenset(map(node, letters)), now_s=self.now_s)

    def fail(self, letter: str, port: int = 1) -> list[Effect]:
        return self.on(DialFailed(address(letter, port), node(letter), "no answer"))


def dial(letter: str, port: int = 1) -> Dial:
    return Dial(address(letter, port), node(letter))


def test_whom_a_connection_is_wanted_to_is_dialled_often_enough_that_two_sides_of_a_cut_meet_soon() -> None:
    driven = Driven()
    driven.on(seen("z"))
    driven.need("z")
    gaps: list[float] = []
    for _ in range(8):
        driven.fail("z")
        waited_s = 0.0
        while dial("z") not in driven.after(0.1):
            waited_s += 0.1
        gaps.append(waited_s)
    assert gaps[0] < 1.3
    assert 2.0 < max(gaps) < 4.0


def test_the_larger_id_leaves_the_first_dial_to_the_smaller_for_a_moment() -> None:
    driven = Driven()
    assert driven.on(seen("z")) == [dial("z")]
    assert driven.on(seen("b")) == []
    assert driven.after(PATIENCE_S) == [dial("b")]
    driven = Driven()
    driven.on(seen("b"))
    driven.on(up("b"))
    assert driven.after(PATIENCE_S) == []


def test_a_restart_on_another_port_is_dialled_at_once() -> None:
    driven = Driven()
    driven.on(up("b"))
    assert driven.on(seen("b", port=2, incarnation=2000)) == []
    assert driven.on(PeerDown(node("b"), "refused", "its process is gone")) == [dial("b", 2)]


def test_a_restart_seen_after_the_connection_broke_is_dialled_at_once() -> None:
    driven = Driven()
    driven.on(up("b"))
    assert driven.on(PeerDown(node("b"), "refused", "its process is gone")) == []
    assert driven.on(seen("b", port=2, incarnation=2000)) == [dial("b", 2)]


def test_who_fell_silent_is_dialled_again_and_who_said_goodbye_is_not() -> None:
    driven = Driven()
    driven.on(up("b"))
    driven.on(PeerDown(node("b"), "silent", "no word for 3 s"))
    assert driven.after(1.2) == [dial("b")]
    driven.on(up("b"))
    driven.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert driven.after(3600.0) == []


def test_the_addresses_of_a_node_are_tried_one_beside_the_other() -> None:
    driven = Driven()
    all_three = Sighting("mdns", node("z"), (address("z", 1), address("z", 2), address("z", 3)), grid=GRID)
    assert driven.on(all_three) == [dial("z", 1)]
    assert driven.after(STAGGER_S) == [dial("z", 2)]
    assert driven.fail("z", 1) == [dial("z", 3)]
    assert driven.fail("z", 3) == []
    assert driven.fail("z", 2) == []
    assert driven.after(1.2)[:1] == [dial("z", 1)]


def test_a_dial_that_is_never_answered_is_given_up_and_repeated() -> None:
    driven = Driven()
    driven.on(seen("z"))
    assert driven.after(DIAL_S_MAX) == []
    assert driven.after(1.2) == [dial("z")]


def test_a_new_address_of_this_machine_brings_the_next_dials_forward() -> None:
    driven = Driven()
    for letter in "yz":
        driven.on(seen(letter))
    for _ in range(9):
        driven.after(40.0)
        for letter in "yz":
            driven.fail(letter)
    assert driven.after(10.0) == []
    assert driven.connections.moved(now_s=driven.now_s) == [dial("y")]
    assert driven.after(1.0) == [dial("z")]


def test_what_the_user_named_is_dialled_for_ever_while_nobody_behind_it_is_connected() -> None:
    driven = Driven()
    named = "/dns/alpha/tcp/7"
    assert driven.on(Sighting("bootstrap", None, (named,))) == [Dial(named, None)]
    [notice] = driven.on(DialFailed(named, None, "alpha:7 refused the connection"))
    assert isinstance(notice, Notice)
    assert "alpha:7 refused" in notice.text
    waits = []
    for _ in range(200):
        waited_s = 0.0
        while driven.after(0.5) != [Dial(named, None)]:
            waited_s += 0.5
        waits.append(waited_s)
        assert driven.on(DialFailed(named, None, "refused")) == []
    assert 1.0 <= waits[0] <= 3.0
    assert max(waits) <= 36.0

    driven.after(40.0)
    driven.on(up("b", at=named))
    driven.need("b")
    assert driven.after(3600.0) == []
    driven.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert Dial(named, None) in driven.after(3.0)


def test_whom_the_user_named_is_dialled_again_after_a_rest_when_the_connection_was_of_no_use() -> None:
    driven = Driven()
    driven.on(Sighting("bootstrap", None, (HOME,)))
    driven.on(up("b", at=HOME))
    driven.on(PeerDown(node("b"), "parted", "no use"))
    assert driven.after(NAMED_REST_S - 1.0) == []
    assert driven.after(1.0) == [Dial(HOME, None)]


def test_a_named_address_that_a_connected_node_has_is_not_dialled() -> None:
    driven = Driven()
    driven.on(up("b"))
    assert driven.on(Sighting("bootstrap", None, (address("b"),))) == []
    driven.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert driven.after(3.0) == [Dial(address("b"), None)]


def test_remembered_addresses_are_tried_one_after_another_and_then_slowly() -> None:
    driven = Driven()
    book = [Sighting("book", node(letter), (address(letter),), grid=GRID) for letter in "abc"]
    assert [driven.on(each) for each in book] == [[dial("a")], [], []]
    assert driven.after(0.2) == [dial("b"), dial("c")]
    for _ in range(20):
        driven.fail("a")
        driven.after(360.0)
    driven.fail("a")
    assert dial("a") not in driven.after(200.0)


def test_who_is_turned_away_is_told_of_and_dialled_rarely() -> None:
    driven = Driven()
    driven.on(seen("z"))
    turned = DialFailed(address("z"), node("z"), "certified for another grid", turned=True)
    for _ in range(12):
        assert driven.on(turned) == [TurnedAway(node("z"))]
        driven.after(360.0)
    driven.on(turned)
    assert driven.after(200.0) == []


def test_a_named_address_where_the_node_is_turned_away_is_dialled_more_and_more_rarely() -> None:
    driven = Driven()
    turned = DialFailed(HOME, None, "certified for another grid", turned=True)
    assert driven.on(Sighting("bootstrap", None, (HOME,))) == [Dial(HOME, None)]
    for _ in range(12):
        assert driven.on(turned) == []
        assert Dial(HOME, None) in driven.after(360.0)
    driven.on(turned)
    assert driven.after(200.0) == []
    driven.after(160.0)
    assert driven.on(DialFailed(HOME, None, "refused")) == []
    assert Dial(HOME, None) in driven.after(36.0)


def test_the_addresses_of_a_token_are_tried_for_long_without_a_word_to_the_user() -> None:
    driven = Driven()
    assert driven.on(Sighting("token", None, (address("b"), HOME))) == [Dial(address("b"), None), Dial(HOME, None)]
    for _ in range(20):
        assert driven.on(DialFailed(HOME, None, "refused")) == []
        assert Dial(HOME, None) in driven.after(40.0)


def test_a_farewell_ends_the_search_but_not_a_connection() -> None:
    driven = Driven()
    driven.on(seen("b"))
    driven.on(Farewell(node("b"), 1000))
    assert driven.after(60.0) == []
    driven.on(up("c"))
    driven.need("c")
    assert driven.on(Farewell(node("c"), 1000)) == []
    assert driven.after(60.0) == []
    assert list(driven.connections.up) == [node("c")]


def test_who_was_met_is_not_dialled_for_being_seen_but_for_being_needed() -> None:
    driven = Driven()
    driven.on(seen("b"))
    driven.connections.met(node("b"), (address("b"),), 1000, now_s=driven.now_s)
    assert driven.after(60.0) == []
    driven.connections.met(node("z"), (address("z"),), 1000, now_s=driven.now_s)
    assert driven.on(seen("z")) == []
    assert driven.on(seen("z", incarnation=2000)) == [dial("z")], "a later start has not been met"
    assert driven.need("b") == [dial("b")]


def test_of_a_crowd_a_few_are_dialled_at_once_and_the_others_one_after_another() -> None:
    driven = Driven("a")
    for number in range(100):
        driven.on(Sighting("mdns", NodeId(f"n{number:03}"), (HOME,), grid=GRID))
        dialled_at_once = len(driven.after(0.0))
        assert dialled_at_once <= CROWD
    assert len(driven.after(0.5)) <= 0.5 / CROWD_SPACING_S + CROWD
    assert driven.after(100 * CROWD_SPACING_S)


def test_a_crowd_of_invented_nodes_is_bounded_and_what_the_user_named_outlives_it() -> None:
    dialling = Dialling(node("z"))
    dialling.sighted(Sighting("bootstrap", None, (HOME,)), 0.0)
    for number in range(TARGETS_MAX + 100):
        dialling.sighted(Sighting("mdns", NodeId(f"n{number}"), (HOME,), grid=GRID), 0.0)
    dialling.check()
    assert not dialling.seeks(NodeId("n0"))
    assert dialling.failed(HOME, None, 0.0, turned=False) == ([], True)


def test_a_crowd_of_invented_addresses_is_bounded() -> None:
    driven = Driven()
    for port in range(100):
        driven.on(seen("b", port=port))
    dialled = {effect.address for _ in range(40) for effect in driven.after(0.3) if isinstance(effect, Dial)}
    assert len(dialled) <= ADDRESSES_MAX


@pytest.mark.parametrize("restarts", [False, True])
def test_a_node_announced_a_thousand_times_a_second_is_dialled_about_once_a_second(restarts: bool) -> None:
    dialling = Dialling(node("a"))
    dials = 0
    for number in range(10_000):
        now_s = 100.0 + number / 1000
        sighting = seen("z", port=number, incarnation=1000 + number * restarts)
        for each in [*dialling.sighted(sighting, now_s), *dialling.due(now_s)]:
            dials += 1
            more, _ = dialling.failed(each.address, each.expected, now_s, turned=False)
            dials += len(more)
        assert len(dialling._heap) <= 2 + OUTDATED_MAX
    dialling.check()
    assert dials <= 10.0 / AGAIN_S * ADDRESSES_MAX + ADDRESSES_MAX
