"""Candidates for an application's home, and where it lives, by its key: what `dht` finds, judged as `rdv` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from attrs import frozen

from jcpeer.dht.records import Judge, Rank
from jcpeer.discovery.news import read_news
from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.ids import short
from jcpeer.membership.certificates import verify_chain
from jcpeer.node.parts import Parts
from jcpeer.rdv.location import open_location
from jcpeer.rdv.placement import Candidate
from jcpeer.wire.messages import Contact, News, Signed

log = structlog.get_logger()


@frozen
class Nearest:
    """Members nearest to a key, nearest first; `everybody` where there is nobody else."""

    candidates: Sequence[Candidate]
    everybody: bool


class Finder(Protocol):
    """Finds by key. Nothing of this says who is right: records are judged by whoever asked."""

    async def nearest(self, key: int, *, count: int) -> Nearest:
        """About so many of the members closest to the key, this node among them if it is one."""

    async def record(self, key: int) -> Signed | None:
        """The newest record that was found under the key."""

    def publish(self, key: int, record: Signed) -> None:
        """Have this record found under the key from now on, in the place of an earlier one."""

    def withdraw(self, key: int) -> None:
        """Publish no longer; copies elsewhere end with their lifetime."""


def candidate_of(news: News, *, root: bytes, now_s: float) -> Candidate:
    """A node as its news and its certificate have it.

    Raises:
        MembershipError: the news do not hold.
    """
    record = read_news(news, root=root, now_s=now_s)
    return Candidate(record, verify_chain(news.record.chain, root=root, now_s=now_s))


def judge_of(parts: Parts) -> Judge:
    """Which records this node keeps for others: locations that can be believed (`rdv.location`)."""

    def judge(key: str, record: Signed) -> Rank:
        root, now_s = parts.standing.membership.root, parts.clock_s()
        try:
            location, _ = open_location(record, key=int(key, 16), root=root, now_s=now_s)
        except MembershipError as error:
            raise RemoteProtocolError(str(error)) from error
        return Rank(location.order, location.lifetime_s)

    return judge


class FoundNode(Protocol):
    """A node that answered a lookup, with its own news where it said them; they are not checked yet."""

    @property
    def contact(self) -> Contact: ...
    @property
    def news(self) -> News | None: ...


class Finding(Protocol):
    """Lookups by key in the network."""

    async def closest(self, key: int, *, count: int, introduce: bool) -> Sequence[FoundNode]:
        """The live nodes nearest to the key, this one among them if it is one."""

    async def record(self, key: int) -> Signed | None: ...
    def publish(self, key: int, record: Signed) -> None: ...
    def withdraw(self, key: int) -> None: ...


class NetworkFinder:
    """Asks the nodes near the key. Each says its own news, which are checked here."""

    def __init__(self, finding: Finding, *, me: Callable[[], Candidate], read: Callable[[News], Candidate]) -> None:
        """`me`: this node as a home that others choose; `read` as `candidate_of`."""
        self._finding = finding
        self._me = me
        self._read = read
        self.record = finding.record
        self.publish = finding.publish
        self.withdraw = finding.withdraw

    async def nearest(self, key: int, *, count: int) -> Nearest:
        me = self._me()
        found = await self._finding.closest(key, count=count, introduce=True)
        candidates: list[Candidate] = []
        for each in found:
            if each.contact.node == me.node:
                candidates.append(me)
            elif each.news is not None and each.news.node == each.contact.node:
                try:
                    candidates.append(self._read(each.news))
                except MembershipError as error:
                    log.warning("a node's own news are not believed", node=short(each.contact.node), why=str(error))
        return Nearest(candidates, everybody=len(found) < count)
