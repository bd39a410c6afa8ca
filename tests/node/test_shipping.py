"""Entries on their way to a copy that is slower than the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from jcpeer.ft.events import Ship
from jcpeer.ft.journal import Journal
from jcpeer.ids import AppId, Epoch, NodeId, digest_of
from jcpeer.net.network import Network
from jcpeer.node.shipping import FRAME_BYTES_MAX, ON_THEIR_WAY_BYTES_MAX, Shipping
from jcpeer.wire.facts import Brought, Cancelled, Entry
from jcpeer.wire.replication import AppendEntries

APP = AppId("a" * 40)
EPOCH = Epoch(1, NodeId("me"))
SLOW, QUICK = NodeId("slow"), NodeId("quick")
ENTRIES = 40
DATA = bytes(FRAME_BYTES_MAX - 1000)
"""Brought by each entry."""


class FullJournal:
    """On the disk, each entry with a blob that nearly fills a frame."""

    def read(self, app: AppId, *, after_index: int) -> Iterator[Entry]:
        return (Entry(EPOCH, index, 0.0, Cancelled(None)) for index in range(after_index + 1, ENTRIES + 1))

    def blobs(self, app: AppId, *, after_index: int, up_to: int) -> Iterator[Brought]:
        return (Brought(index, digest_of(DATA), DATA) for index in range(after_index + 1, up_to + 1))


class Sent:
    def __init__(self) -> None:
        self.to: dict[NodeId, list[AppendEntries]] = {SLOW: [], QUICK: []}

    def send(self, node: NodeId, message: AppendEntries) -> None:
        self.to[node].append(message)

    def indexes(self, node: NodeId) -> list[int]:
        return [entry.index for message in self.to[node] for entry in message.entries]

    def data_bytes(self, node: NodeId) -> int:
        return sum(len(blob.data) for message in self.to[node] for blob in message.blobs)


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def shipping(sent: Sent) -> Shipping:
    return Shipping(APP, cast(Journal, FullJournal()), cast(Network, sent))


def whole(node: NodeId, *, after: int = 0, last: int = ENTRIES) -> Ship:
    return Ship(node, EPOCH, after, EPOCH if after else None, last, 0)


def test_no_more_is_sent_than_has_room_on_the_way_and_the_rest_as_it_is_kept(shipping: Shipping, sent: Sent) -> None:
    shipping.ship(whole(SLOW))
    first = sent.indexes(SLOW)
    assert 0 < sent.data_bytes(SLOW) <= ON_THEIR_WAY_BYTES_MAX
    shipping.kept(SLOW, 0)
    assert sent.indexes(SLOW) == first
    for index in range(1, ENTRIES + 1):
        shipping.kept(SLOW, index)
    assert sent.indexes(SLOW) == list(range(1, ENTRIES + 1))


def test_each_message_follows_the_one_before(shipping: Shipping, sent: Sent) -> None:
    shipping.ship(whole(SLOW))
    for index in range(1, ENTRIES + 1):
        shipping.kept(SLOW, index)
    last = 0
    for message in sent.to[SLOW]:
        assert message.after_index == last
        last = message.entries[-1].index if message.entries else last


def test_who_is_slow_keeps_nobody_else_waiting(shipping: Shipping, sent: Sent) -> None:
    shipping.ship(whole(SLOW))
    shipping.ship(whole(QUICK))
    assert sent.indexes(QUICK) == sent.indexes(SLOW)


def test_what_is_ordered_later_follows_the_rest(shipping: Shipping, sent: Sent) -> None:
    shipping.ship(whole(SLOW, last=ENTRIES - 1))
    before = len(sent.to[SLOW])
    shipping.ship(whole(SLOW, after=ENTRIES - 1))
    assert len(sent.to[SLOW]) == before
    for index in range(1, ENTRIES + 1):
        shipping.kept(SLOW, index)
    assert sent.indexes(SLOW) == list(range(1, ENTRIES + 1))


@pytest.mark.parametrize("told", [True, False])
def test_a_copy_that_begins_anew_has_all_the_room_again(shipping: Shipping, sent: Sent, told: bool) -> None:
    shipping.ship(whole(SLOW))
    once = sent.indexes(SLOW)
    if told:
        shipping.begin_anew(SLOW)
    shipping.ship(whole(SLOW))
    assert sent.indexes(SLOW) == once * 2
