"""What a network tells those above it, as frozen values: machines take them without importing a carrier.

`net.network` states the contract that these events keep.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from jcpeer.ids import NodeId
from jcpeer.membership.certificates import Certificate
from jcpeer.wire.messages import Hello
from jcpeer.wire.peer import PeerMessage

PARTED = "nothing needed the connection"
"""Why a peer is down that parted."""

Proof = Literal["refused", "silent", "left", "parted"]


@frozen
class PeerUp:
    """A connection to a checked member stands. `address` is where it is, or can be, dialled."""

    peer: NodeId
    certificate: Certificate
    hello: Hello
    address: str


@frozen
class PeerDown:
    """The peer is out of reach: "refused" is proof that its process is gone, "silent" a guess, "left" its own word.

    With "parted" one end closed the connection for want of use, which says nothing about the other's life. Where
    silence was the reason, `silent_s` is for how long there had been no sign of life by then.
    """

    peer: NodeId
    proof: Proof
    why: str
    silent_s: float = 0.0


@frozen
class Received:
    peer: NodeId
    message: PeerMessage


@frozen
class DialFailed:
    """Nobody was reached, or the one who answered was not wanted. `turned` where a certificate was the reason."""

    address: str
    expected: NodeId | None
    why: str
    turned: bool = False


NetworkEvent = PeerUp | PeerDown | Received | DialFailed
