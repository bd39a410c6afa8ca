from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jcpeer.errors import ConfigError, MembershipError
from jcpeer.membership.certificates import verify_chain
from jcpeer.membership.identity import Identity
from jcpeer.membership.store import GridStore, node_identity

NODE = Identity(bytes(range(32)))
NOW_S = 1_700_000_000.0
WEEK_S = 7 * 86400.0


@pytest.fixture
def store(tmp_path: Path) -> GridStore:
    """The grids of Ann, who makes grids."""
    return GridStore(tmp_path / "ann")


@pytest.fixture
def guest(tmp_path: Path) -> GridStore:
    """The grids of Bob, on another machine."""
    return GridStore(tmp_path / "bob")


def invite(store: GridStore, user: str | None = None) -> str:
    return store.invite(user=user, expires_s=NOW_S + WEEK_S, addresses=("/ip4/192.0.2.7/tcp/4001",), now_s=NOW_S)


def files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def test_the_first_start_makes_a_personal_grid_and_the_next_finds_it(store: GridStore) -> None:
    first = store.membership_for(NODE, host="desk", user="ann", now_s=NOW_S)
    second = store.membership_for(Identity(bytes(32)), host="desk", user="ann", now_s=NOW_S)
    assert first.root == second.root
    assert (first.grid_name, first.certificate.user, first.certificate.host) == ("ann", "ann", "desk")
    assert store.names() == ("ann",)
    assert verify_chain(second.chain, root=first.root, now_s=NOW_S, node=Identity(bytes(32)).node)


