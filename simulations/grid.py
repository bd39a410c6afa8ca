"""Whole nodes in one process: the real composition over a simulated network, disk, LAN and machine."""

from __future__ import annotations

import trio
from attrs import define, field, frozen

from jcpeer.client.async_grid import AsyncGrid
from jcpeer.client.link import InProcessLink
from jcpeer.config import Config
from jcpeer.ft.journal import MemoryDisk, open_journal
from jcpeer.membership.member import MemoryGrid
from jcpeer.net.memory import MemoryWorld
from jcpeer.node.core import Node, open_core
from jcpeer.node.parts import Machine, Parts, Standing
from jcpeer.work.blobs import BlobStore
from jcpeer.work.simulated import SimulatedExecutor
from simulations.lan import Lan


@frozen
class Hardware:
    """What a simulated machine is. Sizes in bytes; `slowness` stretches recorded times."""

    cpus: int = 2
    memory_bytes: int = 8 * 2**30
    slowness: float = 1.0
    gpus: int = 0
    disk_bytes: int = 100 * 2**30


@define
class SimulatedNode:
    """A node and what outlives it: its name, its keys and its disk."""

    name: str
    hardware: Hardware
    disk: MemoryDisk
    starts: int = 0
    node: Node | None = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)

    @property
    def running(self) -> Node:
        assert self.node is not None, f"{self.name} does not run"
        return self.node

    @property
    def client(self) -> AsyncGrid:
        """The verbs of a client on this machine."""
        return AsyncGrid(InProcessLink(self.running.service.handle))


class SimulatedGrid:
    """Nodes of one user in one grid, on one LAN."""

    def __init__(self, world: MemoryWorld, nursery: trio.Nursery, *, config: Config | None = None) -> None:
        self.world = world
        self._nursery = nursery
        self._config = config or world.config
        self._members = MemoryGrid(str(world.random.random()))
        self._lan = Lan(world, grid=self._members.admit(self._members.identity("any")).fingerprint)
        self.nodes: dict[str, SimulatedNode] = {}

    async def start(self, name: str, *, hardware: Hardware | None = None) -> SimulatedNode:
        """A node that listens; one that was stopped or crashed starts again with its keys and its disk."""
        simulated = self.nodes.get(name)
        if simulated is None:
            disk = MemoryDisk(name, delay_s=0.001)
            simulated = self.nodes[name] = SimulatedNode(name, hardware or Hardware(), disk)
        simulated.starts += 1
        simulated.scope = trio.CancelScope()
        await self._nursery.start(self._run, simulated)
        return simulated

    async def stop(self, name: str) -> None:
        """As by SIGTERM: with a goodbye."""
        self.nodes[name].scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    def crash(self, name: str) -> None:
        """As by SIGKILL: its disk is what it was at this instant."""
        simulated = self.nodes[name]
        simulated.disk = simulated.disk.after_crash()
        self.world.crash(simulated.running.id)
        simulated.scope.cancel()

    async def _run(
        self, simulated: SimulatedNode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        identity = self._members.identity(simulated.name)
        standing = Standing(self._members.admit(identity, host=simulated.name))
        lan = self._lan.join()
        with simulated.scope:
            async with (
                self.world.open_node(
                    identity, lambda: standing.membership, name=simulated.name, incarnation=simulated.starts
                ) as network,
                open_journal(simulated.disk) as journal,
            ):
                parts = Parts(
                    config=self._config,
                    name=simulated.name,
                    identity=identity,
                    standing=standing,
                    incarnation=simulated.starts,
                    machine=Machine(
                        simulated.name,
                        simulated.hardware.cpus,
                        simulated.hardware.memory_bytes,
                        "3.11",
                        gpus=tuple(map(str, range(simulated.hardware.gpus))),
                        disk_free=lambda: simulated.hardware.disk_bytes,
                    ),
                    network=network,
                    executor=SimulatedExecutor(clock_s=lambda: self.world.wall_s, slowness=simulated.hardware.slowness),
                    store=BlobStore(None, bytes_max=2**30),
                    journal=journal,
                    clock_s=lambda: self.world.wall_s,
                )
                async with open_core(parts) as node:
                    simulated.node = node
                    node.look_by(lan)
                    task_status.started()
                    await trio.sleep_forever()
        self._lan.leave(lan)
        simulated.node = None
