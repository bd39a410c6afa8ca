"""Parsl: a `HighThroughputExecutor` with two local blocks of one worker each, and the graph in the client."""

from __future__ import annotations

import os
import signal
import tempfile
from concurrent.futures import wait
from contextlib import ExitStack
from typing import Any

import bench_calls
import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.contender import Settings, late_after_kill_s, median_s, processes_with, timed
from benchmarks.workloads import NAP_S, SLOTS, WIDTH


def contender(name: str, settings: Settings) -> Parsl:
    return Parsl()


class Parsl:
    version = parsl.__version__

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, *, apart: bool) -> None:
        """Its parts are always apart."""
        self._executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            cores_per_worker=1,
            max_workers_per_node=1,
            provider=LocalProvider(init_blocks=SLOTS, min_blocks=SLOTS, max_blocks=SLOTS),
        )
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True))
        config = Config(
            executors=[self._executor],
            run_dir=directory,
            strategy="none",
            retries=3,
            usage_tracking=0,
            initialize_logging=False,
        )
        kernel = parsl.load(config)
        self._stack.callback(parsl.clear)
        self._stack.callback(kernel.cleanup)
        self._identity, self._step, self._true, self._nap, self._make, self._measure = (
            parsl.python_app(each) for each in bench_calls.MEASURED
        )

    def stop(self) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        while len(self._executor.connected_managers()) < SLOTS:
            self._results([self._nap(NAP_S)])
        self._results([self._nap(NAP_S) for _ in range(SLOTS * 4)])

    @staticmethod
    def _results(futures: list[Any]) -> list[Any]:
        return [each.result() for each in futures]

    # --- workloads

    def noops(self, size: int) -> float:
        with timed() as took:
            assert self._results([self._identity(each) for each in range(size)]) == list(range(size))
        return took()

    def single(self, size: int) -> float:
        return median_s(lambda number: self._identity(number).result(), size)

    def layers(self, size: int) -> float:
        with timed() as took:
            layer = [self._step() for _ in range(WIDTH)]
            for _ in range(size // WIDTH - 1):
                layer = [self._step(layer[at], layer[(at + 1) % WIDTH]) for at in range(WIDTH)]
            assert self._results(layer) == [size // WIDTH] * WIDTH
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            last = self._step()
            for _ in range(size - 1):
                last = self._step(last)
            assert last.result() == size
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            assert not any(self._results([self._true() for _ in range(size)]))
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            assert sum(self._results([self._nap(NAP_S) for _ in range(size)])) == size
        return took()

    def bulk(self, size: int) -> float:
        """Through the client."""
        with timed() as took:
            assert self._measure(self._make(size)).result() == size
        return took()

    def kill_worker(self, size: int) -> float:
        def kill() -> int:
            """One manager with its worker: a block."""
            manager, *_ = (pid for pid, _ in processes_with("process_worker_pool") if os.getpgid(pid) != os.getpgid(0))
            os.killpg(os.getpgid(manager), signal.SIGKILL)
            return SLOTS - 1

        return self._late_s(size, kill)

    def kill_scheduler(self, size: int) -> float:
        def kill() -> int:
            self._executor.interchange_proc.kill()
            return SLOTS

        return self._late_s(size, kill)

    def _late_s(self, size: int, kill: Any) -> float:
        futures: list[Any] = []

        def answered(timeout_s: float) -> int:
            done, _ = wait(futures, timeout_s)
            return sum(each.exception() is None for each in done)

        return late_after_kill_s(size, lambda: futures.extend(self._nap(NAP_S) for _ in range(size)), kill, answered)

    def first_result(self, size: int) -> float:
        with timed() as took:
            self.start(apart=False)
            assert self._identity(size).result() == size
        return took()
