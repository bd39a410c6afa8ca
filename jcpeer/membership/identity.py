"""Ed25519 key pairs, and the node id that follows from one.

A node id is libp2p's peer id, which for Ed25519 holds the public key itself: whoever knows the id can check the node's
signatures, and no directory of keys is needed. It is derived here, since libp2p takes a second to import.
"""

from __future__ import annotations

import functools
import secrets
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE_OF = {character: value for value, character in enumerate(_ALPHABET)}

_NODE_ID_PREFIX = bytes([0x00, 36, 0x08, 0x01, 0x12, PUBLIC_KEY_BYTES])
"""Identity multihash of 36 bytes; in them protobuf `Type: Ed25519` and `Data`, the key."""

_NODE_ID_CHARACTERS_MAX = 64
"""Longer than any; decoding costs the square of the length, and ids come from strangers."""


class KeyPair:
    """A private Ed25519 key: a grid's root, an invitation's, or a node's. Never shown by `repr`."""

    def __init__(self, seed: bytes) -> None:
        """Raises: ValueError: the seed is not of 32 bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        self.public_key = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, seed: bytes | None = None) -> Self:
        """A new key pair, drawn by the operating system, or the one that follows from 32 given bytes."""
        return cls(secrets.token_bytes(SEED_BYTES) if seed is None else seed)

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes, always the same for the same data."""
        return self._key.sign(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPair) and self.public_key == other.public_key

    def __hash__(self) -> int:
        return hash(self.public_key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(public_key={self.public_key.hex()})"


class Identity(KeyPair):
    """The key pair of a node. `seed` is what libp2p's `create_new_key_pair` takes."""

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self.node = node_id_of(self.public_key)

    def __repr__(self) -> str:
        return f"Identity({self.node})"


def node_id_of(public_key: bytes) -> NodeId:
    """The libp2p peer id of the node with this Ed25519 key."""
    return NodeId(_base58(_NODE_ID_PREFIX + public_key))


@functools.lru_cache(maxsize=4096)
def public_key_of(node: NodeId) -> bytes:
    """The public key that a node id holds.

    Raises:
        MembershipError: it is no id of an Ed25519 key.
    """
    decoded = _unbase58(node) if len(node) <= _NODE_ID_CHARACTERS_MAX else b""
    public_key = decoded[len(_NODE_ID_PREFIX) :]
    if decoded[: len(_NODE_ID_PREFIX)] != _NODE_ID_PREFIX or len(public_key) != PUBLIC_KEY_BYTES:
        raise MembershipError(f"{node!r:.80} is not a node id of jcpeer: it holds no Ed25519 key")
    return public_key


def verify(node: NodeId, data: bytes, signature: bytes) -> bool:
    """Whether the node with this id signed the data; False too where the id is none."""
    try:
        return verify_by_key(public_key_of(node), data, signature)
    except MembershipError:
        return False


def verify_by_key(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the holder of this key signed the data; False too where the key is none."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return _ALPHABET[0] * zeros + "".join(reversed(digits))


def _unbase58(text: str) -> bytes:
    """The bytes, or none at all where a character is foreign."""
    number = 0
    for character in text:
        if character not in _VALUE_OF:
            return b""
        number = number * 58 + _VALUE_OF[character]
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
