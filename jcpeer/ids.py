"""Names of things, and the distance between keys.

Every name here is a plain string, so that it can be a key of a dictionary, a word on the wire and a word in a log
without conversion. `NewType` keeps mypy from letting one stand for another.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import NewType

from jcpeer.values import Value

NodeId = NewType("NodeId", str)
"""A node: its libp2p peer id in base58, the digest of the public key that it proves in each handshake."""

AppId = NewType("AppId", str)
"""An application: its key in 40 hexadecimal digits."""

TaskId = NewType("TaskId", str)
"""A task within its application, as its client calls it."""

Digest = NewType("Digest", str)
"""A blob: the SHA-256 of its bytes in 64 hexadecimal digits."""

KEY_BITS = 160


class Epoch(Value):
    """A coordinator's reign over an application: raised by each takeover, compared as (counter, node)."""

    counter: int
    node: NodeId

    # Compared several times for each message: by hand that takes a tenth of what attrs makes of `order=True`.

    def __lt__(self, other: Epoch) -> bool:
        return (self.counter, self.node) < (other.counter, other.node)

    def __le__(self, other: Epoch) -> bool:
        return (self.counter, self.node) <= (other.counter, other.node)

    def __gt__(self, other: Epoch) -> bool:
        return (self.counter, self.node) > (other.counter, other.node)

    def __ge__(self, other: Epoch) -> bool:
        return (self.counter, self.node) >= (other.counter, other.node)


class AttemptName(Value, order=True):
    """One execution of one task of an application. `epoch` is the counter of the epoch that ordered it, `number` counts
    the task's attempts from 1."""

    task: TaskId
    epoch: int
    number: int


def digest_of(data: bytes) -> Digest:
    """The name under which a blob with these bytes is stored."""
    return Digest(hashlib.sha256(data).hexdigest())


def key_of(*parts: bytes) -> int:
    """The first 160 bits of the SHA-256 over the parts, each preceded by its length so that no two lists collide."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return int.from_bytes(hasher.digest()[: KEY_BITS // 8], "big")


@functools.lru_cache(maxsize=16384)
def node_key(node: NodeId) -> int:
    """The place of a node in the key space: the first 160 bits of SHA-256(node id)."""
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[: KEY_BITS // 8], "big")


def app_key(app: AppId) -> int:
    """The place of an application in the key space, which its id spells in hexadecimal."""
    return int(app, 16)


def closest_set(key: int, members: Iterable[NodeId], *, k: int) -> tuple[NodeId, ...]:
    """The k members nearest to key, nearest first.

    Args:
        key: 160 bits, like every node key.
        members: Live members in any order; duplicates count once.

    Returns:
        min(k, distinct members) ids, by ascending XOR distance.

    Raises:
        ValueError: k is below 1.

    Source: Maymounkov and Mazières, Kademlia (2002), section 2.1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return tuple(sorted(set(members), key=lambda node: node_key(node) ^ key)[:k])


def short(name: str, *, length: int = 8) -> str:
    """What a person reads instead of a long id: its last characters, since all node ids begin alike."""
    return name[-length:]
