"""The directory, event by event. Node ids sort as their letters do: `me` is m."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.discovery.dialling import ADDRESSES_MAX, DIAL_S_MAX, PATIENCE_S, STAGGER_S, TARGETS_MAX, Dial
from jcpeer.discovery.directory import (
    OTHER_GRIDS_MAX,
    TELL_INTERVAL_S,
    Changed,
    Directory,
    Disconnect,
    Effect,
    Event,
    Forget,
    Joined,
    Left,
    Notice,
    Publish,
    RecordChanged,
    Remember,
    Tell,
    Tick,
)
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.membership.certificates import Certificate
from jcpeer.net.events import DialFailed, PeerDown, PeerUp, Received
from jcpeer.wire.messages import Announce, Goodbye, Hello, Introduce, Introduction, NodeRecord

GRID = "grid"
HOME = "/ip4/192.0.2.9/tcp/9"


def node(letter: str) -> NodeId:
    return NodeId(letter * 12)


def record(letter: str, *, incarnation: int = 1000, version: int = 1, user: str = "ada") -> NodeRecord:
    return NodeRecord(
        node=node(letter),
        name=f"name-{letter}",
        user=user,
        host="somewhere",
        incarnation=incarnation,
        version=version,
        state="idle",
        slots=4,
        slots_used=0,
        cpus=4,
        memory_bytes=2**30,
        load=0.0,
        python="3.11",
        addresses=(address(letter),),
    )


def address(letter: str, port: int = 1) -> str:
    return f"/ip4/192.0.2.{ord(letter)}/tcp/{port}"


def seen(letter: str, *, port: int = 1, incarnation: int = 1000, grid: str = GRID) -> Sighting:
    return Sighting("mdns", node(letter), (address(letter, port),), grid=grid, incarnation=incarnation)


def up(letter: str, *, incarnation: int = 1000, at: str | None = None) -> PeerUp:
    certificate = Certificate(
        serial="1",
        node=node(letter),
        host=f"host-{letter}",
        user="ada",
        rights=("*",),
        issued_s=0.0,
        expires_s=None,
        invitation="1",
        grid=GRID,
    )
    hello = Hello(1, 0, (), f"name-{letter}", incarnation, (address(letter),))
    return PeerUp(node(letter), certificate, hello, at or address(letter))


def announced(letter: str, *, incarnation: int = 1000, version: int = 1) -> Received:
    return Received(node(letter), Announce(record(letter, incarnation=incarnation, version=version)))


class Driven:
    """A directory whose invariants are checked after each step."""

    def __init__(self, me: str = "m") -> None:
        self.directory = Directory(evolve(record(me), addresses=(HOME,)), GRID)
        self.now_s = 100.0

    def on(self, event: Event) -> list[Effect]:
        effects = self.directory.handle(event, now_s=self.now_s)
        self.directory.check()
        return effects

    def after(self, seconds: float) -> list[Effect]:
        self.now_s += seconds
        return self.on(Tick())

    def join(self, letter: str) -> None:
        self.on(up(letter))
        self.on(announced(letter))

    def names(self) -> list[str]:
        return [each.record.node[0] for each in self.directory.view(self.now_s)]


def test_a_node_joins_when_it_is_checked_and_has_said_what_it_offers() -> None:
    driven = Driven()
    me = driven.directory.view(0.0)[0].record
    assert driven.on(up("b")) == [Tell(node("b"), Announce(me))]
    assert driven.names() == ["m"]
    checked = evolve(record("b"), host="host-b")
    assert driven.on(announced("b")) == [Joined(checked), Remember(node("b"), (address("b"),))]
    driven.now_s += 3.0
    others = driven.directory.view(driven.now_s)[1:]
    assert [(each.record, each.age_s, each.address) for each in others] == [(checked, 3.0, address("b"))]


def test_user_and_host_are_those_of_the_certificate() -> None:
    driven = Driven()
    driven.on(up("b"))
    effects = driven.on(Received(node("b"), Announce(record("b", user="root"))))
    assert effects[0] == Joined(evolve(record("b"), user="ada", host="host-b"))


def test_a_node_that_speaks_for_another_is_disconnected() -> None:
    driven = Driven()
    driven.on(up("b"))
    [effect] = driven.on(Received(node("b"), Announce(record("c"))))
    assert isinstance(effect, Disconnect)
    assert driven.names() == ["m"]


def test_an_older_version_of_a_record_changes_nothing() -> None:
    driven = Driven()
    driven.on(up("b"))
    driven.on(announced("b", version=5))
    assert driven.on(announced("b", version=4)) == []
    assert driven.on(announced("b", version=6)) == [Changed(evolve(record("b", version=6), host="host-b"))]


def test_a_broken_connection_takes_a_node_out_and_it_is_dialled_again_later() -> None:
    driven = Driven()
    driven.join("b")
    down = driven.on(PeerDown(node("b"), "silent", "no word for 3 s"))
    assert down == [Left(node("b"), "no word for 3 s", "silent")]
    assert driven.names() == ["m"]
    assert driven.after(2.0) == [Dial(address("b"), node("b"))]


def test_who_says_goodbye_is_out_at_once_and_not_dialled_again() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.on(Received(node("b"), Goodbye())) == [Left(node("b"), "it said goodbye", "left")]
    assert driven.on(PeerDown(node("b"), "left", "it said goodbye")) == []
    assert driven.after(3600.0) == []


def test_a_sighting_alone_is_only_a_reason_to_dial() -> None:
    driven = Driven()
    assert driven.on(seen("z")) == [Dial(address("z"), node("z"))]
    assert driven.names() == ["m"]


def test_the_larger_id_leaves_the_first_dial_to_the_smaller_for_a_moment() -> None:
    driven = Driven()
    assert driven.on(seen("b")) == []
    assert driven.after(PATIENCE_S) == [Dial(address("b"), node("b"))]
    driven = Driven()
    driven.on(seen("b"))
    driven.on(up("b"))
    assert driven.after(PATIENCE_S) == []


def test_a_restart_on_another_port_is_dialled_at_once() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.on(seen("b", port=2, incarnation=2000)) == []
    down = driven.on(PeerDown(node("b"), "refused", "its process is gone"))
    assert down == [Left(node("b"), "its process is gone", "refused"), Dial(address("b", 2), node("b"))]


def test_a_restart_seen_after_the_connection_broke_is_dialled_at_once() -> None:
    driven = Driven()
    driven.join("b")
    driven.on(PeerDown(node("b"), "refused", "its process is gone"))
    assert driven.on(seen("b", port=2, incarnation=2000)) == [Dial(address("b", 2), node("b"))]


def test_a_connection_of_a_later_start_replaces_the_entry() -> None:
    driven = Driven()
    driven.join("b")
    effects = driven.on(up("b", incarnation=2000))
    assert effects[0] == Left(node("b"), "it started anew", "refused")
    assert isinstance(driven.on(announced("b", incarnation=2000))[0], Joined)


def test_the_addresses_of_a_node_are_tried_one_beside_the_other() -> None:
    driven = Driven()
    both = Sighting("mdns", node("z"), (address("z", 1), address("z", 2), address("z", 3)), grid=GRID)
    assert driven.on(both) == [Dial(address("z", 1), node("z"))]
    assert driven.after(STAGGER_S) == [Dial(address("z", 2), node("z"))]
    assert driven.on(DialFailed(address("z", 1), node("z"), "refused")) == [Dial(address("z", 3), node("z"))]
    assert driven.on(DialFailed(address("z", 3), node("z"), "refused")) == []
    assert driven.on(DialFailed(address("z", 2), node("z"), "refused")) == []
    assert driven.after(1.2) == [Dial(address("z", 1), node("z"))]


def test_a_dial_that_is_never_answered_is_given_up_and_repeated() -> None:
    driven = Driven()
    driven.on(seen("z"))
    assert driven.after(DIAL_S_MAX) == []
    assert driven.after(1.2) == [Dial(address("z"), node("z"))]


def test_a_new_address_of_this_machine_brings_the_next_dials_forward() -> None:
    driven = Driven()
    driven.on(seen("y"))
    driven.on(seen("z"))
    for _ in range(8):
        for letter in "yz":
            driven.on(DialFailed(address(letter), node(letter), "no answer"))
        driven.after(40.0)
    for letter in "yz":
        driven.on(DialFailed(address(letter), node(letter), "no answer"))
    assert driven.after(10.0) == []
    moved = evolve(record("m"), addresses=(address("m", 2),))
    assert Dial(address("y"), node("y")) in driven.on(RecordChanged(moved))
    assert driven.after(1.0) == [Dial(address("z"), node("z"))]
    driven.on(DialFailed(address("z"), node("z"), "no answer"))
    assert driven.after(1.2) == [Dial(address("z"), node("z"))]


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
    assert driven.after(3600.0) == []
    driven.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert driven.after(3.0) == [Dial(named, None)]


def test_a_named_address_that_a_connected_node_has_is_not_dialled() -> None:
    driven = Driven()
    driven.join("b")
    assert driven.on(Sighting("bootstrap", None, (address("b"),))) == []
    driven.on(PeerDown(node("b"), "left", "it said goodbye"))
    assert driven.after(3.0) == [Dial(address("b"), None)]


def test_remembered_addresses_are_tried_one_after_another_and_then_slowly() -> None:
    driven = Driven()
    book = [Sighting("book", node(letter), (address(letter),), grid=GRID) for letter in "abc"]
    dials = [driven.on(each) for each in book]
    assert dials == [[Dial(address("a"), node("a"))], [], []]
    assert driven.after(0.2) == [Dial(address("b"), node("b")), Dial(address("c"), node("c"))]
    for _ in range(20):
        driven.on(DialFailed(address("a"), node("a"), "no answer"))
        driven.after(360.0)
    driven.on(DialFailed(address("a"), node("a"), "no answer"))
    assert Dial(address("a"), node("a")) not in driven.after(200.0)


def test_who_is_turned_away_is_forgotten_by_the_address_book_and_dialled_rarely() -> None:
    driven = Driven()
    driven.on(seen("z"))
    turned = DialFailed(address("z"), node("z"), "certified for another grid", turned=True)
    assert driven.on(turned) == [Forget(node("z"))]


def test_a_named_address_where_the_node_is_turned_away_is_dialled_more_and_more_rarely() -> None:
    driven = Driven()
    turned = DialFailed(HOME, None, "certified for another grid", turned=True)
    assert driven.on(Sighting("bootstrap", None, (HOME,))) == [Dial(HOME, None)]
    for _ in range(12):
        assert driven.on(turned) == []
        assert driven.after(360.0) == [Dial(HOME, None)]
    driven.on(turned)
    assert driven.after(200.0) == []
    driven.after(160.0)
    assert driven.on(DialFailed(HOME, None, "refused")) == []
    assert driven.after(36.0) == [Dial(HOME, None)]


def test_another_grid_is_not_dialled_and_said_once() -> None:
    driven = Driven()
    other = evolve(seen("z", grid="other"), grid_name="club\x1b[2J", host="zeus")
    [notice] = driven.on(other)
    assert isinstance(notice, Notice)
    assert "'club?[2J' (other), on zeus" in notice.text
    assert "jcpeer grid join TOKEN" in notice.text
    assert driven.on(evolve(other, node=node("y"))) == []
    assert driven.directory.notices() == (notice.text,)
    assert driven.after(60.0) == []


def test_another_grid_is_named_as_long_as_one_of_its_nodes_is_within_sight() -> None:
    driven = Driven()
    driven.on(seen("y", grid="other"))
    driven.on(seen("z", grid="other"))
    driven.on(Farewell(node("y"), 1000))
    assert len(driven.directory.notices()) == 1
    driven.on(seen("z", incarnation=2000))
    assert driven.directory.notices() == ()
    assert driven.on(seen("z", grid="other", incarnation=3000)) == []
    assert len(driven.directory.notices()) == 1


def test_a_crowd_of_invented_grids_is_bounded_and_makes_room_when_it_goes() -> None:
    driven = Driven()
    for number in range(2 * OTHER_GRIDS_MAX):
        driven.on(evolve(seen("z", grid=f"grid {number}"), node=NodeId(f"node {number}")))
    assert len(driven.directory.notices()) == OTHER_GRIDS_MAX
    driven.on(Farewell(NodeId("node 3"), 1000))
    [notice] = driven.on(seen("b", grid="later"))
    assert isinstance(notice, Notice)


def test_the_addresses_of_a_token_are_tried_for_long_without_a_word_to_the_user() -> None:
    driven = Driven()
    token = Sighting("token", None, (address("b"), HOME))
    assert driven.on(token) == [Dial(address("b"), None), Dial(HOME, None)]
    for _ in range(20):
        assert driven.on(DialFailed(HOME, None, "refused")) == []
        assert Dial(HOME, None) in driven.after(40.0)


def test_a_farewell_ends_the_search_but_not_a_connection() -> None:
    driven = Driven()
    driven.on(seen("b"))
    driven.on(Farewell(node("b"), 1000))
    assert driven.after(60.0) == []
    driven.join("c")
    assert driven.on(Farewell(node("c"), 1000)) == []
    assert driven.names() == ["m", "c"]


def test_a_newcomer_is_introduced_to_those_who_are_there() -> None:
    driven = Driven()
    driven.join("b")
    driven.on(up("c"))
    introduction = Introduce((Introduction(node("b"), (address("b"),), 1000),))
    assert driven.on(announced("c"))[-1] == Tell(node("c"), introduction)


def test_whom_a_peer_introduces_is_dialled() -> None:
    driven = Driven("a")
    driven.join("b")
    introduction = Introduction(node("c"), (address("c"),), 1000)
    me = Introduction(node("a"), (address("a"),), 1000)
    assert driven.on(Received(node("b"), Introduce((introduction, me)))) == [Dial(address("c"), node("c"))]


def test_a_change_of_state_is_told_at_once_and_others_as_one() -> None:
    driven = Driven()
    driven.join("b")
    mine = evolve(record("m"), addresses=(HOME,))
    first = evolve(mine, state="coordinator", version=2)
    assert driven.on(RecordChanged(evolve(mine, state="coordinator"))) == [
        Publish(first),
        Tell(node("b"), Announce(first)),
    ]
    assert driven.on(RecordChanged(evolve(first, slots_used=1))) == []
    assert driven.on(RecordChanged(evolve(first, slots_used=2))) == []
    last = evolve(first, slots_used=2, version=4)
    assert driven.after(TELL_INTERVAL_S) == [Publish(last), Tell(node("b"), Announce(last))]
    assert driven.on(RecordChanged(last)) == []


def test_a_crowd_of_invented_nodes_is_bounded() -> None:
    driven = Driven("z")
    directory = driven.directory
    directory.handle(Sighting("bootstrap", None, (HOME,)), now_s=0.0)
    for number in range(TARGETS_MAX + 100):
        directory.handle(Sighting("mdns", NodeId(f"n{number}"), (HOME,), grid=GRID), now_s=0.0)
    directory.check()


def test_a_crowd_of_invented_addresses_is_bounded() -> None:
    driven = Driven()
    for port in range(100):
        driven.on(seen("b", port=port))
    dialled = {effect.address for _ in range(40) for effect in driven.after(0.3) if isinstance(effect, Dial)}
    assert len(dialled) <= ADDRESSES_MAX


events = st.one_of(
    st.builds(up, st.sampled_from("bz"), incarnation=st.sampled_from([1000, 2000])),
    st.builds(
        announced,
        st.sampled_from("bz"),
        incarnation=st.sampled_from([1000, 2000]),
        version=st.integers(min_value=1, max_value=3),
    ),
    st.builds(
        PeerDown,
        st.sampled_from([node("b"), node("z")]),
        st.sampled_from(["refused", "silent", "left"]),
        st.just("gone"),
    ),
    st.builds(seen, st.sampled_from("bzm"), port=st.integers(1, 3), incarnation=st.sampled_from([0, 1000, 2000])),
    st.builds(Farewell, st.sampled_from([node("b"), node("z")]), st.sampled_from([1000, 2000])),
    st.builds(Received, st.sampled_from([node("b"), node("z")]), st.just(Goodbye())),
    st.builds(
        DialFailed,
        st.sampled_from([address("b"), address("z"), HOME]),
        st.sampled_from([None, node("b"), node("z")]),
        st.just("no"),
        st.booleans(),
    ),
    st.builds(Sighting, st.just("bootstrap"), st.none(), st.sampled_from([(HOME,), (address("b"),)])),
    st.just(Tick()),
)


@given(st.lists(st.tuples(events, st.sampled_from([0.0, 0.3, 5.0, 40.0])), max_size=60))
def test_in_any_order_a_node_has_one_entry_and_its_highest_incarnation_wins(steps: list[tuple[Event, float]]) -> None:
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
                case Dial(_, expected):
                    assert expected not in standing
        shown = [each.record for each in driven.directory.view(driven.now_s)]
        assert {each.node: each for each in shown[1:]} == standing
        assert len(shown) == len(standing) + 1
