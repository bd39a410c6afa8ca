"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.abc
from hypothesis import settings
from trio.testing import MockClock

from simulations.virtual_time import deterministic_scheduling

# The same examples each time, on however slow a machine: a test that fails now and then teaches to look away.
settings.register_profile("jcpeer", derandomize=True, deadline=None)
settings.load_profile("jcpeer")

# A shell without job control starts what runs in the background with Ctrl-C ignored, and children inherit that: the
# tests of Ctrl-C must not depend on how the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for `autojump_clock`, be it by a fixture of a fixture, runs in virtual time and always in one order.

    By itself pytest-trio looks at the arguments of the test alone, and lets the order of children be random.
    """
    for item in items:
        if "autojump_clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_virtually), append=False)


def _run_virtually(
    test: Callable[[], Awaitable[None]], *, clock: MockClock | None, instruments: list[trio.abc.Instrument]
) -> None:
    with deterministic_scheduling(seed=0):
        trio.run(test, clock=clock or MockClock(autojump_threshold=0), instruments=instruments)
