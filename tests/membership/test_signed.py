from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header, Placed, Seal, Seat
from jcpeer.errors import MembershipError
from jcpeer.ids import AppId
from jcpeer.membership.member import MemoryGrid
from jcpeer.membership.signed import open_signed, sign
from jcpeer.values import evolve
from jcpeer.wire.messages import Signed

GRID = MemoryGrid("a grid")
NODE = GRID.identity("n1")
CHAIN = GRID.invite(expires_s=1000.0).admit(NODE.node, host="desk", serial="1", now_s=0).chain
SEAL = Seal(AppId("0" * 40), 3)
SIGNED = sign(SEAL, NODE, CHAIN)


def test_a_signed_value_comes_back_with_its_signer() -> None:
    value, certificate = open_signed(SIGNED, Seal, root=GRID.root, now_s=0)
    assert value == SEAL
    assert certificate.node == NODE.node


def test_a_placement_is_signed_whole() -> None:
    placed = Placed(AppId("1" * 40), Header("demo", 1.5, b"nonce"), (Seat(NODE.node, ""),))
    assert open_signed(sign(placed, NODE, CHAIN), Placed, root=GRID.root, now_s=0)[0] == placed


def test_an_expired_signer_is_refused_on_arrival_and_believed_from_the_journal() -> None:
    with pytest.raises(MembershipError, match="expired"):
        open_signed(SIGNED, Seal, root=GRID.root, now_s=2000)
    assert open_signed(SIGNED, Seal, root=GRID.root, now_s=None)[0] == SEAL


@pytest.mark.parametrize(
    "changed",
    [
        evolve(SIGNED, payload=SIGNED.payload.replace(b"\x03", b"\x04")),
        evolve(SIGNED, signature=bytes(64)),
        evolve(SIGNED, signature=b""),
        evolve(SIGNED, chain=GRID.admit(GRID.identity("n2")).chain),
        sign(SEAL, GRID.identity("n2"), CHAIN),
    ],
)
def test_a_changed_or_borrowed_value_is_refused(changed: Signed) -> None:
    with pytest.raises(MembershipError, match="did not sign this Seal"):
        open_signed(changed, Seal, root=GRID.root, now_s=0)


def test_a_signature_of_one_class_is_none_of_another() -> None:
    """The packed form does not name its class, and these two could be read as each other."""

    with pytest.raises(MembershipError, match="did not sign this Placed"):
        open_signed(SIGNED, Placed, root=GRID.root, now_s=0)


def test_nonsense_signed_by_a_member_is_refused() -> None:
    payload = b"\xc1"
    signed = Signed(payload, NODE.sign(b"jcpeer signed Seal\0" + payload), CHAIN)
    with pytest.raises(MembershipError, match="signed what cannot be read"):
        open_signed(signed, Seal, root=GRID.root, now_s=0)
