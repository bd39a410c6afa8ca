"""A record that others pass on is believed for its signature, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from jcpeer.discovery.news import news_of, read_news
from jcpeer.errors import MembershipError
from jcpeer.membership.member import MemoryGrid
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.messages import News, NodeRecord
from tests.discovery.people import record_of

GRID = MemoryGrid("news")


def news_from(name: str, **fields: Any) -> News:
    identity = GRID.identity(name)
    membership = GRID.invite("ada").admit(identity.node, host="host", serial=name, now_s=0.0)
    return news_of(evolve(record_of(identity.node), **fields), identity, membership.chain)


def read(news: News, *, now_s: float = 1.0) -> NodeRecord:
    membership = GRID.invite("ada").admit(GRID.identity("me").node, host="me", serial="me", now_s=0.0)
    return read_news(news, root=membership.root, now_s=now_s)


def test_user_and_host_are_those_of_the_certificate_whatever_the_record_says() -> None:
    record = read(news_from("a", user="root", host="elsewhere", slots=7))
    assert (record.user, record.host, record.slots) == ("ada", "host", 7)


def test_a_member_that_speaks_for_another_is_refused() -> None:
    with pytest.raises(MembershipError, match="signed a record of"):
        read(news_from("a", node=GRID.identity("b").node))


def test_swapped_fields_are_refused_however_often_the_true_one_was_read() -> None:
    true = news_from("a")
    read(true)
    wrong = [
        evolve(true, version=9),
        evolve(true, incarnation=9),
        evolve(true, node=GRID.identity("b").node),
        evolve(true, record=evolve(true.record, payload=pack(record_of(true.node, version=9)))),
        evolve(true, record=evolve(true.record, signature=bytes(64))),
        evolve(true, record=evolve(true.record, chain=true.record.chain[:-1])),
    ]
    for each in wrong:
        with pytest.raises(MembershipError):
            read(each)
    read(true)


def test_a_stranger_to_the_grid_is_refused() -> None:
    stranger = MemoryGrid("elsewhere")
    identity = stranger.identity("a")
    chain = stranger.invite("ada").admit(identity.node, host="host", serial="a", now_s=0.0).chain
    with pytest.raises(MembershipError):
        read(news_of(record_of(identity.node), identity, chain))


def test_news_of_a_member_that_expired_are_refused_though_they_were_read_before() -> None:
    identity = GRID.identity("a")
    membership = GRID.invite("ada", expires_s=1000.0).admit(identity.node, host="host", serial="a", now_s=0.0)
    news = news_of(record_of(identity.node), identity, membership.chain)
    read(news, now_s=1.0)
    with pytest.raises(MembershipError, match="expired"):
        read(news, now_s=2000.0)
