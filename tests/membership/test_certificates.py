from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId
from jcpeer.membership.certificates import CLOCK_TOLERANCE_S, Certificate, certify, verify_chain
from jcpeer.membership.identity import Identity, KeyPair
from jcpeer.membership.member import Admission, MemoryGrid
from jcpeer.values import evolve
from jcpeer.wire.codec import pack

GRID = MemoryGrid("a grid", name="lab")
OTHER = MemoryGrid("another grid", name="club")
NODE = GRID.identity("n1")
DAY_S = 86400.0
LIMITED = GRID.invite("bob", rights=("submit",), expires_s=7 * DAY_S)
CHAIN = LIMITED.admit(NODE.node, host="desk", serial="1", now_s=DAY_S).chain


def test_a_chain_holds_and_tells_all_fields() -> None:
    assert verify_chain(CHAIN, root=GRID.root, now_s=2 * DAY_S) == Certificate(
        serial="1",
        node=NODE.node,
        host="desk",
        user="bob",
        rights=("submit",),
        issued_s=DAY_S,
        expires_s=7 * DAY_S,
        invitation="bob",
        grid=LIMITED.fingerprint,
    )


def test_a_chain_of_another_grid_names_both() -> None:
    with pytest.raises(MembershipError, match=rf"another grid, 'club' .'{OTHER.invite().fingerprint}'.: join"):
        verify_chain(OTHER.admit(NODE).chain, root=GRID.root, now_s=0)


def test_a_chain_that_only_claims_this_grid_is_a_bad_signature() -> None:
    """An impostor's root can sign any fingerprint, not with our key."""
    invitation = evolve(GRID.invite().invitation, public_key=KeyPair(bytes(32)).public_key)
    body = pack(invitation)
    forged = OTHER.root_key.sign(b"jcpeer invitation\0" + body) + body
    with pytest.raises(MembershipError, match="bad signature: the invitation is not signed by the grid's root"):
        verify_chain((forged, CHAIN[1]), root=GRID.root, now_s=0)


def test_a_certificate_of_another_invitation_does_not_hold() -> None:
    alices = GRID.invite("alice").admit(NODE.node, host="desk", serial="2", now_s=0).chain
    with pytest.raises(MembershipError, match="bad signature: the certificate is not signed by its invitation's key"):
        verify_chain((CHAIN[0], alices[1]), root=GRID.root, now_s=0)


def test_an_expired_certificate_is_refused_beyond_the_tolerance_and_says_how_far_off() -> None:
    verify_chain(CHAIN, root=GRID.root, now_s=7 * DAY_S + CLOCK_TOLERANCE_S)
    with pytest.raises(MembershipError, match=r"on 'desk' expired 2 d 3 h ago by the clock of.*join again"):
        verify_chain(CHAIN, root=GRID.root, now_s=9 * DAY_S + 3 * 3600)


def test_a_certificate_from_the_future_is_refused_beyond_the_tolerance_and_says_how_far_off() -> None:
    verify_chain(CHAIN, root=GRID.root, now_s=DAY_S - CLOCK_TOLERANCE_S)
    with pytest.raises(MembershipError, match=r"issued 1 h 1 min in the future by the clock of.*set the clock"):
        verify_chain(CHAIN, root=GRID.root, now_s=DAY_S - 3660)


def test_without_a_time_expiry_is_not_looked_at() -> None:
    assert verify_chain(CHAIN, root=GRID.root, now_s=None).user == "bob"


def test_a_certificate_shown_by_another_node_is_refused() -> None:
    with pytest.raises(MembershipError, match="the certificate is that of node"):
        verify_chain(CHAIN, root=GRID.root, now_s=DAY_S, node=GRID.identity("n2").node)


@pytest.mark.parametrize(
    ("claim", "fault"),
    [
        ({"user": "alice"}, "names user 'alice', its invitation is for 'bob'"),
        ({"rights": ("submit", "coordinate")}, "rights that its invitation does not grant"),
        ({"rights": ("*",)}, "rights that its invitation does not grant"),
        ({"expires_s": None}, "outlive its invitation"),
        ({"expires_s": 8 * DAY_S}, "outlive its invitation"),
        ({"expires_s": math.nan}, "malformed"),
        ({"issued_s": -math.inf}, "malformed"),
        ({"issued_s": -DAY_S}, "dated 1 d 0 h before its invitation"),
        ({"invitation": "alice"}, "under another invitation"),
        ({"grid": "a" * 16}, "under another invitation"),
        ({"node": "nobody"}, "'nobody' is not a node id"),
        ({"host": "\x1b[2J"}, "impossible host"),
        ({"host": "h" * 256}, "impossible host"),
        ({"serial": "a\nb"}, "impossible serial"),
    ],
)
def test_the_holder_of_an_invitation_cannot_certify_more_than_it_grants(claim: dict[str, Any], fault: str) -> None:
    certificate = evolve(verify_chain(CHAIN, root=GRID.root, now_s=None), **claim)
    body = pack(certificate)
    link = LIMITED.invitation_key.sign(b"jcpeer certificate\0" + body) + body
    with pytest.raises(MembershipError, match=fault):
        verify_chain((CHAIN[0], link), root=GRID.root, now_s=DAY_S)


def test_a_node_is_not_admitted_under_an_expired_invitation() -> None:
    with pytest.raises(MembershipError, match="expired 1 d 0 h ago"):
        LIMITED.admit(NODE.node, host="desk", serial="3", now_s=8 * DAY_S)


def test_a_node_is_not_certified_with_another_key_than_the_invitation_names() -> None:
    with pytest.raises(MembershipError, match="the key is not that of the invitation to grid 'lab'"):
        certify(
            LIMITED.invitation_link,
            KeyPair(bytes(32)),
            root=GRID.root,
            node=NODE.node,
            host="desk",
            serial="3",
            issued_s=0,
        )


def test_the_same_seed_makes_the_same_grid() -> None:
    assert MemoryGrid("a grid", name="lab").admit(NODE) == GRID.admit(NODE)
    assert GRID.identity("n1") == NODE
    assert GRID.identity("n2") != NODE
    assert Identity(NODE.seed).node == NODE.node


def test_no_flipped_bit_in_a_chain_is_let_through() -> None:
    for number, link in enumerate(CHAIN):
        for bit in range(len(link) * 8):
            changed = bytearray(link)
            changed[bit // 8] ^= 1 << bit % 8
            chain = list(CHAIN)
            chain[number] = bytes(changed)
            with pytest.raises(MembershipError):
                verify_chain(tuple(chain), root=GRID.root, now_s=DAY_S)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=4), st.booleans())
def test_whatever_bytes_come_as_a_chain_are_refused_as_membership(links: list[bytes], begin_well: bool) -> None:
    chain = (*CHAIN[:1], *links) if begin_well else tuple(links)
    with pytest.raises(MembershipError):
        verify_chain(chain, root=GRID.root, now_s=DAY_S)


def test_a_huge_link_is_refused_unread() -> None:
    with pytest.raises(MembershipError, match="a link of 100000 bytes"):
        verify_chain((bytes(100_000), CHAIN[1]), root=GRID.root, now_s=0)


def test_a_root_that_is_no_key_lets_nobody_in() -> None:
    with pytest.raises(MembershipError):
        Admission(b"short", LIMITED.invitation_link, LIMITED.invitation_key).admit(
            NodeId(NODE.node), host="desk", serial="4", now_s=0
        )
