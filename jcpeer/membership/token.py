"""An invitation as one line to paste: `jcpeer1-` and a few hundred letters, digits, `-` and `_`.

It holds the grid's public root key, the signed invitation with its private key, and addresses to begin at. Whoever has
the line can join, so it is handed over as a password would be. Length and checksum stand in front, so that a line that
was cut short in the paste is told from one that was changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.membership.identity import KeyPair
from jcpeer.membership.member import Admission
from jcpeer.values import Value
from jcpeer.wire.codec import pack, unpack

PREFIX = "jcpeer1-"
TOKEN_CHARACTERS_MAX = 16 * 1024

_LENGTH_BYTES = 2
_CHECKSUM_BYTES = 4
_HEAD_CHARACTERS = 8  # of base64, exactly the length and the checksum


class Token(Value):
    """What an invitation's line says. `addresses` are those of nodes that were in the grid when it was made."""

    admission: Admission
    addresses: tuple[str, ...] = ()


class _Packed(Value):
    root: bytes
    invitation: bytes
    seed: bytes
    addresses: tuple[str, ...] = ()


def make_token(admission: Admission, addresses: tuple[str, ...] = ()) -> str:
    """The line to paste.

    Raises:
        MembershipError: so many addresses that the line would be too long.
    """
    packed = pack(_Packed(admission.root, admission.invitation_link, admission.invitation_key.seed, addresses))
    if _characters(len(packed)) > TOKEN_CHARACTERS_MAX - len(PREFIX):
        raise MembershipError(f"{len(addresses)} addresses are too many for an invitation token: name fewer")
    data = len(packed).to_bytes(_LENGTH_BYTES, "big") + _checksum(packed) + packed
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_token(text: str) -> Token:
    """What a pasted line says; white space that the paste brought along is left out. Its expiry is not looked at.

    Raises:
        MembershipError: no token, one of another version, cut short, changed, or not signed by the grid that it names.
    """
    if len(text) > 2 * TOKEN_CHARACTERS_MAX:
        raise MembershipError(f"{len(text)} characters are too long for an invitation token")
    line = "".join(text.split())
    if not line.startswith(PREFIX):
        raise MembershipError(
            f"not an invitation token of this version of jcpeer: it begins with {PREFIX!r}, not {line[:8]!r}"
        )
    packed = _unarmoured(line.removeprefix(PREFIX))
    try:
        parts = unpack(packed, _Packed)
        token = Token(Admission(parts.root, parts.invitation, KeyPair(parts.seed)), parts.addresses)
    except (RemoteProtocolError, ValueError) as error:
        raise MembershipError(f"malformed invitation token: {error}") from error
    if token.admission.invitation.public_key != token.admission.invitation_key.public_key:
        raise MembershipError("malformed invitation token: its key is not that of its invitation")
    return token


def _unarmoured(body: str) -> bytes:
    """The packed bytes of a whole and unchanged token."""
    head = _decoded(body[:_HEAD_CHARACTERS].ljust(_HEAD_CHARACTERS, "A"))
    expected = _characters(int.from_bytes(head[:_LENGTH_BYTES], "big"))
    if len(body) < max(expected, _HEAD_CHARACTERS):
        raise MembershipError(
            f"the invitation token is cut short: {len(PREFIX) + len(body)} of "
            f"{len(PREFIX) + expected} characters; copy the whole line"
        )
    if len(body) > expected:
        raise MembershipError(
            f"the invitation token has {len(body) - expected} characters too many: paste it and nothing else"
        )
    packed = _decoded(body)[_LENGTH_BYTES + _CHECKSUM_BYTES :]
    if _checksum(packed) != head[_LENGTH_BYTES:]:
        raise MembershipError(_CHANGED)
    return packed


_CHANGED = "the invitation token was changed on its way (its checksum differs): copy it again"


def _characters(packed_bytes: int) -> int:
    """How many characters of base64, without padding, a token with so many packed bytes has behind its prefix."""
    return -(-(_LENGTH_BYTES + _CHECKSUM_BYTES + packed_bytes) * 4 // 3)


def _checksum(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:_CHECKSUM_BYTES]


def _decoded(characters: str) -> bytes:
    try:
        data = base64.b64decode(characters + "=" * (-len(characters) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MembershipError(_CHANGED) from error
    # The last character can carry bits that decoding drops; a change there is a change all the same.
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != characters:
        raise MembershipError(_CHANGED)
    return data
