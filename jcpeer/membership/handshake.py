"""The first frame of a connection: what a node shows, and whether what a peer shows lets it in.

Both ends judge, each by its own clock. What a judgement says when it is no goes to the peer (`Turned`) and into both
logs, so it names what is wrong with the peer's papers and tells nothing else of this node.
"""

from __future__ import annotations

from jcpeer.errors import LocalProtocolError, MembershipError
from jcpeer.ids import NodeId, short
from jcpeer.membership.certificates import Certificate, verify_chain
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.wire.messages import VERSION_MAJOR, VERSION_MINOR, Hello


def make_hello(
    identity: Identity, membership: Membership, *, name: str, incarnation: int, addresses: tuple[str, ...]
) -> Hello:
    """What this node opens its connections with.

    Raises:
        LocalProtocolError: the membership is another node's; every peer would refuse it.
    """
    if membership.certificate.node != identity.node:
        raise LocalProtocolError(
            f"node …{short(identity.node)} cannot show the certificate of …{short(membership.certificate.node)}"
        )
    return Hello(
        major=VERSION_MAJOR,
        minor=VERSION_MINOR,
        chain=membership.chain,
        name=name,
        incarnation=incarnation,
        addresses=addresses,
    )


def judge_hello(hello: Hello, *, proven: NodeId, root: bytes, now_s: float) -> Certificate:
    """The certificate of a peer that is in.

    Args:
        hello: What the peer said.
        proven: The node id that the encrypted connection proved.
        root: The public root key of this node's grid.
        now_s: Seconds since 1970 by this node's clock.

    Raises:
        MembershipError: another major version, a stranger, an expired certificate, or one of another node.
    """
    if hello.major != VERSION_MAJOR:
        # First, for the rest of the frame may mean something else in another major version.
        raise MembershipError(
            f"node …{short(proven)} speaks version {hello.major}.{hello.minor} of the protocol, the other end "
            f"{VERSION_MAJOR}.{VERSION_MINOR}: update jcpeer on the older one"
        )
    try:
        return verify_chain(hello.chain, root=root, now_s=now_s, node=proven)
    except MembershipError as error:
        raise MembershipError(f"node …{short(proven)} is refused: {error}") from error
