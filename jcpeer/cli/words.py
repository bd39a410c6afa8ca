"""Numbers as people read them, and texts from elsewhere made safe for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping


def counted(number: int, what: str, *, plural: str = "") -> str:
    """ "1 task", "1,204 tasks"."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def duration(seconds: float, *, fractions: bool = True) -> str:
    """ "0.05 s" ("0 s" without fractions), "4.2 s", "42 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"."""
    seconds = max(0.0, seconds)
    if fractions and seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    if whole < 86400:
        return _two(whole // 3600, "h", whole % 3600 // 60, "min")
    return _two(whole // 86400, "d", whole % 86400 // 3600, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def ago(seconds: float) -> str:
    """ "now" below a second, and for what a clock that differs puts into the future; otherwise "12 s ago"."""
    if seconds < 1:
        return "now"
    return f"{duration(math.floor(seconds), fractions=False)} ago"


def size(count: int) -> str:
    """ "512 B", "1.2 MiB", "31 GiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1023.5 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 9.95 else f"{amount:.1f} {unit}"


def rate(per_second: float) -> str:
    """ "3.4 tasks/s"; "5 tasks/min" where seconds would show nothing."""
    if per_second >= 9.95:
        return f"{per_second:,.0f} tasks/s"
    if per_second >= 0.2:
        return f"{per_second:.1f} tasks/s"
    return f"{per_second * 60:.1f} tasks/min"


def label_texts(labels: Mapping[str, str]) -> list[str]:
    """ "gpu=a100", and "gpu" where any value will do."""
    return [plain(f"{key}={value}" if value else key) for key, value in labels.items()]


def joined(names: list[str], *, most: int = 8) -> str:
    """ "a, b and c"; of very many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plain(text: str) -> str:
    """The text without anything that a terminal would obey: it may come from another machine or from a task."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


def one_line(text: str, *, length: int = 200) -> str:
    """The same on one line, cut."""
    line = " ".join(plain(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def address(text: str) -> str:
    """HOST:PORT of a multiaddress, since that is what people read; anything else as it is."""
    match text.split("/"):
        case ["", "ip6", host, "tcp", port, *_]:
            return one_line(f"[{host}]:{port}")
        case ["", _, host, "tcp", port, *_]:
            return one_line(f"{host}:{port}")
    return one_line(text)
