"""Connections, event by event. `me` is m; ids sort as their letters do."""

from __future__ import annotations

from jcpeer.discovery.connections import IDLE_S, WAITING_MAX, WAITING_S, Effect, Part, Transmit, Undelivered, Unreached
from jcpeer.net.events import PARTED, PeerDown
from jcpeer.wire.messages import Compare, Need
from tests.discovery.people import address, node, up
from tests.discovery.test_dialling import Driven, dial

HELLO = Compare("hello")


class Using(Driven):
    def send(self, letter: str, *, at: str = "") -> list[Effect]:
        return self.connections.send(node(letter), HELLO, addresses=(at,) if at else (), now_s=self.now_s)

    def meet(self, letter: str) -> list[Effect]:
        return self.connections.met(node(letter), (address(letter),), 1000, now_s=self.now_s)

    def down(self, letter: str) -> list[Effect]:
        return self.on(PeerDown(node(letter), "parted", PARTED))


def test_a_needed_node_is_dialled_and_told_that_it_is_needed() -> None:
    using = Using()
    using.meet("b")
    assert using.need("b") == [dial("b")]
    assert using.on(up("b")) == [Transmit(node("b"), Need(True))]
    assert using.after(3600.0) == []
    assert using.need() == [Transmit(node("b"), Need(False))]


def test_a_node_is_needed_as_long_as_one_of_its_holders_needs_it() -> None:
    using = Using()
    using.on(up("b"))
    using.need("b")
    assert using.connections.hold("other", frozenset({node("b")}), now_s=using.now_s) == []
    assert using.need() == []
    assert using.connections.hold("other", frozenset(), now_s=using.now_s) == [Transmit(node("b"), Need(False))]


def test_a_connection_that_neither_end_needs_is_parted_when_nothing_was_said_for_long() -> None:
    using = Using()
    using.on(up("b"))
    using.after(IDLE_S - 1.0)
    assert using.send("b") == [Transmit(node("b"), HELLO)]
    assert using.after(IDLE_S - 1.0) == []
    assert using.after(1.0) == [Part(node("b"))]


def test_a_connection_that_the_other_end_needs_is_kept_until_it_says_otherwise() -> None:
    using = Using()
    using.on(up("b"))
    using.connections.needed(node("b"), True, now_s=using.now_s)
    assert using.after(3600.0) == []
    using.connections.needed(node("b"), False, now_s=using.now_s)
    assert using.after(IDLE_S) == [Part(node("b"))]


def test_a_peer_that_flaps_its_need_or_its_connection_leaves_nothing_behind() -> None:
    using = Using()
    for number in range(1000):
        using.on(up("b"))
        using.connections.needed(node("b"), number % 2 == 0, now_s=using.now_s)
        using.connections.needed(node("b"), False, now_s=using.now_s)
        using.after(0.1)
        if number % 3 == 0:
            using.down("b")
    assert len(using.connections._idle) <= IDLE_S / 0.1 + 1


def test_a_message_waits_for_the_connection_and_is_sent_in_order() -> None:
    using = Using()
    using.meet("b")
    assert using.send("b") == [dial("b")]
    assert using.send("b") == []
    assert using.on(up("b")) == [Transmit(node("b"), HELLO)] * 2


def test_a_message_to_whom_nobody_knows_is_undelivered_at_once() -> None:
    assert Using().send("b") == [Undelivered(node("b"), HELLO)]


def test_an_address_given_by_the_caller_is_enough() -> None:
    using = Using()
    assert using.send("b", at=address("b")) == [dial("b")]
    assert using.on(up("b")) == [Transmit(node("b"), HELLO)]


def test_a_message_is_undelivered_when_every_address_was_tried_in_vain_or_time_is_up() -> None:
    using = Using()
    using.meet("b")
    using.send("b")
    assert using.fail("b") == [Undelivered(node("b"), HELLO)]
    assert using.after(3600.0) == [], "nobody needs it any more"
    using.send("b")
    assert using.after(WAITING_S) == [Undelivered(node("b"), HELLO)]


def test_so_many_messages_wait_for_one_node_and_no_more() -> None:
    using = Using()
    using.meet("b")
    for _ in range(WAITING_MAX):
        using.send("b")
    assert using.send("b") == [Undelivered(node("b"), HELLO)]


def test_a_message_to_a_node_that_the_directory_lost_is_still_delivered_if_it_comes() -> None:
    using = Using()
    using.meet("b")
    using.send("b")
    using.connections.lost_sight(node("b"))
    assert using.on(up("b")) == [Transmit(node("b"), HELLO)]
    using.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert using.send("b") == [Undelivered(node("b"), HELLO)]


def test_a_needed_connection_that_the_other_end_parted_is_dialled_again_and_one_of_no_use_is_not() -> None:
    using = Using()
    using.meet("b")
    using.on(up("b"))
    assert using.down("b") == []
    using.on(up("b"))
    using.need("b")
    assert using.down("b") == [dial("b")]


def test_a_needed_node_that_is_nowhere_is_told_of_and_looked_for_all_the_same() -> None:
    using = Using()
    using.meet("b")
    using.need("b")
    assert using.fail("b") == [Unreached(node("b"))]
    assert using.after(1.2) == [dial("b")]


def test_one_that_was_needed_when_it_fell_silent_is_looked_for_after_the_directory_gave_it_up() -> None:
    using = Using()
    using.meet("b")
    using.need("b")
    using.on(up("b"))
    using.on(PeerDown(node("b"), "silent", "no word for 3 s"))
    using.connections.lost_sight(node("b"))
    using.need()
    assert using.after(1.2) == [dial("b")]
