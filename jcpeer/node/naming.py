"""Which application a name means, of all that live anywhere in reach. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jcpeer.errors import RequestError
from jcpeer.ids import AppId
from jcpeer.wire.requests import ApplicationSummary

ENDED = ("ok", "failed", "cancelled")
PRINTED = 8
"""Characters of an id in what people read."""


def looks_like_id(wanted: str) -> bool:
    """A whole id, or as much of it as commands print: nobody need be asked what it is the name of."""
    return re.fullmatch(f"[0-9a-f]{{{PRINTED}}}[0-9a-f]*", wanted) is not None


def named(wanted: str, summaries: Iterable[ApplicationSummary]) -> AppId | None:
    """The one of this name that has not ended, wherever it lives; or else the latest. None: there is none.

    Raises:
        RequestError: several have not ended.
    """
    theirs = sorted((each for each in summaries if each.name == wanted), key=lambda each: each.submitted_s)
    found = [each for each in theirs if each.state not in ENDED] or theirs[-1:]
    if len(found) > 1:
        raise ambiguous(wanted, (each.app for each in found))
    return found[0].app if found else None


def ambiguous(wanted: str, apps: Iterable[AppId]) -> RequestError:
    ids = ", ".join(each[:12] for each in apps)
    return RequestError(f"{wanted!r} means several applications: {ids}; give more of the id", kind="ambiguous")
