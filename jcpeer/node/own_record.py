"""What this node offers and is doing, measured and kept up to date, as others are told of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import structlog
import trio

from jcpeer.node.alarm import Alarm
from jcpeer.node.offer import offered_disk, offered_gpus, told_disk
from jcpeer.node.parts import Parts
from jcpeer.values import evolve
from jcpeer.wire.messages import NodeRecord, NodeState
from jcpeer.work.events import DiskMeasured, PolicyChanged
from jcpeer.work.policy import HouseRules, Opening

log = structlog.get_logger()

LOAD_S = 4.0
"""Between looks at the machine's load."""
CLOCK_S = 60.0
"""Between looks at the clock on the wall, which may be set, or change to summer time."""


class OwnRecord:
    """The node's record. `changed` is told of each new one, and whether the machine has an address that it had not."""

    def __init__(
        self,
        parts: Parts,
        *,
        doing: Callable[[], tuple[NodeState, int]],
        interval_s: Callable[[], float],
        measured: Callable[[DiskMeasured | PolicyChanged], None],
        changed: Callable[[NodeRecord, bool], None],
    ) -> None:
        """`doing`: the node's state and the slots in use; `interval_s`: so often at most is that worth telling."""
        self._parts = parts
        self._doing = doing
        self._interval_s = interval_s
        self._measured = measured
        self._changed = changed
        self._rules = HouseRules(parts.config)
        self.opening = self._look_at_the_clock()
        self.record = _first_record(parts, self.opening)
        self._next = self.record
        """With what was measured since; what the node is doing is looked up when it is told."""
        self._due_s = math.inf
        self._alarm = Alarm(lambda: self._due_s, self.refresh)

    async def run(self) -> NoReturn:
        """Measure and tell, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._alarm.run)
            if self._parts.config.hours:
                nursery.start_soon(self._keep_hours)
            while True:
                # Looking up the machine's addresses costs a millisecond, so it is done here, not at each change.
                load = round(self._parts.machine.load(), 1)
                self._next = evolve(self._next, addresses=self._parts.network.addresses, load=load)
                self._measure_disk()
                self.refresh()
                await trio.sleep(LOAD_S)

    def show(self) -> None:
        """Called at each step of what runs here. The directory hears of a new state at once, of slots a little later;
        when others hear of it, it decides."""
        state, slots_used = self._doing()
        if state != self.record.state:
            self.refresh()
        elif self._due_s == math.inf and slots_used != self.record.slots_used:
            self._due_s = trio.current_time() + self._interval_s()
            self._alarm.look()

    def close(self, reason: str) -> None:
        """Take nothing new from now on, neither attempts nor applications."""
        self._rules.close(reason)
        self._next = evolve(self._next, policy=self._look_at_the_clock().policy, coordinates=False)
        self.refresh()

    def found_dialable(self, dialable: bool) -> None:
        """Whether others can connect to this node."""
        log.info("others can connect to this node" if dialable else "no other machine can connect to this node")
        self._next = evolve(self._next, dialable=dialable)
        self.refresh()

    def refresh(self) -> None:
        """Tell what is new, if anything is."""
        self._due_s = math.inf
        state, slots_used = self._doing()
        before = self.record
        record = evolve(self._next, state=state, slots_used=slots_used)
        if record != before:
            self.record = record
            self._changed(record, bool(set(record.addresses) - set(before.addresses)))

    def _measure_disk(self) -> None:
        free = offered_disk(self._parts.config, self._parts.machine.disk_free())
        if (told := told_disk(free, self._next.disk_bytes)) != self._next.disk_bytes:
            self._next = evolve(self._next, disk_bytes=told)
            self._measured(DiskMeasured(told))

    async def _keep_hours(self) -> NoReturn:
        while True:
            opening = self._look_at_the_clock()
            if opening.policy != self._next.policy:
                self._next = evolve(self._next, policy=opening.policy)
                self._measured(PolicyChanged(opening.policy, opening.opens_in_s))
                self.refresh()
            await trio.sleep(min(opening.changes_in_s, CLOCK_S))

    def _look_at_the_clock(self) -> Opening:
        clock_s = self._parts.clock_s()
        return self._rules.at(clock_s + self._parts.utc_offset_s(clock_s))


def _first_record(parts: Parts, opening: Opening) -> NodeRecord:
    config, machine = parts.config, parts.machine
    return NodeRecord(
        node=parts.identity.node,
        name=parts.name,
        user=parts.standing.membership.certificate.user,
        host=machine.host,
        incarnation=parts.incarnation,
        version=1,
        state="idle",
        slots=config.slots or machine.cpus,
        slots_used=0,
        cpus=machine.cpus,
        memory_bytes=config.memory or machine.memory_bytes,
        load=0.0,
        python=machine.python,
        labels=config.labels,
        addresses=parts.network.addresses,
        coordinates=config.coordinate and not parts.passing,
        trusts_grid=config.trust_grid,
        journal=parts.journal.id,
        gpus=len(offered_gpus(config, machine)),
        disk_bytes=told_disk(offered_disk(config, machine.disk_free()), 0),
        cost=config.cost,
        policy=opening.policy,
    )
