"""What a node says of an application that it does not coordinate, though it has heard of it.

A replica points to the coordinator, or says that there is none at present; where the application was forgotten, its
tombstone is shown. Either counts only while nobody answers who coordinates it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from jcpeer.errors import RequestError
from jcpeer.wire.facts import Tombstone
from jcpeer.wire.requests import Forgotten, Moved

NOT_HERE = "not here"
"""The kind of refusal that says nothing but that the application is not hosted there."""
FORGOTTEN = "forgotten"

Aside = Moved | Forgotten
KnownOf = Callable[[str, str], Aside | None]
"""What this node says aside of an application, which is meant by id, beginning of it or name, to a node of a user."""


class ElsewhereError(RequestError):
    """The application is not coordinated by whoever was asked.

    Attributes:
        said: What is known of it there.
    """

    def __init__(self, said: Aside) -> None:
        super().__init__("it is not coordinated there", kind=NOT_HERE)
        self.said = said


def weight(said: Aside) -> tuple[int, int]:
    """Of several who do not coordinate it, whom to believe: a replica of the highest epoch, and a tombstone last."""
    return (0, 0) if isinstance(said, Forgotten) else (1, said.epoch)


def forgotten(tombstone: Tombstone) -> RequestError:
    """What is said of an application of which nothing else is kept."""
    how = {"ok": "ended well", "cancelled": "was cancelled"}.get(tombstone.status, tombstone.status)
    return RequestError(
        f"{tombstone.name} ({tombstone.app[:8]}) {how} on {_date(tombstone.ended_at_s)}, and was forgotten on "
        f"{_date(tombstone.buried_at_s)}: nothing else is kept of it",
        kind=FORGOTTEN,
    )


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M")
