"""Run a simulation in virtual time, so that the same seed gives the same run."""

from __future__ import annotations

import gc
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


def run_seeded(async_fn: Callable[..., Awaitable[T]], *args: Any, seed: int) -> T:
    """What `trio.run` returns, with a clock that jumps ahead whenever everybody waits.

    The children run in an order that depends on the seed and on nothing else. What else could differ between two runs
    is the callee's to avoid: the order of sets, `id`, `hash` of strings, threads, the real clock.
    """
    with deterministic_scheduling(seed), _rare_garbage_collection():
        return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0))


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Within the block, trio runs its children in an order that depends on the seed alone."""
    # These names are trio's own and may change; a test that compares two processes would notice.
    run: Any = trio._core._run
    before, state = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before
        run._r.setstate(state)


class HangsError(Exception):
    """Somebody never let anybody else have a turn, or nobody ever waited."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Within the block, in the main thread, whoever is at work when so much of the processor is used gets a
    `HangsError`: virtual time does not pass while somebody is busy, so that nothing else would end it."""

    def hangs(*_: object) -> None:
        raise HangsError(f"it is still busy after {seconds:g} s of CPU")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """A world is a million small objects, and Python would look at all of them again and again: a third of the time."""
    before = gc.get_threshold()
    gc.set_threshold(10_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
