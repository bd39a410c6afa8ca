"""Candidates as the network names them, believed as far as they prove what they say."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from trio.testing import MockClock

from jcpeer.discovery.news import news_of
from jcpeer.ids import NodeId
from jcpeer.node.finder import FoundNode, NetworkFinder, candidate_of
from jcpeer.rdv.placement import Candidate
from jcpeer.values import evolve
from jcpeer.wire.messages import Contact, News, Signed
from tests.rdv.members import GRID, record, signed_by

ME = GRID.identity("me").node


@frozen
class Found:
    contact: Contact
    news: News | None


def found(name: str, news: News | None = None) -> Found:
    return Found(Contact(GRID.identity(name).node, ()), news)


def news(name: str, *, of: NodeId | None = None) -> News:
    identity = GRID.identity(name)
    chain = signed_by(name, record(identity.node, name)).chain
    return news_of(record(of or identity.node, name), identity, chain)


class Lookups:
    """Answers each lookup with these."""

    def __init__(self, *found: Found) -> None:
        self._found = found

    async def closest(self, key: int, *, count: int, introduce: bool) -> Sequence[FoundNode]:
        assert introduce
        return self._found[:count]

    async def record(self, key: int) -> Signed | None:
        return None

    def publish(self, key: int, record: Signed) -> None: ...
    def withdraw(self, key: int) -> None: ...


def finder(*those: Found) -> NetworkFinder:
    def read(news: News) -> Candidate:
        return candidate_of(news, root=GRID.root, now_s=0.0)

    return NetworkFinder(Lookups(*those), me=lambda: candidate_of(news("me"), root=GRID.root, now_s=0.0), read=read)


async def test_candidates_are_those_that_said_their_own_news_in_the_order_of_the_lookup(
    autojump_clock: MockClock,
) -> None:
    a, b = news("a"), news("b")
    found_all = (found("a", a), found("me"), found("b", b), found("silent"))
    near = await finder(*found_all).nearest(1, count=8)
    assert [each.record.name for each in near.candidates] == ["a", "me", "b"]
    assert near.everybody
    assert not (await finder(*found_all).nearest(1, count=4)).everybody


async def test_news_that_do_not_hold_make_no_candidate(autojump_clock: MockClock) -> None:
    forged = evolve(news("a"), record=evolve(news("a").record, signature=bytes(64)))
    of_another = news("b", of=GRID.identity("a").node)
    near = await finder(found("a", forged), found("b", of_another), found("c", news("d"))).nearest(1, count=8)
    assert near.candidates == []
