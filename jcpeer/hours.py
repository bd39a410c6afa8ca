"""Hours of the week as people write them: "18:00-08:00", or "Mon-Fri 18:00-08:00, Sat-Sun".

Times are local, of whatever machine reads them. An interval that passes midnight belongs to the day on which it begins;
days without times are whole days, times without days are those of every day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_S = 24 * 3600
WEEK_S = 7 * DAY_S
_MONDAY_S = 4 * DAY_S
"""The first Monday after the beginning of 1970, which was a Thursday."""

_PART = re.compile(
    r"(?:(?P<day>[A-Za-z]{3})(?:\s*-\s*(?P<until>[A-Za-z]{3}))?)?"
    r"\s*(?:(?P<from>\d{1,2}:\d{2})\s*-\s*(?P<to>\d{1,2}:\d{2}))?"
)
_EXAMPLE = 'write for example "18:00-08:00" or "Mon-Fri 18:00-08:00, Sat-Sun"'


@frozen
class Hours:
    """Intervals of a week, in seconds after Monday 0:00, in order and apart from each other; `text` as written."""

    text: str
    intervals: tuple[tuple[int, int], ...]

    def contain(self, second: int) -> bool:
        return any(start <= second < end for start, end in self.intervals)

    def next_change(self, second: int) -> int:
        """How many seconds after this one they begin, or end; a week where they are always."""
        edges = {edge % WEEK_S for interval in self.intervals for edge in interval}
        changes = [each for each in edges if self.contain(each) != self.contain((each - 1) % WEEK_S)]
        return min(((each - second - 1) % WEEK_S + 1 for each in changes), default=WEEK_S)


def parse_hours(text: str) -> Hours:
    """The hours that are meant.

    Raises:
        ValueError: none are; the text says what they look like.
    """
    pieces = [piece for part in text.split(",") for piece in _pieces(part.strip())]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return Hours(text, tuple(merged))


def second_of_week(local_s: float) -> int:
    """Of a time in seconds since 1970 by the local clock."""
    return int(local_s - _MONDAY_S) % WEEK_S


def clock_text(second: int) -> str:
    """A second of the week as a person says it."""
    day, rest = divmod(second % WEEK_S, DAY_S)
    return f"{DAYS[day]} {rest // 3600:02}:{rest % 3600 // 60:02}"


def _pieces(part: str) -> Iterator[tuple[int, int]]:
    match = _PART.fullmatch(part)
    if match is None or not part:
        raise ValueError(f"{part!r:.60} is no time of the week; {_EXAMPLE}")
    first, last = 0, 6
    if match["day"]:
        first = last = _day(match["day"])
        if match["until"]:
            last = _day(match["until"])
    start, end = 0, DAY_S
    if match["from"]:
        start, end = _second(match["from"]), _second(match["to"])
        if start == end:
            raise ValueError(f"{part!r:.60} begins when it ends; leave the times out for a whole day")
        if end < start:
            end += DAY_S
    for day in range(first, last + 1 if last >= first else last + 8):
        begin = day % 7 * DAY_S + start
        length = end - start
        yield begin, min(begin + length, WEEK_S)
        if begin + length > WEEK_S:  # Sunday's night
            yield 0, begin + length - WEEK_S


def _day(name: str) -> int:
    try:
        return DAYS.index(name.capitalize())
    except ValueError:
        raise ValueError(f"{name!r} is no day; write {', '.join(DAYS)}") from None


def _second(text: str) -> int:
    hour, minute = (int(each) for each in text.split(":"))
    if hour * 60 + minute > 24 * 60 or minute > 59:
        raise ValueError(f"{text!r} is no time of day; {_EXAMPLE}")
    return hour * 3600 + minute * 60
