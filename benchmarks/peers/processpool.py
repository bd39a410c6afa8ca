"""No scheduler at all, the limit of the machine: a `ProcessPoolExecutor` of two, and `xargs -P2` for programs."""

from __future__ import annotations

import os
import platform
import subprocess
from concurrent.futures import ProcessPoolExecutor

import bench_calls

from benchmarks.contender import NotOffered, Settings, median_s, timed
from benchmarks.workloads import NAP_S, SLOTS, WIDTH


def contender(name: str, settings: Settings) -> ProcessPool:
    return ProcessPool()


class ProcessPool:
    version = platform.python_version()

    def start(self, *, apart: bool) -> None:
        self._pool = ProcessPoolExecutor(SLOTS)

    def warm_up(self) -> None:
        assert sum(self._pool.map(bench_calls.nap, [NAP_S] * SLOTS)) == SLOTS

    def stop(self) -> None:
        if hasattr(self, "_pool"):
            self._pool.shutdown()

    # --- workloads

    def noops(self, size: int) -> float:
        with timed() as took:
            futures = [self._pool.submit(bench_calls.identity, each) for each in range(size)]
            assert [each.result() for each in futures] == list(range(size))
        return took()

    def single(self, size: int) -> float:
        return median_s(lambda number: self._pool.submit(bench_calls.identity, number).result(), size)

    def layers(self, size: int) -> float:
        """It knows no graphs: layer after layer, each when the one before is done."""
        with timed() as took:
            layer = list(self._pool.map(bench_calls.step, [0] * WIDTH))
            for _ in range(size // WIDTH - 1):
                layer = list(self._pool.map(bench_calls.step, layer, [*layer[1:], layer[0]]))
            assert layer == [size // WIDTH] * WIDTH
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            last = 0
            for _ in range(size):
                last = self._pool.submit(bench_calls.step, last).result()
            assert last == size
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            numbers = "\n".join(map(str, range(size)))
            subprocess.run(["xargs", f"-P{SLOTS}", "-n1", "/bin/true"], input=numbers, text=True, check=True)
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            assert sum(self._pool.map(bench_calls.nap, [NAP_S] * size)) == size
        return took()

    def bulk(self, size: int) -> float:
        """To the client and back."""
        with timed() as took:
            made = self._pool.submit(bench_calls.make, size).result()
            assert self._pool.submit(bench_calls.measure, made).result() == size
        return took()

    def kill_worker(self, size: int) -> float:
        raise NotOffered("breaks, all lost")

    def kill_scheduler(self, size: int) -> float:
        raise NotOffered("is the program")

    def first_result(self, size: int) -> float:
        with timed() as took:
            self.start(apart=False)
            assert self._pool.submit(os.getpid).result() != os.getpid()
        return took()
