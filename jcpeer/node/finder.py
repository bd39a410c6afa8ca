"""The seam to whoever finds members and records by key, and a finder that looks through the directory.

The directory's knows of nobody but those in it, and of records only those that are shared with it: enough where all
nodes know each other, and in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio
from attrs import frozen

from jcpeer.ids import node_key
from jcpeer.rdv.placement import Candidate
from jcpeer.wire.messages import Signed


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
