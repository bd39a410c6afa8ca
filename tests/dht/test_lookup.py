from __future__ import annotations

from jcpeer.dht.lookup import ALPHA, CANDIDATES_MAX, Lookup
from jcpeer.dht.table import Entry
from jcpeer.ids import NodeId
from tests.dht.people import by_distance, entries, entry, names

KEY = 12345
ME = entry(9999)
NEAREST = by_distance(KEY, entries(60))


def lookup(seeds: list[Entry], *, count: int = 4, myself: Entry | None = None) -> Lookup:
    return Lookup(KEY, count=count, seeds=seeds, me=ME.id, myself=myself)


def over(search: Lookup) -> bool:
    return search.over


def test_the_nearest_are_asked_first_and_so_many_at_once() -> None:
    search = lookup(NEAREST[:6])
    assert names(search.ask()) == names(NEAREST[:ALPHA])
    assert search.ask() == []
    search.check()


def test_an_answer_makes_room_for_the_next_request_without_waiting_for_others() -> None:
    search = lookup(NEAREST[10:16])
    search.ask()
    search.answered(NEAREST[11])
    search.named(NEAREST[:2])
    assert names(search.ask()) == names(NEAREST[:1])
    search.check()


def test_it_is_over_when_the_nearest_that_remain_have_all_answered() -> None:
    search = lookup(NEAREST[:5])
    for each in search.ask():
        search.answered(each)
    assert not over(search)
    (fourth,) = search.ask()
    search.lost(fourth.id)
    assert not over(search)
    (fifth,) = search.ask()
    search.answered(fifth)
    assert over(search)
    assert names(search.found) == names([*NEAREST[:3], NEAREST[4]])


def test_one_that_was_lost_is_not_taken_in_again_until_it_answers_itself() -> None:
    search = lookup(NEAREST[:4])
    search.ask()
    search.lost(NEAREST[0].id)
    search.named(NEAREST[:1])
    assert NEAREST[0].id not in names(search.found)
    search.answered(NEAREST[0])
    assert search.found[0] is NEAREST[0]
    search.check()


def test_slow_ones_are_waited_for_while_others_are_asked() -> None:
    search = lookup(NEAREST[:12])
    slow = search.ask()
    for each in slow:
        search.slow(each.id)
    asked = search.ask()
    assert names(asked) == names(NEAREST[ALPHA : ALPHA + 4]), "those next in line, as if the slow ones were dead"
    for each in asked:
        search.answered(each)
    assert not over(search), "they may yet live"
    for each in slow:
        search.answered(each)
    assert over(search)
    assert names(search.found) == names(NEAREST[:4])
    search.check()


def test_this_node_is_found_where_it_belongs_and_never_asked() -> None:
    at = sorted([*NEAREST, ME], key=lambda each: each.long_id ^ KEY).index(ME)
    search = lookup([*NEAREST[: at + 3], ME], count=at + 2, myself=ME)
    while asked := search.ask():
        assert ME not in asked
        for each in asked:
            search.answered(each)
    assert over(search)
    assert names(search.found) == names([*NEAREST[:at], ME, NEAREST[at]])


def test_alone_it_is_over_at_once() -> None:
    search = lookup([], myself=ME)
    assert search.ask() == []
    assert over(search)
    assert search.found == (ME,)
    assert over(lookup([]))


def test_whoever_names_nodes_without_end_fills_no_memory() -> None:
    search = lookup([])
    search.named([Entry(each.contact) for each in entries(CANDIDATES_MAX + 100)])
    assert len(list(search._nearest.everybody())) == CANDIDATES_MAX + 4
    assert search.found[0].id == by_distance(KEY, entries(CANDIDATES_MAX + 100))[0].id
    search.ask()
    search.lost(NodeId("never asked"))
    search.check()
