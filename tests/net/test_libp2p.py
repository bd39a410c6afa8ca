"""The libp2p carrier over real sockets on loopback: the contract, and what strangers and faults do to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from jcpeer.config import Config
from jcpeer.membership.member import Membership, MemoryGrid
from jcpeer.net.libp2p import open_libp2p
from jcpeer.net.network import Network
from tests.net.contract import NetworkContract

pytestmark = pytest.mark.real


class Loopback:
    """Nodes in this process, each with a port of its own."""

    def __init__(self) -> None:
        self._grids: dict[str, MemoryGrid] = {}
        self._incarnation = 0

    def grid(self, name: str) -> MemoryGrid:
        return self._grids.setdefault(name, MemoryGrid(name))

    @asynccontextmanager
    async def open(
        self,
        name: str,
        *,
        grid: str = "ours",
        killed: bool = False,
        membership_of: Callable[[], Membership] | None = None,
        config: Config | None = None,
    ) -> AsyncIterator[Network]:
        identity = self.grid(grid).identity(name)
        membership = self.grid(grid).admit(identity, host=name)
        self._incarnation += 1
        async with open_libp2p(
            identity,
            membership_of or (lambda: membership),
            config or Config(listen="127.0.0.1:0", goodbye_s=0.0 if killed else 1.0),
            name=name,
            incarnation=self._incarnation,
        ) as network:
            yield network


@pytest.fixture
def world() -> Loopback:
    return Loopback()


class TestContract(NetworkContract):
    pass
