"""One application under way in a drill, and the account of it when it has ended."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field, frozen
from demo_parts.errors import DemoError
from demo_parts.screen import Teller

from drill_parts.following import Follower
from drill_parts.nodes import DrillNode, Nodes
from drill_parts.work import Work, chains
from jcpeer.application.manifest import Placement
from jcpeer.client import Grid, Handle
from jcpeer.client.blocking import deadline
from jcpeer.errors import JcpeerError
from jcpeer.ids import TaskId
from jcpeer.wire.requests import Happened, Status

ANSWER_S = 20.0
LOOK_S = 0.05
COPIES_S = 60.0
KEEPS = ("coordinator", "copy")


@frozen
class Account:
    """What is to be 0 or true whatever happened, and when the first order of a later epoch came to a participant, in
    seconds since 1970."""

    ended_well: bool
    lost_or_changed: int
    run_again: int
    """Executions that began after their task had been shown as finished."""
    cut_short: int
    """Executions that began and were stopped, on nodes that were not killed, though nobody else had done their task."""
    outrun: int
    """Those that were stopped because somebody else had: the successor did not know that they ran."""
    apart: int
    """Either of these, on nodes that were out of reach for a while and could not know."""
    first_order_s: float
    status: Status


@define(eq=False)
class Run:
    """`follower` is at a node that keeps no copy; further ones can be added."""

    nodes: Nodes
    work: Work
    handle: Handle
    app: str
    followers: list[Follower]

    @property
    def follower(self) -> Follower:
        return self.followers[0]

    def follow_at(self, node: DrillNode) -> Follower:
        self.followers.append(Follower(node, self.app))
        return self.followers[-1]

    def status(self) -> Status:
        """As the follower's node tells it."""
        with deadline(ANSWER_S):
            return self.follower.handle.status()

    def coordinator(self) -> DrillNode:
        return self.nodes[self.status().coordinator.name]

    def await_copies(self, count: int, *, without: DrillNode, since_s: float) -> float:
        """How long it took until so many journals were kept by others than this node; infinite, if it never was so
        before the end."""
        while not self.follower.end and time.time() < since_s + COPIES_S:
            keep = [each for each in self.status().replicas if each.state in KEEPS and each.node.name != without.name]
            if len(keep) >= count:
                return time.time() - since_s
            time.sleep(LOOK_S)
        return math.inf

    def await_account(self, *, out_of_reach: Sequence[DrillNode] = (), within_s: float = 240.0) -> Account:
        """After the end. Raises: DemoError: it did not come."""
        for follower in self.followers:
            follower.await_end(within_s=within_s)
        final = {event.index: _gist(event) for event in self.handle.events() if isinstance(event, Happened)}
        shown = {(event.index, _gist(event)) for each in self.followers for _, event in each.shown}
        finished_at_s: dict[TaskId, float] = {}
        for each in self.followers:
            for task, at_s in each.finished_at_s.items():
                finished_at_s[task] = min(at_s, finished_at_s.get(task, math.inf))
        executions = self.work.executions()
        again = [each for each in executions if each.began_s > finished_at_s.get(each.task, math.inf)]
        felled = {spawner for node in self.nodes for spawner in node.felled}
        stopped = [each for each in executions if each.ended_s is None and each.spawner not in felled]
        outrun = self.work.outrun(each for each in executions if each.ended_s is not None or each in stopped)
        short = [each for each in stopped if each not in outrun]
        away = {spawner for node in out_of_reach for spawner in node.spawners}
        results = self.handle.result(timeout=ANSWER_S)
        status = self.status()
        return Account(
            ended_well=self.follower.end == "ok" and results == self.work.expected,
            lost_or_changed=sum(final.get(index) != gist for index, gist in shown),
            run_again=sum(each.spawner not in away for each in again),
            cut_short=sum(each.spawner not in away for each in short),
            outrun=sum(each.spawner not in away for each in outrun),
            apart=sum(each.spawner in away for each in (*again, *stopped)),
            first_order_s=self._first_order_s() if status.takeovers else math.inf,
            status=status,
        )

    def _first_order_s(self) -> float:
        """When the first attempt of a later epoch than the first came to its participant, by that one's clock, which is
        ours, too."""
        came = (
            attempt.started_s - (attempt.waited_s or 0.0)
            for task in self.work.tasks
            for attempt in self.handle.task(task).attempts
            if attempt.epoch > 1 and attempt.started_s is not None
        )
        return min(came, default=math.inf)


def _gist(event: Happened) -> Any:
    """What nobody may tell otherwise later."""
    outputs = tuple((each.name, each.blob.digest) for each in event.outputs)
    return (event.kind, event.task, event.attempt, event.node.id if event.node else None, outputs)


@define(eq=False)
class Drill:
    """A grid on which scenarios run one after another."""

    nodes: Nodes
    tell: Teller
    tasks: int
    _count: int = 0
    _runs: list[tuple[Run, Grid]] = field(factory=list)

    def submit(
        self,
        *,
        seconds: float,
        replicas: int = 3,
        at: DrillNode | None = None,
        placement: Placement = "rdv",
        among: Iterable[DrillNode] | None = None,
    ) -> Run:
        """An application of so many short tasks is accepted. It is followed at one of `among`, that keeps no copy.

        Raises:
            DemoError, JcpeerError: it is not.
        """
        self._count += 1
        everybody = list(self.nodes)
        home = at or everybody[self._count % len(everybody)]
        work = chains(
            f"drill-{self._count}",
            self.nodes.directory,
            tasks=self.tasks,
            seconds=seconds,
            replicas=replicas,
            placement=placement,
        )
        grid = home.client()
        with deadline(60.0):
            app = grid.run(work.application).id
            status = grid.handle(app).status()
        keepers = {status.coordinator.name, *(each.node.name for each in status.replicas)}
        outside = [each for each in among or everybody if each.name not in keepers and each is not home]
        if not outside:
            raise DemoError("every node keeps a copy: there are too few to follow the application at another")
        follower = Follower(outside[0], app)
        run = Run(self.nodes, work, follower.handle, app, [follower])
        self._runs.append((run, grid))
        names = ", ".join(each.node.name for each in status.replicas)
        self.tell(
            f"{home.name} hands {work.application.name} over: {self.tasks:,} tasks of {seconds:g} s; "
            f"{status.coordinator.name} coordinates, journals are at {names}; we follow it at {follower.node.name}"
        )
        return run

    def tidy_up(self) -> None:
        """End what still runs, and have every node back."""
        for node in self.nodes.start_again():
            self.tell(f"{node.name} is started again")
        self.nodes.await_acquaintance()
        for run, grid in self._runs:
            if not run.follower.end:
                try:
                    with deadline(ANSWER_S):
                        grid.handle(run.app).cancel()
                except (JcpeerError, TimeoutError) as error:
                    self.tell(f"{run.work.application.name} could not be cancelled: {error}")
            for each in run.followers:
                each.stop()
            grid.close()
        self._runs.clear()
