"""A participant that has lost touch with a coordinator asks what became of the application.

Another node may have taken over while this one was cut off, and not know that it works for the application; or the
application has ended, so that nobody will ever ask for what is kept here. Any replica knows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NoReturn

import structlog
import trio

from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ids import AppId, NodeId, short
from jcpeer.net.network import Network
from jcpeer.node.aside import FORGOTTEN
from jcpeer.node.participation import Participation
from jcpeer.wire.messages import Started
from jcpeer.wire.requests import GetStatus, ReplyBody, Status

log = structlog.get_logger()

LOST_TOUCH_S = 10.0
"""A successor that knows of this node has called it up long before."""
ASK_AGAIN_S = 30.0
ENDED = ("ok", "failed", "cancelled")


class Reunion:
    """Looks after the coordinators for which this node works. A child runs `run`."""

    def __init__(
        self,
        network: Network,
        participation: Participation,
        *,
        about: Callable[[GetStatus], AsyncGenerator[ReplyBody, None]],
        is_up: Callable[[NodeId], bool],
        is_seat: Callable[[AppId, NodeId], bool],
    ) -> None:
        """`about`: what the grid answers; `is_up`: a connection stands; `is_seat`: so far as is known here, that node
        has a seat in the application's replica set."""
        self._network = network
        self._participation = participation
        self._about = about
        self._is_up = is_up
        self._is_seat = is_seat
        self._changed = trio.Event()

    def peer_down(self) -> None:
        """A connection was lost."""
        self._changed.set()

    async def run(self) -> NoReturn:
        """Until cancelled; sleeps while every coordinator is in reach."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            pause_s = LOST_TOUCH_S
            while self._missed():
                await trio.sleep(pause_s)
                for app, coordinator in self._missed().items():
                    await self._look_for(app, coordinator)
                pause_s = ASK_AGAIN_S

    def _missed(self) -> dict[AppId, NodeId]:
        """Applications for which this node works, whose coordinators are out of reach."""
        engaged = self._participation.machine.coordinator_by_application()
        return {app: node for app, node in engaged.items() if node != self._network.me and not self._is_up(node)}

    async def _look_for(self, app: AppId, coordinator: NodeId) -> None:
        try:
            status = await self._status(app)
        except UnreachableError:
            return
        except RequestError as error:
            if error.kind == FORGOTTEN and self._participation.machine.coordinator_of(app) == coordinator:
                self._participation.over(app)
            return
        if self._participation.machine.coordinator_of(app) != coordinator:
            return  # meanwhile another called this node up, whose word counts more
        if status is None or not self._is_seat(app, status.coordinator.id):
            return
        if status.summary.state in ENDED:
            log.info("the application had ended", app=app, state=status.summary.state)
            self._participation.over(app)
        elif status.coordinator.id != coordinator:
            log.info("another node coordinates", app=app, node=short(status.coordinator.id))
            self._network.send(status.coordinator.id, Started(app, ()))  # which calls us up

    async def _status(self, app: AppId) -> Status | None:
        async with aclosing(self._about(GetStatus(app))) as replies:
            async for reply in replies:
                return reply if isinstance(reply, Status) else None
        return None
