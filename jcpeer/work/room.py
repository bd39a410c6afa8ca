"""What a node has for attempts: slots, memory, GPUs and disk, and how much of it is taken.

Invariants (`check`): what runs takes no more than there is, and no GPU is given to two.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from jcpeer.application.task import Needs
from jcpeer.work.engagement import Attempt, slots_of


class Room:
    """Slots, memory in bytes, and GPUs by id; the disk is what is free for the next attempt, as last measured."""

    def __init__(self, *, slots: int, memory_bytes: int, gpus: tuple[str, ...]) -> None:
        self.slots = slots
        self.slots_used = 0
        self.disk_bytes_free = math.inf
        self._memory_bytes = memory_bytes
        self._memory_used = 0
        self._gpus = gpus
        self._gpus_free = list(gpus)

    def lack(self, needs: Needs) -> str | None:
        """What will never be here for a task with these needs, or is not now where it cannot be waited for."""
        if min(needs.cpus, needs.memory_bytes, needs.gpus, needs.disk_bytes) < 0:
            return "needs less than nothing"
        if needs.disk_bytes > self.disk_bytes_free:
            return "needs more disk than is free on this node"
        wanted = (needs.cpus, needs.memory_bytes, needs.gpus)
        offered = (self.slots, self._memory_bytes, len(self._gpus))
        enough = all(one <= all_of_it for one, all_of_it in zip(wanted, offered, strict=True))
        return None if enough else "needs more than this node has"

    def fits(self, attempt: Attempt, *, reserved: int) -> bool:
        """Whether it could start now; `reserved` slots are promised to others."""
        needs = attempt.order.needs
        return (
            self.slots_used + reserved + slots_of(attempt.order) <= self.slots
            and self._memory_used + needs.memory_bytes <= self._memory_bytes
            and needs.gpus <= len(self._gpus_free)
        )

    def occupy(self, attempt: Attempt) -> None:
        """It starts, and is given its GPUs."""
        needs = attempt.order.needs
        self.slots_used += slots_of(attempt.order)
        self._memory_used += needs.memory_bytes
        attempt.gpus = tuple(self._gpus_free[: needs.gpus])
        del self._gpus_free[: needs.gpus]

    def vacate(self, attempt: Attempt) -> None:
        """Nothing of it runs any more."""
        self.slots_used -= slots_of(attempt.order)
        self._memory_used -= attempt.order.needs.memory_bytes
        self._gpus_free += attempt.gpus

    def check(self, running: Collection[Attempt]) -> None:
        """Assert the invariants, these being what runs."""
        assert self.slots_used == sum(slots_of(each.order) for each in running) <= self.slots
        assert self._memory_used == sum(each.order.needs.memory_bytes for each in running) <= self._memory_bytes
        assert sorted([*self._gpus_free, *(gpu for each in running for gpu in each.gpus)]) == sorted(self._gpus)
