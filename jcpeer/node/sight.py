"""Whom the node sees: the directory with all that feeds it and all that it leads to.

ways of discovery → Sight → Reach (whom to dial);  what peers say → Sight → directory → Sight → whoever is concerned
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn

import structlog
import trio

from jcpeer.discovery import directory as found
from jcpeer.discovery.directory import Directory
from jcpeer.discovery.neighbours import EVERYBODY_MAX
from jcpeer.discovery.news import news_of, read_news
from jcpeer.discovery.other_grids import OtherGrids
from jcpeer.discovery.sighting import Discovery, Farewell, Sighting
from jcpeer.ids import NodeId, short
from jcpeer.net.events import Proof
from jcpeer.net.network import PeerUp
from jcpeer.node.alarm import Alarm
from jcpeer.node.parts import Parts
from jcpeer.node.reach import Reach
from jcpeer.wire.messages import News, NodeRecord

log = structlog.get_logger()


class Sight:
    """Owns the directory machine. `known` is told of each record that is new in it, `left` who is gone, why and by what
    proof, and `published` when this node's own news are new."""

    def __init__(
        self,
        parts: Parts,
        reach: Reach,
        me: NodeRecord,
        *,
        known: Callable[[NodeRecord], None],
        left: Callable[[NodeId, str, Proof], None],
        published: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._reach = reach
        self._me = me.node
        self._known = known
        self._left = left
        self._published = published
        self._names: dict[NodeId, str] = {me.node: me.name}
        self._other_grids = OtherGrids(parts.standing.membership.fingerprint)
        self.directory = Directory(me, sign=self._sign, read=self._read)
        self._alarm = Alarm(self.directory.wake_s, lambda: self.tell(found.Tick()))
        self._nursery: trio.Nursery | None = None
        self._remember: Callable[[NodeId, tuple[str, ...]], None] = lambda node, addresses: None
        self._forget: Callable[[NodeId], None] = lambda node: None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Until cancelled; started once every way of discovery is listened to."""
        async with trio.open_nursery() as self._nursery:
            for discovery in self._parts.discoveries:
                self._nursery.start_soon(self._take_sightings, discovery)
            task_status.started()
            await self._alarm.run()

    # --- who is there

    def others(self) -> Iterator[NodeRecord]:
        """Everybody in the directory but this node."""
        return (each for each in self.directory.records() if each.node != self._me)

    def name_of(self, node: NodeId) -> str:
        """What people call a node; the end of its id for one never met."""
        return self._names.get(node, short(node))

    def notices(self) -> tuple[str, ...]:
        """Lines for a person about other grids within sight."""
        return self._other_grids.notices()

    # --- what feeds it

    def tell(self, event: found.Event) -> None:
        """Have the directory handle this."""
        if isinstance(event, PeerUp):
            self._names[event.peer] = event.hello.name
        for effect in self.directory.handle(event, now_s=trio.current_time()):
            self._perform(effect)
        self._alarm.look()

    def keep_addresses(
        self, remember: Callable[[NodeId, tuple[str, ...]], None], forget: Callable[[NodeId], None]
    ) -> None:
        """Have the addresses of members kept for the next start."""
        self._remember, self._forget = remember, forget

    def turned_away(self, node: NodeId) -> None:
        """It is no member any more, or does not take us for one."""
        self._forget(node)

    def look_by(self, discovery: Discovery) -> None:
        """Find nodes, and be found, in one more way."""
        assert self._nursery is not None, "the node runs"
        self._parts.discoveries.append(discovery)
        discovery.announce(next(self.directory.records()))
        self._nursery.start_soon(self._take_sightings, discovery)

    def sighted(self, sighting: Sighting | Farewell) -> None:
        """Somebody may be at an address, or no longer is: so a way of discovery, the user or an earlier start says."""
        if isinstance(sighting, Farewell):
            self._other_grids.lose_sight(sighting.node)
            self._reach.sighted(sighting)
            return
        is_other, notice = self._other_grids.see(sighting)
        if notice is not None:
            log.warning(notice)
        if not is_other:
            self._reach.sighted(sighting)
        elif sighting.node is not None:  # it may have moved there from our grid
            self._reach.sighted(Farewell(sighting.node, sighting.incarnation))

    async def _take_sightings(self, discovery: Discovery) -> None:
        async for sighting in discovery.sightings:
            self.sighted(sighting)

    # --- what it leads to

    def _perform(self, effect: found.Effect) -> None:
        match effect:
            case found.Tell():
                self._reach.send(effect.peer, effect.message)
            case found.Publish():
                for discovery in self._parts.discoveries:
                    discovery.announce(effect.record)
                self._published()
            case found.Joined():
                if len(self.directory) <= EVERYBODY_MAX:  # in a large grid it is no news for a person
                    log.info("node joined", node=effect.record.name, id=short(effect.record.node))
                self._names[effect.record.node] = effect.record.name
                self._know(effect.record)
            case found.Changed():
                self._know(effect.record)
            case found.Left():
                log.info("node left", node=self.name_of(effect.node), id=short(effect.node), why=effect.why)
                self._reach.lost_sight(effect.node)
                self._left(effect.node, effect.why, effect.proof)
            case found.Neighbours():
                self._reach.hold("neighbours", effect.nodes)
            case found.Disconnect():
                self._reach.disconnect(effect.peer, effect.why)

    def _know(self, record: NodeRecord) -> None:
        self._reach.met(record)
        if record.addresses:
            self._remember(record.node, record.addresses)
        self._known(record)

    def _sign(self, record: NodeRecord) -> News:
        return news_of(record, self._parts.identity, self._parts.standing.membership.chain)

    def _read(self, news: News) -> NodeRecord:
        return read_news(news, root=self._parts.standing.membership.root, now_s=self._parts.clock_s())
