"""HyperQueue, by its package for Python: server and workers are threads of this process, so none can be killed.

Its client asks once a second whether a job has ended, which says nothing of the scheduler; so a last task leaves a
file, and that is waited for. Each function starts a Python of its own, which makes them slow: graphs are made of
`/bin/true`.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bench_calls
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.contender import NotOffered, Settings, median_s, timed
from benchmarks.workloads import NAP_S, SLOTS, WIDTH

FUNCTIONS_MAX = 100
"""Of so many the rate is measured."""
NAP = ["sleep", str(NAP_S)]
TRUE = ["/bin/true"]
LOOK_S = 0.0005


def contender(name: str, settings: Settings) -> HyperQueue:
    return HyperQueue()


class HyperQueue:
    version = version("hyperqueue")

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._jobs = 0

    def start(self, *, apart: bool) -> None:
        if apart:
            raise NotOffered("threads of the client")
        self._directory = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="hq-", ignore_cleanup_errors=True)
        )
        os.chdir(self._directory)
        cluster = self._stack.enter_context(LocalCluster())
        for _ in range(SLOTS):
            cluster.start_worker(WorkerConfig(cores=1))
        self._client = cluster.client()

    def stop(self) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        self._run(self._programs(NAP, SLOTS * 2))

    def _run(self, job: Job) -> None:
        """Submit it with a last task that leaves a file; return when that is there."""
        self._jobs += 1
        path = Path(self._directory, f"ended-{self._jobs}")
        _program(job, ["touch", str(path)], deps=list(job.tasks))
        self._submit(job, path)

    def _submit(self, job: Job, path: Path) -> None:
        self._client.submit(job)
        while not path.exists():
            time.sleep(LOOK_S)

    @staticmethod
    def _programs(command: list[str], size: int) -> Job:
        job = Job()
        for _ in range(size):
            _program(job, command)
        return job

    # --- workloads

    def noops(self, size: int) -> float:
        some = min(size, FUNCTIONS_MAX)
        with timed() as took:
            job = Job()
            for each in range(some):
                job.function(bench_calls.identity, args=(each,), stdout=None, stderr=None)
            self._run(job)
        return took() * size / some

    def single(self, size: int) -> float:
        def call(number: int) -> int:
            path = Path(self._directory, f"single-{time.monotonic_ns()}")
            job = Job()
            job.function(bench_calls.leave, args=(str(path),), stdout=None, stderr=None)
            self._submit(job, path)
            return number

        return median_s(call, min(size, FUNCTIONS_MAX))

    def layers(self, size: int) -> float:
        with timed() as took:
            job = Job()
            layer = [_program(job, TRUE) for _ in range(WIDTH)]
            for _ in range(size // WIDTH - 1):
                layer = [_program(job, TRUE, deps=[layer[at], layer[(at + 1) % WIDTH]]) for at in range(WIDTH)]
            self._run(job)
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            job = Job()
            last = _program(job, TRUE)
            for _ in range(size - 1):
                last = _program(job, TRUE, deps=[last])
            self._run(job)
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            self._run(self._programs(TRUE, size))
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            self._run(self._programs(NAP, size))
        return took()

    def first_result(self, size: int) -> float:
        with timed() as took:
            self.start(apart=False)
            self._run(self._programs(TRUE, 1))
        return took()


def _program(job: Job, command: list[str], deps: list[Any] | None = None) -> Any:
    return job.program(command, stdout=None, stderr=None, deps=deps or ())
