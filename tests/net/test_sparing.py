"""The log under a flood of strangers, in virtual time."""

from __future__ import annotations

import structlog
import trio
from trio.testing import MockClock

from jcpeer.net.libp2p.sparing import LINES_AT_ONCE_MAX, SparingLog


async def test_ten_thousand_strangers_cost_few_lines_and_each_is_written_of_or_counted(
    autojump_clock: MockClock,
) -> None:
    with structlog.testing.capture_logs() as entries:
        log = SparingLog()
        for _ in range(10):
            for _ in range(1000):
                log.info("turned away", why="no member")
            await trio.sleep(0.5)
        await trio.sleep(1)
        log.catch_up()
    assert LINES_AT_ONCE_MAX < len(entries) <= LINES_AT_ONCE_MAX + 6
    assert sum(entry.get("count", 1) for entry in entries) == 10_000


async def test_after_a_quiet_time_each_stranger_has_a_line_again(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as entries:
        log = SparingLog()
        for _ in range(LINES_AT_ONCE_MAX + 1):
            log.info("turned away")
        await trio.sleep(60)
        log.info("turned away", why="the last one")
    assert [entry.get("count") for entry in entries[-2:]] == [1, None]
    assert entries[-1]["why"] == "the last one"
