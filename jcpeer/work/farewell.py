"""What keeps a participant that leaves: outputs that others need, and that nobody else has.

Each coordinator is told that we go, and answers which of our outputs it needs, then which of them it has. Whatever is
not fetched in the little time that a node has to leave is named.
"""

from __future__ import annotations

from collections.abc import Iterator

from jcpeer.ids import AppId, Digest, NodeId
from jcpeer.wire.messages import Decline, Stay
from jcpeer.work.engagement import Engagement
from jcpeer.work.events import Send


class Farewell:
    """Of one node, as far as applications have outputs here that did not travel with their reports."""

    def __init__(self) -> None:
        self._awaited: dict[AppId, tuple[Engagement, dict[Digest, str] | None]] = {}
        """Outputs that are being fetched, by name; None: the coordinator has not answered."""

    def say(self, app: AppId, engagement: Engagement, reason: str) -> Send:
        """That we go; who is to fetch something answers with `Stay`."""
        stays = bool(engagement.outputs)
        if stays:
            self._awaited[app] = engagement, None
        return Send(engagement.coordinator, Decline(app, engagement.epoch, reason, leaving=stays))

    def told(self, message: Stay) -> None:
        """What its coordinator still needs of us, or has by now."""
        if message.app not in self._awaited:
            return
        engagement, needed = self._awaited[message.app]
        needed = needed or {}
        needed |= {each: engagement.outputs[each] for each in message.blobs if each in engagement.outputs}
        for each in message.fetched:
            needed.pop(each, None)
        self._awaited[message.app] = engagement, needed
        if not needed:
            del self._awaited[message.app]

    def released(self, app: AppId) -> None:
        """Its end, or whatever else makes us go free."""
        self._awaited.pop(app, None)

    @property
    def awaited(self) -> frozenset[NodeId]:
        """The coordinators of whom more is to come."""
        return frozenset(engagement.coordinator for engagement, _ in self._awaited.values())

    def left_behind(self) -> Iterator[tuple[AppId, tuple[str, ...]]]:
        """Outputs that nobody has fetched so far, by application; none where its coordinator did not say which."""
        for app, (_, needed) in self._awaited.items():
            yield app, tuple((needed or {}).values())
