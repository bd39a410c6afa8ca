from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from jcpeer.dht.checking import CONTACTS_MAX
from jcpeer.dht.machine import (
    STALE_S,
    TIMEOUT_S,
    Abandon,
    Effect,
    Event,
    Find,
    FindRecord,
    Found,
    FoundNode,
    Gone,
    Heard,
    Kademlia,
    KeyMessage,
    Nonsense,
    Publish,
    Published,
    Renewed,
    Seen,
    Send,
    Tick,
    Unreached,
    Withdraw,
)
from jcpeer.ids import NodeId
from jcpeer.wire.messages import (
    Contact,
    FindNode,
    FoundNodes,
    News,
    Ping,
    Pong,
    RecordStored,
    Signed,
    StoreRecord,
)
from simulations.key_world import judge_by_number, record_of
from tests.dht.people import by_distance, contact, entries, names

ME = contact(9999)
BOB, EVE = contact(1), contact(2)
KEY = 77
KEY_TEXT = f"{KEY:040x}"


class Fixture:
    """A machine, its clock, and what it last said."""

    def __init__(self) -> None:
        self.machine = Kademlia(ME, judge_by_number)
        self.now_s = 0.0

    def tell(self, event: Event) -> list[Effect]:
        effects = self.machine.handle(event, now_s=self.now_s)
        self.machine.check()
        return effects

    def hear(self, peer: Contact, message: KeyMessage) -> list[Effect]:
        return self.tell(Heard(peer.node, message, peer.addresses))

    def wait(self, for_s: float) -> list[Effect]:
        """All that it does by itself in that time."""
        until_s, effects = self.now_s + for_s, []
        while (wake_s := self.machine.wake_s()) <= until_s:
            assert wake_s >= self.now_s, "a wake-up that was due before"
            self.now_s = wake_s
            effects += self.tell(Tick())
            assert self.machine.wake_s() > self.now_s, "it would never sleep again"
        self.now_s = until_s
        return effects

    def knows(self, *contacts: Contact) -> None:
        """It has found out all it can about these, and is at rest."""
        for each in contacts:
            for effect in self.tell(Seen(each)):
                self.answer(effect)

    def answer(self, effect: Effect, *contacts: Contact, **fields: object) -> list[Effect]:
        """Whoever was sent this answers at once."""
        assert isinstance(effect, Send)
        match effect.message:
            case Ping(call):
                return self.hear(effect.contact, Pong(call))
            case FindNode(call):
                return self.hear(effect.contact, FoundNodes(call, contacts, **fields))  # type: ignore[arg-type]
            case StoreRecord(call):
                return self.hear(effect.contact, RecordStored(call, **fields))  # type: ignore[arg-type]
        raise AssertionError(f"{effect} asks nothing")


@pytest.fixture
def node() -> Fixture:
    return Fixture()


def next_ping(node: Fixture) -> Send:
    """Waits for it; lookups meanwhile are answered."""
    while True:
        effects = node.wait(0.5)
        for effect in sent(effects, FindNode):
            node.answer(effect)
        for effect in sent(effects, Ping):
            return effect


def sent(effects: list[Effect], kind: type) -> list[Send]:
    return [each for each in effects if isinstance(each, Send) and isinstance(each.message, kind)]


# --- who is known


def test_the_first_member_seen_is_asked_for_those_around_this_node(node: Fixture) -> None:
    (ask,) = node.tell(Seen(BOB))
    assert isinstance(ask, Send)
    assert (ask.contact, ask.message) == (BOB, FindNode(1, f"{node.machine.key:040x}"))
    (further,) = node.answer(ask, EVE, ME)
    assert isinstance(further, Send)
    assert further.contact == EVE, "whom Bob knows is asked in turn, and this node never asks itself"


def test_a_contact_that_somebody_names_is_not_named_on_before_it_has_answered(node: Fixture) -> None:
    (ask,) = node.tell(Seen(BOB))
    (further,) = node.answer(ask, EVE)
    who = FindNode(7, KEY_TEXT)
    assert node.hear(contact(3), who) == [Send(contact(3), FoundNodes(7, (BOB,)))]
    node.answer(further)
    (answer,) = node.hear(contact(4), FindNode(8, KEY_TEXT))
    assert isinstance(answer, Send)
    assert isinstance(answer.message, FoundNodes)
    assert EVE in answer.message.contacts


