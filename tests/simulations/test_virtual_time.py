"""The same seed gives the same run, and a simulation of many messages stays cheap."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Literal

import trio

from jcpeer.ids import NodeId
from jcpeer.net.memory import MemoryWorld
from jcpeer.net.network import Network, PeerDown, PeerUp, Received
from jcpeer.wire.messages import Ask
from simulations.virtual_time import run_seeded
from tests.net.contract import expect, message
from tests.net.test_memory import Nodes

SIZE = 12


async def transcript(seed: int, heartbeats: Literal["modelled", "messages"] = "modelled") -> MemoryWorld:
    """Gossip in a small world in which much goes wrong."""
    world = MemoryWorld(seed, latency_s=(0.001, 0.05), loss=0.02, heartbeats=heartbeats, keep_trace=True)
    nodes = Nodes(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(nodes.open(f"n{number}")) for number in range(SIZE)]
            for one, other in itertools.permutations(opened, 2):
                one.dial(other.addresses[0], other.me)
            for network in opened:
                nursery.start_soon(gossip, network)
            await trio.sleep(1)
            world.cut({each.me for each in opened[:4]}, {each.me for each in opened[4:]})
            world.pause(opened[5].me)
            await trio.sleep(6)
            world.heal()
            world.crash(opened[6].me)
            world.resume(opened[5].me)
            for one, other in itertools.permutations(opened, 2):
                one.dial(other.addresses[0], other.me)
            await trio.sleep(5)
        nursery.cancel_scope.cancel()
    return world


async def gossip(network: Network) -> None:
    """Tell whoever comes up, and pass on what one hears a few times, after a wait that ties with others."""
    peers: dict[NodeId, None] = {}
    async with trio.open_nursery() as nursery:
        async for event in network.events:
            match event:
                case PeerUp(peer):
                    peers[peer] = None
                    network.send(peer, Ask(3, b"?"))
                case PeerDown(peer):
                    peers.pop(peer, None)
                case Received(_, Ask(hops)) if hops:
                    nursery.start_soon(pass_on, network, [*peers][-2:], hops)


async def pass_on(network: Network, peers: list[NodeId], hops: int) -> None:
    await trio.sleep(0.01)
    for peer in peers:
        network.send(peer, Ask(hops - 1, b"?"))


def test_same_seed_gives_the_same_trace_in_another_process_and_another_seed_another() -> None:
    ours = run_seeded(transcript, 3, seed=3)
    assert ours.trace.length == len(ours.trace.lines) > 500
    assert {"PeerUp", "PeerDown", "Ask"} <= {line.split()[-1].split()[0] for line in ours.trace.lines} | {
        line.split()[2] for line in ours.trace.lines
    }
    code = (
        "from tests.simulations.test_virtual_time import *\n"
        "for arguments in ((3,), (4,), (3, 'messages')):\n"
        "    print(run_seeded(transcript, *arguments, seed=arguments[0]).trace.digest)"
    )
    with_heartbeats = run_seeded(transcript, 3, "messages", seed=3).trace.digest
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        same, another, beating = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        assert same == ours.trace.digest
        assert another != ours.trace.digest
        assert beating == with_heartbeats != ours.trace.digest


def test_thousand_messages_cost_no_child_each() -> None:
    async def count() -> int:
        world = MemoryWorld(1)
        nodes = Nodes(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            async with nodes.connected("a", "b") as (a, b):
                before = trio.lowlevel.current_statistics().tasks_living
                for number in range(1000):
                    a.send(b.me, message(number))
                during = trio.lowlevel.current_statistics().tasks_living
                for _ in range(1000):
                    await expect(b, Received)
            nursery.cancel_scope.cancel()
        return during - before

    assert run_seeded(count, seed=1) == 0
