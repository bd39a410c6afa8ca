"""Which nodes one node knows by their place in the key space: many near itself, a few everywhere else.

The buckets and their splitting are those of the package `kademlia` (Maymounkov and Mazières 2002, sections 2.2 and
4.2). Replaced is what there reads a clock, starts a task, or is wrong:

- The neighbours of a key are exactly the nearest in the table, not the first that a walk through the buckets meets.
- A node that comes again moves to the tail of its bucket and takes its new addresses with it.
- Nothing is sent from here: whoever heads a bucket that is full is returned, to be asked whether it lives.
- A key that ends the range of a bucket belongs to that bucket, not to the next.

Left to others: who may enter (`machine`), and when a node counts as gone.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from itertools import chain, pairwise
from typing import Any

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from jcpeer.ids import KEY_BITS, NodeId, node_key
from jcpeer.wire.messages import Contact

BUCKET_SIZE = 8
"""Nodes of a bucket, and in an answer."""


class Entry(Node):  # type: ignore[misc]  # the package ships no types
    """A contact and its place in the key space, which follows from the node's id and is never taken from elsewhere."""

    def __init__(self, contact: Contact) -> None:
        self.id: NodeId = contact.node
        self.long_id: int = node_key(contact.node)
        self.contact = contact
        self.ip = contact.node
        self.port = None


class Bucket(KBucket):  # type: ignore[misc]
    """Nodes of one range of keys, the one that was heard longest ago first, and replacements for them."""

    def touch_last_updated(self) -> None:
        """The package would read the clock; when a bucket was last used is of no interest here."""

    def split(self) -> tuple[Bucket, Bucket]:
        low, high = self.range
        middle = (low + high) // 2
        halves = Bucket(low, middle, self.ksize), Bucket(middle + 1, high, self.ksize)
        for node in chain(self.nodes.values(), self.replacement_nodes.values()):
            halves[node.long_id > middle].add_node(node)
        return halves

    def depth(self) -> int:
        """Bits that all keys here begin with; those of the least and the greatest are those of all."""
        keys: list[int] = [node.long_id for node in self.nodes.values()]
        return KEY_BITS - (min(keys) ^ max(keys)).bit_length()

    def head(self) -> Entry:
        entry: Entry = next(iter(self.nodes.values()))
        return entry


class Table(RoutingTable):  # type: ignore[misc]
    """The routing table of one node, which is itself not in it."""

    buckets: list[Bucket]

    def __init__(self, me: Entry, *, bucket_size: int = BUCKET_SIZE) -> None:
        super().__init__(None, bucket_size, me)

    def flush(self) -> None:
        self.buckets = [Bucket(0, 2**KEY_BITS - 1, self.ksize)]

    def get_bucket_for(self, node: Any) -> int:
        return bisect_left(self.buckets, node.long_id, key=lambda bucket: bucket.range[1])

    def add_contact(self, node: Entry) -> Entry | None:
        """Take a node in, or to the tail where it is in already.

        Returns:
            None where it is in; else the head of its bucket, which is full: the node waits to replace one that goes.
        """
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            if bucket.add_node(node):
                return None
            if not bucket.has_in_range(self.node) and bucket.depth() % 5 == 0:
                return bucket.head()
            self.split_bucket(index)

    def nearest(self, key: int, count: int, *, exclude: NodeId | None = None) -> list[Entry]:
        """The `count` nodes of the table that are nearest to a key, nearest first.

        The package's `find_neighbors` stops at the first that it meets in the order of buckets, which are others.
        """
        entries = [entry for entry in self if entry.id != exclude]
        return heapq.nsmallest(count, entries, key=lambda entry: entry.long_id ^ key)

    def __iter__(self) -> Any:
        """Every `Entry`, in order of the key space."""
        return chain.from_iterable(bucket.nodes.values() for bucket in self.buckets)

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def __contains__(self, node: Entry) -> bool:
        return not self.is_new_node(node)

    def check(self) -> None:
        """Asserts the invariants."""
        ends = [bucket.range for bucket in self.buckets]
        assert ends[0][0] == 0
        assert ends[-1][1] == 2**KEY_BITS - 1
        assert all(low == high + 1 for (_, high), (low, _) in pairwise(ends)), "a gap in the space"
        for bucket in self.buckets:
            assert len(bucket.nodes) <= self.ksize
            assert not bucket.nodes.keys() & bucket.replacement_nodes.keys(), "its own replacement"
            for node_id, node in chain(bucket.nodes.items(), bucket.replacement_nodes.items()):
                assert node.id == node_id
                assert node.long_id == node_key(node_id)
                assert bucket.has_in_range(node), "in another's bucket"
            assert self.node.id not in bucket.nodes, "in its own table"
