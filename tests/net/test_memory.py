from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
import trio

from jcpeer.config import Config
from jcpeer.errors import ConfigError, LocalProtocolError, UnreachableError
from jcpeer.ids import NodeId
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership, MemoryGrid
from jcpeer.net.detector import DOUBT
from jcpeer.net.memory import MemoryNetwork, MemoryWorld
from jcpeer.net.network import ByteStream, DialFailed, Network, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.wire.messages import Answer, Ask
from tests.net.contract import NetworkContract, assert_connected, connect, expect, message, read_to_the_end

CONFIG = Config()
LATENCY_S = 0.01


class Nodes:
    """A world with grids, in which the contract and the tests below open nodes by name."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self._grids: dict[str, MemoryGrid] = {}
        self._incarnations = itertools.count(1)

    def identity(self, name: str, *, grid: str = "ours") -> Identity:
        return self._grid(grid).identity(name)

    def membership(self, identity: Identity, name: str, *, grid: str = "ours") -> Membership:
        return self._grid(grid).admit(identity, host=name)

    @asynccontextmanager
    async def open(
        self,
        name: str,
        *,
        grid: str = "ours",
        killed: bool = False,
        membership_of: Callable[[], Membership] | None = None,
    ) -> AsyncIterator[MemoryNetwork]:
        identity = self.identity(name, grid=grid)
        membership = self.membership(identity, name, grid=grid)
        async with self.world.open_node(
            identity,
            membership_of or (lambda: membership),
            name=name,
            incarnation=next(self._incarnations),
        ) as network:
            yield network
            if killed:
                self.world.crash(network.me)

    def _grid(self, name: str) -> MemoryGrid:
        return self._grids.setdefault(name, MemoryGrid(name))

    @asynccontextmanager
    async def connected(self, *names: str) -> AsyncIterator[list[MemoryNetwork]]:
        """These nodes, each connected with each."""
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(self.open(name)) for name in names]
            for one, other in itertools.combinations(nodes, 2):
                await connect(one, other)
            yield nodes


WORLDS = [
    {"latency_s": (LATENCY_S, LATENCY_S)},
    {"latency_s": (0.001, 0.1), "loss": 0.1, "bandwidth": 5e6},
    {"encode": True, "heartbeats": "messages"},
]


@pytest.fixture(params=range(len(WORLDS)), ids=["even", "bad links", "as bytes"])
async def any_world(request: pytest.FixtureRequest, nursery: trio.Nursery, autojump_clock: object) -> Nodes:
    return start(nursery, MemoryWorld(7, **WORLDS[request.param]))


@pytest.fixture
async def nodes(nursery: trio.Nursery, autojump_clock: object) -> Nodes:
    return start(nursery, MemoryWorld(7, latency_s=(LATENCY_S, LATENCY_S), keep_trace=True))


def start(nursery: trio.Nursery, world: MemoryWorld) -> Nodes:
    nursery.start_soon(world.run)
    return Nodes(world)


class TestContract(NetworkContract):
    """All that every carrier owes, over even and uneven links."""

    @pytest.fixture
    def world(self, any_world: Nodes) -> Nodes:
        return any_world


def nothing_waits(network: Network) -> bool:
    return network.events.statistics().current_buffer_used == 0


async def expect_after(network: Network, kind: type[NetworkEvent], least_s: float, most_s: float) -> NetworkEvent:
    """The next event, which must be of this kind and come within these bounds."""
    before_s = trio.current_time()
    event = await expect(network, kind)
    assert least_s <= trio.current_time() - before_s <= most_s, trio.current_time() - before_s
    return event


async def test_nobody_redials_who_parted_and_no_dial_is_told_of_twice(nodes: Nodes) -> None:
    async with nodes.connected("a", "b", "c") as (a, b, c):
        a.part(b.me)
        assert (await expect(a, PeerDown)).proof == (await expect(b, PeerDown)).proof == "parted"
        a.dial(c.addresses[0], b.me)  # fails after the peer has come up from the other side
        nodes.world.pause(c.me)
        b.dial(a.addresses[0], a.me)
        await expect(a, PeerUp)
        await expect(b, PeerUp)
        nodes.world.resume(c.me)
        await trio.sleep(60)
        assert nothing_waits(a)
        assert nothing_waits(b)


@pytest.mark.parametrize("after", ["silence", "a reset"])
async def test_parting_with_a_peer_that_is_being_looked_for_ends_the_search(nodes: Nodes, after: str) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.cut([a.me], [b.me])
        if after == "silence":
            await trio.sleep((DOUBT + 1) / 2 * CONFIG.silence_s)
        else:
            nodes.world.disconnect(a.me, b.me)
            await trio.sleep(CONFIG.redial_s / 2)
        a.part(b.me)
        assert (await expect(a, PeerDown)).proof == "parted"
        nodes.world.heal()
        while nothing_waits(b):
            await trio.sleep(0.1)
        assert (await expect(b, PeerDown)).proof == ("parted" if after == "silence" else "silent")
        await trio.sleep(60)
        assert nothing_waits(a)
        assert nothing_waits(b)


# --- faults


async def test_crash_is_proven_within_round_trips(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.crash(b.me)
        down = await expect_after(a, PeerDown, 2.9 * LATENCY_S, 3.1 * LATENCY_S)
        assert isinstance(down, PeerDown)
        assert down.proof == "refused"
        b.send(a.me, message(1))
        b.dial(a.addresses[0])
        with pytest.raises(UnreachableError):
            await b.open_stream(a.me)
        await trio.sleep(60)
        assert nothing_waits(a)
        assert nothing_waits(b), "a dead process hears nothing, not even of its death"


async def test_messages_sent_before_a_crash_arrive(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        b.send(a.me, message(1))
        nodes.world.crash(b.me)
        assert (await expect(a, Received)).message == message(1)
        await expect(a, PeerDown)


async def test_machine_that_is_gone_is_silent_and_proves_nothing(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.crash(b.me, machine=True)
        down = await expect_after(a, PeerDown, CONFIG.silence_s, CONFIG.silence_s + 0.1)
        assert isinstance(down, PeerDown)
        assert down.proof == "silent"
        a.dial(b.addresses[0], b.me)
        await expect_after(a, DialFailed, nodes.world.dial_timeout_s, nodes.world.dial_timeout_s + 0.1)


async def test_a_machine_that_was_gone_and_is_back_before_silence_is_told_is_found_anew(nodes: Nodes) -> None:
    async with nodes.open("a") as a:
        async with nodes.open("b") as b:
            await connect(a, b)
            nodes.world.crash(b.me, machine=True)
        await trio.sleep(DOUBT / 2 * CONFIG.silence_s)
        async with nodes.open("b") as b:
            down = await expect_after(a, PeerDown, 0, DOUBT * CONFIG.silence_s)
            assert isinstance(down, PeerDown)
            assert down.proof == "silent"
            await expect(a, PeerUp)
            await expect(b, PeerUp)
            await assert_connected(a, b)


async def test_short_pause_delays_and_loses_nothing(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.pause(b.me)
        a.send(b.me, message(1))
        b.send(a.me, message(2))
        b.send(b.me, message(3))
        await trio.sleep(CONFIG.silence_s - 0.5)
        assert nothing_waits(a)
        assert nothing_waits(b)
        nodes.world.resume(b.me)
        assert (await expect(a, Received)).message == message(2)
        assert [(await expect(b, Received)).message for _ in range(2)] == [message(3), message(1)]
        await trio.sleep(60)
        await assert_connected(a, b)


async def test_long_pause_is_silence_and_the_one_that_wakes_finds_its_peers_again(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.pause(b.me)
        a.send(b.me, message(1))
        down = await expect_after(a, PeerDown, CONFIG.silence_s, CONFIG.silence_s + 0.1)
        assert isinstance(down, PeerDown)
        assert down.proof == "silent"
        await trio.sleep(10)
        assert nothing_waits(b)
        nodes.world.resume(b.me)
        assert (await expect(b, Received)).message == message(1), "it arrived before the connection was closed"
        assert (await expect(b, PeerDown)).proof == "silent"
        await expect(b, PeerUp)
        await expect(a, PeerUp)
        await assert_connected(a, b)


async def test_dial_to_a_paused_process_is_no_proof(nodes: Nodes) -> None:
    async with nodes.open("a") as a, nodes.open("b") as b:
        nodes.world.pause(b.me)
        a.dial(b.addresses[0])
        assert "no answer within 5 s" in (await expect(a, DialFailed)).why


async def test_cut_is_silence_at_both_ends_and_nothing_reconnects_before_it_heals(nodes: Nodes) -> None:
    async with nodes.connected("a", "b", "c") as (a, b, c):
        nodes.world.cut({a.me, c.me}, {b.me})
        a.send(b.me, message(1))
        for node, peers in ((a, [b]), (b, [a, c]), (c, [b])):
            downs = [await expect(node, PeerDown) for _ in peers]
            assert sorted((each.peer, each.proof) for each in downs) == sorted((each.me, "silent") for each in peers)
        await assert_connected(a, c)
        a.dial(b.addresses[0], b.me)
        await expect(a, DialFailed)
        nodes.world.heal()
        await connect(a, b)
        await assert_connected(a, b)


async def test_short_cut_delays_and_loses_nothing(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.cut([a.me], [b.me])
        for number in range(3):
            a.send(b.me, message(number))
        await trio.sleep(2)
        nodes.world.heal()
        assert [(await expect(b, Received)).message for _ in range(3)] == [message(number) for number in range(3)]
        await trio.sleep(60)
        await assert_connected(a, b)


async def test_one_way_cut_ends_the_connection_at_both_ends(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.cut([a.me], [b.me], one_way=True)
        b.send(a.me, message(1))
        assert (await expect(a, Received)).message == message(1)
        assert (await expect(b, PeerDown)).proof == "silent"
        assert (await expect(a, PeerDown)).proof == "silent"


async def test_reset_loses_a_suffix_and_both_find_each_other_again(nodes: Nodes) -> None:
    async with nodes.connected("a", "b") as (a, b):
        a.send(b.me, message(1))
        nodes.world.disconnect(a.me, b.me)
        for node in (a, b):
            assert (await expect(node, PeerDown)).proof == "silent"
            await expect(node, PeerUp)
        await assert_connected(a, b)


async def test_too_much_that_waits_is_the_end_of_the_connection(nursery: trio.Nursery, autojump_clock: object) -> None:
    nodes = start(nursery, MemoryWorld(7, encode=True, config=Config(peer_queue_bytes_max=100_000)))
    async with nodes.connected("a", "b") as (a, b):
        nodes.world.pause(b.me)
        for number in range(10):
            a.send(b.me, Answer(number, bytes(20_000), False))
        assert "more than 100000 bytes" in (await expect(a, PeerDown)).why


async def test_message_too_long_for_a_frame_is_our_bug(nursery: trio.Nursery, autojump_clock: object) -> None:
    nodes = start(nursery, MemoryWorld(7, encode=True))
    async with nodes.connected("a", "b") as (a, b):
        with pytest.raises(LocalProtocolError):
            a.send(b.me, Answer(1, bytes(17 * 2**20), True))


async def test_node_that_moved_to_another_grid_is_not_let_in_again(nodes: Nodes) -> None:
    identity = nodes.identity("b")
    joined = [nodes.membership(identity, "b")]
    async with nodes.open("a") as a, nodes.open("b", membership_of=lambda: joined[-1]) as b:
        await connect(a, b)
        joined.append(nodes.membership(identity, "b", grid="another"))
        nodes.world.disconnect(a.me, b.me)
        assert (await expect(a, PeerDown)).proof == "silent"
        assert (await expect(b, PeerDown)).proof == "silent"
        a.dial(b.addresses[0])
        assert (await expect(a, DialFailed)).turned


async def test_node_cannot_be_open_twice(nodes: Nodes) -> None:
    async with nodes.open("a"):
        with pytest.raises(ConfigError, match="'a' cannot listen"):
            async with nodes.open("a"):
                pass


async def test_cut_delays_a_byte_stream_and_a_crash_breaks_it(nodes: Nodes) -> None:
    async def give(stream: ByteStream) -> None:
        await stream.send_all(bytes(3_000_000))

    async with nodes.connected("a", "b") as (a, b):
        b.serve_streams(give)
        stream = await a.open_stream(b.me)
        await stream.receive_some(1000)
        nodes.world.cut([a.me], [b.me])
        with trio.move_on_after(1) as scope:
            await read_to_the_end(stream)
        assert scope.cancelled_caught
        nodes.world.heal()
        await stream.receive_some(100_000)
        nodes.world.crash(b.me)
        with pytest.raises(UnreachableError, match="broke"):
            await read_to_the_end(stream)


async def test_bandwidth_bounds_what_a_node_sends_to_all_together(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    nodes = start(nursery, MemoryWorld(7, bandwidth=1e6))

    async def give(stream: ByteStream) -> None:
        await stream.send_all(bytes(1_000_000))

    async def take(network: Network) -> None:
        stream = await network.open_stream(a.me)
        while await stream.receive_some(65536):
            pass

    async with nodes.connected("a", "b", "c") as (a, b, c):
        a.serve_streams(give)
        before_s = trio.current_time()
        async with trio.open_nursery() as takers:
            takers.start_soon(take, b)
            takers.start_soon(take, c)
        assert 2.0 <= trio.current_time() - before_s <= 2.2


# --- the contract, whatever happens


class Witness:
    """What one node is told, checked against the contract as it comes."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.latest: dict[NodeId, int | None] = {}
        """Of each peer that is up, the number of its last message on this connection."""
        self.over = trio.Event()
        self.gone = trio.Event()

    async def watch(self) -> None:
        async for event in self.network.events:
            match event:
                case PeerUp(peer):
                    assert peer not in self.latest, "up once"
                    self.latest[peer] = None
                case PeerDown(peer):
                    assert peer in self.latest, "down after up"
                    del self.latest[peer]
                case Received(peer, Ask(number)):
                    latest = self.latest[peer]
                    assert latest is None or number == latest + 1, "in order, once, and without a gap"
                    self.latest[peer] = number


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("heartbeats", ["modelled", "messages"])
async def test_contract_holds_through_any_faults(
    nursery: trio.Nursery, autojump_clock: object, heartbeats: Literal["modelled", "messages"], seed: int
) -> None:
    world = MemoryWorld(seed, latency_s=(0.001, 0.3), loss=0.1, heartbeats=heartbeats)
    nodes = start(nursery, world)
    chance = random.Random(seed)
    numbers: dict[tuple[NodeId, NodeId], int] = {}
    witnesses: dict[str, Witness] = {}

    async def live(name: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with nodes.open(name) as network, trio.open_nursery() as within:
            witness = witnesses[name] = Witness(network)
            within.start_soon(witness.watch)
            task_status.started()
            await witness.over.wait()
            within.cancel_scope.cancel()
        witness.gone.set()

    def send_everywhere() -> None:
        for here, there in itertools.permutations(networks(), 2):
            if there.me in here.ends:
                pair = here.me, there.me
                numbers[pair] = numbers.get(pair, 0) + 1
                here.send(there.me, message(numbers[pair]))

    def networks() -> list[MemoryNetwork]:
        return [each.network for each in witnesses.values()]

    def dial_everywhere() -> None:
        for here, there in itertools.permutations(networks(), 2):
            here.dial(there.addresses[0], chance.choice([there.me, None]))

    for name in "abcd":
        await nursery.start(live, name)
    dial_everywhere()
    for _ in range(150):
        one, other = chance.sample(networks(), 2)
        match chance.choice(
            ["pause", "resume", "cut", "heal", "reset", "disconnect", "dial", "crash", "leave", "wait"]
        ):
            case "pause":
                world.pause(one.me)
            case "resume":
                world.resume(one.me)
            case "cut":
                world.cut([one.me], [other.me], one_way=chance.random() < 0.5)
            case "heal":
                world.heal()
            case "reset":
                world.disconnect(one.me, other.me)
            case "disconnect":
                one.disconnect(other.me, "a whim")
            case "dial":
                dial_everywhere()
            case "crash" | "leave" as how:
                if how == "crash":
                    world.crash(one.me, machine=chance.random() < 0.3)
                witnesses[one.name].over.set()
                await witnesses[one.name].gone.wait()
                await nursery.start(live, one.name)
            case _:
                await trio.sleep(chance.uniform(0, 3))
        send_everywhere()
        await trio.sleep(chance.choice([0, 0.01, 0.5]))
    world.heal()
    for network in networks():
        world.resume(network.me)
    await trio.sleep(20)
    dial_everywhere()
    await trio.sleep(10)
    send_everywhere()
    await trio.sleep(5)
    for witness in witnesses.values():
        expected = {each.me: numbers[each.me, witness.network.me] for each in networks() if each is not witness.network}
        assert witness.latest == expected, "in the end everybody hears everybody"
    for witness in witnesses.values():
        witness.over.set()
        await witness.gone.wait()


# --- heartbeats


@pytest.mark.parametrize("fault", ["pause", "cut", "machine"])
async def test_modelled_silence_agrees_with_real_heartbeats(
    nursery: trio.Nursery, autojump_clock: object, fault: str
) -> None:
    delays_s = {}
    for heartbeats in ("modelled", "messages"):
        nodes = start(nursery, MemoryWorld(7, heartbeats=heartbeats))
        async with nodes.connected("a", "b") as (a, b):
            await trio.sleep(20.1)
            await assert_connected(a, b)
            match fault:
                case "pause":
                    nodes.world.pause(b.me)
                case "cut":
                    nodes.world.cut([a.me], [b.me])
                case "machine":
                    nodes.world.crash(b.me, machine=True)
            before_s = trio.current_time()
            down = await expect(a, PeerDown)
            assert down.proof == "silent"
            delays_s[heartbeats] = trio.current_time() - before_s
            assert CONFIG.silence_s <= down.silent_s <= CONFIG.silence_s + CONFIG.heartbeat_s
    assert abs(delays_s["modelled"] - delays_s["messages"]) <= CONFIG.heartbeat_s


async def test_idle_connection_stands_with_real_heartbeats(nursery: trio.Nursery, autojump_clock: object) -> None:
    nodes = start(nursery, MemoryWorld(7, heartbeats="messages", latency_s=(0.001, 0.2), loss=0.05))
    async with nodes.connected("a", "b") as (a, b):
        await trio.sleep(600)
        await assert_connected(a, b)
