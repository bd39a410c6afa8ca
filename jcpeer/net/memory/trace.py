"""What happened in a simulated world, line by line, and its digest: the same seed gives the same."""

from __future__ import annotations

import hashlib


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

    def add(self, at_s: float, what: str) -> None:
        """One thing that happened at this time."""
        line = f"{at_s:.6f} {what}"
        self._hasher.update(line.encode())
        self._hasher.update(b"\n")
        self.length += 1
        if self._keep:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        """Of all lines so far."""
        return self._hasher.hexdigest()
