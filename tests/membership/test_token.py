from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jcpeer.errors import MembershipError
from jcpeer.membership.identity import KeyPair
from jcpeer.membership.member import Admission, MemoryGrid
from jcpeer.membership.token import PREFIX, make_token, read_token

GRID = MemoryGrid("a grid", name="lab")
ADMISSION = GRID.invite("bob", expires_s=604800.0)
ADDRESSES = ("/ip4/192.0.2.7/tcp/4001", "/ip4/192.0.2.8/tcp/4001")
TOKEN = make_token(ADMISSION, ADDRESSES)


def test_a_token_brings_the_whole_invitation() -> None:
    token = read_token(TOKEN)
    assert token.admission == ADMISSION
    assert token.addresses == ADDRESSES
    assert token.admission.grid_name == "lab"
    assert token.admission.admit(GRID.identity("n1").node, host="desk", serial="1", now_s=0).root == GRID.root


def test_a_token_is_one_word() -> None:
    assert TOKEN.startswith("jcpeer1-")
    assert TOKEN.replace("-", "").replace("_", "").isalnum()
    assert len(TOKEN) < 800


def test_line_breaks_that_a_terminal_put_into_the_paste_do_no_harm() -> None:
    wrapped = "\n".join(TOKEN[at : at + 80] for at in range(0, len(TOKEN), 80))
    assert read_token(f"  {wrapped}\r\n") == read_token(TOKEN)


def test_a_token_cut_anywhere_is_called_cut_short() -> None:
    for length in range(len(PREFIX) + 8, len(TOKEN)):
        with pytest.raises(MembershipError, match=f"cut short: {length} of {len(TOKEN)} characters; copy the whole"):
            read_token(TOKEN[:length])


def test_the_stump_of_a_token_is_refused() -> None:
    for length in range(len(PREFIX) + 8):
        with pytest.raises(MembershipError, match=r"cut short|not an invitation token|changed on its way"):
            read_token(TOKEN[:length])


def test_a_token_with_more_behind_it_is_refused() -> None:
    with pytest.raises(MembershipError, match="3 characters too many"):
        read_token(TOKEN + "abc")


@pytest.mark.parametrize("text", ["", "hello", "jcpeer2-" + TOKEN[8:], TOKEN[1:]])
def test_what_is_no_token_of_this_version_is_named(text: str) -> None:
    with pytest.raises(MembershipError, match="not an invitation token of this version"):
        read_token(text)


def test_no_flipped_bit_in_a_token_is_let_through() -> None:
    for at in range(len(TOKEN)):
        for bit in range(7):
            changed = TOKEN[:at] + chr(ord(TOKEN[at]) ^ 1 << bit) + TOKEN[at + 1 :]
            with pytest.raises(MembershipError):
                read_token(changed)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=200))
def test_whatever_text_comes_as_a_token_is_refused_as_membership(text: str) -> None:
    with pytest.raises(MembershipError):
        read_token(PREFIX + text)


def test_a_token_whose_key_is_not_its_invitations_is_refused() -> None:
    with pytest.raises(MembershipError, match="its key is not that of its invitation"):
        read_token(make_token(Admission(GRID.root, ADMISSION.invitation_link, KeyPair(bytes(32)))))


def test_too_many_addresses_are_named() -> None:
    with pytest.raises(MembershipError, match="1000 addresses are too many"):
        make_token(ADMISSION, ADDRESSES * 500)
