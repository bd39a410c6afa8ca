"""Sizes and durations as people write them: "4GiB", "500MB", "90s", "5min", "7d"."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_BYTES: Mapping[str, int] = {
    "": 1,
    "b": 1,
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", start=1)},
}
_SECONDS: Mapping[str, float] = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*)\s*", re.ASCII)
_AMOUNT_MAX = 2**62
"""Above any disk and any patience; keeps what follows within what a frame and a database can hold."""


def parse_bytes(value: object) -> int:
    """How many bytes that is. A bare number counts bytes; KiB is 1024 of them, KB is 1000; case does not matter.

    Raises:
        ValueError: it is no size; the text says what one looks like.
    """
    return round(_parse(value, _BYTES, "size; write for example 512MiB or 4GiB"))


def parse_seconds(value: object) -> float:
    """How many seconds that is. A bare number counts seconds; the units are ms, s, min (or m), h, d and w.

    Raises:
        ValueError: it is no duration; the text says what one looks like.
    """
    return float(_parse(value, _SECONDS, "duration; write for example 90s, 5min or 7d"))


def _parse(value: object, units: Mapping[str, float], what: str) -> float:
    amount = math.nan
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value)):
        number, unit = match.groups()
        factor = units.get(unit.lower())
        if factor is not None:
            amount = (float(number) if "." in number or len(number) > 18 else int(number)) * factor
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        amount = value
    if not 0 <= amount <= _AMOUNT_MAX:
        raise ValueError(f"{value!r:.60} is no {what}")
    return amount
