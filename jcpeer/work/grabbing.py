"""Which of the offers that coordinators made a participant takes (the dispatch policy `grab`).

It takes as many as it has room for at that moment, and no more until it was given them or refused. An offer that is
neither taken by anybody nor called off ends by itself.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from itertools import takewhile

from attrs import define, field, frozen

from jcpeer.application.task import Needs
from jcpeer.ids import AppId, Epoch, NodeId, TaskId
from jcpeer.wire.messages import Offer, Take

ANSWER_S = 1.0
"""What was to be taken and was neither given nor refused in that time is no longer counted upon."""
OFFERS_MAX = 10_000
"""Of one application; those beyond are passed over."""


@frozen
class Standing:
    """An offer that may be taken."""

    needs: Needs
    until_s: float


@define
class Offers:
    """Of one application in one epoch."""

    coordinator: NodeId
    epoch: Epoch
    standing: dict[TaskId, Standing] = field(factory=dict)
    ends: list[tuple[float, TaskId]] = field(factory=list)
    """When each of those ends, the earliest first; some have ended before."""
    asked: dict[TaskId, Standing] = field(factory=dict)
    """Those that we would take, and until when an answer may come, the earliest first."""


class Grabbing:
    """All offers that stand."""

    def __init__(self) -> None:
        self._offers: dict[AppId, Offers] = {}

    def __bool__(self) -> bool:
        return bool(self._offers)

    def offered(self, node: NodeId, offer: Offer, *, now_s: float) -> None:
        offers = self._offers.get(offer.app)
        if offers is None or offers.epoch != offer.epoch:
            offers = self._offers[offer.app] = Offers(node, offer.epoch)
        for each in offer.tasks[:OFFERS_MAX]:
            if each.task not in offers.asked and len(offers.standing) < OFFERS_MAX:
                offers.standing[each.task] = Standing(each.needs, now_s + offer.lease_s)
                heapq.heappush(offers.ends, (now_s + offer.lease_s, each.task))

    def gone(self, app: AppId, tasks: Iterable[TaskId]) -> None:
        """These were given to somebody, to us perhaps, or are over."""
        if (offers := self._offers.get(app)) is not None:
            for task in tasks:
                offers.standing.pop(task, None)
                offers.asked.pop(task, None)

    def end(self, app: AppId) -> None:
        self._offers.pop(app, None)

    def take(self, room: int, *, now_s: float) -> list[tuple[NodeId, Take]]:
        """What to ask for with so many slots to fill; applications in the order of their first offer."""
        takes = []
        for app, offers in list(self._offers.items()):
            _end_old(offers, now_s)
            if not offers.standing and not offers.asked:
                del self._offers[app]
                continue
            room -= sum(_slots(each.needs) for each in offers.asked.values())
            taken = []
            for task, each in offers.standing.items():
                if room <= 0:
                    break
                if _slots(each.needs) <= room:
                    room -= _slots(each.needs)
                    taken.append(task)
            for task in taken:
                offers.asked[task] = Standing(offers.standing.pop(task).needs, now_s + ANSWER_S)
            if taken:
                takes.append((offers.coordinator, Take(app, offers.epoch, tuple(taken))))
        return takes

    def wake_s(self) -> float:
        """When an answer is no longer waited for: there may be room for something else then."""
        first = (next(iter(offers.asked.values()), None) for offers in self._offers.values())
        return min((each.until_s for each in first if each is not None), default=math.inf)


def _end_old(offers: Offers, now_s: float) -> None:
    while offers.ends and offers.ends[0][0] <= now_s:
        until_s, task = heapq.heappop(offers.ends)
        if task in offers.standing and offers.standing[task].until_s == until_s:
            del offers.standing[task]
    for task in [*takewhile(lambda task: offers.asked[task].until_s <= now_s, offers.asked)]:
        del offers.asked[task]


def _slots(needs: Needs) -> int:
    return max(1, needs.cpus)
