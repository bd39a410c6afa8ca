"""Lines about strangers in the log: whoever reaches the port can cause any number of them.

So a few are written as they come, then one a second with the number of those that were left out. Nothing is lost but
their details: each connection is written of, or counted.
"""

from __future__ import annotations

import structlog
import trio

LINES_AT_ONCE_MAX = 20
"""More than one misled node causes with all its addresses; all of a network's that start together may fill it."""
LINES_PER_S = 1.0

log = structlog.get_logger()


class SparingLog:
    """A log that cannot be flooded. Call `catch_up` now and then, so that no count is left unsaid."""

    def __init__(self) -> None:
        self._allowed = float(LINES_AT_ONCE_MAX)
        self._at_s = trio.current_time()
        self._left_out = 0

    def info(self, text: str, **details: object) -> None:
        """Write the line, or count it."""
        self.catch_up()
        if self._left_out or self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        log.info(text, **details)

    def catch_up(self) -> None:
        """Say how many lines were left out, if it is time for one."""
        now_s = trio.current_time()
        self._allowed = min(LINES_AT_ONCE_MAX, self._allowed + LINES_PER_S * (now_s - self._at_s))
        self._at_s = now_s
        if self._left_out and self._allowed >= 1:
            self._allowed -= 1
            log.warning("strangers were closed without a line for each", count=self._left_out)
            self._left_out = 0
