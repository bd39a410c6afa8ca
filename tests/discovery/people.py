"""Nodes that exist in tests only: records, and news of them that their own node signed, without the cost of signing.

Node ids sort as their letters do.
"""

from __future__ import annotations

from functools import lru_cache

from jcpeer.discovery.sighting import Sighting
from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId
from jcpeer.membership.certificates import Certificate
from jcpeer.net.events import PeerUp
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Hello, News, NodeRecord, Signed

GRID = "grid"


def node(letter: str) -> NodeId:
    return NodeId(letter * 12)


def address(letter: str, port: int = 1) -> str:
    return f"/ip4/192.0.2.{ord(letter)}/tcp/{port}"


def record_of(node: NodeId, *addresses: str, incarnation: int = 1000, version: int = 1) -> NodeRecord:
    return NodeRecord(
        node=node,
        name=f"name-{node[0]}",
        user="ada",
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
        addresses=addresses,
    )


def record(letter: str, *, incarnation: int = 1000, version: int = 1) -> NodeRecord:
    return record_of(node(letter), address(letter), incarnation=incarnation, version=version)


def certificate(node: NodeId) -> Certificate:
    return Certificate(
        serial="1",
        node=node,
        host="somewhere",
        user="ada",
        rights=("*",),
        issued_s=0.0,
        expires_s=None,
        invitation="1",
        grid=GRID,
    )


def up_of(record: NodeRecord, at: str = "") -> PeerUp:
    hello = Hello(1, 0, (), record.name, record.incarnation, record.addresses)
    return PeerUp(record.node, certificate(record.node), hello, at or next(iter(record.addresses), ""))


def up(letter: str, *, incarnation: int = 1000, at: str = "") -> PeerUp:
    return up_of(record(letter, incarnation=incarnation), at)


def seen(letter: str, *, port: int = 1, incarnation: int = 1000, grid: str = GRID) -> Sighting:
    return Sighting("mdns", node(letter), (address(letter, port),), grid=grid, incarnation=incarnation)


def signed(record: NodeRecord) -> News:
    """As `discovery.news.news_of`."""
    return News(record.node, record.incarnation, record.version, Signed(pack(record), record.node.encode(), ()))


def news(letter: str, *, incarnation: int = 1000, version: int = 1) -> News:
    return signed(record(letter, incarnation=incarnation, version=version))


def forged(news: News) -> News:
    """The same, signed by somebody else."""
    return evolve(news, record=evolve(news.record, signature=b"somebody else"))


def checked(news: News) -> NodeRecord:
    """As `discovery.news.read_news`."""
    record = _read(news.record.payload)
    if news.record.signature != record.node.encode() or news.node != record.node:
        raise MembershipError("forged")
    if (record.incarnation, record.version) != (news.incarnation, news.version):
        raise MembershipError("of another version than was said")
    return record


@lru_cache(4096)
def _read(payload: bytes) -> NodeRecord:
    return unpack(payload, NodeRecord)
