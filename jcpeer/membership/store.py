"""The grids that a person is in, and the identity of each node: what of membership is on disk.

    <directory>/default               fingerprint of the grid that nodes enter unless told otherwise
    <directory>/grids/<fingerprint>   root key (or only its public half), invitation with its key, addresses
    <state directory>/identity        the seed of a node's key
    <state directory>/<fingerprint>.chain   the node's certificate in that grid

Whoever made a grid holds its root key and can invite. Whoever joined holds the invitation and its key, so that further
nodes of the same person on this machine are certified under the same invitation.

Several nodes may start at once: what is missing is made under a lock, what is there is read without.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from attrs import field, frozen

from jcpeer.errors import ConfigError, MembershipError
from jcpeer.membership.certificates import (
    EVERY_RIGHT,
    FINGERPRINT_CHARACTERS,
    check_period,
    read_invitation,
    verify_chain,
)
from jcpeer.membership.disk import (
    damaged,
    locked,
    make_private_directory,
    read_private,
    read_value,
    write_private,
    write_value,
)
from jcpeer.membership.identity import Identity, KeyPair
from jcpeer.membership.member import Admission, Membership, new_admission
from jcpeer.membership.token import make_token, read_token
from jcpeer.values import evolve

_SERIAL_BYTES = 16


@frozen
class OwnGrid:
    """A grid that this person is in. `root_key` is there only where it was made; `addresses` are places to begin."""

    admission: Admission
    root_key: KeyPair | None = None
    personal: bool = False
    addresses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.admission.grid_name

    @property
    def root(self) -> bytes:
        return self.admission.root

    @property
    def fingerprint(self) -> str:
        return self.admission.fingerprint

    @property
    def user(self) -> str:
        """The name by which this person goes in the grid: the inviter's choice, not the operating system's."""
        return self.admission.invitation.user


@frozen
class _GridFile:
    root: bytes
    invitation: bytes
    invitation_seed: bytes = field(repr=False)
    root_seed: bytes | None = field(default=None, repr=False)
    personal: bool = False
    addresses: tuple[str, ...] = ()


@frozen
class _IdentityFile:
    seed: bytes = field(repr=False)


@frozen
class _ChainFile:
    chain: tuple[bytes, ...]


class GridStore:
    """The grids of one person on one machine, in a directory. Every method may raise `ConfigError` (the directory or a
    file in it cannot be used) and `MembershipError` (a file is damaged)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._grids = directory / "grids"
        self._default = directory / "default"

    @property
    def default(self) -> OwnGrid | None:
        """The grid that nodes enter unless told otherwise, None before there is one."""
        data = read_private(self._default)
        if data is None:
            return None
        fingerprint = data.decode(errors="replace").strip()
        for grid in self._all():
            if grid.fingerprint == fingerprint:
                return grid
        raise MembershipError(f"{self._default} names grid {fingerprint!r:.40}, which is not here: remove that file")

    def set_default(self, name: str) -> OwnGrid:
        """Have nodes enter this grid from now on. Raises: MembershipError: see `get`."""
        grid = self.get(name)
        self._make_default(grid)
        return grid

    def names(self) -> tuple[str, ...]:
        """What `get` takes: each grid's name, or its fingerprint where several have the same."""
        grids = self._all()
        names = [grid.name for grid in grids]
        return tuple(grid.name if names.count(grid.name) == 1 else grid.fingerprint for grid in grids)

    def get(self, name: str) -> OwnGrid:
        """The grid with this name or fingerprint.

        Raises:
            MembershipError: there is none, or several have the name.
        """
        grids = self._all()
        found = [grid for grid in grids if name in (grid.name, grid.fingerprint)]
        if len(found) > 1:
            fingerprints = ", ".join(grid.fingerprint for grid in found)
            raise MembershipError(
                f"{len(found)} grids are called {name!r}: say which by its fingerprint, {fingerprints}"
            )
        if not found:
            known = ", ".join(self.names()) or "none"
            raise MembershipError(
                f"no grid {name!r} here (known: {known}): `jcpeer grid create` makes one, `jcpeer grid join` enters one"
            )
        return found[0]

    def personal(self, user: str) -> OwnGrid:
        """The grid that a person has without asking, made at first use and then the default if there is no other."""
        for grid in self._all():
            if grid.personal:
                return grid
        with locked(self._directory):
            for grid in self._all():
                if grid.personal:
                    return grid  # another node, starting at the same time, was first
            grid = _new_grid(user, user=user, personal=True)
            self._write(grid)
            if read_private(self._default) is None:
                self._make_default(grid)
            return grid

    def create(self, name: str, *, user: str) -> OwnGrid:
        """A new grid, whose root key is here and nowhere else; the default from now on.

        Args:
            name: What people call it.
            user: The name by which its maker goes in it.

        Raises:
            MembershipError: a grid of this name is here already, or a name is impossible.
        """
        with locked(self._directory):
            if any(grid.name == name for grid in self._all()):
                raise MembershipError(f"a grid {name!r} is here already: choose another name, or invite to that one")
            grid = _new_grid(name, user=user, personal=False)
            self._write(grid)
            self._make_default(grid)
            return grid

    def invite(
        self,
        name: str | None = None,
        *,
        user: str | None = None,
        rights: tuple[str, ...] = EVERY_RIGHT,
        expires_s: float | None,
        addresses: tuple[str, ...],
        now_s: float,
    ) -> str:
        """An invitation as a token to hand over.

        Args:
            name: The grid; None is the default one.
            user: The name by which the guest will go; None for further machines of the maker's own.
            rights: What the guest's nodes may do.
            expires_s: The instant, in seconds since 1970, at which the guest's nodes are out again; None is never.
            addresses: Where nodes of the grid can be dialled at present.
            now_s: Seconds since 1970.

        Raises:
            MembershipError: this machine does not hold the root key, or the expiry has passed.
        """
        grid = self.get(name) if name else self.default
        if grid is None:
            raise MembershipError(
                "no grid to invite to: `jcpeer grid create NAME`, or `jcpeer node` for a personal one"
            )
        if grid.root_key is None:
            raise MembershipError(
                f"this machine does not hold the root key of grid {grid.name!r}, so it cannot invite: "
                "run `jcpeer grid invite` where the grid was created"
            )
        if expires_s is not None and expires_s <= now_s:
            raise MembershipError("the invitation would have expired already: choose a later expiry")
        admission = new_admission(
            grid.root_key,
            KeyPair.generate(),
            serial=_new_serial(),
            grid_name=grid.name,
            user=user or grid.user,
            rights=rights,
            issued_s=now_s,
            expires_s=expires_s,
        )
        return make_token(admission, addresses)

    def join(self, token: str, *, now_s: float) -> OwnGrid:
        """Enter the grid of a token; the default from now on. Joining again takes the newer invitation.

        Raises:
            MembershipError: the token does not hold or has expired.
        """
        guest = read_token(token)
        invitation = guest.admission.invitation
        check_period(
            f"the invitation to grid {invitation.grid_name!r}",
            issued_s=invitation.issued_s,
            expires_s=invitation.expires_s,
            now_s=now_s,
        )
        with locked(self._directory):
            grid = OwnGrid(guest.admission, addresses=guest.addresses)
            for known in self._all():
                if known.fingerprint == grid.fingerprint and known.root_key is not None:
                    grid = evolve(known, addresses=guest.addresses)  # our own: no invitation says more than its root
            self._write(grid)
            self._make_default(grid)
            return grid

    def membership_for(
        self,
        identity: Identity,
        *,
        host: str,
        user: str,
        now_s: float,
        grid: str | None = None,
        state_dir: Path | None = None,
    ) -> Membership:
        """A node's membership: the one it had, while that holds, otherwise a new certificate.

        Args:
            identity: Whose.
            host: The machine's name, for the certificate.
            user: The operating system's name of the user, after whom a personal grid is called if one must be made.
            now_s: Seconds since 1970.
            grid: A name or fingerprint; None or "" is the default grid, or the personal one where there is none.
            state_dir: Where the node's certificate is kept between starts; None keeps none.

        Raises:
            MembershipError: the grid is not here, or its invitation has expired.
        """
        own = self.get(grid) if grid else self.default or self.personal(user)
        path = None if state_dir is None else _chain_path(state_dir, own.fingerprint)
        kept = None if path is None else _kept_membership(path, own, identity, host, now_s)
        if kept is not None:
            return kept
        membership = own.admission.admit(identity.node, host=host, serial=_new_serial(), now_s=now_s)
        if path is not None:
            make_private_directory(path.parent)
            write_value(path, _ChainFile(membership.chain))
        return membership

    def _all(self) -> list[OwnGrid]:
        """Every grid here, by name."""
        try:
            # Whatever else lies there, such as a write that the power cut off, has another kind of name.
            paths = [path for path in self._grids.iterdir() if _is_fingerprint(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"cannot read {self._grids}: {error.strerror}") from error
        grids = [grid for path in paths if (grid := _read_grid(path)) is not None]
        return sorted(grids, key=lambda grid: (grid.name, grid.fingerprint))

    def _write(self, grid: OwnGrid) -> None:
        make_private_directory(self._grids)
        write_value(
            self._grids / grid.fingerprint,
            _GridFile(
                root=grid.root,
                invitation=grid.admission.invitation_link,
                invitation_seed=grid.admission.invitation_key.seed,
                root_seed=None if grid.root_key is None else grid.root_key.seed,
                personal=grid.personal,
                addresses=grid.addresses,
            ),
        )

    def _make_default(self, grid: OwnGrid) -> None:
        write_private(self._default, f"{grid.fingerprint}\n".encode())


def node_identity(state_dir: Path) -> Identity:
    """The identity of the node with this state directory, made at first use.

    Raises:
        ConfigError: the directory or the key file cannot be used.
        MembershipError: the key file is damaged; a new key would be a new node, so that is left to its owner.
    """
    path = state_dir / "identity"
    kept = read_value(path, _IdentityFile)
    if kept is None:
        with locked(state_dir):
            kept = read_value(path, _IdentityFile)
            if kept is None:
                kept = _IdentityFile(Identity.generate().seed)
                write_value(path, kept)
    try:
        return Identity(kept.seed)
    except ValueError as error:
        raise damaged(path) from error


def kept_chain(state_dir: Path, fingerprint: str) -> tuple[bytes, ...] | None:
    """The chain that the node with this state directory last had in a grid, unchecked; None where it had none.

    Raises:
        ConfigError: the file cannot be read.
        MembershipError: it is damaged.
    """
    kept = read_value(_chain_path(state_dir, fingerprint), _ChainFile)
    return None if kept is None else kept.chain


def _chain_path(state_dir: Path, fingerprint: str) -> Path:
    return state_dir / f"{fingerprint}.chain"


def _new_grid(name: str, *, user: str, personal: bool) -> OwnGrid:
    root_key = KeyPair.generate()
    admission = new_admission(
        root_key,
        KeyPair.generate(),
        serial=_new_serial(),
        grid_name=name,
        user=user,
        # In force since ever: made with a clock that was wrong, it must not lock its maker out once that is set.
        issued_s=0.0,
        expires_s=None,
    )
    return OwnGrid(admission, root_key, personal)


def _read_grid(path: Path) -> OwnGrid | None:
    """The grid in a file, None where the file went away."""
    kept = read_value(path, _GridFile)
    if kept is None:
        return None
    try:
        read_invitation(kept.invitation, root=kept.root)
        root_key = None if kept.root_seed is None else KeyPair(kept.root_seed)
        grid = OwnGrid(
            Admission(kept.root, kept.invitation, KeyPair(kept.invitation_seed)),
            root_key,
            kept.personal,
            kept.addresses,
        )
    except (ValueError, MembershipError) as error:
        raise damaged(path) from error
    return grid


def _kept_membership(path: Path, own: OwnGrid, identity: Identity, host: str, now_s: float) -> Membership | None:
    """What an earlier start left, if it still holds and says the same; it can always be made anew."""
    try:
        kept = read_value(path, _ChainFile)
        if kept is None:
            return None
        certificate = verify_chain(kept.chain, root=own.root, now_s=now_s, node=identity.node)
    except MembershipError:
        return None
    if certificate.host != host or certificate.invitation != own.admission.invitation.serial:
        return None
    return Membership(own.name, own.root, kept.chain, certificate)


def _is_fingerprint(name: str) -> bool:
    return len(name) == FINGERPRINT_CHARACTERS and name.isalnum()


def _new_serial() -> str:
    return secrets.token_hex(_SERIAL_BYTES)