def test_a_request_admits_who_makes_it_and_it_is_not_told_of_itself(node: Fixture) -> None:
    assert node.hear(BOB, Ping(3))[-1] == Send(BOB, Pong(3))
    assert node.hear(BOB, FindNode(4, KEY_TEXT)) == [Send(BOB, FoundNodes(4, ()))]
    (answer,) = node.hear(EVE, FindNode(5, KEY_TEXT))
    assert answer == Send(EVE, FoundNodes(5, (BOB,)))


def test_one_that_cannot_be_dialled_is_answered_and_not_named(node: Fixture) -> None:
    assert node.tell(Heard(BOB.node, Ping(1))) == [Send(Contact(BOB.node, ()), Pong(1))]
    assert node.hear(EVE, FindNode(2, KEY_TEXT))[-1] == Send(EVE, FoundNodes(2, ()))


def test_who_is_gone_is_named_no_more_and_comes_back_with_new_addresses(node: Fixture) -> None:
    node.knows(BOB)
    node.tell(Gone(BOB.node))
    assert node.hear(EVE, FindNode(1, KEY_TEXT))[-1] == Send(EVE, FoundNodes(1, ()))
    moved = contact(1, port=5)
    node.hear(moved, Ping(1))
    assert node.hear(EVE, FindNode(2, KEY_TEXT)) == [Send(EVE, FoundNodes(2, (moved,)))]


def test_an_idle_node_whose_members_are_watched_begins_anew_ever_more_seldom_and_is_silent_otherwise(
    node: Fixture,
) -> None:
    node.knows(*(contact(number) for number in range(20)))
    asked_s: list[float] = []
    until_s = 3600.0
    while node.now_s < until_s:
        for effect in node.wait(min(node.machine.wake_s(), until_s) - node.now_s):
            assert sent([effect], FindNode), "no pings"
            asked_s.append(node.now_s)
            node.answer(effect)
    rounds_s = sorted(set(asked_s))
    assert 10.0 <= rounds_s[0] <= 30.0
    assert len(rounds_s) < 20
    assert all(150.0 <= later - earlier <= 450.0 for earlier, later in pairwise(rounds_s[-5:]))


def test_a_few_deaths_end_the_long_intervals(node: Fixture) -> None:
    node.knows(*(contact(number) for number in range(20)))
    while node.now_s < 3000.0:
        for effect in node.wait(10.0):
            node.answer(effect)
    for number in range(3):
        node.tell(Gone(contact(number).node))
    assert node.machine.wake_s() <= node.now_s + 30.0


def test_one_that_nobody_watches_is_asked_whether_it_lives_and_dropped_if_not(node: Fixture) -> None:
    for effect in node.tell(Seen(BOB, watched=False)):
        node.answer(effect)
    node.answer(next_ping(node))
    assert node.now_s >= STALE_S
    next_ping(node)
    node.wait(TIMEOUT_S)
    assert node.hear(EVE, FindNode(1, KEY_TEXT))[-1] == Send(EVE, FoundNodes(1, ()))


