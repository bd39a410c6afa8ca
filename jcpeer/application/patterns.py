"""File patterns, with one meaning for names of outputs and for files of this machine.

`*` and `?` stay within one part of a path, `**` as a whole part stands for any number of parts, `[…]` for one of some
characters. Names that begin with a dot are not met by `*`, as in a shell.
"""

from __future__ import annotations

import bisect
import functools
import glob
import itertools
import math
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from jcpeer.application.local_blobs import LocalFile, reason
from jcpeer.application.names import arrival_name
from jcpeer.errors import GraphError

FILES_MAX = 1_000_000

_PIECE = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|[^*?\[]+|\[")


def is_pattern(text: str) -> bool:
    return glob.has_magic(text)


@functools.lru_cache(maxsize=1000)
def compiled(pattern: str) -> re.Pattern[str]:
    """An expression that matches the names that the pattern means, whole."""
    parts = pattern.split("/")
    expression = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            expression += r"(?:(?!\.)[^/]+(?:/(?!\.)[^/]+)*)" if last else r"(?:(?!\.)[^/]+/)*"
        else:
            expression += _part(part) + ("" if last else "/")
    return re.compile(expression, re.DOTALL)


def _part(part: str) -> str:
    expression = r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
    for piece in _PIECE.findall(part):
        if piece[0] == "*":
            expression += "[^/]*"
        elif piece == "?":
            expression += "[^/]"
        elif piece[0] == "[" and len(piece) > 1:
            negated = piece[1] == "!"
            content = piece[2 if negated else 1 : -1].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            expression += f"[{'^/' if negated else ''}{content.replace('^', chr(92) + '^')}]"
        else:
            expression += re.escape(piece)
    return expression


def matching(pattern: str, names: Sequence[str]) -> Iterator[str]:
    """Those of these sorted names that the pattern means; only names with its literal beginning are looked at."""
    beginning = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    expression = _expression(pattern)
    for name in itertools.islice(names, bisect.bisect_left(names, beginning), None):
        if not name.startswith(beginning):
            break
        if expression.fullmatch(name):
            yield name


def find_files(pattern: str, root: Path, *, but: Collection[str] = ()) -> list[LocalFile]:
    """The files below this directory that the pattern means, sorted, named as they lie below it.

    An absolute pattern names its files by their last part. `but`: patterns of names to leave out.

    Raises:
        GraphError: a pattern cannot be understood, or means more files than anybody wants to send.
    """
    expression = _expression(pattern)
    unwanted = [_expression(each) for each in but]
    # What is left out with all below it is not even looked at.
    closed = [_expression(each.removesuffix("/**")) for each in but if each.endswith("/**")]
    parts = pattern.split("/")
    start = "/".join(itertools.takewhile(lambda part: not is_pattern(part), parts[:-1]))
    start = "/" if pattern.startswith("/") and not start else start
    deepest = math.inf if "**" in parts else len(parts)
    hidden = any(part.startswith(".") for part in parts)

    def below(directory: Path, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        found = directory.stat()
        here = (found.st_dev, found.st_ino)
        if here in above:  # a link that leads in a circle means nothing new
            return
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not hidden:
                    continue
                inner = f"{name.rstrip('/')}/{entry.name}" if name else entry.name
                if entry.is_dir():
                    if inner.count("/") + 1 < deepest and not any(each.fullmatch(inner) for each in closed):
                        yield from below(directory / entry.name, inner, (*above, here))
                elif expression.fullmatch(inner) and not any(each.fullmatch(inner) for each in unwanted):
                    yield inner

    try:
        names = sorted(itertools.islice(below(root / start, start, ()), FILES_MAX + 1))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None) or root
        raise GraphError(f"pattern {pattern!r:.80} cannot be followed: {place}: {reason(error)}; correct it") from error
    if len(names) > FILES_MAX:
        raise GraphError(f"pattern {pattern!r:.80} means more than {FILES_MAX} files; choose a narrower one")
    return [LocalFile(arrival_name(each), root / each) for each in names]


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return compiled(pattern)
    except re.error as error:
        raise GraphError(f"pattern {pattern!r:.80} cannot be understood: {error}; correct it") from error
