"""What a node has for tasks, from its settings and its machine."""

from __future__ import annotations

from jcpeer.config import Config
from jcpeer.node.parts import Machine

STEPS_A_DOUBLING = 8
"""Free disk is told in steps of about a tenth: it changes all the time, and each change would go to all nodes."""


def offered_gpus(config: Config, machine: Machine) -> tuple[str, ...]:
    """The ids of the GPUs that tasks get: as many as the settings say, by number where fewer were found."""
    if config.gpus is None:
        return machine.gpus
    more = (str(number) for number in range(config.gpus) if str(number) not in machine.gpus)
    return (*machine.gpus, *more)[: config.gpus]


def offered_disk(config: Config, free: int) -> int:
    """Bytes of its free disk that a node leaves to tasks."""
    return min(free, config.disk) if config.disk else free


def told_disk(free: int, told: int) -> int:
    """What the record says of so many bytes, when it says `told` so far: never more than there are, and the same as
    before while that is true and not much too little."""
    step = max(2**20, (1 << free.bit_length()) // (2 * STEPS_A_DOUBLING))
    if told <= free < told + 2 * step:
        return told
    return free // step * step