def test_a_watched_one_that_is_late_is_dead_for_one_lookup_only(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    again, found = node.wait(TIMEOUT_S)
    assert again == ask, "the first may have been lost with a connection that was being closed"
    assert found == Found(1, (FoundNode(ME),), requests=2)
    assert len(node.tell(Find(2, KEY))) == 1


# --- lookups


def test_a_lookup_finds_the_nearest_and_itself_with_their_news(node: Fixture) -> None:
    node.knows(BOB)
    mine, bobs = (News(who.node, 1, 1, Signed(b"", b"")) for who in (ME, BOB))
    node.tell(Renewed(ME, mine))
    (ask,) = node.tell(Find(5, node.machine.key, introduce=True))
    (found,) = node.answer(ask, news=bobs)
    assert found == Found(5, (FoundNode(ME, mine), FoundNode(BOB, bobs)), requests=1)


def test_news_of_this_node_is_told_to_those_who_want_it(node: Fixture) -> None:
    news = News(ME.node, 1, 1, Signed(b"", b""))
    node.tell(Renewed(ME, news))
    assert node.hear(BOB, FindNode(1, KEY_TEXT, introduce=True))[-1] == Send(BOB, FoundNodes(1, (), news=news))
    assert node.hear(BOB, FindNode(2, KEY_TEXT)) == [Send(BOB, FoundNodes(2, ()))]


def test_one_that_cannot_be_reached_is_not_waited_for(node: Fixture) -> None:
    node.knows(BOB)
    node.tell(Find(1, KEY))
    assert node.tell(Unreached(BOB.node)) == [Found(1, (FoundNode(ME),), requests=1)]


def test_a_late_answer_still_counts_while_the_lookup_goes_on(node: Fixture) -> None:
    near = [each.contact for each in by_distance(KEY, entries(100))]  # all nearer than this node itself
    node.knows(*near[:2])
    asked = node.tell(Find(1, KEY, count=2))
    node.now_s = 0.9
    assert node.tell(Tick()) == asked, "both are slow"
    (third,) = sent(node.answer(asked[1], near[2]), FindNode)
    assert third.contact == near[2], "in place of the slow one"
    node.now_s = TIMEOUT_S
    assert node.tell(Tick()) == [], "the first counts as dead"
    (found,) = node.answer(asked[0])
    assert isinstance(found, Found)
    assert [each.contact for each in found.nodes] == near[:2]


def test_an_abandoned_call_is_never_answered(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    node.tell(Abandon(1))
    assert node.answer(ask) == []
    assert node.wait(5.0) == []


def test_alone_a_node_finds_itself(node: Fixture) -> None:
    assert node.tell(Find(1, KEY)) == [Found(1, (FoundNode(ME),))]
    assert node.machine.wake_s() == math.inf


# --- records


def test_the_highest_record_of_those_met_is_found(node: Fixture) -> None:
    node.knows(BOB, EVE)
    node.hear(BOB, StoreRecord(1, KEY_TEXT, record_of(KEY, 2)))
    asked = node.tell(FindRecord(1, KEY))
    assert all(isinstance(each, Send) and each.message.record for each in asked)  # type: ignore[union-attr]
    node.answer(asked[0], record=record_of(KEY, 3))
    (found,) = node.answer(asked[1], record=record_of(KEY, 1))
    assert isinstance(found, Found)
    assert found.record == record_of(KEY, 3)


def test_a_forged_record_is_told_of_and_the_node_that_sent_it_still_counts(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(FindRecord(1, KEY))
    effects = node.answer(ask, record=Signed(b"forged", b""))
    assert node.machine.refused == 1
    assert isinstance(effects[0], Nonsense)
    assert effects[1:] == [Found(1, effects[1].nodes, None, 1)]  # type: ignore[union-attr]


def test_a_record_is_kept_for_others_and_a_lower_one_refused(node: Fixture) -> None:
    assert node.hear(BOB, StoreRecord(1, KEY_TEXT, record_of(KEY, 2)))[-1] == Send(BOB, RecordStored(1))
    (refused,) = node.hear(EVE, StoreRecord(2, KEY_TEXT, record_of(KEY, 1)))
    assert refused == Send(EVE, RecordStored(2, "a newer record is kept here"))
    (told,) = node.hear(EVE, FindNode(3, KEY_TEXT, record=True))
    assert told == Send(EVE, FoundNodes(3, (BOB,), record=record_of(KEY, 2)))


def test_a_record_is_stored_on_the_nearest_and_again_after_a_third_of_its_lifetime(node: Fixture) -> None:
    node.knows(BOB)
    record = record_of(KEY, 1, lifetime_s=30.0)
    (ask,) = node.tell(Publish(KEY, record))
    (store,) = node.answer(ask)
    assert isinstance(store, Send)
    assert isinstance(store.message, StoreRecord)
    assert (store.message.key, store.message.record) == (KEY_TEXT, record)
    assert node.answer(store, refusal="no") == [Published(KEY, 1, ((BOB.node, "no"),))]
    assert sent(node.wait(9.9), FindNode) == []
    assert [each.contact for each in sent(node.wait(0.2), FindNode) if each.message.key == KEY_TEXT] == [BOB]  # type: ignore[union-attr]
    node.tell(Withdraw(KEY))
    assert sent(node.wait(60.0), StoreRecord) == []


def test_a_record_is_stored_again_soon_when_somebody_nearer_comes(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Publish(KEY, record_of(KEY, 1, lifetime_s=3000.0)))
    (store,) = node.answer(ask)
    node.answer(store)
    node.knows(EVE)
    asked = [each for each in sent(node.wait(10.0), FindNode) if each.message.key == KEY_TEXT]  # type: ignore[union-attr]
    assert {each.contact for each in asked} == {BOB, EVE}


def test_what_this_node_may_not_publish_is_told(node: Fixture) -> None:
    assert node.tell(Publish(KEY, Signed(b"", b""))) == [Published(KEY, 0, ((ME.node, "forged: it is not signed"),))]


# --- nonsense

FAR = tuple(contact(number) for number in range(CONTACTS_MAX + 1))


@pytest.mark.parametrize(
    "message",
    [
        FindNode(1, "not a key"),
        FindNode(1, "A" * 40),
        FindNode(1, ""),
        FindNode(1, "0" * 41),
        StoreRecord(1, "١" * 40, record_of(KEY, 1)),
        Pong(99),
        Pong(-1),
        Pong(0),
        FoundNodes(2**63, ()),
        RecordStored(12345),
    ],
    ids=str,
)
def test_a_malformed_message_or_an_answer_to_nothing_is_refused_and_counted(node: Fixture, message: KeyMessage) -> None:
    node.knows(EVE)
    (told,) = node.hear(BOB, message)
    assert isinstance(told, Nonsense)
    assert node.machine.refused == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda call: FoundNodes(call, FAR),
        lambda call: FoundNodes(call, (), news=News(EVE.node, 1, 1, Signed(b"", b""))),
    ],
)
def test_who_answers_nonsense_counts_as_one_that_did_not_answer(
    node: Fixture, answer: Callable[[int], FoundNodes]
) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    assert isinstance(ask, Send)
    found, told = node.hear(BOB, answer(ask.message.call))
    assert isinstance(told, Nonsense)
    assert found == Found(1, (FoundNode(ME),), requests=1)


def test_nobody_answers_for_somebody_else(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    assert isinstance(ask, Send)
    (told,) = node.hear(EVE, FoundNodes(ask.message.call, ()))
    assert isinstance(told, Nonsense)
    (told,) = node.hear(BOB, Pong(ask.message.call))
    assert isinstance(told, Nonsense)
    assert [type(each) for each in node.answer(ask)] == [Found]


def test_contacts_that_cannot_be_are_left_out_and_their_teller_is_heard(node: Fixture) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    absurd = (
        Contact(NodeId(""), EVE.addresses),
        Contact(NodeId("x" * 1000), EVE.addresses),
        Contact(NodeId("nowhere"), ()),
        Contact(NodeId("elsewhere"), ("http://example.org", "/" + "x" * 1000, "/ip4/\n")),
        Contact(NodeId("several"), ("junk", "/ip4/10.9.9.9/tcp/1")),
    )
    (further,) = sent(node.answer(ask, *absurd), FindNode)
    assert further.contact == Contact(NodeId("several"), ("/ip4/10.9.9.9/tcp/1",))


def test_the_key_of_a_contact_follows_from_its_id_and_names_of_strangers_cost_a_timeout_at_most(
    node: Fixture,
) -> None:
    node.knows(BOB)
    (ask,) = node.tell(Find(1, KEY))
    invented = tuple(each.contact for each in by_distance(KEY, entries(2000))[:CONTACTS_MAX])
    node.answer(ask, *invented)
    effects = node.wait(10.0)
    (found,) = (each for each in effects if isinstance(each, Found))
    assert {each.contact for each in found.nodes} == {ME, BOB}
    assert names(list(node.machine._book.table)) == [BOB.node]
