"""Going on with an application of which too many replicas are lost, from the copy on this node, by its user's word."""

from __future__ import annotations

from collections.abc import Callable

import trio

from jcpeer.errors import RequestError, UnreachableError
from jcpeer.ft.events import Recover
from jcpeer.ids import NodeId
from jcpeer.node.applications import Applications
from jcpeer.node.copies import Copies
from jcpeer.node.copy import Copy
from jcpeer.node.naming import ambiguous
from jcpeer.node.parts import Parts
from jcpeer.wire.requests import LastWord, NodeName, RecoveryPlan

RECOVER_S = 10.0
"""For a promise on the own disk and reading the journal; what takes longer is said to go on."""


class Recovery:
    """Says what would be lost, and does it once that was confirmed."""

    def __init__(
        self, parts: Parts, copies: Copies, applications: Applications, *, name_of: Callable[[NodeId], str]
    ) -> None:
        self._parts = parts
        self._copies = copies
        self._applications = applications
        self._name_of = name_of

    async def recover(self, wanted: str, user: str, confirmed: bool) -> RecoveryPlan | None:
        """The plan for an application of this user; None once it was confirmed and is done.

        Raises:
            RequestError: there is nothing here to go on from, or no need to.
            UnreachableError: it takes longer than a client waits.
        """
        copy = self._wanted(wanted, user)
        if not confirmed:
            return await self._plan(copy)
        copy.post(Recover())
        with trio.move_on_after(RECOVER_S):
            while self._applications.get(copy.app) is None:
                await self._copies.news()
            return None
        raise UnreachableError(f"{copy.header.name} is being recovered; `jcpeer status` shows when that is done")

    def _wanted(self, wanted: str, user: str) -> Copy:
        found = self._copies.find(wanted, user)
        if len(found) > 1:
            raise ambiguous(wanted, (each.app for each in found))
        if not found:
            raise RequestError(
                f"this node keeps no copy of application {wanted[:40]!r} to go on from; `jcpeer status` shows who does",
                kind="unknown",
            )
        (copy,) = found
        if copy.over:
            raise RequestError(f"{copy.header.name} has ended: there is nothing to recover")
        if not copy.machine.stalled and copy.machine.coordinator is not None:
            name = self._name_of(copy.machine.coordinator)
            raise RequestError(f"{copy.header.name} goes on, on node {name}: there is nothing to recover")
        if not copy.machine.last_index:  # it was about to get a copy, or has lost it
            raise RequestError(
                f"node {self._parts.name} has nothing of {copy.header.name} yet; `jcpeer status` shows who has a copy"
            )
        return copy

    async def _plan(self, copy: Copy) -> RecoveryPlan:
        state = await self._applications.state_of(copy)
        me = self._parts.identity.node
        others = tuple(
            LastWord(NodeName(node, self._name_of(node)), copy.missed_for(node))
            for node in copy.replica_set.nodes
            if node != me
        )
        return RecoveryPlan(
            copy.app,
            copy.header.name,
            NodeName(me, self._parts.name),
            entries=copy.machine.last_index,
            committed=copy.committed,
            finished=state.counts["finished"],
            tasks=len(state.tasks),
            others=others,
        )
