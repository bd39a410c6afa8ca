"""First addresses without multicast: those that the user names, and the nodes of the same person on this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from jcpeer.discovery.runtime_dir import (
    LocalNode,
    changed_ns,
    is_written,
    local_nodes,
    remove_local_node,
    write_local_node,
)
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.values import evolve
from jcpeer.wire.messages import NodeRecord

POLL_S = 0.5
"""Between looks at the runtime directory; a look is one stat where nothing changed."""
SIGHTINGS_MAX = 64
"""Not yet taken; looking waits until they are."""

_log = structlog.get_logger("jcpeer.discovery")


def bootstrap_sightings(addresses: Iterable[str]) -> tuple[Sighting, ...]:
    """What the user named with --bootstrap. Host names stay names: each dial resolves them anew.

    Raises:
        ConfigError: one is no address; the text shows how to write one.
    """
    # Here, because what shares a package with libp2p takes most of a second to load, and simulations need none of it.
    from jcpeer.net.libp2p.addresses import format_address, parse_address

    sightings = []
    for text in addresses:
        endpoint = parse_address(text)
        address = format_address(endpoint.host, endpoint.port)
        sightings.append(Sighting("bootstrap", endpoint.node, (address,)))
    return tuple(sightings)


class _Rendezvous:
    """See `open_machine_rendezvous`."""

    def __init__(self, runtime: Path, me: LocalNode) -> None:
        self._runtime = runtime
        self._me = me
        self._send, self.sightings = trio.open_memory_channel[Sighting | Farewell](SIGHTINGS_MAX)
        self._seen: dict[NodeId, LocalNode] = {}

    def announce(self, record: NodeRecord) -> None:
        me = evolve(self._me, name=record.name, addresses=record.addresses or self._me.addresses)
        if me != self._me:
            self._me = me
            self.write()

    def write(self) -> None:
        try:
            write_local_node(self._runtime, self._me)
        except OSError as error:
            _log.warning("cannot tell the other nodes of this machine", error=str(error))

    def remove(self) -> None:
        try:
            remove_local_node(self._runtime, self._me)
        except OSError as error:
            _log.warning("cannot clear the runtime directory", error=str(error))

    async def look(self) -> None:
        """Look again and again, for ever."""
        looked_at_ns = -1
        unsettled = False
        while True:
            change_ns = changed_ns(self._runtime)
            # A file put there in the same tick of the kernel's clock as the last look would leave no other trace: after
            # each change there is one more look.
            if change_ns != looked_at_ns or unsettled:
                unsettled = change_ns != looked_at_ns
                looked_at_ns = change_ns
                await self._look_once()
            await trio.sleep(POLL_S)

    async def _look_once(self) -> None:
        if not is_written(self._runtime, self._me):
            self.write()  # the session's directory goes with its last login, and a hasty neighbour may clear too much
        found = {node.node: node for node in local_nodes(self._runtime) if node.node != self._me.node}
        for node in found.values():
            if self._seen.get(node.node) != node:
                await self._send.send(_sighting(node))
        for gone in self._seen.keys() - found.keys():
            await self._send.send(Farewell(gone, self._seen[gone].incarnation))
        self._seen = found


def _sighting(node: LocalNode) -> Sighting:
    return Sighting(
        "machine", node.node, node.addresses, grid=node.grid, incarnation=node.incarnation, grid_name=node.grid_name
    )


@asynccontextmanager
async def open_machine_rendezvous(
    runtime: Path,
    record: NodeRecord,
    *,
    grid_fingerprint: str,
    grid_name: str,
    addresses: tuple[str, ...],
    socket: Path | str = "",
) -> AsyncIterator[_Rendezvous]:
    """The nodes of one person on one machine, found through their runtime directory: no network is needed for it.

    Announced from before the block is entered until it is left. A directory that cannot be used is a line in the log,
    not an error: there are other ways of discovery.

    Args:
        runtime: See `places.runtime_dir`.
        addresses: Where this node can be dialled, loopback included.
        socket: Where it takes local commands, for the command line to find.
    """
    me = LocalNode(
        node=record.node,
        name=record.name,
        grid=grid_fingerprint,
        grid_name=grid_name,
        incarnation=record.incarnation,
        pid=os.getpid(),
        addresses=addresses,
        socket=str(socket),
    )
    rendezvous = _Rendezvous(runtime, me)
    rendezvous.write()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rendezvous.look)
        try:
            yield rendezvous
        finally:
            nursery.cancel_scope.cancel()
            rendezvous.remove()
