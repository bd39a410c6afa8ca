"""Who is in, verified by anyone offline: the chain root → invitation → node.

A grid is an Ed25519 key, its root. The root signs an invitation, which names a user, rights, an expiry and a key of its
own; with that key its holder certifies nodes. A chain is the two signed statements, each a *link*: 64 bytes of
signature, then the packed statement.

A certificate can never say more than its invitation: same user, no further right, no later expiry, no earlier date
(by more than the tolerance). So an invitation that expires, or is one day revoked, takes its nodes with it.

Everything here is a pure function of its arguments; serials, keys and the time come from the caller. A link is not
believed until its signature is checked, and whatever is wrong with it is a `MembershipError`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Collection
from typing import TypeVar

from jcpeer.errors import MembershipError, RemoteProtocolError
from jcpeer.ids import NodeId, short
from jcpeer.membership.identity import SIGNATURE_BYTES, KeyPair, public_key_of, verify_by_key
from jcpeer.values import Number, Value
from jcpeer.wire.codec import pack, unpack

CLOCK_TOLERANCE_S = 300.0
"""How far two machines' clocks may differ before a certificate is refused for it."""

EVERY_RIGHT = ("*",)
"""Rights are words, compared and never interpreted here; this one stands for all, those to come included."""
TO_SUBMIT = "submit"
TO_COORDINATE = "coordinate"
"""To hand over applications; to keep journals of them, and to decide for them."""

FINGERPRINT_CHARACTERS = 16

LINK_BYTES_MAX = 4096
"""A link is a few hundred bytes; a longer one is refused unread."""

TEXT_CHARACTERS_MAX = 255

_INVITATION_CONTEXT = b"jcpeer invitation\0"
_CERTIFICATE_CONTEXT = b"jcpeer certificate\0"
"""Signed in front of the statement, so that no signature of one kind can be passed off as another."""

Statement = TypeVar("Statement", "Invitation", "Certificate")


class Invitation(Value):
    """What the root says: the holder of this key may bring nodes into the grid, as this user, with these rights.

    `grid` is the fingerprint of the root, `grid_name` what people call the grid. Instants are seconds since 1970;
    `expires_s` None means never.
    """

    serial: str
    public_key: bytes
    user: str
    rights: tuple[str, ...]
    issued_s: Number
    expires_s: Number | None
    grid: str
    grid_name: str


class Certificate(Value):
    """What an invitation's holder says of one node: it is in this grid, on this host, as this user.

    `invitation` is the serial of the invitation above it, `grid` the fingerprint of the root. Instants are seconds
    since 1970; `expires_s` None means never.
    """

    serial: str
    node: NodeId
    host: str
    user: str
    rights: tuple[str, ...]
    issued_s: Number
    expires_s: Number | None
    invitation: str
    grid: str


def grants(statement: Invitation | Certificate, right: str) -> bool:
    """Whether its holder has this right."""
    return _covered((right,), by=statement.rights)


def fingerprint_of(root: bytes) -> str:
    """What names a grid where its whole root key would be too long: 16 letters and digits, 80 bits of SHA-256.

    Shown to people and announced on the network; admission is always decided by the whole key.
    """
    return base64.b32encode(hashlib.sha256(root).digest()).decode().lower()[:FINGERPRINT_CHARACTERS]


def sign_invitation(
    root: KeyPair,
    *,
    public_key: bytes,
    serial: str,
    grid_name: str,
    user: str,
    rights: tuple[str, ...] = EVERY_RIGHT,
    issued_s: Number,
    expires_s: Number | None,
) -> bytes:
    """The first link of a chain: the root invites the holder of a key.

    Raises:
        MembershipError: a text is empty, too long or unprintable, or a time is none.
    """
    invitation = Invitation(
        serial, public_key, user, rights, issued_s, expires_s, fingerprint_of(root.public_key), grid_name
    )
    _check_invitation(invitation)
    return _link(root, _INVITATION_CONTEXT, pack(invitation))


def certify(
    invitation_link: bytes,
    invitation_key: KeyPair,
    *,
    root: bytes,
    node: NodeId,
    host: str,
    serial: str,
    issued_s: Number,
) -> tuple[bytes, ...]:
    """A node's chain, with all that the invitation allows.

    Raises:
        MembershipError: the invitation is not of this root, or its key another one, or host or node id impossible.
    """
    invitation = read_invitation(invitation_link, root=root)
    if invitation_key.public_key != invitation.public_key:
        raise MembershipError(f"the key is not that of the invitation to grid {invitation.grid_name!r}")
    certificate = Certificate(
        serial=serial,
        node=node,
        host=host,
        user=invitation.user,
        rights=invitation.rights,
        issued_s=issued_s,
        expires_s=invitation.expires_s,
        invitation=invitation.serial,
        grid=invitation.grid,
    )
    _check_certificate(certificate, invitation)
    return invitation_link, _link(invitation_key, _CERTIFICATE_CONTEXT, pack(certificate))


def read_invitation(link: bytes, *, root: bytes) -> Invitation:
    """The invitation that this root signed. Its expiry is not looked at: see `check_period`.

    Raises:
        MembershipError: malformed, of another grid, or not signed by the root.
    """
    invitation = _statement(link, Invitation)
    if invitation.grid != fingerprint_of(root):
        # A stranger is told this: not by a word which grid it is that refuses it.
        raise MembershipError(
            f"certified for another grid, {invitation.grid_name!r:.80} ({invitation.grid!r:.20}): "
            "join with a token of the grid that is meant"
        )
    _check_signature(link, _INVITATION_CONTEXT, root, "the invitation is not signed by the grid's root")
    _check_invitation(invitation)
    return invitation


