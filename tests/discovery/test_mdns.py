"""mDNS itself, on this machine's interfaces: real time, real multicast."""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from jcpeer.discovery import mdns
from jcpeer.discovery.mdns import open_mdns, usable_interfaces
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.values import evolve
from jcpeer.wire.messages import NodeRecord
from tests.discovery.people import record_of

GRID = uuid.uuid4().hex[:16]
"""Other nodes may be announced on the network of this machine while the tests run."""


def record(name: str) -> NodeRecord:
    addresses = ("/ip4/127.0.0.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001")
    return evolve(record_of(NodeId(uuid.uuid4().hex), *addresses), name=name)


def announced(mine: NodeRecord) -> AbstractAsyncContextManager[Any]:
    return open_mdns(mine, grid_fingerprint=GRID, grid_name="home", port=4001, addresses=mine.addresses)


async def next_about(discovery: Any, node: NodeId) -> Sighting | Farewell:
    while True:
        event = await discovery.sightings.receive()
        if event.node == node:
            assert isinstance(event, (Sighting, Farewell))
            return event


@pytest.mark.real
async def test_two_nodes_see_each_other_change_restart_and_leave() -> None:
    one, two = record("one"), record("two.with.dots and more than sixty-three bytes, of which some must go")
    async with announced(one) as first:
        with trio.fail_after(2.0):
            async with announced(two) as second:
                seen = Sighting(
                    "mdns", two.node, two.addresses, grid=GRID, incarnation=1000, grid_name="home", host=two.host
                )
                assert await next_about(first, two.node) == seen
                assert (await next_about(second, one.node)).node == one.node
        with trio.fail_after(1.0):
            assert await next_about(first, two.node) == Farewell(two.node, 1000)
        # As after kill -9: what comes next under the same name is told apart by its incarnation and its port.
        again = evolve(two, incarnation=2000, addresses=("/ip4/127.0.0.1/tcp/4001",))
        async with announced(again) as second:
            with trio.fail_after(2.0):
                assert await next_about(first, two.node) == evolve(seen, addresses=again.addresses, incarnation=2000)
            second.announce(evolve(again, incarnation=3000))
            with trio.fail_after(2.0):
                changed = await next_about(first, two.node)
            assert isinstance(changed, Sighting)
            assert changed.incarnation == 3000


@pytest.mark.real
async def test_without_an_interface_a_node_goes_on_and_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "usable_interfaces", tuple)
    with trio.fail_after(1.0):
        async with announced(record("one")):
            await trio.lowlevel.checkpoint()


@pytest.mark.real
async def test_a_cancelled_node_still_says_goodbye() -> None:
    one, two = record("one"), record("two")
    async with announced(one) as first:
        with trio.CancelScope() as scope:
            async with announced(two):
                await next_about(first, two.node)
                scope.cancel()
                await trio.sleep_forever()
        with trio.fail_after(1.0):
            assert isinstance(await next_about(first, two.node), Farewell)


@pytest.mark.real
def test_loopback_is_among_the_interfaces() -> None:
    assert "127.0.0.1" in usable_interfaces()
