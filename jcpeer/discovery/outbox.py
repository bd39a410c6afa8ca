"""What one node is to pass on to others of who is there: the latest of each, in frames that are not long."""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import define, field

from jcpeer.ids import NodeId
from jcpeer.wire.messages import Gossip, News, Obituary

GOSSIP_MAX = 64
"""News in one frame: each is about a kilobyte."""
DEATHS_MAX = 512


@define(eq=False)
class Outbox:
    """Filled until `due_s`, then emptied. `mine`: the sender's own news are to be in it, whatever they are then."""

    due_s: float = math.inf
    mine: bool = False
    _news: dict[NodeId, News] = field(factory=dict)
    _deaths: dict[NodeId, Obituary] = field(factory=dict)

    def put(self, what: News | Obituary, *, by_s: float) -> None:
        """Pass this on by that time, instead of whatever was to be said of the same node."""
        if isinstance(what, News):
            self._deaths.pop(what.node, None)
            self._news[what.node] = what
        else:
            self._news.pop(what.node, None)
            self._deaths[what.node] = what
        self.due_s = min(self.due_s, by_s)

    def put_mine(self, *, by_s: float) -> None:
        self.mine = True
        self.due_s = min(self.due_s, by_s)

    def frames(self, my_news: News) -> list[Gossip]:
        """All that is in it; `my_news` are the sender's own at this time."""
        return frames((*self._news.values(), my_news) if self.mine else self._news.values(), self._deaths.values())


def frames(news: Iterable[News], deaths: Iterable[Obituary] = ()) -> list[Gossip]:
    """Cut so that none is long."""
    all_news, all_deaths = tuple(news), tuple(deaths)
    return [
        *(Gossip(all_news[at : at + GOSSIP_MAX]) for at in range(0, len(all_news), GOSSIP_MAX)),
        *(Gossip(deaths=all_deaths[at : at + DEATHS_MAX]) for at in range(0, len(all_deaths), DEATHS_MAX)),
    ]
