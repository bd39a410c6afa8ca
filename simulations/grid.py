"""Whole nodes in one process: the real composition over a simulated network, disk, LAN and machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import trio
from attrs import define, field, frozen

from jcpeer.application.manifest import Header
from jcpeer.client.async_grid import AsyncGrid
from jcpeer.config import Config
from jcpeer.discovery.sighting import Sighting
from jcpeer.errors import StorageError
from jcpeer.ft.journal import open_journal
from jcpeer.ft.memory_disk import MemoryDisk
from jcpeer.ids import NodeId
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import MemoryGrid
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.core import Node, open_core
from jcpeer.node.parts import Machine, Parts, Standing
from jcpeer.work.blobs import BlobStore
from jcpeer.work.execution import Executor
from jcpeer.work.simulated import SimulatedExecutor
from simulations.client import SimulatedLink
from simulations.lan import Lan, LanDiscovery
from simulations.sites import Sites

COMMIT_S = 0.001
"""What a group takes to be written to a simulated disk."""
STORE_BYTES_MAX = 2**30

Disk = Literal["kept", "unsynced", "lost", "restored"]
"""What a node finds that comes back after a crash."""


@frozen
class Hardware:
    """What a simulated machine is. Sizes in bytes; `slowness` stretches recorded times."""

    cpus: int = 2
    memory_bytes: int = 8 * 2**30
    slowness: float = 1.0
    gpus: int = 0
    disk_bytes: int = 100 * 2**30


@frozen
class Place:
    """Whose a node is, where it stands, and whom it was told of.

    Attributes:
        site: A local network of that name: multicast within it, none beyond; None is a node that nobody announces.
        bootstrap: Names of nodes whose addresses the user named at the start.
    """

    user: str = "user"
    site: str | None = "here"
    bootstrap: tuple[str, ...] = ()


@define(eq=False)
class SimulatedNode:
    """A node and what outlives it: its name, its place, its keys, its disk, and the addresses that it remembers."""

    name: str
    hardware: Hardware
    place: Place
    config: Config
    disk: MemoryDisk
    identity: Identity
    ahead_s: float = 0.0
    """How much more than others its clock on the wall shows: it was suspended, or set."""
    stopped_at_s: float | None = None
    """What its clock showed when its process was stopped: until that goes on nothing there sees time pass."""
    starts: int = 0
    disks: int = 1
    backup: MemoryDisk | None = None
    node: Node | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    told_to_leave: trio.Event = field(factory=trio.Event)
    addresses: dict[NodeId, tuple[str, ...]] = field(factory=dict)
    link: SimulatedLink = field(factory=SimulatedLink)
    discovery: LanDiscovery | None = None

    @property
    def running(self) -> Node:
        assert self.node is not None, f"{self.name} does not run"
        return self.node

    @property
    def id(self) -> NodeId:
        return self.identity.node

    @property
    def client(self) -> AsyncGrid:
        """The verbs of a client on this machine; they wait for the node to come back where it went away."""
        return AsyncGrid(self.link)


ExecutorOf = Callable[[SimulatedNode, Callable[[], float]], Executor]
"""What runs attempts on a node, given its clock."""


def _timed(simulated: SimulatedNode, clock_s: Callable[[], float]) -> Executor:
    return SimulatedExecutor(clock_s=clock_s, slowness=simulated.hardware.slowness)


class SimulatedGrid:
    """The nodes of one grid, by name. Opened by `open_grid`, or given the nursery in which nodes live."""

    def __init__(
        self,
        world: MemoryWorld,
        nursery: trio.Nursery,
        *,
        config: Config | None = None,
        sites: Sites | None = None,
        executor_of: ExecutorOf = _timed,
    ) -> None:
        """`config` is that of each node that is not started with one of its own; `sites` hears where each stands."""
        self.world = world
        self._nursery = nursery
        self._config = config or world.config
        self._sites = sites or Sites()
        self._executor_of = executor_of
        self._members = MemoryGrid(str(world.random.random()))
        self._fingerprint = self._members.admit(self._members.identity("any")).fingerprint
        self._lans: dict[str, Lan] = {}
        self.nodes: dict[str, SimulatedNode] = {}

    # --- nodes

    async def start(
        self,
        name: str,
        *,
        hardware: Hardware | None = None,
        place: Place | None = None,
        config: Config | None = None,
    ) -> SimulatedNode:
        """A node that listens; one that was stopped or crashed starts again with its keys and its disk."""
        simulated = self.nodes.get(name)
        if simulated is None:
            simulated = self.nodes[name] = SimulatedNode(
                name,
                hardware or Hardware(),
                place or Place(),
                config or self._config,
                MemoryDisk(name, COMMIT_S, (config or self._config).durability),
                self._members.identity(name),
            )
        assert simulated.node is None, f"{name} runs"
        simulated.starts += 1
        simulated.scope, simulated.told_to_leave = trio.CancelScope(), trio.Event()
        self._sites.put(simulated.id, simulated.place.site)
        await self._nursery.start(self._run, simulated)
        return simulated

    async def stop(self, name: str) -> None:
        """As by SIGTERM: it hands over what it has, and says goodbye."""
        simulated = self.nodes[name]
        this_start = simulated.starts
        self._leave_lan(simulated)
        simulated.told_to_leave.set()
        while simulated.node is not None and simulated.starts == this_start:  # it may crash while it is at it
            await trio.sleep(0.001)

    def back_up(self, name: str) -> None:
        """Keep a copy of its disk as it is."""
        self.nodes[name].backup = self.nodes[name].disk.copied()

    def crash(self, name: str, *, disk: Disk = "kept", machine: bool = False) -> None:
        """As by SIGKILL: its disk is what it was at this instant.

        Args:
            disk: "unsynced": what was not synced is gone, as by a power cut; "lost": whoever starts again under this
                name has an empty one, and so another identity; "restored": it is the copy that was made last.
            machine: The computer is gone as well, so that nobody refuses a redial.
        """
        simulated = self.nodes[name]
        before = simulated.disk
        simulated.stopped_at_s = None
        simulated.disk = before.after_reboot() if disk == "unsynced" else before.after_crash()
        self._leave_lan(simulated)
        simulated.running.vanish()
        self.world.crash(simulated.running.id, machine=machine)
        simulated.scope.cancel()
        simulated.node = None
        simulated.link.down()
        if disk == "restored" and simulated.backup is not None:
            simulated.disk, simulated.backup = simulated.backup, None
        if disk == "lost":
            simulated.disks += 1
            label = f"{name} with disk {simulated.disks}"
            simulated.disk = MemoryDisk(label, COMMIT_S, simulated.config.durability)
            simulated.identity = self._members.identity(label)
            simulated.addresses.clear()

    @property
    def running(self) -> Iterator[SimulatedNode]:
        """Those that run, in the order of their first starts."""
        return (each for each in self.nodes.values() if each.node is not None)

    def header(self, name: str, **policies: Literal["assign", "grab", "relay", "local", "rdv"]) -> Header:
        """Of a new application: each is another one."""
        return Header(name, self.world.wall_s, self.world.random.randbytes(16), **policies)  # type: ignore[arg-type]

    # --- one start of a node

    async def _run(
        self, simulated: SimulatedNode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        this_start = simulated.starts
        try:
            with simulated.scope:
                async with self._opened(simulated) as node:
                    simulated.node = node
                    simulated.link.up(node.service.handle)
                    self._introduce(simulated, node)
                    task_status.started()
                    await simulated.told_to_leave.wait()
        except* StorageError:  # its disk takes nothing, so it ends, as it should
            self._leave_lan(simulated)
        if simulated.starts == this_start:  # one that crashed may run again before its children have ended
            simulated.node = None
            simulated.link.down()

    @asynccontextmanager
    async def _opened(self, simulated: SimulatedNode) -> AsyncIterator[Node]:
        identity, name, hardware = simulated.identity, simulated.name, simulated.hardware

        def clock_s() -> float:
            now_s = self.world.wall_s if simulated.stopped_at_s is None else simulated.stopped_at_s
            return now_s + simulated.ahead_s

        standing = Standing(self._members.admit(identity, host=name, user=simulated.place.user))
        async with (
            self.world.open_node(
                identity, lambda: standing.membership, name=name, incarnation=simulated.starts
            ) as network,
            open_journal(simulated.disk) as journal,
        ):
            parts = Parts(
                config=simulated.config,
                name=name,
                identity=identity,
                standing=standing,
                incarnation=simulated.starts,
                machine=Machine(
                    name,
                    hardware.cpus,
                    hardware.memory_bytes,
                    "3.11",
                    gpus=tuple(map(str, range(hardware.gpus))),
                    disk_free=lambda: hardware.disk_bytes,
                ),
                network=network,
                executor=self._executor_of(simulated, clock_s),
                store=BlobStore(None, bytes_max=STORE_BYTES_MAX),
                journal=journal,
                clock_s=clock_s,
            )
            async with open_core(parts) as node:
                yield node

    def _introduce(self, simulated: SimulatedNode, node: Node) -> None:
        """Every way of finding others that this node has."""

        def remember(other: NodeId, addresses: tuple[str, ...]) -> None:
            simulated.addresses[other] = addresses

        def forget(other: NodeId) -> None:
            simulated.addresses.pop(other, None)

        book = list(simulated.addresses.items())
        node.sight.keep_addresses(remember, forget)
        if simulated.place.site is not None:
            simulated.discovery = self._lan(simulated.place.site).join()
            node.sight.look_by(simulated.discovery)
        for name in simulated.place.bootstrap:
            node.sight.sighted(Sighting("bootstrap", None, self.nodes[name].running.parts.network.addresses))
        for other, addresses in book:
            node.sight.sighted(Sighting("book", other, addresses))

    def _lan(self, site: str) -> Lan:
        if site not in self._lans:
            self._lans[site] = Lan(self.world, grid=self._fingerprint)
        return self._lans[site]

    def _leave_lan(self, simulated: SimulatedNode) -> None:
        if simulated.discovery is not None and simulated.place.site is not None:
            self._lan(simulated.place.site).leave(simulated.discovery)
            simulated.discovery = None


@asynccontextmanager
async def open_grid(
    world: MemoryWorld,
    *,
    config: Config | None = None,
    sites: Sites | None = None,
    executor_of: ExecutorOf = _timed,
) -> AsyncIterator[SimulatedGrid]:
    """An empty grid in this world, which runs until the block is left; nodes that then still run just vanish."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        grid = SimulatedGrid(world, nursery, config=config, sites=sites, executor_of=executor_of)
        yield grid
        for each in grid.running:
            each.running.vanish()
        nursery.cancel_scope.cancel()
