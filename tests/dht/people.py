"""Contacts for tests, and keys near to them."""

from __future__ import annotations

from jcpeer.dht.table import Entry
from jcpeer.ids import NodeId
from jcpeer.wire.messages import Contact


def contact(number: int, *, port: int = 4001) -> Contact:
    return Contact(NodeId(f"node{number}"), (f"/ip4/10.0.{number >> 8}.{number & 255}/tcp/{port}",))


def entry(number: int, *, port: int = 4001) -> Entry:
    return Entry(contact(number, port=port))


def entries(number: int) -> list[Entry]:
    return [entry(each) for each in range(number)]


def by_distance(key: int, those: list[Entry]) -> list[Entry]:
    return sorted(those, key=lambda each: each.long_id ^ key)


def names(those: list[Entry] | tuple[Entry, ...]) -> list[NodeId]:
    return [each.id for each in those]
