"""The number of a node's start, by which others tell its latest word from those of earlier runs.

It is the time of the start, so that a node that lost its disk is believed, too; and higher than that of the last run,
whatever the clock says, or a node whose clock was set back would count for dead until it has caught up.
"""

from __future__ import annotations

from pathlib import Path

from jcpeer.errors import ConfigError

INCARNATION_MAX = 2**62


def next_incarnation(path: Path, *, clock_ms: int) -> int:
    """For this start; kept in the file until the next one. What cannot be read there does not count.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        last = int(path.read_text())
    except (OSError, ValueError):
        last = 0
    incarnation = max(clock_ms, last + 1) if last < INCARNATION_MAX else clock_ms
    new = path.with_suffix(".new")
    try:
        new.write_text(f"{incarnation}\n")
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; make room, or give it back to its owner") from error
    return incarnation
