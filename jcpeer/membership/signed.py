"""Values that travel with their signer's word: submissions, batches, seals, votes.

Any node on the way can check them offline: the chain says who the signer is, the signature that the signer said it.
"""

from __future__ import annotations

from typing import TypeVar

from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.ids import short
from jcpeer.membership.certificates import Certificate, verify_chain
from jcpeer.membership.identity import Identity, verify
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import Signed

T = TypeVar("T")


def sign(value: object, identity: Identity, chain: tuple[bytes, ...]) -> Signed:
    """The value as bytes, signed by the node that the chain certifies."""
    payload = pack(value)
    return Signed(payload, identity.sign(_context(type(value)) + payload), chain)


def open_signed(signed: Signed, kind: type[T], *, root: bytes, now_s: float | None) -> tuple[T, Certificate]:
    """The value and who signed it.

    Args:
        signed: What arrived, or what the journal kept.
        kind: The class that was signed; a signature of another class is none of this.
        root: The public root key of the grid.
        now_s: Seconds since 1970 for what arrives; None for what was accepted earlier, as from the journal: a
            certificate that has expired since takes nothing back that was signed while it was good.

    Raises:
        MembershipError: the chain or the signature does not hold, or the value is malformed.
    """
    certificate = verify_chain(signed.chain, root=root, now_s=now_s)
    if not verify(certificate.node, _context(kind) + signed.payload, signed.signature):
        raise MembershipError(
            f"bad signature: node …{short(certificate.node)} on {certificate.host!r} did not sign this {kind.__name__}"
        )
    try:
        return unpack(signed.payload, kind), certificate
    except RemoteProtocolError as error:
        raise MembershipError(f"node …{short(certificate.node)} signed what cannot be read: {error}") from error


def _context(kind: type) -> bytes:
    """Signed in front of the payload, which does not name its class: a batch must not pass for a seal."""
    return b"jcpeer signed " + kind.__name__.encode() + b"\0"
