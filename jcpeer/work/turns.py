"""Whose turn it is to fetch from which peer: so many transfers from one at a time, and no more.

Thousands may wait at once. A turn that ends goes to whoever has waited for that peer for longest; nobody else wakes up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from jcpeer.ids import NodeId


@define(eq=False)
class _Waiter:
    """`given`: whose turn it was given; `gone`: it waits no longer."""

    given: NodeId | None = None
    gone: bool = False
    woken: trio.Event = field(factory=trio.Event)


class Turns:
    def __init__(self, a_peer_max: int) -> None:
        self._a_peer_max = a_peer_max
        self._busy: dict[NodeId, int] = {}
        self._waiting: dict[NodeId, deque[_Waiter]] = {}

    @asynccontextmanager
    async def one_of(self, peers: Sequence[NodeId]) -> AsyncGenerator[NodeId, None]:
        """The best of these that is not busy with other transfers of ours, once one is free."""
        peer = next((each for each in peers if self._busy.get(each, 0) < self._a_peer_max), None)
        if peer is not None:
            self._busy[peer] = self._busy.get(peer, 0) + 1
        else:
            peer = await self._wait(peers)
        try:
            yield peer
        finally:
            self._pass_on(peer)

    async def _wait(self, peers: Sequence[NodeId]) -> NodeId:
        waiter = _Waiter()
        for each in peers:
            self._waiting.setdefault(each, deque()).append(waiter)
        try:
            await waiter.woken.wait()
        except trio.Cancelled:
            waiter.gone = True
            if waiter.given is not None:
                self._pass_on(waiter.given)
            raise
        assert waiter.given is not None
        return waiter.given

    def _pass_on(self, peer: NodeId) -> None:
        waiting = self._waiting.get(peer, ())
        while waiting:
            waiter = waiting.popleft()
            if waiter.given is None and not waiter.gone:  # it may have waited for others, too
                waiter.given = peer
                waiter.woken.set()
                return
        self._waiting.pop(peer, None)
        self._busy[peer] -= 1
        if not self._busy[peer]:
            del self._busy[peer]
