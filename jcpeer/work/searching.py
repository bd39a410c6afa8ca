"""Finding nodes that have room for attempts: a few are probed at once, and the first that grants room is handed them.

Nothing is waited for blindly: a probe that is not answered in time makes room for the next candidate, and what was
handed over and not confirmed in time is given up (it may run there; its coordinator will know). What nobody takes comes
back at once.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Collection, Iterable

from attrs import define, field, frozen

from jcpeer.application.task import Task
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId
from jcpeer.wire.messages import NotNeeded, Probe, ProbeAnswer, Taken
from jcpeer.work.engagement import Attempt
from jcpeer.work.events import Effect, Find, Send

PROBES_MAX = 3
"""At once, for one search."""
ANSWER_S = 0.5
"""A probe that has waited so long for its answer counts as refused."""
HAND_S = 2.0
"""What was handed over so long ago and not confirmed is given up."""


@frozen
class HandOver:
    """This node holds room: give it these."""

    node: NodeId
    search: int
    app: AppId
    parent: AttemptName
    attempts: dict[AttemptName, Attempt]


@frozen
class Moved:
    """This node answers for the attempt."""

    app: AppId
    parent: AttemptName
    name: AttemptName
    node: NodeId


@frozen
class Homeless:
    """Nobody has room for these. `lost`: or they were handed over, and nobody knows what became of them."""

    app: AppId
    parent: AttemptName
    task: Task
    attempts: dict[AttemptName, Attempt]
    lost: bool = False


Step = Effect | HandOver | Moved | Homeless


@define
class Search:
    """Attempts that follow the same parent and need what `task` needs. `found` once candidates have been named."""

    number: int
    app: AppId
    epoch: Epoch
    parent: AttemptName
    task: Task
    waiting: dict[AttemptName, Attempt]
    found: bool = False
    candidates: deque[NodeId] = field(factory=deque)
    probed: dict[NodeId, float] = field(factory=dict)
    """Who has not answered yet, and until when that is waited for."""
    handed: dict[NodeId, tuple[dict[AttemptName, Attempt], float]] = field(factory=dict)


class Searches:
    """All searches of a participant. Methods return what is to be done, in order."""

    def __init__(self) -> None:
        self._searches: dict[int, Search] = {}
        self._of: dict[AppId, dict[AttemptName, int]] = {}
        """Which search has each attempt, by application."""
        self._ends: list[tuple[float, int, NodeId]] = []
        """When each wait for a node ends, the earliest first; some have ended before."""
        self._last = 0

    def begin(
        self, app: AppId, epoch: Epoch, parent: AttemptName, task: Task, attempts: dict[AttemptName, Attempt]
    ) -> list[Step]:
        """`task` is one of them, to be matched with what nodes offer."""
        self._last += 1
        self._searches[self._last] = Search(self._last, app, epoch, parent, task, attempts)
        self._of.setdefault(app, {}).update(dict.fromkeys(attempts, self._last))
        return [Find(self._last, app, task, len(attempts))]

    def found(self, number: int, nodes: Iterable[NodeId], *, now_s: float) -> list[Step]:
        if (search := self._searches.get(number)) is None:
            return []
        search.found = True
        search.candidates.extend(nodes)
        return self._advance(search, now_s=now_s)

    def answered(self, node: NodeId, answer: ProbeAnswer, *, now_s: float) -> list[Step]:
        search = self._searches.get(answer.search)
        if search is None or search.app != answer.app or search.probed.pop(node, None) is None:
            return [Send(node, NotNeeded(answer.app, answer.search))] if answer.granted > 0 else []
        steps: list[Step] = []
        if answer.granted > 0 and search.waiting:
            given = {name: search.waiting.pop(name) for name in list(search.waiting)[: answer.granted]}
            search.handed[node] = (given, now_s + HAND_S)
            heapq.heappush(self._ends, (now_s + HAND_S, search.number, node))
            steps.append(HandOver(node, search.number, search.app, search.parent, given))
        elif answer.granted > 0:
            steps.append(Send(node, NotNeeded(search.app, search.number)))
        return steps + self._advance(search, now_s=now_s)

    def taken(self, node: NodeId, taken: Taken, *, now_s: float) -> list[Step]:
        search = self._searches.get(taken.search)
        if search is None or search.app != taken.app or node not in search.handed:
            return []
        given, _ = search.handed.pop(node)
        steps: list[Step] = []
        for name, attempt in given.items():
            if name in taken.attempts:
                self._let_go(search.app, (name,))
                steps.append(Moved(search.app, search.parent, name, node))
            else:
                search.waiting[name] = attempt
        return steps + self._advance(search, now_s=now_s)

    def not_reached(self, node: NodeId, *, now_s: float) -> list[Step]:
        """What was said to this node last may not have arrived."""
        steps: list[Step] = []
        for search in list(self._searches.values()):
            if node in search.probed or node in search.handed:
                search.probed.pop(node, None)
                if node in search.handed:
                    steps.append(self._give_up(search, node))
                steps += self._advance(search, now_s=now_s)
        return steps

    def look(self, *, now_s: float) -> list[Step]:
        """Time has passed."""
        due: dict[int, list[Step]] = {}
        while self.wake_s() <= now_s:
            until_s, number, node = heapq.heappop(self._ends)
            search, lost = self._searches[number], due.setdefault(number, [])
            if search.probed.get(node) == until_s:
                del search.probed[node]
            else:
                lost.append(self._give_up(search, node))
        steps: list[Step] = []
        for number, lost in sorted(due.items()):
            steps += [*lost, *self._advance(self._searches[number], now_s=now_s)]
        return steps

    def wake_s(self) -> float:
        while self._ends and not self._awaits(*self._ends[0]):
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else math.inf

    def _awaits(self, until_s: float, number: int, node: NodeId) -> bool:
        """Something is still to come of what was said to this node."""
        search = self._searches.get(number)
        if search is None:
            return False
        return search.probed.get(node) == until_s or (node in search.handed and search.handed[node][1] == until_s)

    def names(self, app: AppId) -> Collection[AttemptName]:
        """What is looked for, or was handed over and not confirmed; not to be changed."""
        return self._of.get(app, {})

    def withdraw(self, app: AppId, name: AttemptName, *, now_s: float) -> tuple[AttemptName, list[Step]] | None:
        """Look for room for this one no longer; returns its parent. None if it is not waiting."""
        search = self._searches.get(self._of.get(app, {}).get(name, 0))
        if search is None or search.waiting.pop(name, None) is None:
            return None
        self._let_go(app, (name,))
        return search.parent, self._advance(search, now_s=now_s)

    def end(self, app: AppId) -> list[Homeless]:
        """Look for nothing of this application any more."""
        ended = []
        for number in dict.fromkeys(self._of.pop(app, {}).values()):
            search = self._searches.pop(number)
            given = {name: each for attempts, _ in search.handed.values() for name, each in attempts.items()}
            ended.append(Homeless(app, search.parent, search.task, search.waiting | given, lost=True))
        return ended

    def _advance(self, search: Search, *, now_s: float) -> list[Step]:
        steps: list[Step] = []
        if search.waiting:
            while search.candidates and len(search.probed) < PROBES_MAX:
                node = search.candidates.popleft()
                search.probed[node] = now_s + ANSWER_S
                heapq.heappush(self._ends, (now_s + ANSWER_S, search.number, node))
                wanted = Probe(search.app, search.epoch, search.number, len(search.waiting), search.task.needs)
                steps.append(Send(node, wanted))
            if search.found and not search.probed:
                self._let_go(search.app, search.waiting)
                steps.append(Homeless(search.app, search.parent, search.task, search.waiting))
                search.waiting = {}
        else:
            steps += [Send(node, NotNeeded(search.app, search.number)) for node in search.probed]
            search.probed.clear()
        if search.found and not search.waiting and not search.handed:
            self._searches.pop(search.number, None)
        return steps

    def _give_up(self, search: Search, node: NodeId) -> Homeless:
        """What this node was handed."""
        given, _ = search.handed.pop(node)
        self._let_go(search.app, given)
        return Homeless(search.app, search.parent, search.task, given, lost=True)

    def _let_go(self, app: AppId, names: Iterable[AttemptName]) -> None:
        """These are in nobody's hands here any more."""
        ours = self._of[app]
        for name in names:
            del ours[name]
        if not ours:
            del self._of[app]

    def check(self) -> None:
        """Assert what holds after each event."""
        found: dict[AppId, dict[AttemptName, int]] = {}
        for search in self._searches.values():
            handed = (name for given, _ in search.handed.values() for name in given)
            for name in (*search.waiting, *handed):
                assert name not in found.setdefault(search.app, {})
                found[search.app][name] = search.number
        assert found == self._of
        for search in self._searches.values():
            assert len(search.probed) <= PROBES_MAX
            assert search.waiting or search.handed or not search.found
