"""What happened in a simulated world, line by line, and its digest: the same seed gives the same."""

from __future__ import annotations

import hashlib

LINES_AT_ONCE = 1000


class Trace:
    """A running SHA-256 over lines; the lines themselves are kept on demand, since a long run has millions.

    Attributes:
        lines: As `time node event`, or `time from > to message`; empty unless kept.
        length: How many there were.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.lines: list[str] = []
        self.length = 0
        self._keep = keep
        self._hasher = hashlib.sha256()
        self._unhashed: list[str] = []

    def add(self, at_s: float, what: str) -> None:
        """One thing that happened at this time."""
        line = f"{at_s:.6f} {what}"
        self.length += 1
        self._unhashed.append(line)
        if self._keep:
            self.lines.append(line)
        if len(self._unhashed) >= LINES_AT_ONCE:
            self._hash()

    @property
    def digest(self) -> str:
        """Of all lines so far."""
        self._hash()
        return self._hasher.hexdigest()

    def _hash(self) -> None:
        if self._unhashed:
            self._hasher.update("\n".join([*self._unhashed, ""]).encode())
            self._unhashed.clear()