def test_nodes_that_start_at_once_make_one_personal_grid_and_one_identity(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def start(_: int) -> tuple[str, str]:
        together.wait()
        return GridStore(tmp_path / "ann").personal("ann").fingerprint, node_identity(tmp_path / "state").node

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert len(GridStore(tmp_path / "ann").names()) == 1


def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        node_identity(tmp_path / "state")
        GridStore(tmp_path / "ann").membership_for(
            NODE, host="d", user="ann", now_s=NOW_S, state_dir=tmp_path / "state"
        )
    finally:
        os.umask(before)
    for directory in (tmp_path / "state", tmp_path / "ann"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in files(directory)} == {0o600}


def test_a_guest_joins_by_token_and_certifies_every_node_under_one_invitation(
    store: GridStore, guest: GridStore
) -> None:
    lab = store.create("lab", user="ann")
    guest.personal("bob")
    joined = guest.join(invite(store, user="bob"), now_s=NOW_S)
    assert (joined.fingerprint, joined.user, joined.root_key) == (lab.fingerprint, "bob", None)
    assert joined.addresses == ("/ip4/192.0.2.7/tcp/4001",)
    assert guest.default == joined
    members = [
        guest.membership_for(identity, host="laptop", user="robert", now_s=NOW_S)
        for identity in (NODE, Identity(bytes(32)))
    ]
    for member in members:
        certificate = verify_chain(member.chain, root=lab.root, now_s=NOW_S)
        assert (certificate.user, certificate.expires_s) == ("bob", NOW_S + WEEK_S)
    assert members[0].certificate.invitation == members[1].certificate.invitation
    assert members[0].certificate.serial != members[1].certificate.serial


def test_a_guest_holds_no_root_key_and_cannot_invite(store: GridStore, guest: GridStore, tmp_path: Path) -> None:
    root_key = store.create("lab", user="ann").root_key
    guest.join(invite(store), now_s=NOW_S)
    assert root_key is not None
    assert not any(root_key.seed in path.read_bytes() for path in files(tmp_path / "bob"))
    with pytest.raises(MembershipError, match=r"not hold the root key of grid 'lab'.*where the grid was created"):
        invite(guest)


def test_a_second_machine_of_the_same_person_joins_the_personal_grid(store: GridStore, guest: GridStore) -> None:
    """Both machines have made a personal grid of the same name by then."""
    store.personal("ann")
    own = guest.personal("ann")
    joined = guest.join(invite(store), now_s=NOW_S)
    assert joined.user == "ann"
    assert guest.membership_for(NODE, host="laptop", user="ann", now_s=NOW_S).root == joined.root
    assert set(guest.names()) == {own.fingerprint, joined.fingerprint}
    with pytest.raises(MembershipError, match="2 grids are called 'ann': say which by its fingerprint"):
        guest.get("ann")
    assert guest.set_default(own.fingerprint) == own == guest.default
    assert guest.personal("ann") == own


def test_joining_again_renews_and_ones_own_token_keeps_the_root_key(store: GridStore, guest: GridStore) -> None:
    lab = store.create("lab", user="ann")
    first = guest.join(invite(store), now_s=NOW_S)
    again = guest.join(invite(store), now_s=NOW_S)
    assert again.admission.invitation.serial != first.admission.invitation.serial
    assert guest.names() == ("lab",)
    assert store.join(invite(store), now_s=NOW_S).root_key == lab.root_key


def test_an_expired_token_is_refused_and_leaves_no_trace(store: GridStore, guest: GridStore) -> None:
    store.create("lab", user="ann")
    with pytest.raises(MembershipError, match=r"the invitation to grid 'lab' expired 7 d 0 h ago.*new token"):
        guest.join(invite(store), now_s=NOW_S + 2 * WEEK_S)
    assert guest.names() == ()
    assert guest.default is None


def test_an_invitation_that_has_run_out_names_the_remedy(store: GridStore, guest: GridStore, tmp_path: Path) -> None:
    store.create("lab", user="ann")
    guest.join(invite(store), now_s=NOW_S)
    guest.membership_for(NODE, host="laptop", user="bob", now_s=NOW_S, state_dir=tmp_path / "state")
    with pytest.raises(MembershipError, match=r"expired 7 d 0 h ago.*join again with a new token"):
        guest.membership_for(NODE, host="laptop", user="bob", now_s=NOW_S + 2 * WEEK_S, state_dir=tmp_path / "state")


def test_a_node_keeps_its_certificate_between_starts_while_it_holds(store: GridStore, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"

    def start(host: str = "desk", now_s: float = NOW_S) -> str:
        membership = store.membership_for(NODE, host=host, user="ann", now_s=now_s, state_dir=state_dir)
        return membership.certificate.serial

    first = start()
    assert start(now_s=NOW_S + WEEK_S) == first
    renamed = start(host="tower")
    assert renamed != first
    next(state_dir.glob("*.chain")).write_bytes(b"damaged")
    assert start(host="tower") not in (first, renamed)


def test_a_clock_that_is_set_back_does_not_lock_the_maker_out(store: GridStore, tmp_path: Path) -> None:
    for now_s in (NOW_S + WEEK_S, NOW_S):
        store.membership_for(NODE, host="desk", user="ann", now_s=now_s, state_dir=tmp_path / "state")


def test_unknown_and_doubled_grids_are_named(store: GridStore) -> None:
    store.create("lab", user="ann")
    with pytest.raises(MembershipError, match=r"no grid 'club' here \(known: lab\)"):
        store.membership_for(NODE, host="desk", user="ann", grid="club", now_s=NOW_S)
    with pytest.raises(MembershipError, match="a grid 'lab' is here already"):
        store.create("lab", user="ann")
    with pytest.raises(MembershipError, match="impossible grid name"):
        store.create("", user="ann")


def test_an_invitation_without_a_grid_or_in_the_past_is_refused(store: GridStore) -> None:
    with pytest.raises(MembershipError, match="no grid to invite to"):
        invite(store)
    store.create("lab", user="ann")
    with pytest.raises(MembershipError, match="expired already"):
        store.invite(expires_s=NOW_S, addresses=(), now_s=NOW_S)


def test_a_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    node_identity(tmp_path)
    (tmp_path / "identity").chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {tmp_path / 'identity'}"):
        node_identity(tmp_path)


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node_identity(tmp_path)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(ConfigError, match=f"belongs to user {other - 1}, and this process runs as {other}"):
        node_identity(tmp_path)


def test_what_cannot_be_a_key_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    with pytest.raises(ConfigError, match="identity is not a file"):
        node_identity(tmp_path)
    (tmp_path / "plain").touch()
    with pytest.raises(ConfigError, match=r"cannot read .*plain/identity: Not a directory"):
        node_identity(tmp_path / "plain")


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match=r"cannot write .*identity: No space left on device"):
            node_identity(tmp_path)
    assert [path.name for path in files(tmp_path)] == ["lock"]
    node_identity(tmp_path)


def test_no_changed_byte_in_a_file_is_let_through(store: GridStore, tmp_path: Path) -> None:
    store.create("lab", user="ann")
    node_identity(tmp_path / "state")
    grid, identity = next(files(tmp_path / "ann" / "grids")), tmp_path / "state" / "identity"
    for path, read in ((grid, store.names), (identity, lambda: node_identity(tmp_path / "state"))):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(MembershipError, match="is damaged or of another version"):
                read()
        path.write_bytes(whole[:40])
        with pytest.raises(MembershipError, match="is damaged"):
            read()
        path.write_bytes(whole)
    assert store.names() == ("lab",)


def test_a_default_that_is_gone_is_named(store: GridStore, tmp_path: Path) -> None:
    store.create("lab", user="ann")
    next(files(tmp_path / "ann" / "grids")).unlink()
    with pytest.raises(MembershipError, match=r"default names grid .*remove that file"):
        assert store.default
