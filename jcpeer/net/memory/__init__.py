"""A carrier without a network: whole nodes in one process, in virtual time, from one seed, with faults on demand."""

from jcpeer.net.memory.node import MemoryNetwork
from jcpeer.net.memory.trace import Trace
from jcpeer.net.memory.world import MemoryWorld

__all__ = ["MemoryNetwork", "MemoryWorld", "Trace"]
