"""Each setting with its unit, its default and why that default.

A setting comes from a flag, from the environment (`JCPEER_` and its name in capitals), from a TOML file, or from its
default; the first of these that has it wins. `load_config` joins the four.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen


@frozen
class Config:
    """What one node is told at its start. Durations are seconds, sizes bytes."""

    name: str = field(default="", metadata={"help": "name of this node; several on one machine need different ones"})
    """Default: the host's name. The state directory hangs on it."""
    state_dir: Path | None = field(default=None, metadata={"help": "where identity, journal and blobs are kept"})
    """Default: platformdirs' user state directory / name."""
    grid: str = field(default="", metadata={"help": "name of the grid to be in, when this machine knows several"})
    listen: str = field(default="0.0.0.0:0", metadata={"help": "HOST:PORT for other nodes; port 0 takes a free one"})
    slots: int = field(default=0, metadata={"help": "tasks at once; 0 means one a CPU"})
    memory: int = field(default=0, metadata={"help": "memory for tasks, as in 8GiB; 0 means all of the machine's"})
    labels: Mapping[str, str] = field(factory=dict, metadata={"help": "KEY=VALUE that tasks can ask for"})
    bootstrap: tuple[str, ...] = field(default=(), metadata={"help": "HOST:PORT or multiaddress of a known node"})
    mdns: bool = field(default=True, metadata={"help": "announce and look for nodes on the local network"})
    coordinate: bool = field(default=True, metadata={"help": "be willing to coordinate applications"})
    trust_grid: bool = field(default=False, metadata={"help": "run tasks of every member, not only of your own user"})

    store_bytes_max: int = field(default=10 * 2**30, metadata={"help": "limit of the blob store"})
    """Blobs of running applications are never dropped for it; a 300 MiB input must fit with room to spare."""
    heartbeat_s: float = 0.5
    """Idle upkeep is one small frame a peer; half a second lets silence be noticed well within 3 s."""
    silence_s: float = 3.0
    """Silence for this long is suspicion; long enough for a stalled Python process, short enough for a person."""
    redial_s: float = 1.0
    """How long a redial after a broken connection may take before the peer counts as silent."""
    peer_queue_bytes_max: int = 64 * 2**20
    """Unsent bytes to one peer; over it the peer is dropped rather than memory filled."""
    goodbye_s: float = 1.0
    """Bound on each farewell at the end."""
