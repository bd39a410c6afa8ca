"""jcpeer as a user has it: three real nodes, connected by libp2p with Noise, journals on disk, certificates checked.

The client's own node runs nothing, the two others have a slot each; who coordinates follows from the application's key,
or is the client's node with one replica.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path

import bench_calls

import jcpeer
from benchmarks.contender import NotOffered, Settings, late_after_kill_s, median_s, timed
from benchmarks.nodes import IDLE, RealNode, real_nodes
from benchmarks.workloads import NAP_S, SLOTS, WIDTH
from jcpeer.application.manifest import RunPolicies
from jcpeer.client.handle import Handle

FUNCTIONS = Path(bench_calls.__file__).parent
LEFT, RIGHT = {"side": "left"}, {"side": "right"}


def contender(name: str, settings: Settings) -> Jcpeer:
    match name:
        case "jcpeer-1":
            return Jcpeer({"replicas": 1, "placement": "local"})
        case "jcpeer-relay":
            return Jcpeer({"replicas": settings.replicas, "dispatch": "relay"})
        case _:
            return Jcpeer({"replicas": settings.replicas})


class Jcpeer:
    version = jcpeer.__version__

    def __init__(self, policies: RunPolicies) -> None:
        self._policies = policies
        self._local = policies.get("placement") == "local"
        self._stack = ExitStack()

    def start(self, *, apart: bool) -> None:
        more = max(0, self._policies["replicas"] - 3)  # nodes that only keep journals
        nodes = [IDLE, ("--label", "side=left"), ("--label", "side=right"), *([IDLE] * more)]
        self._nodes = self._stack.enter_context(real_nodes(nodes))
        self._grid = self._stack.enter_context(jcpeer.connect(self._nodes[0].socket))
        self._executor: Executor = self._grid.executor(directory=FUNCTIONS, **self._policies)

    def stop(self) -> None:
        self._stack.close()

    def warm_up(self) -> None:
        futures = [self._executor.submit(bench_calls.identity, each) for each in range(8)]
        assert [each.result() for each in futures] == list(range(8))
        app = self._application("warm up")
        for side in (LEFT, RIGHT):
            app.options(labels=side).task(bench_calls.nap, NAP_S)
        handle = self._run(app)
        keepers = sum(each.state in ("coordinator", "copy") for each in handle.status().replicas)
        assert keepers == self._policies["replicas"], f"{keepers} nodes keep the journal"

    def _application(self, name: str) -> jcpeer.Application:
        return jcpeer.Application(name, directory=FUNCTIONS, **self._policies)

    def _run(self, app: jcpeer.Application) -> Handle:
        handle = self._grid.run(app)
        status = handle.wait()
        assert status.summary.state == "ok", status.failures
        return handle

    # --- workloads

    def noops(self, size: int) -> float:
        with timed() as took:
            futures = [self._executor.submit(bench_calls.identity, each) for each in range(size)]
            assert [each.result() for each in futures] == list(range(size))
        return took()

    def single(self, size: int) -> float:
        return median_s(lambda number: self._executor.submit(bench_calls.identity, number).result(), size)

    def layers(self, size: int) -> float:
        with timed() as took:
            app = self._application("layers")
            layer = [app.task(bench_calls.step) for _ in range(WIDTH)]
            for _ in range(size // WIDTH - 1):
                layer = [app.task(bench_calls.step, layer[at], layer[(at + 1) % WIDTH]) for at in range(WIDTH)]
            values = self._grid.run(app).result()
        assert isinstance(values, dict)
        assert list(values.values()) == [size // WIDTH] * WIDTH
        return took()

    def chain(self, size: int) -> float:
        with timed() as took:
            app = self._application("chain")
            last = app.task(bench_calls.step)
            for _ in range(size - 1):
                last = app.task(bench_calls.step, last)
            assert self._grid.run(app).result() == size
        return took()

    def commands(self, size: int) -> float:
        with timed() as took:
            app = self._application("commands")
            for _ in range(size):
                app.command(["/bin/true"])
            self._run(app)
        return took()

    def naps(self, size: int) -> float:
        with timed() as took:
            self._run(self._naps(size))
        return took()

    def _naps(self, size: int) -> jcpeer.Application:
        app = self._application("naps")
        for _ in range(size):
            app.task(bench_calls.nap, NAP_S)
        return app

    def bulk(self, size: int) -> float:
        with timed() as took:
            app = self._application("bulk")
            made = app.options(labels=LEFT).task(bench_calls.make, size)
            app.options(labels=LEFT if self._local else RIGHT).task(bench_calls.measure, made)
            assert self._grid.run(app).result() == size
        return took()

    def kill_worker(self, size: int) -> float:
        return self._late_s(size, lambda node, coordinator: node is not self._nodes[0] and not coordinator)

    def kill_scheduler(self, size: int) -> float:
        if self._policies["replicas"] < 3:
            raise NotOffered("waits until the node is back")
        return self._late_s(size, lambda node, coordinator: coordinator)

    def _late_s(self, size: int, chosen: Callable[[RealNode, bool], bool]) -> float:
        """Whoever coordinates, which only shows once the naps are handed over, the node that is `chosen` is killed; if
        that was the client's, the client goes to another one."""
        app = ""

        def begin() -> None:
            nonlocal app
            app = self._grid.run(self._naps(size)).id

        def kill() -> int:
            coordinator = self._grid.handle(app).status().coordinator.name
            self._killed = next(each for each in self._nodes if chosen(each, each.name == coordinator))
            self._killed.kill()
            return SLOTS - (self._killed in self._nodes[1:3])

        def answered(timeout_s: float) -> int:
            with jcpeer.connect(next(each for each in self._nodes if each is not self._killed).socket) as grid:
                status = grid.handle(app).wait(timeout_s)
            return status.summary.tasks["finished"]

        return late_after_kill_s(size, begin, kill, answered)

    def first_result(self, size: int) -> float:
        with timed() as took:
            (node,) = self._stack.enter_context(real_nodes([("--slots", "2")]))
            grid = self._stack.enter_context(jcpeer.connect(node.socket))
            executor = grid.executor(directory=FUNCTIONS, **self._policies)
            assert executor.submit(bench_calls.identity, size).result() == size
        return took()
