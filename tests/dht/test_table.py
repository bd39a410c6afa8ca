from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jcpeer.dht.table import Bucket, Entry, Table
from jcpeer.ids import node_key
from tests.dht.people import by_distance, entries, entry, names

ME = entry(9999)


def of(number: int) -> tuple[Table, list[Entry]]:
    table, those = Table(ME), entries(number)
    for each in those:
        table.add_contact(each)
    return table, those


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=400),
    key=st.integers(0, 2**160 - 1),
    count=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_nearest_are_exactly_those_of_the_whole_table(steps: list[tuple[bool, int]], key: int, count: int) -> None:
    table = Table(ME)
    for comes, number in steps:
        if comes:
            table.add_contact(entry(number))
        else:
            table.remove_contact(entry(number))
    table.check()
    inside = list(table)
    assert len(inside) == len(table) == len(set(names(inside)))
    assert names(table.nearest(key, count)) == names(by_distance(key, inside)[:count])
    for each in inside[:5]:
        assert names(table.nearest(each.long_id, 8, exclude=each.id)) == names(
            [other for other in by_distance(each.long_id, inside) if other is not each][:8]
        )


def test_the_nearest_to_a_node_itself_are_all_in_its_table() -> None:
    table, those = of(1000)
    assert names(table.nearest(ME.long_id, 8)) == names(by_distance(ME.long_id, those)[:8])
    assert len(table) < 300, "but it does not hold everybody"


def test_a_node_that_comes_again_moves_to_the_tail_with_its_new_addresses() -> None:
    table, _ = of(4)
    table.add_contact(entry(0, port=5))
    (bucket,) = table.buckets
    assert list(bucket.nodes) == ["node1", "node2", "node3", "node0"]
    assert bucket.nodes["node0"].contact.addresses == ("/ip4/10.0.0.0/tcp/5",)


def test_a_full_bucket_names_its_head_and_the_newcomer_replaces_one_that_goes() -> None:
    table = Table(ME)
    number, head = 0, None
    while head is None:
        number += 1
        head = table.add_contact(entry(number))
    assert head in table
    assert entry(number) not in table
    table.remove_contact(head)
    assert head not in table
    assert entry(number) in table


def test_a_key_that_ends_the_range_of_a_bucket_is_in_that_bucket() -> None:
    table, _ = of(100)
    last = entry(1)
    for index, bucket in enumerate(table.buckets):
        for last.long_id in bucket.range:
            assert table.get_bucket_for(last) == index


def test_depth_is_the_length_of_what_all_keys_begin_with() -> None:
    bucket = Bucket(0, 2**160 - 1, 8)
    for each in entries(3):
        bucket.add_node(each)
    texts = [f"{node_key(each.id):0160b}" for each in entries(3)]
    assert bucket.depth() == next(bit for bit in range(160) if len({text[bit] for text in texts}) > 1)
