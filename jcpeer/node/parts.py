"""What a node is composed of: real parts on a machine, simulated ones in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from jcpeer.config import Config
from jcpeer.discovery.sighting import Discovery
from jcpeer.ft.journal import Journal
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.net.network import Network
from jcpeer.work.blobs import BlobStore
from jcpeer.work.execution import Executor


@define
class Standing:
    """The node's place in its grid; changed when it moves to another one while it runs."""

    membership: Membership


@define
class Machine:
    """Facts about the computer. Sizes in bytes; `load` is the work of all its CPUs, 1.0 being all of one; `gpus` are
    the ids by which programs choose among its GPUs."""

    host: str
    cpus: int
    memory_bytes: int
    python: str
    load: Callable[[], float] = lambda: 0.0
    gpus: tuple[str, ...] = ()
    disk_free: Callable[[], int] = lambda: 0


@define
class Parts:
    config: Config
    name: str
    identity: Identity
    standing: Standing
    incarnation: int
    machine: Machine
    network: Network
    executor: Executor
    store: BlobStore
    journal: Journal
    discoveries: list[Discovery] = field(factory=list)
    passing: bool = False
    """It ends with the program that started it: it coordinates for that one, and for nobody else."""
    attempts_dir: Path | None = None
    """Where each attempt gets a directory of its own; None where execution is simulated."""
    clock_s: Callable[[], float] = lambda: 0.0
    """Seconds since 1970, for what people read and for the expiry of certificates."""
    utc_offset_s: Callable[[float], float] = lambda clock_s: 0.0
    """How far the local time is ahead of UTC at such a moment."""
