from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from jcpeer.discovery.address_book import ENTRIES_MAX, AddressBook, open_address_book
from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


async def test_addresses_outlast_the_node_latest_first(tmp_path: Path) -> None:
    path = tmp_path / "addresses.json"
    async with open_address_book(path, grid="g") as book:
        book.remember(A, ("/ip4/192.0.2.1/tcp/1",))
        book.remember(B, ("/ip4/192.0.2.2/tcp/1",))
        book.remember(C, ("/ip4/192.0.2.3/tcp/1",))
        book.remember(A, ("/ip4/192.0.2.1/tcp/2",))
        book.forget(B)
    again = AddressBook(path, grid="g")
    assert list(again.entries.items()) == [(A, ("/ip4/192.0.2.1/tcp/2",)), (C, ("/ip4/192.0.2.3/tcp/1",))]
    assert again.sightings()[0] == Sighting("book", A, ("/ip4/192.0.2.1/tcp/2",), grid="g")


async def test_the_book_is_saved_while_the_node_runs(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    path = tmp_path / "addresses.json"
    async with open_address_book(path, grid="g") as book:
        book.remember(A, ("x",))
        await trio.sleep(5)
        assert AddressBook(path, grid="g").entries == {A: ("x",)}


def test_addresses_of_another_grid_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "addresses.json"
    book = AddressBook(path, grid="g")
    book.remember(A, ("x",))
    book.save()
    assert AddressBook(path, grid="other").entries == {}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"grid": "g"}', b'{"grid": "g", "nodes": {"a": [1]}}', b"\xff"])
def test_a_damaged_book_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "addresses.json"
    path.write_bytes(damage)
    assert AddressBook(path, grid="g").entries == {}
    assert (tmp_path / "addresses.json.damaged").read_bytes() == damage


def test_the_book_is_bounded(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "addresses.json", grid="g")
    for number in range(ENTRIES_MAX + 5):
        book.remember(NodeId(str(number)), ("x",))
    assert len(book.entries) == ENTRIES_MAX
    assert NodeId("4") not in book.entries


def test_a_book_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "missing" / "addresses.json", grid="g")
    book.remember(A, ("x",))
    book.save()
