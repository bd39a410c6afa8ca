"""What an earlier version wrote must be read by every later one of the same major version: never change these bytes."""

from __future__ import annotations

from jcpeer.membership.certificates import verify_chain
from jcpeer.membership.member import MemoryGrid
from jcpeer.membership.token import read_token

GRID = MemoryGrid("format 1", name="lab")

TOKEN_1_0 = (
    "jcpeer1-AVRdun20hKRyb290xCAUElYQ6M52SE4Cw6Wix1r0bv1vKSHCIMwNQWBkrmmPQ6ppbnZpdGF0aW9uxNXNdSSylOddasDn"
    "I9ByCeynazvaW7bufwIdD2hQk2CTKkPspNVnR1X5i8RIPsSWFvz7N0NV22qSQ4xJ2E_xDG8DiKZzZXJpYWyjYm9iqnB1YmxpY19r"
    "ZXnEIGYZDoXgLAjFjRXzLzsOKyK3BTJHq6rfDuER1glY0Ji_pHVzZXKjYm9ipnJpZ2h0c5GhKqhpc3N1ZWRfc8sAAAAAAAAAAKll"
    "eHBpcmVzX3PLQSJ1AAAAAACkZ3JpZLBneWVuYTJ1bnhwMnN1cXZqqWdyaWRfbmFtZaNsYWKkc2VlZMQgcW4B7GbD5gsbcsw57f_w"
    "Uu3yhn-oC12OMDVBq1M41iupYWRkcmVzc2VzkbcvaXA0LzE5Mi4wLjIuNy90Y3AvNDAwMQ"
)

CHAIN_1_0 = (
    bytes.fromhex(
        "b3affdbbee284a2f6c35346e2e9672a56f01ab37c48026dd68dfc238a029c4ad9a8e18da2c77ab52e5d0b40ec905a0ee986b"
        "58ee15ba49d017e88a76ebf7530b88a673657269616ca475736572aa7075626c69635f6b6579c42060958edde2df31a0cbd3"
        "d0b01c889660e09d101b945cfa155d4f1678bc122fb4a475736572a475736572a672696768747391a12aa86973737565645f"
        "73cb0000000000000000a9657870697265735f73c0a467726964b06779656e6132756e787032737571766aa9677269645f6e"
        "616d65a36c6162"
    ),
    bytes.fromhex(
        "57098f9b78af6c70d52e7da15f6025eff46c856c5b755398bb153ceef836d881ad66aec2f50ad9038d6a65f2c8d2fc89aee7"
        "658887bf1ebda9355792c17d970189a673657269616ca9757365722f686f7374a46e6f6465d934313244334b6f6f57414458"
        "31344d51795a676135726d796e534a68793559534a686f673331546a534d463672764c634a72614c53a4686f7374a4686f73"
        "74a475736572a475736572a672696768747391a12aa86973737565645f73cb0000000000000000a9657870697265735f73c0"
        "aa696e7669746174696f6ea475736572a467726964b06779656e6132756e787032737571766a"
    ),
)


def test_a_token_of_version_1_0_is_read() -> None:
    token = read_token(TOKEN_1_0)
    assert token.admission == GRID.invite("bob", expires_s=604800.0)
    assert token.addresses == ("/ip4/192.0.2.7/tcp/4001",)


def test_a_chain_of_version_1_0_is_read() -> None:
    identity = GRID.identity("n1")
    assert verify_chain(CHAIN_1_0, root=GRID.root, now_s=0, node=identity.node) == GRID.admit(identity).certificate
