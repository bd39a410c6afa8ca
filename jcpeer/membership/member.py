"""A node's own side of a grid: what lets it in, and what it holds once it is in.

Pure: serials, keys and the time come from the caller, so that a simulation builds a thousand members from one seed.
"""

from __future__ import annotations

import hashlib

from attrs import field, frozen

from jcpeer.ids import NodeId
from jcpeer.membership.certificates import (
    EVERY_RIGHT,
    Certificate,
    Invitation,
    certify,
    fingerprint_of,
    read_invitation,
    sign_invitation,
    verify_chain,
)
from jcpeer.membership.identity import Identity, KeyPair


@frozen
class Membership:
    """One node's membership in one grid. `root` is the grid's public key, `chain` what the node shows to others."""

    grid_name: str
    root: bytes
    chain: tuple[bytes, ...]
    certificate: Certificate

    @property
    def fingerprint(self) -> str:
        """The short name of the root key, for the network's announcements and for people."""
        return fingerprint_of(self.root)


@frozen
class Admission:
    """An invitation and its private key: whoever has both can bring nodes into the grid."""

    root: bytes
    invitation_link: bytes = field(repr=False)
    invitation_key: KeyPair

    @property
    def invitation(self) -> Invitation:
        """What the invitation says. Raises: MembershipError: it is not of this root."""
        return read_invitation(self.invitation_link, root=self.root)

    @property
    def grid_name(self) -> str:
        return self.invitation.grid_name

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.root)

    def admit(self, node: NodeId, *, host: str, serial: str, now_s: float) -> Membership:
        """A new certificate for a node, good as long as the invitation.

        Raises:
            MembershipError: the invitation has expired, its key is another one, or host or node id are impossible.
        """
        chain = certify(
            self.invitation_link,
            self.invitation_key,
            root=self.root,
            node=node,
            host=host,
            serial=serial,
            issued_s=now_s,
        )
        certificate = verify_chain(chain, root=self.root, now_s=now_s, node=node)
        return Membership(self.grid_name, self.root, chain, certificate)


def new_admission(
    root: KeyPair,
    invitation_key: KeyPair,
    *,
    serial: str,
    grid_name: str,
    user: str,
    rights: tuple[str, ...] = EVERY_RIGHT,
    issued_s: float,
    expires_s: float | None,
) -> Admission:
    """The root invites somebody under a new key.

    Raises:
        MembershipError: a text is empty, too long or unprintable, or a time is none.
    """
    link = sign_invitation(
        root,
        public_key=invitation_key.public_key,
        serial=serial,
        grid_name=grid_name,
        user=user,
        rights=rights,
        issued_s=issued_s,
        expires_s=expires_s,
    )
    return Admission(root.public_key, link, invitation_key)


class MemoryGrid:
    """A grid without a disk: the same seed makes the same keys, node ids and certificates, byte for byte."""

    def __init__(self, seed: str, *, name: str = "simulated") -> None:
        self.name = name
        self._seed = seed
        self.root_key = KeyPair(self._derived("root"))
        self.root = self.root_key.public_key

    def identity(self, label: str) -> Identity:
        """The identity of the node that the simulation calls so."""
        return Identity(self._derived("node", label))

    def invite(
        self, user: str = "user", *, rights: tuple[str, ...] = EVERY_RIGHT, expires_s: float | None = None
    ) -> Admission:
        """An invitation for a user, in force from time 0; one a user, so its serial is the user's name."""
        return new_admission(
            self.root_key,
            KeyPair(self._derived("invitation", user)),
            serial=user,
            grid_name=self.name,
            user=user,
            rights=rights,
            issued_s=0.0,
            expires_s=expires_s,
        )

    def admit(self, identity: Identity, *, host: str = "host", user: str = "user", now_s: float = 0.0) -> Membership:
        """A membership for a node of a user, under that user's invitation."""
        return self.invite(user).admit(identity.node, host=host, serial=f"{user}/{host}", now_s=now_s)

    def _derived(self, *labels: str) -> bytes:
        return hashlib.sha256("\0".join((self._seed, *labels)).encode()).digest()
