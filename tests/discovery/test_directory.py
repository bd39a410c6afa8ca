"""The directory, event by event. `me` is m; ids sort as their letters do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jcpeer.discovery.connections import Unreached
from jcpeer.discovery.directory import (
    COMPARE_S,
    LIST_S,
    PASS_ON_S,
    SUSPECT_S,
    TELL_INTERVAL_S,
    UNREADABLE_MAX,
    VERSION_MAX,
    Changed,
    Directory,
    Disconnect,
    Effect,
    Event,
    Joined,
    Left,
    Neighbours,
    Proof,
    Publish,
    RecordChanged,
    Tell,
    Tick,
)
from jcpeer.discovery.members import MEMBERS_MAX, REMEMBERED_MAX
from jcpeer.discovery.outbox import GOSSIP_MAX
from jcpeer.ids import NodeId
from jcpeer.net.events import PeerDown, Received
from jcpeer.values import evolve
from jcpeer.wire.messages import Compare, Gossip, Known, KnownNode, News, NodeRecord, Obituary, Wanted
from tests.discovery.people import checked, forged, news, node, record, record_of, signed, up, up_of


def death(letter: str, proof: Proof = "silent", *, incarnation: int = 1000, version: int = 1) -> Obituary:
    return Obituary(node(letter), incarnation, version, proof)


class Driven:
    """A directory whose invariants are checked after each step."""

    def __init__(self, me: str = "m") -> None:
        self.me = me
        self.reads = 0
        self.directory = Directory(record(me), sign=signed, read=self._read)
        self.now_s = 100.0

    def _read(self, news: News) -> NodeRecord:
        self.reads += 1
        return checked(news)

    def on(self, event: Event) -> list[Effect]:
        effects = self.directory.handle(event, now_s=self.now_s)
        self.directory.check()
        return [each for each in effects if not isinstance(each, Neighbours)]

    def hear(self, via: str, *what: News | Obituary) -> list[Effect]:
        told = tuple(each for each in what if isinstance(each, News))
        return self.on(Received(node(via), Gossip(told, tuple(each for each in what if isinstance(each, Obituary)))))

    def after(self, seconds: float) -> list[Effect]:
        """What is due by then, but for comparing."""
        until_s, effects = self.now_s + seconds, list[Effect]()
        while (wake_s := self.directory.wake_s()) <= until_s:
            self.now_s = max(self.now_s, wake_s)
            effects += self.on(Tick())
        self.now_s = until_s
        return [each for each in effects if not (isinstance(each, Tell) and isinstance(each.message, Compare))]

    def join(self, *letters: str) -> None:
        for letter in letters:
            self.on(up(letter))
            self.hear(letter, news(letter))
        self.after(PASS_ON_S)

    def others(self) -> list[str]:
        return [each.record.node[0] for each in self.directory.view(self.now_s)[1:]]


def test_a_node_joins_when_it_has_said_what_it_offers() -> None:
    driven = Driven()
    first = driven.on(up("b"))
    assert first[0] == Tell(node("b"), Gossip((news("m"),)))
    assert driven.others() == []
    assert driven.hear("b", news("b")) == [Joined(record("b"))]
    driven.now_s += 3.0
    [seen] = driven.directory.view(driven.now_s)[1:]
    assert (seen.record, seen.age_s) == (record("b"), 3.0)


def test_a_node_of_which_others_tell_joins_and_is_told_of_once() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.hear("b", news("z")) == [Joined(record("z"))]
    assert driven.hear("b", news("z")) == []
    assert driven.after(PASS_ON_S) == [Tell(node("b"), Gossip((news("z"),)))]


def test_forged_news_are_refused_and_only_their_own_node_is_blamed() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.hear("b", forged(news("z"))) == []
    assert driven.hear("b", evolve(news("z"), node=node("y"))) == []
    assert driven.hear("b", evolve(news("z"), version=9)) == []
    assert driven.others() == ["b"]
    [effect] = driven.hear("b", forged(news("b", version=2)))
    assert isinstance(effect, Disconnect)


def test_an_older_version_of_a_record_changes_nothing() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.hear("b", news("b", version=5)) == [Changed(record("b", version=5))]
    assert driven.hear("b", news("b", version=4)) == []


def test_a_broken_connection_takes_a_node_out_and_is_told_to_others() -> None:
    driven = Driven()
    driven.join("b", "c")
    assert driven.on(PeerDown(node("b"), "silent", "no word for 3 s")) == [Left(node("b"), "no word for 3 s", "silent")]
    assert driven.after(PASS_ON_S) == [Tell(node("c"), Gossip(deaths=(death("b"),)))]


def test_who_parted_lives_on() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.on(PeerDown(node("b"), "parted", "no use")) == []
    assert driven.others() == ["b"]


def test_a_later_start_replaces_the_entry() -> None:
    driven = Driven()
    driven.join("b", "c")
    assert driven.hear("c", news("b", incarnation=2000)) == [
        Left(node("b"), "it started anew", "refused"),
        Joined(record("b", incarnation=2000)),
    ]
    assert driven.on(PeerDown(node("b"), "refused", "the start before")) == []
    assert driven.others() == ["b", "c"]


def test_what_others_say_of_a_death_counts_after_a_while_if_nobody_contradicts() -> None:
    proofs: tuple[Proof, ...] = ("silent", "refused", "left")
    for proof in proofs:
        driven = Driven()
        driven.join("b")
        driven.hear("b", news("z"))
        assert driven.hear("b", death("z", proof)) == []
        assert not [each for each in driven.after(SUSPECT_S[proof] - 0.01) if isinstance(each, Left)]
        assert [each.proof for each in driven.after(0.01) if isinstance(each, Left)] == [proof]


def test_a_suspected_node_that_has_news_is_not_given_up() -> None:
    driven = Driven()
    driven.join("b")
    driven.hear("b", news("z"), death("z"))
    assert driven.hear("b", news("z", version=2)) == [Changed(record("z", version=2))]
    assert driven.after(60.0) == [Tell(node("b"), Gossip((news("z", version=2),)))]
    assert driven.hear("b", death("z")) == [Tell(node("b"), Gossip((news("z", version=2),)))], "an old rumour"


def test_the_death_of_one_who_is_connected_is_passed_to_it_alone() -> None:
    driven = Driven()
    driven.join("b", "c")
    assert driven.hear("c", death("b", "refused")) == [Tell(node("b"), Gossip(deaths=(death("b", "refused"),)))]
    assert driven.after(60.0) == []


def test_the_own_death_is_refuted_once_whatever_many_say_and_whatever_version_they_name() -> None:
    driven = Driven()
    driven.join("b")
    for version in (1, 2**40, VERSION_MAX, 2**63, 2**64 - 1):
        for _ in range(100):
            assert driven.hear("b", death("m", version=version)) == []
    mine = [each.message for each in driven.after(60.0) if isinstance(each, Tell)]
    assert len(mine) == 2
    assert all(isinstance(each, Gossip) and each.news[0].version == VERSION_MAX + 1 for each in mine)
    driven.hear("b", death("m", incarnation=2**63))
    assert driven.after(PASS_ON_S), "nobody started later than I"


def test_one_that_should_be_connected_and_cannot_be_is_suspected_aloud() -> None:
    driven = Driven()
    driven.join("b")
    driven.hear("b", news("z"))
    driven.after(PASS_ON_S)
    driven.on(Unreached(node("z")))
    assert driven.after(PASS_ON_S) == [Tell(node("b"), Gossip(deaths=(death("z"),)))]
    assert [each for each in driven.after(SUSPECT_S["silent"]) if isinstance(each, Left)]
    driven.on(Unreached(node("b")))
    assert driven.after(60.0) == []


def test_the_dead_stay_dead_for_old_rumours_but_not_for_their_own_word() -> None:
    driven = Driven()
    driven.join("b", "c")
    driven.on(PeerDown(node("b"), "silent", "no word"))
    assert driven.hear("c", news("b")) == [Tell(node("c"), Gossip(deaths=(death("b"),)))]
    assert driven.hear("c", news("b", version=2)) == [Joined(record("b", version=2))]
    driven.hear("c", death("b", version=2))
    driven.after(SUSPECT_S["silent"])
    assert driven.others() == ["c"]
    assert driven.on(up("b"))[0] == Tell(node("b"), Gossip((news("m"),), (death("b", version=2),)))
    assert driven.hear("b", news("b", version=2)) == [Joined(record("b", version=2))]


def test_a_death_of_a_start_that_never_was_leaves_nothing_that_cannot_be_refuted() -> None:
    driven = Driven()
    driven.join("b")
    driven.hear("b", news("z"), death("z", incarnation=2**63, version=7), death("y", incarnation=2**63))
    driven.after(SUSPECT_S["silent"])
    assert driven.others() == ["b"]
    assert driven.hear("b", news("z", version=2), news("y")) == [Joined(record("z", version=2)), Joined(record("y"))]


def test_two_that_know_different_nodes_compare_and_agree() -> None:
    a, b = Driven("a"), Driven("b")
    for letter in "cdef":
        a.on(up(letter))
        a.hear(letter, news(letter))
    for letter in "fgh":
        b.on(up(letter))
        b.hear(letter, news(letter, version=2))
    queue = [(a, b, each) for each in a.on(up("b"))] + [(b, a, each) for each in b.on(up("a"))]
    said = 0
    while queue:
        sender, hearer, effect = queue.pop(0)
        if isinstance(effect, Tell) and effect.peer == node(hearer.me):
            said += 1
            queue += [(hearer, sender, each) for each in hearer.on(Received(node(sender.me), effect.message))]
    assert sorted(["a", *a.others()]) == sorted(["b", *b.others()]) == list("abcdefgh")
    assert said <= 8


def test_two_that_know_the_same_say_no_more_than_a_digest_now_and_then() -> None:
    driven = Driven()
    driven.join("b")
    said = 0
    for _ in range(1000):
        driven.now_s += 1.0
        said += len(driven.on(Tick()))
    assert 1000 / COMPARE_S / 1.3 <= said <= 1000 / COMPARE_S * 1.4


def test_a_change_of_state_is_told_at_once_and_others_as_one() -> None:
    driven = Driven()
    driven.join("b")
    coordinates = evolve(record("m", version=2), state="coordinator")
    assert driven.on(RecordChanged(evolve(record("m"), state="coordinator"))) == [
        Publish(coordinates),
        Tell(node("b"), Gossip((signed(coordinates),))),
    ]
    assert driven.on(RecordChanged(evolve(coordinates, slots_used=1))) == []
    assert driven.on(RecordChanged(evolve(coordinates, slots_used=2))) == []
    last = evolve(coordinates, slots_used=2, version=4)
    assert driven.after(TELL_INTERVAL_S) == [Publish(last), Tell(node("b"), Gossip((signed(last),)))]
    assert driven.on(RecordChanged(last)) == []


def crowd(driven: Driven, count: int) -> None:
    driven.join("b")
    for number in range(count):
        driven.hear("b", signed(record_of(NodeId(f"n{number:05}"))))
    driven.after(1.0)


def test_in_a_large_grid_what_a_node_does_is_told_less_often_and_what_it_offers_at_once() -> None:
    driven = Driven()
    crowd(driven, 100)
    driven.on(RecordChanged(evolve(record("m"), slots_used=1)))
    assert driven.directory.tell_interval_s > 20 * TELL_INTERVAL_S
    assert driven.on(RecordChanged(evolve(record("m"), slots_used=2, state="participant"))) == []
    offer = driven.on(RecordChanged(evolve(record("m"), slots_used=2, slots=9)))
    assert [type(each) for each in offer] == [Publish, Tell]
    assert len(driven.after(PASS_ON_S)) == 1, "and it is passed on"


def test_members_and_the_dead_are_bounded() -> None:
    directory = Directory(record("m"), sign=signed, read=checked)
    directory.handle(up("b"), now_s=0.0)
    for number in range(MEMBERS_MAX + 100):
        each = signed(record_of(NodeId(f"n{number:05}")))
        directory.handle(Received(node("b"), Gossip((each,))), now_s=0.0)
    assert len(directory) == MEMBERS_MAX + 1
    for number in range(MEMBERS_MAX):
        left = Obituary(NodeId(f"n{number:05}"), 1000, 1, "left")
        directory.handle(Received(node("b"), Gossip(deaths=(left,))), now_s=1.0)
    for tell in directory.handle(Tick(), now_s=60.0):
        if isinstance(tell, Tell) and isinstance(tell.message, Gossip):
            assert len(tell.message.news) <= GOSSIP_MAX
    assert len(directory) == 1
    assert len(directory._members._dead) <= REMEMBERED_MAX
    directory.check()


def test_a_hundred_thousand_invented_nodes_cost_a_few_looks_at_signatures_and_no_memory() -> None:
    driven = Driven()
    driven.join("b")
    before = driven.reads
    for start in range(0, 100_000, GOSSIP_MAX):
        invented = [forged(evolve(news("z"), node=NodeId(f"n{start + each}"))) for each in range(GOSSIP_MAX)]
        dead = [Obituary(NodeId(f"n{start + each}"), 1, 2**63, "refused") for each in range(GOSSIP_MAX)]
        assert driven.hear("b", *invented, *dead) == []
    assert driven.reads - before <= UNREADABLE_MAX
    assert not driven.directory._members._dead
    assert driven.hear("b", news("b", version=2)) == [Changed(record("b", version=2))]


def test_junk_digests_and_lists_that_nobody_asked_for_are_answered_once_a_second_at_most() -> None:
    driven = Driven()
    driven.join("b", "c", "d")
    driven.now_s += 60.0
    invented = tuple(KnownNode(NodeId(f"n{number}"), 1, 1) for number in range(20_000))
    told: list[Effect] = []
    for number in range(1000):
        driven.now_s += 0.001
        told += driven.on(Received(node("b"), Compare(f"junk {number}")))
        told += driven.on(Received(node("b"), Known(invented)))
        told += driven.on(Received(node("b"), Wanted(tuple(each.node for each in invented))))
    told = [each for each in told if isinstance(each, Tell)]
    assert len([each for each in told if isinstance(each.message, Known)]) <= 1 / LIST_S + 1  # type: ignore[union-attr]
    wanted = [each.message for each in told if isinstance(each, Tell) and isinstance(each.message, Wanted)]
    assert sum(len(each.nodes) for each in wanted) <= MEMBERS_MAX + 1
    assert len(told) <= 6


def test_obituaries_about_everybody_take_out_nobody_who_can_contradict() -> None:
    driven = Driven()
    driven.join("b", "c", "d")
    for _ in range(10):
        driven.hear("b", *(death(letter, "refused") for letter in "cdm"))
        for letter in "cd":
            driven.hear(letter, news(letter))
        assert not [each for each in driven.after(1.0) if isinstance(each, Left)]
    assert driven.others() == ["b", "c", "d"]


letters = st.sampled_from("bz")
starts = st.sampled_from([1000, 2000])
versions = st.integers(1, 3)
proofs = st.sampled_from(["refused", "silent", "left", "parted"])
told_news = st.builds(news, letters, incarnation=starts, version=versions)
told_deaths = st.builds(
    death, st.sampled_from("bzm"), st.sampled_from(["refused", "silent"]), incarnation=starts, version=versions
)
events = st.one_of(
    st.builds(lambda letter, start: up_of(record(letter, incarnation=start)), letters, starts),
    st.builds(lambda via, what: Received(node(via), Gossip((what,))), letters, told_news),
    st.builds(lambda via, what: Received(node(via), Gossip(deaths=(what,))), letters, told_deaths),
    st.builds(lambda letter, proof: PeerDown(node(letter), proof, "gone"), letters, proofs),
    st.builds(lambda letter: Unreached(node(letter)), letters),
    st.just(Tick()),
)


@given(st.lists(st.tuples(events, st.sampled_from([0.0, 0.3, 5.0, 40.0])), max_size=60))
def test_in_any_order_a_node_has_one_entry_and_its_highest_version_wins(steps: list[tuple[Event, float]]) -> None:
    driven = Driven()
    standing: dict[NodeId, NodeRecord] = {}
    for event, wait_s in steps:
        driven.now_s += wait_s
        for effect in driven.on(event):
            match effect:
                case Joined(joined):
                    assert joined.node not in standing
                    standing[joined.node] = joined
                case Changed(changed):
                    before = standing[changed.node]
                    assert (before.incarnation, before.version) < (changed.incarnation, changed.version)
                    standing[changed.node] = changed
                case Left(left):
                    del standing[left]
                case _:
                    pass
        shown = [each.record for each in driven.directory.view(driven.now_s)]
        assert {each.node: each for each in shown[1:]} == standing


# --- those who cannot be dialled


def shy(letter: str) -> News:
    """News of a node that cannot be dialled."""
    return signed(evolve(record(letter), dialable=False))


def test_a_refused_redial_proves_nothing_of_one_whose_firewall_may_have_refused() -> None:
    cases: tuple[tuple[News, Proof], ...] = ((news("s"), "refused"), (shy("s"), "silent"))
    for news_of_it, proof in cases:
        driven = Driven()
        driven.on(up("s"))
        driven.hear("s", news_of_it)
        [left] = driven.on(PeerDown(node("s"), "refused", "the redial was refused"))
        assert left == Left(node("s"), "the redial was refused", proof)


def test_one_that_can_be_connected_to_nobody_here_is_doubted_once_nobody_vouches_for_it() -> None:
    driven = Driven()
    for letter in ("a", "b", "t"):
        driven.on(up(letter))
        driven.hear(letter, shy("t") if letter == "t" else news(letter))
    driven.hear("a", shy("s"), news("c"))
    driven.on(PeerDown(node("a"), "silent", "it was silent"))
    assert not any(isinstance(each, Left) for each in driven.after(10)), "b can be connected to it"
    driven.on(PeerDown(node("b"), "silent", "it was silent"))
    left = [each for each in driven.after(10) if isinstance(each, Left)]
    assert [each.node for each in left] == [node("s")], "t is connected, and c can be dialled"
