"""What happens around a takeover: who coordinates from when to when, which orders go out, and what runs where.

Of one application. Times are virtual seconds, but for those in entries, which are on the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from jcpeer.ft.events import BeginReign
from jcpeer.ids import AppId, Digest, Epoch, NodeId, TaskId, digest_of
from jcpeer.net.memory import MemoryNetwork
from jcpeer.node.copies import Copies
from jcpeer.node.copy import Copy
from jcpeer.wire.messages import Assign, AttemptOrder
from jcpeer.wire.replication import Retired
from jcpeer.work.execution import Content, Execution
from jcpeer.work.simulated import SimulatedExecutor
from simulations.grid import SimulatedGrid, SimulatedNode
from simulations.taps import wrapped


@define
class Reigning:
    """One node coordinates. `until_s`: it stepped down, or said that it leaves."""

    node: NodeId
    epoch: Epoch
    from_s: float
    until_s: float | None = None


@define(eq=False)
class Executed:
    """One execution of a task on a node; `ended_s` if it ran to its end, `killed_s` if it was not let."""

    task: TaskId
    node: SimulatedNode
    order: AttemptOrder
    from_s: float
    made: tuple[Digest, ...] = ()
    ended_s: float | None = None
    killed_s: float | None = None
    made_before: bool = False
    """When it began, all that it was to make was already there, on nodes in reach."""


@define
class Watch:
    """Looks on while `looking`."""

    app: AppId | None = None
    away: set[str] = field(factory=set)
    """Nodes that nobody reaches: what they have does not count as there."""
    reigns: list[Reigning] = field(factory=list)
    executed: list[Executed] = field(factory=list)
    ordered: list[tuple[float, NodeId, Assign]] = field(factory=list)
    _grid: SimulatedGrid | None = None
    _over: bool = False

    @contextmanager
    def looking(self) -> Iterator[None]:
        """For as long as this."""
        with (
            wrapped(Copies, "begin", self._begin),
            wrapped(Copies, "end", self._end),
            wrapped(MemoryNetwork, "send", self._send),
        ):
            yield

    def look_at(self, grid: SimulatedGrid, app: AppId) -> None:
        self._grid, self.app = grid, app

    def close(self) -> None:
        """What ends from now on is the end of the world."""
        self._over = True

    def executor(self, node: SimulatedNode, clock_s: Callable[[], float]) -> SimulatedExecutor:
        return _WatchedExecutor(self, node, clock_s)

    def dispatched_s(self, after: Epoch, since_s: float) -> float | None:
        """When the first order of a higher epoch went out."""
        return next((at_s for at_s, _, each in self.ordered if at_s >= since_s and each.epoch > after), None)

    # --- taps

    def _begin(self, copies: Copies, begin: Callable[..., None], copy: Copy, reign: BeginReign, mandate: Any) -> None:
        me = copies._parts.identity.node
        self.reigns.append(Reigning(me, reign.epoch, trio.current_time()))
        begin(copies, copy, reign, mandate)

    def _end(self, copies: Copies, end: Callable[..., None], copy: Copy, why: str) -> None:
        self.left(copies._parts.identity.node)
        end(copies, copy, why)

    def left(self, node: NodeId) -> None:
        """It coordinates no longer."""
        for each in self.reigns:
            if each.node == node and each.until_s is None:
                each.until_s = trio.current_time()

    def _send(self, network: MemoryNetwork, send: Callable[..., None], peer: NodeId, message: Any) -> None:
        if isinstance(message, Assign):
            self.ordered.append((trio.current_time(), network.me, message))
        elif isinstance(message, Retired):
            self.left(network.me)
        send(network, peer, message)

    # --- executions

    def began(self, node: SimulatedNode, order: AttemptOrder) -> Executed:
        new = Executed(order.task, node, order, trio.current_time())
        new.made_before = node.name not in self.away and any(
            each.task == order.task and each.ended_s is not None and all(map(self._there, each.made))
            for each in self.executed
        )
        self.executed.append(new)
        return new

    def _there(self, digest: Digest) -> bool:
        assert self._grid is not None
        return any(each.name not in self.away and each.running.parts.store.has(digest) for each in self._grid.running)

    def ended(self, execution: Executed, made: Mapping[str, Content]) -> None:
        execution.ended_s = trio.current_time()
        execution.made = tuple(digest_of(data) for data in made.values() if isinstance(data, bytes))

    def killed(self, execution: Executed) -> None:
        if not self._over:
            execution.killed_s = trio.current_time()


class _WatchedExecutor(SimulatedExecutor):
    def __init__(self, watch: Watch, node: SimulatedNode, clock_s: Callable[[], float]) -> None:
        super().__init__(clock_s=clock_s, slowness=node.hardware.slowness)
        self._watch = watch
        self._node = node

    async def run(
        self, order: AttemptOrder, inputs: Mapping[str, Content], directory: Path, *, gpus: Sequence[str] = ()
    ) -> Execution:
        execution = self._watch.began(self._node, order)
        try:
            done = await super().run(order, inputs, directory, gpus=gpus)
        except trio.Cancelled:
            self._watch.killed(execution)
            raise
        self._watch.ended(execution, done.outputs)
        return done
