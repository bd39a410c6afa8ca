from __future__ import annotations

from typing import Any

import pytest

from jcpeer.errors import LocalProtocolError, MembershipError
from jcpeer.membership.handshake import judge_hello, make_hello
from jcpeer.membership.member import MemoryGrid
from jcpeer.values import evolve
from jcpeer.wire.codec import pack, unpack
from jcpeer.wire.messages import VERSION_MAJOR, VERSION_MINOR, Hello

GRID = MemoryGrid("a grid", name="lab")
NODE = GRID.identity("n1")
HELLO = make_hello(NODE, GRID.admit(NODE), name="n1", incarnation=7, addresses=("/ip4/127.0.0.1/tcp/4001",))


def test_a_member_is_let_in_by_what_it_says_on_the_wire() -> None:
    heard = unpack(pack(HELLO), Hello)
    assert heard == HELLO
    assert judge_hello(heard, proven=NODE.node, root=GRID.root, now_s=0) == GRID.admit(NODE).certificate


def test_a_later_minor_version_is_let_in() -> None:
    judge_hello(evolve(HELLO, minor=VERSION_MINOR + 1), proven=NODE.node, root=GRID.root, now_s=0)


def test_another_major_version_is_refused_before_its_chain_is_read() -> None:
    hello = evolve(HELLO, major=VERSION_MAJOR + 1, chain=(b"of another format",))
    with pytest.raises(MembershipError, match=r"speaks version 2.0 of the protocol, the other end 1.0: update"):
        judge_hello(hello, proven=NODE.node, root=GRID.root, now_s=0)


def test_a_stranger_is_refused_by_name() -> None:
    stranger = MemoryGrid("another grid", name="club").admit(NODE)
    hello = evolve(HELLO, chain=stranger.chain)
    with pytest.raises(
        MembershipError, match=rf"node …{NODE.node[-8:]} is refused: certified for another grid, 'club'"
    ):
        judge_hello(hello, proven=NODE.node, root=GRID.root, now_s=0)


@pytest.mark.parametrize(
    "change",
    [
        {"chain": MemoryGrid("another grid").admit(NODE).chain},
        {"chain": GRID.invite(expires_s=1000.0).admit(NODE.node, host="desk", serial="1", now_s=0).chain},
        {"major": VERSION_MAJOR + 1},
    ],
)
def test_who_is_refused_learns_nothing_of_the_grid_that_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(MembershipError) as refused:
        judge_hello(evolve(HELLO, **change), proven=NODE.node, root=GRID.root, now_s=5000)
    assert not any(secret in str(refused.value) for secret in (GRID.name, GRID.invite().fingerprint, "user"))


def test_somebody_without_a_certificate_is_refused() -> None:
    with pytest.raises(MembershipError, match="has 2 links"):
        judge_hello(evolve(HELLO, chain=()), proven=NODE.node, root=GRID.root, now_s=0)


def test_a_copied_certificate_is_refused_to_another_node() -> None:
    thief = GRID.identity("thief").node
    with pytest.raises(MembershipError, match=rf"is that of node …{NODE.node[-8:]}, but …{thief[-8:]} presents it"):
        judge_hello(HELLO, proven=thief, root=GRID.root, now_s=0)


def test_an_expired_member_is_refused() -> None:
    admission = GRID.invite(expires_s=1000.0)
    membership = admission.admit(NODE.node, host="desk", serial="1", now_s=0)
    hello = make_hello(NODE, membership, name="n1", incarnation=7, addresses=())
    with pytest.raises(MembershipError, match="expired 10 min ago"):
        judge_hello(hello, proven=NODE.node, root=GRID.root, now_s=1600)


def test_showing_the_certificate_of_another_node_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        make_hello(GRID.identity("n2"), GRID.admit(NODE), name="n2", incarnation=7, addresses=())
