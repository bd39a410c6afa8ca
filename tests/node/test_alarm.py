"""A machine is called when its time has come, and not otherwise."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jcpeer.node.alarm import Alarm


class Clockwork:
    """Wants to be called at certain times."""

    def __init__(self, *due_s: float) -> None:
        self.due_s = list(due_s)
        self.rang_s: list[float] = []
        self.alarm = Alarm(lambda: min(self.due_s, default=math.inf), self._ring)

    def _ring(self) -> None:
        now_s = trio.current_time()
        self.rang_s.append(now_s)
        self.due_s = [each for each in self.due_s if each > now_s]


async def test_it_rings_at_each_time_and_an_earlier_one_that_is_told_comes_first(autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    clockwork = Clockwork(began_s + 10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clockwork.alarm.run)
        await trio.sleep(1.0)
        clockwork.due_s.append(began_s + 3.0)
        clockwork.alarm.look()
        await trio.sleep(100.0)
        nursery.cancel_scope.cancel()
    assert [each - began_s for each in clockwork.rang_s] == [3.0, 10.0]


async def test_nothing_to_do_costs_nothing_and_what_is_late_rings_at_once(autojump_clock: MockClock) -> None:
    clockwork = Clockwork()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clockwork.alarm.run)
        await trio.sleep(1000.0)
        clockwork.due_s.append(trio.current_time() - 5.0)
        clockwork.alarm.look()
        await wait_all_tasks_blocked()
        assert clockwork.rang_s == [trio.current_time()]
        nursery.cancel_scope.cancel()