def verify_chain(
    chain: tuple[bytes, ...], *, root: bytes, now_s: Number | None, node: NodeId | None = None
) -> Certificate:
    """The certificate at the end of a chain that holds.

    Args:
        chain: As it came from whoever wants to be believed.
        root: The grid's root, a public key.
        now_s: Seconds since 1970; None leaves expiry out, for what was signed while the certificate was good.
        node: Who must be certified, where that is known.

    Raises:
        MembershipError: malformed, other grid, bad signature, more said than was granted, wrong node, or expired.
    """
    certificate = _chained(chain, root)
    if node is not None and certificate.node != node:
        raise MembershipError(
            f"the certificate is that of node …{short(certificate.node)}, but …{short(node)} presents it"
        )
    if now_s is not None:
        check_period(
            f"the certificate of node …{short(certificate.node)} on {certificate.host!r}",
            issued_s=certificate.issued_s,
            expires_s=certificate.expires_s,
            now_s=now_s,
        )
    return certificate


def check_period(what: str, *, issued_s: float, expires_s: float | None, now_s: float) -> None:
    """That a statement is in force now, give or take the tolerance.

    Raises:
        MembershipError: it says how far off, by whose clock, and the remedy.
    """
    if expires_s is not None and now_s > expires_s + CLOCK_TOLERANCE_S:
        raise MembershipError(
            f"{what} expired {_duration(now_s - expires_s)} ago by the clock of the node that checked it: "
            "join again with a new token, or set the clock"
        )
    if issued_s > now_s + CLOCK_TOLERANCE_S:
        raise MembershipError(
            f"{what} was issued {_duration(issued_s - now_s)} in the future by the clock of the node that checked it: "
            "set the clock of the two machines"
        )


@functools.lru_cache(maxsize=4096)
def _chained(chain: tuple[bytes, ...], root: bytes) -> Certificate:
    """All of a chain that time cannot change; remembered, since each signed part of an application brings its chain."""
    if len(chain) != 2:
        raise MembershipError(f"a certificate chain has 2 links, invitation and node; this one has {len(chain)}")
    invitation = read_invitation(chain[0], root=root)
    certificate = _statement(chain[1], Certificate)
    _check_signature(
        chain[1], _CERTIFICATE_CONTEXT, invitation.public_key, "the certificate is not signed by its invitation's key"
    )
    _check_certificate(certificate, invitation)
    return certificate


def _link(key: KeyPair, context: bytes, statement: bytes) -> bytes:
    return key.sign(context + statement) + statement


def _statement(link: bytes, kind: type[Statement]) -> Statement:
    """What a link says, not yet believed."""
    if len(link) > LINK_BYTES_MAX:
        raise MembershipError(f"malformed certificate chain: a link of {len(link)} bytes")
    try:
        return unpack(link[SIGNATURE_BYTES:], kind)
    except RemoteProtocolError as error:
        raise MembershipError(f"malformed certificate chain: {error}") from error


def _check_signature(link: bytes, context: bytes, public_key: bytes, fault: str) -> None:
    if not verify_by_key(public_key, context + link[SIGNATURE_BYTES:], link[:SIGNATURE_BYTES]):
        raise MembershipError(f"bad signature: {fault}")


def _check_invitation(invitation: Invitation) -> None:
    _check_text("user", invitation.user)
    _check_text("grid name", invitation.grid_name)
    _check_words_and_times(invitation)


def _check_certificate(certificate: Certificate, invitation: Invitation) -> None:
    """That it says no more than the invitation allows: its holder, not the root, signed it."""
    _check_text("host", certificate.host)
    _check_words_and_times(certificate)
    public_key_of(certificate.node)
    if (certificate.grid, certificate.invitation) != (invitation.grid, invitation.serial):
        raise MembershipError("malformed certificate: it hangs under another invitation than the one beside it")
    if certificate.user != invitation.user:
        raise MembershipError(
            f"the certificate names user {certificate.user!r:.80}, its invitation is for {invitation.user!r}"
        )
    if not _covered(certificate.rights, by=invitation.rights):
        raise MembershipError("the certificate claims rights that its invitation does not grant")
    if _end_s(certificate) > _end_s(invitation):
        raise MembershipError("the certificate claims to outlive its invitation")
    if certificate.issued_s < invitation.issued_s - CLOCK_TOLERANCE_S:
        raise MembershipError(
            f"the certificate is dated {_duration(invitation.issued_s - certificate.issued_s)} before its invitation: "
            "set the clock of the node's machine and join again"
        )


def _end_s(statement: Invitation | Certificate) -> float:
    return math.inf if statement.expires_s is None else statement.expires_s


def _covered(rights: Collection[str], *, by: Collection[str]) -> bool:
    return EVERY_RIGHT[0] in by or set(rights) <= set(by)


def _check_text(what: str, text: str) -> None:
    """Texts of certificates stand in tables and logs of other members, where an escape sequence would be an attack."""
    if not text or len(text) > TEXT_CHARACTERS_MAX or not text.isprintable():
        raise MembershipError(
            f"impossible {what} {text!r:.80}: it needs 1 to {TEXT_CHARACTERS_MAX} printable characters"
        )


def _check_words_and_times(statement: Invitation | Certificate) -> None:
    for word in (statement.serial, *statement.rights):
        _check_text("serial or right", word)
    if not math.isfinite(statement.issued_s) or math.isnan(_end_s(statement)):
        raise MembershipError("malformed certificate: a time is not a number")


def _duration(seconds: float) -> str:
    """A length of time in its two largest units, as in "2 d 3 h"."""
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"
