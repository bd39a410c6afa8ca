"""Which nodes a participant asks to take over tasks that follow what it finished.

The directory is asked first, for nodes that have what the task needs and slots to spare as far as they have told. Only
where it knows of nobody who could ever run the task are members found by random keys, whose offer is then unknown: they
answer for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jcpeer.application.task import Task
from jcpeer.coordinator.matching import unmet_need
from jcpeer.ids import AppId, NodeId, key_of
from jcpeer.node.finder import Finder
from jcpeer.wire.messages import NodeRecord

HELPERS_MAX = 6
"""Named for one search."""


class Helpers:
    """Names nodes for searches."""

    def __init__(self, me: NodeId, others: Callable[[], Iterable[NodeRecord]], finder: Callable[[], Finder]) -> None:
        self._me = me
        self._others = others
        self._finder = finder

    def known(self, task: Task, user: str) -> tuple[NodeId, ...] | None:
        """Those in the directory that have room, most first; None where it has no node that could run the task."""
        able = [
            each
            for each in self._others()
            if (each.user == user or each.trusts_grid) and each.slots and unmet_need(task, each) is None
        ]
        if not able:
            return None
        idle = [each for each in able if each.slots_used < each.slots]
        # Among equals each asker begins elsewhere, so that not all come to the same node.
        idle.sort(key=lambda each: (each.slots_used - each.slots, each.node < self._me, each.node))
        return tuple(each.node for each in idle[:HELPERS_MAX])

    async def beyond(self, app: AppId, search: int) -> tuple[NodeId, ...]:
        """Members near some key, whatever they offer; none where the directory has them all."""
        key = key_of(self._me.encode(), app.encode(), str(search).encode())
        nearest = await self._finder().nearest(key, count=HELPERS_MAX)
        return () if nearest.everybody else tuple(each.node for each in nearest.candidates if each.node != self._me)
