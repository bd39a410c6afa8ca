"""Finding nodes and records by key: the shell of `dht.machine`.

Finding.closest, record, publish → machine → send → Reach;  what peers say → heard → machine → who waits
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import NoReturn, assert_never

import structlog
import trio

from jcpeer.dht.machine import (
    Abandon,
    Effect,
    Event,
    Find,
    FindRecord,
    Found,
    FoundNode,
    Gone,
    Heard,
    Kademlia,
    KeyMessage,
    Nonsense,
    Publish,
    Published,
    Renewed,
    Seen,
    Send,
    Tick,
    Unreached,
    Unwatched,
    Withdraw,
)
from jcpeer.dht.records import Judge
from jcpeer.dht.table import BUCKET_SIZE
from jcpeer.dht.upkeep import MAX_S
from jcpeer.ids import NodeId, short
from jcpeer.node.alarm import Alarm
from jcpeer.wire.messages import Contact, News, Signed

__all__ = ["Finding", "FoundNode"]

log = structlog.get_logger()


class Finding:
    """What the rest of the node knows of finding by key. One child runs `run`; nothing else here waits but callers.

    Args:
        me: This node, and where it can be dialled; without addresses others do not name it to each other.
        send: Say this to a node, dialling it there if need be; must neither block nor raise.
        judge: Which records are genuine, and which of two is the newer (`dht.records`).
        watched: Whether `gone` will tell when this member does no longer live.
        near: So many who are said to be near a key: lookups begin with them, too.
        quiet_s: The longest time between two looks around while nothing changes.
    """

    def __init__(
        self,
        me: Contact,
        send: Callable[[Contact, KeyMessage], None],
        *,
        judge: Judge,
        watched: Callable[[NodeId], bool] = lambda node: False,
        near: Callable[[int, int], Iterable[Contact]] = lambda key, count: (),
        quiet_s: float = MAX_S,
    ) -> None:
        self.machine = Kademlia(me, judge, watched=watched, near=near, quiet_s=quiet_s)
        self._send = send
        self._calls = count(1)
        self._waiting: dict[int, tuple[trio.Event, list[Found]]] = {}
        self._effects: deque[Effect] = deque()
        self._performing = False
        self._alarm = Alarm(self.machine.wake_s, lambda: self._tell(Tick()))

    # --- for those who seek

    async def closest(self, key: int, *, count: int = BUCKET_SIZE, introduce: bool = False) -> tuple[FoundNode, ...]:
        """The live nodes nearest to a key, nearest first, this one included.

        Args:
            key: 160 bits.
            introduce: Have each say its news, too. It is as the node signed it, and not checked yet.
        """
        return (await self.call(lambda call: Find(call, key, count, introduce))).nodes

    async def record(self, key: int) -> Signed | None:
        """The highest record that is kept under a key; None where there is none in reach."""
        return (await self.call(lambda call: FindRecord(call, key))).record

    def publish(self, key: int, record: Signed) -> None:
        """Keep a record of this node up under a key, in place of an earlier one, until it is withdrawn."""
        self._tell(Publish(key, record))

    def withdraw(self, key: int) -> None:
        """Keep it up no more; where it is kept it ends with its lifetime."""
        self._tell(Withdraw(key))

    # --- for the node that it is part of

    def seen(self, contact: Contact, *, watched: bool = True) -> None:
        """A checked member lives; `watched`: `gone` will tell when it does no more."""
        self._tell(Seen(contact, watched))

    def unwatched(self, node: NodeId) -> None:
        """Nobody will tell any more when it is gone; for the present it lives."""
        self._tell(Unwatched(node))

    def gone(self, node: NodeId) -> None:
        """It was lost, or left."""
        self._tell(Gone(node))

    def heard(self, peer: NodeId, message: KeyMessage, addresses: tuple[str, ...] = ()) -> None:
        """A member said this; `addresses` are its own word of where it can be dialled."""
        self._tell(Heard(peer, message, addresses))

    def unreached(self, peer: NodeId) -> None:
        """What was sent to it could not be delivered."""
        self._tell(Unreached(peer))

    def renew(self, contact: Contact, news: News | None) -> None:
        """This node's own addresses and news are these now."""
        self._tell(Renewed(contact, news))

    async def run(self) -> NoReturn:
        """Until cancelled. An idle node sleeps."""
        await self._alarm.run()

    # --- within

    async def call(self, event_of: Callable[[int], Find | FindRecord]) -> Found:
        """All that is known of how a lookup ended; `event_of` is given the number of the call."""
        call = next(self._calls)
        answered, found = self._waiting[call] = trio.Event(), []
        try:
            self._tell(event_of(call))
            await answered.wait()
            return found[0]
        finally:
            del self._waiting[call]
            if not found:
                self._tell(Abandon(call))

    def _tell(self, event: Event) -> None:
        """One event, and its effects in order; what an effect leads to at once comes after those before it."""
        self._effects += self.machine.handle(event, now_s=trio.current_time())
        if not self._performing:
            self._performing = True
            try:
                while self._effects:
                    self._perform(self._effects.popleft())
            finally:
                self._performing = False
        self._alarm.look()

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(contact, message):
                self._send(contact, message)
            case Found(call):
                if call in self._waiting:
                    answered, found = self._waiting[call]
                    found.append(effect)
                    answered.set()
            case Published(key, kept, refusals):
                if refusals:
                    told = {short(node): why for node, why in refusals}
                    log.info("a record was not kept everywhere", key=f"{key:040x}", kept=kept, refusals=told)
            case Nonsense(peer, why):
                log.info("a node said what makes no sense", peer=short(peer), why=why)
            case _:
                assert_never(effect)
