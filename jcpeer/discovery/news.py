"""A node's own record, signed, so that it can be believed whoever brings it."""

from __future__ import annotations

from functools import lru_cache

from jcpeer.errors import MembershipError
from jcpeer.ids import short
from jcpeer.membership.certificates import Certificate, check_period
from jcpeer.membership.identity import Identity
from jcpeer.membership.signed import open_signed, sign
from jcpeer.values import evolve
from jcpeer.wire.messages import News, NodeRecord, Signed

RECENT_MAX = 8192
"""The same news comes from several sides; each is checked once."""


def news_of(record: NodeRecord, identity: Identity, chain: tuple[bytes, ...]) -> News:
    """This record as others can pass it on."""
    return News(record.node, record.incarnation, record.version, sign(record, identity, chain))


def read_news(news: News, *, root: bytes, now_s: float) -> NodeRecord:
    """The record, with user and host as the node's certificate says: a name is the node's own to choose; who owns it,
    and where it is, are not.

    Args:
        news: As it came, from the node itself or from another.
        root: The public root key of the grid.
        now_s: Seconds since 1970.

    Raises:
        MembershipError: it is not signed by the member whose record it is, not what it is said to be, or expired.
    """
    record, certificate = _read(news.record, root)
    if certificate.expires_s is not None or certificate.issued_s > now_s:
        what = f"the certificate of node …{short(news.node)}"
        check_period(what, issued_s=certificate.issued_s, expires_s=certificate.expires_s, now_s=now_s)
    if certificate.node != record.node or record.node != news.node:
        raise MembershipError(f"node …{short(certificate.node)} signed a record of …{short(record.node)}")
    if (record.incarnation, record.version) != (news.incarnation, news.version):
        raise MembershipError(f"the record of node …{short(record.node)} is of another version than was said")
    return record


@lru_cache(RECENT_MAX)
def _read(signed: Signed, root: bytes) -> tuple[NodeRecord, Certificate]:
    record, certificate = open_signed(signed, NodeRecord, root=root, now_s=None)
    return evolve(record, user=certificate.user, host=certificate.host), certificate
