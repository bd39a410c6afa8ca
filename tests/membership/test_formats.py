"""What an earlier version wrote must be read by every later one of the same major version: never change these bytes."""

from __future__ import annotations

from jcpeer.membership.certificates import verify_chain
from jcpeer.membership.member import MemoryGrid
from jcpeer.membership.token import read_token

GRID = MemoryGrid("format 1", name="lab")

TOKEN_1_0 = (
    "jcpeer1-APXgDUjilMQgFBJWEOjOdkhOAsOlosda9G79bykhwiDMDUFgZK5pj0PElcjA7hRBCI3NZVfswGM3pkDD3BrEPTojQmHs"
    "oNTe7eQK2p2RfhqQ6FccPQ5NOp8ZePuAO2sz6OXyO2-ODruYtwmYo2JvYsQgZhkOheAsCMWNFfMvOw4rIrcFMkerqt8O4RHWCVjQ"
    "mL-jYm9ikaEqywAAAAAAAAAAy0EidQAAAAAAsGd5ZW5hMnVueHAyc3VxdmqjbGFixCBxbgHsZsPmCxtyzDnt__BS7fKGf6gLXY4w"
    "NUGrUzjWK5G3L2lwNC8xOTIuMC4yLjcvdGNwLzQwMDE"
)

CHAIN_1_0 = (
    bytes.fromhex(
        "464a8eef8e54e7dee5952debe6a7c9f67574729ee815afc5a960f1ce482a65637d83219f8f51abcd2514d93d03969e283311"
        "9287a00fff2928430339f445000c98a475736572c42060958edde2df31a0cbd3d0b01c889660e09d101b945cfa155d4f1678"
        "bc122fb4a47573657291a12acb0000000000000000c0b06779656e6132756e787032737571766aa36c6162"
    ),
    bytes.fromhex(
        "1159cf12c2b2ae4c0d609de08311a3f5d8e8bfa3d325abb5a13e87ce6887a244a198be3461c9228489868bad20063526cb5e"
        "0cc7d6c57c580a7ee7b900f8ad0d99a9757365722f686f7374d934313244334b6f6f5741445831344d51795a676135726d79"
        "6e534a68793559534a686f673331546a534d463672764c634a72614c53a4686f7374a47573657291a12acb00000000000000"
        "00c0a475736572b06779656e6132756e787032737571766a"
    ),
)


def test_a_token_of_version_1_0_is_read() -> None:
    token = read_token(TOKEN_1_0)
    assert token.admission == GRID.invite("bob", expires_s=604800.0)
    assert token.addresses == ("/ip4/192.0.2.7/tcp/4001",)


def test_a_chain_of_version_1_0_is_read() -> None:
    identity = GRID.identity("n1")
    assert verify_chain(CHAIN_1_0, root=GRID.root, now_s=0, node=identity.node) == GRID.admit(identity).certificate
