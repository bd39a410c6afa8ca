"""Ray: one local node with two processors; to kill parts, a head without any and two nodes with one each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import bench_calls
import ray
from ray.cluster_utils import Cluster

from benchmarks.contender import Settings, late_after_kill_s, median_s, timed
from benchmarks.workloads import NAP_S, SLOTS, WIDTH

LOCAL = "127.0.0.1"
STORE_BYTES = 512 * 2**20


def contender(name: str, settings: Settings) -> Ray:
    return Ray()


class Ray:
    version = ray.__version__

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, *, apart: bool) -> None:
        if apart:
            node = {"object_store_memory": STORE_BYTES, "include_dashboard": False, "node_ip_address": LOCAL}
            self._cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
            self._stack.callback(self._cluster.shutdown)
            self._nodes = [self._cluster.add_node(num_cpus=1, **node) for _ in range(SLOTS)]
            self._cluster.wait_for_nodes()
            ray.init(self._cluster.address, log_to_driver=False, _node_ip_address=LOCAL)
        else:
            ray.init(
                num_cpus=SLOTS,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address=LOCAL,
            )
        self._stack.callback(ray.shutdown)
        self._identity, self._step, self._true, self._nap, self._make, self._measure = (
            ray.remote(each) for each in bench_calls.MEASURED
        )

    def stop(self) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        ray.get([self._nap.remote(NAP_S) for _ in range(SLOTS * 4)])

    # --- workloads

    def noops(self, size: int) -> float:
        with timed() as took:
            assert ray.get([self._identity.remote(each) for each in range(size)]) == list(range(size))
        return took()

    def single(self, size: int) -> float:
        return median_s(lambda number: ray.get(self._identity.remote(number)), size)

    def layers(self, size: int) -> float:
        with timed() as took:
            layer = [self._step.remote() for _ in range(WIDTH)]
            for _ in range(size // WIDTH - 1):
                layer = [self._step.remote(layer[at], layer[(at + 1) % WIDTH]) for at in range(WIDTH)]
            assert ray.get(layer) == [size // WIDTH] * WIDTH
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            last = self._step.remote()
            for _ in range(size - 1):
                last = self._step.remote(last)
            assert ray.get(last) == size
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            assert not any(ray.get([self._true.remote() for _ in range(size)]))
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            assert sum(ray.get([self._nap.remote(NAP_S) for _ in range(size)])) == size
        return took()

    def bulk(self, size: int) -> float:
        """Between two processes of one machine: it passes in shared memory."""
        with timed() as took:
            assert ray.get(self._measure.remote(self._make.remote(size))) == size
        return took()

    def kill_worker(self, size: int) -> float:
        def kill() -> int:
            self._nodes[0].kill_all_processes(check_alive=False, allow_graceful=False)
            return SLOTS - 1

        return self._late_s(size, kill)

    def kill_scheduler(self, size: int) -> float:
        def kill() -> int:
            self._cluster.head_node.kill_gcs_server(check_alive=False)
            return SLOTS

        return self._late_s(size, kill)

    def _late_s(self, size: int, kill: Any) -> float:
        references: list[Any] = []

        def answered(timeout_s: float) -> int:
            done, _ = ray.wait(references, num_returns=size, timeout=timeout_s, fetch_local=False)
            return len(done)

        return late_after_kill_s(
            size, lambda: references.extend(self._nap.remote(NAP_S) for _ in range(size)), kill, answered
        )

    def first_result(self, size: int) -> float:
        with timed() as took:
            self.start(apart=False)
            assert ray.get(self._identity.remote(size)) == size
        return took()
