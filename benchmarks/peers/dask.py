"""Dask: a `LocalCluster` of two workers with a thread each; to kill parts, scheduler and workers as commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import bench_calls
import dask
import distributed
from distributed import Client, Future, LocalCluster

from benchmarks.contender import Settings, late_after_kill_s, median_s, timed
from benchmarks.workloads import NAP_S, SLOTS, WIDTH


def contender(name: str, settings: Settings) -> Dask:
    return Dask()


class Dask:
    version = dask.__version__

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, *, apart: bool) -> None:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dask-bench-"))
        os.chdir(directory)
        if apart:
            self._start_apart(Path(directory, "scheduler.json"))
            self._client = Client(scheduler_file="scheduler.json")
            self._client.wait_for_workers(SLOTS)
        else:
            cluster = LocalCluster(
                n_workers=SLOTS, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
            )
            self._stack.enter_context(cluster)
            self._client = Client(cluster)
        self._stack.callback(self._client.close, timeout=2)

    def _start_apart(self, told: Path) -> None:
        local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(told)]
        self._processes = [
            subprocess.Popen([sys.executable, "-m", "dask", *command, *local])
            for command in (["scheduler", "--port", "0"], *([["worker", "--nthreads", "1", "--no-nanny"]] * SLOTS))
        ]
        for each in self._processes:
            self._stack.callback(each.wait)
            self._stack.callback(each.kill)
        while not told.exists():
            assert self._processes[0].poll() is None, "the scheduler did not start"

    def stop(self) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        self._gather(self._naps(SLOTS * 2))

    def _gather(self, futures: list[Future]) -> list[int]:
        found: list[int] = self._client.gather(futures)
        return found

    def _naps(self, size: int) -> list[Future]:
        return [self._client.submit(bench_calls.nap, NAP_S, pure=False) for _ in range(size)]

    # --- workloads

    def noops(self, size: int) -> float:
        with timed() as took:
            assert self._gather(self._client.map(bench_calls.identity, range(size), pure=False)) == list(range(size))
        return took()

    def single(self, size: int) -> float:
        return median_s(lambda number: self._client.submit(bench_calls.identity, number, pure=False).result(), size)

    def layers(self, size: int) -> float:
        submit = self._client.submit
        with timed() as took:
            layers = [[submit(bench_calls.step, pure=False) for _ in range(WIDTH)]]
            for _ in range(size // WIDTH - 1):
                last = layers[-1]
                layers.append(
                    [submit(bench_calls.step, last[at], last[(at + 1) % WIDTH], pure=False) for at in range(WIDTH)]
                )
            assert self._gather(layers[-1]) == [size // WIDTH] * WIDTH
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            last = self._client.submit(bench_calls.step, pure=False)
            for _ in range(size - 1):
                last = self._client.submit(bench_calls.step, last, pure=False)
            assert last.result() == size
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            assert not any(self._gather([self._client.submit(bench_calls.true, pure=False) for _ in range(size)]))
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            assert sum(self._gather(self._naps(size))) == size
        return took()

    def bulk(self, size: int) -> float:
        left, right = self._client.scheduler_info(n_workers=-1)["workers"]
        with timed() as took:
            made = self._client.submit(bench_calls.make, size, workers=[left], pure=False)
            assert self._client.submit(bench_calls.measure, made, workers=[right], pure=False).result() == size
        return took()

    def kill_worker(self, size: int) -> float:
        return self._late_s(size, victim=1, left=SLOTS - 1)

    def kill_scheduler(self, size: int) -> float:
        return self._late_s(size, victim=0, left=SLOTS)

    def _late_s(self, size: int, *, victim: int, left: int) -> float:
        futures: list[Future] = []

        def kill() -> int:
            self._processes[victim].kill()
            return left

        def answered(timeout_s: float) -> int:
            with suppress(TimeoutError, distributed.CancelledError):
                distributed.wait(futures, timeout_s)
            return sum(each.status == "finished" for each in futures)

        return late_after_kill_s(size, lambda: futures.extend(self._naps(size)), kill, answered)

    def first_result(self, size: int) -> float:
        with timed() as took:
            self.start(apart=False)
            assert self._client.submit(bench_calls.identity, size).result() == size
        return took()
