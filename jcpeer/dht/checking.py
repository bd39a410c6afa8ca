"""What peers say, checked before it is believed.

An answer that no sound node gives is a `RemoteProtocolError`. A single contact that cannot be is only left out: whoever
names it may have it from somebody else, and must not be silenced for that.
"""

from __future__ import annotations

import re

from jcpeer.dht.table import BUCKET_SIZE
from jcpeer.errors import RemoteProtocolError
from jcpeer.ids import NodeId
from jcpeer.wire.messages import Contact, FoundNodes, News

CONTACTS_MAX = 2 * BUCKET_SIZE
"""In an answer; a later version may name more than we do."""
ADDRESSES_MAX = 8
ADDRESS_CHARACTERS_MAX = 256
NODE_CHARACTERS_MAX = 128

_KEY = re.compile(r"[0-9a-f]{40}")


def key_from(text: str) -> int:
    """The key that 40 hexadecimal digits spell. Raises: RemoteProtocolError."""
    if not _KEY.fullmatch(text):
        raise RemoteProtocolError(f"{text!r:.60} is no key of 40 hexadecimal digits")
    return int(text, 16)


def addresses_from(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can be dialled."""
    return tuple(
        address
        for address in addresses[:ADDRESSES_MAX]
        if address.startswith("/") and len(address) <= ADDRESS_CHARACTERS_MAX and address.isprintable()
    )


def contacts_from(answer: FoundNodes) -> list[Contact]:
    """Those whom an answer names and who can be dialled. Raises: RemoteProtocolError: they are too many."""
    if len(answer.contacts) > CONTACTS_MAX:
        raise RemoteProtocolError(f"{len(answer.contacts)} contacts in one answer; at most {CONTACTS_MAX} can be")
    return [
        Contact(contact.node, addresses)
        for contact in answer.contacts
        if 0 < len(contact.node) <= NODE_CHARACTERS_MAX and (addresses := addresses_from(contact.addresses))
    ]


def news_from(answer: FoundNodes, sender: NodeId) -> News | None:
    """The sender's own news; whoever reads it checks the signature. Raises: RemoteProtocolError: somebody else's."""
    if answer.news is not None and answer.news.node != sender:
        raise RemoteProtocolError("news of somebody else in place of its own")
    return answer.news
