"""A node that is to leave when its running attempts have ended: it takes nothing new, waits for them, then is done.

What has not begun to run is given back at once, to run elsewhere. Applications that it coordinates go on meanwhile:
handing those over belongs to leaving, and leaving is up to whoever opened the node.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable

import structlog
import trio

from jcpeer.node.own_record import OwnRecord
from jcpeer.node.participation import Participation
from jcpeer.wire.requests import Draining

log = structlog.get_logger()

LOOK_S = 0.1
ACKNOWLEDGED_S = 5.0
"""What came of the last attempts is kept here until its coordinator has it; one that is out of reach is not waited for
any longer than this."""
REASON = "is being drained: it takes nothing new, and leaves when what runs there has ended"


class Drain:
    """Begins when it is asked for, and cannot be called off."""

    def __init__(
        self,
        participation: Participation,
        own: OwnRecord,
        nursery: trio.Nursery,
        *,
        coordinated: Callable[[], Iterable[str]],
        drained: Callable[[], None],
    ) -> None:
        """`coordinated`: names of the applications that this node coordinates; `drained`: called when it may leave."""
        self._participation = participation
        self._own = own
        self._nursery = nursery
        self._coordinated = coordinated
        self._drained = drained
        self._over = trio.Event()
        self.begun = False

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            log.info("the node drains", running=self._participation.under_way)
            self._own.close(REASON)
            self._participation.drain(REASON)
            self._nursery.start_soon(self._wait)

    async def watch(self) -> AsyncGenerator[Draining, None]:
        """How far it is, at each change, to the end."""
        self.begin()
        last: Draining | None = None
        while last is None or not self._over.is_set():
            now = Draining(self._participation.under_way, tuple(self._coordinated()))
            if now != last:
                last = now
                yield now
            with trio.move_on_after(LOOK_S):
                await self._over.wait()

    async def _wait(self) -> None:
        await trio.sleep(LOOK_S)  # what was given back is no longer under way then
        while self._participation.under_way:
            await trio.sleep(LOOK_S)
        with trio.move_on_after(ACKNOWLEDGED_S):
            while not self._participation.machine.idle:
                await trio.sleep(LOOK_S)
        log.info("the node is drained")
        self._over.set()
        self._drained()
