"""The seam to whoever finds members and records by key, and two finders: one asks the network, one the directory.

The directory's knows of nobody but those in it, and of records only those that are shared with it: enough where all
nodes know each other, and in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
import trio
from attrs import frozen

from jcpeer.discovery.news import read_news
from jcpeer.errors import MembershipError
from jcpeer.ids import node_key, short
from jcpeer.membership.certificates import verify_chain
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


class DirectoryFinder:
    """Looks at every node in the directory."""

    def __init__(self, known: Callable[[], Iterable[Candidate]]) -> None:
        self._known = known
        self._records: dict[int, Signed] = {}

    def share(self, records: dict[int, Signed]) -> None:
        """Keep records there from now on, where finders of other nodes do so, too."""
        records.update(self._records)
        self._records = records

    async def nearest(self, key: int, *, count: int) -> Nearest:
        await trio.lowlevel.checkpoint()
        known = sorted(self._known(), key=lambda each: node_key(each.node) ^ key)
        return Nearest(known[:count], everybody=len(known) <= count)

    async def record(self, key: int) -> Signed | None:
        await trio.lowlevel.checkpoint()
        return self._records.get(key)

    def publish(self, key: int, record: Signed) -> None:
        self._records[key] = record

    def withdraw(self, key: int) -> None:
        self._records.pop(key, None)
