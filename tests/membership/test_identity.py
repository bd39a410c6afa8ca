from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId
from jcpeer.membership.identity import Identity, public_key_of, verify

SEED = bytes(range(32))


@pytest.mark.parametrize("seed", [SEED, bytes(32), b"\xff" * 32])
def test_node_id_is_the_peer_id_that_libp2p_gives_the_same_key(seed: bytes) -> None:
    ed25519 = pytest.importorskip("libp2p.crypto.ed25519")
    from libp2p.peer.id import ID

    theirs = ID.from_pubkey(ed25519.create_new_key_pair(seed).public_key)
    assert Identity(seed).node == theirs.to_string()


def test_a_signature_is_checked_with_nothing_but_the_node_id() -> None:
    identity = Identity(SEED)
    signature = identity.sign(b"data")
    assert verify(identity.node, b"data", signature)
    assert not verify(identity.node, b"date", signature)
    assert not verify(Identity(bytes(32)).node, b"data", signature)
    assert public_key_of(identity.node) == identity.public_key


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")))
def test_what_is_no_node_id_signs_nothing(text: str) -> None:
    assert not verify(NodeId(text), b"data", bytes(64))


def test_a_node_id_of_another_kind_of_key_is_named() -> None:
    with pytest.raises(MembershipError, match=r"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N.*no Ed25519 key"):
        public_key_of(NodeId("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"))


def test_generated_identities_differ_and_show_no_seed() -> None:
    first, second = Identity.generate(), Identity.generate()
    assert first.node != second.node
    assert Identity.generate(first.seed).node == first.node
    assert first.seed.hex() not in repr(first)
