"""The libp2p carrier over real sockets on loopback: the contract, and what strangers, faults and deaths do to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from jcpeer.config import Config
from jcpeer.errors import ConfigError, UnreachableError
from jcpeer.ids import NodeId
from jcpeer.membership.handshake import make_hello
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership, MemoryGrid
from jcpeer.net.libp2p import carrier, open_libp2p
from jcpeer.net.libp2p.addresses import Endpoint, parse_address
from jcpeer.net.libp2p.carrier import Carrier
from jcpeer.net.libp2p.link import Frames
from jcpeer.net.libp2p.secured import BULK, MESSAGES, Keys, Stream, Streams, Wire
from jcpeer.net.libp2p.sparing import LINES_AT_ONCE_MAX
from jcpeer.net.network import ByteStream, DialFailed, Network, PeerDown, PeerUp, Received
from jcpeer.values import evolve
from jcpeer.wire.codec import PEER_KINDS, decode, encode
from jcpeer.wire.messages import Heartbeat, Hello, Turned
from tests.net.contract import PATIENCE_S, NetworkContract, assert_connected, connect, expect, is_heartbeat

pytestmark = pytest.mark.real

LOOPBACK = Config(listen="127.0.0.1:0")


class Loopback:
    """Nodes in this process, each with a port of its own."""

    def __init__(self) -> None:
        self._grids: dict[str, MemoryGrid] = {}
        self._incarnations = itertools.count(1)

    def grid(self, name: str = "ours") -> MemoryGrid:
        return self._grids.setdefault(name, MemoryGrid(name))

    def member(self, name: str, *, grid: str = "ours") -> tuple[Identity, Membership]:
        identity = self.grid(grid).identity(name)
        return identity, self.grid(grid).admit(identity, host=name)

    @asynccontextmanager
    async def open(
        self,
        name: str,
        *,
        grid: str = "ours",
        killed: bool = False,
        config: Config = LOOPBACK,
        membership_of: Callable[[], Membership] | None = None,
    ) -> AsyncIterator[Network]:
        identity, membership = self.member(name, grid=grid)
        async with open_libp2p(
            identity,
            membership_of or (lambda: membership),
            evolve(config, goodbye_s=0.0) if killed else config,
            name=name,
            incarnation=next(self._incarnations),
        ) as network:
            yield network

    def hello(self, name: str, *, grid: str = "ours", addresses: tuple[str, ...] = ()) -> Hello:
        identity, membership = self.member(name, grid=grid)
        return make_hello(identity, membership, name=name, incarnation=1, addresses=addresses)

    @asynccontextmanager
    async def secured(self, name: str, network: Network, *, grid: str = "ours") -> AsyncIterator[Streams]:
        """A hand-made peer after the Noise handshake, which can misbehave as it likes."""
        endpoint = parse_address(network.addresses[-1])
        tcp = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        async with trio.open_nursery() as nursery:
            streams = await Keys(self.member(name, grid=grid)[0]).secure(Wire(tcp, initiator=True), network.me)
            nursery.start_soon(streams.run)
            yield streams
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def admitted(self, name: str, network: Network, *, hello: Hello | None = None) -> AsyncIterator[Stream]:
        """The same after it was let in; it sends nothing by itself from then on."""
        async with self.secured(name, network) as streams:
            stream = await streams.open(MESSAGES)
            await stream.write(encode(hello or self.hello(name)))
            assert isinstance(decode(await Frames(stream).next(), PEER_KINDS), Hello)
            await stream.write(encode(Heartbeat()))
            yield stream


@pytest.fixture
def world() -> Loopback:
    return Loopback()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def told(log: list[Any]) -> list[str]:
    """What a person saw in the log."""
    return [f"{entry['event']}: {entry.get('why', '')}" for entry in log if entry["log_level"] != "debug"]


class TestContract(NetworkContract):
    """All that every carrier owes."""


# --- addresses


async def test_a_taken_port_is_named_with_the_remedy(world: Loopback) -> None:
    async with world.open("a") as a:
        port = parse_address(a.addresses[0]).port
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is taken; .* --listen"):
            async with world.open("b", config=Config(listen=f"127.0.0.1:{port}")):
                pass  # pragma: no cover


@pytest.mark.parametrize("listen", ["nonsense", "1.2.3.4", "host:port", "127.0.0.1:99999", "192.0.2.77:0"])
async def test_an_impossible_address_to_listen_on_is_one_clear_line(world: Loopback, listen: str) -> None:
    with pytest.raises(ConfigError) as raised:
        async with world.open("a", config=Config(listen=listen)):
            pass  # pragma: no cover
    assert listen.split(":")[0] in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_listening_everywhere_lists_real_addresses_and_loopback_last(world: Loopback) -> None:
    async with world.open("a", config=Config(listen="0.0.0.0:0")) as a:
        hosts = [parse_address(address).host for address in a.addresses]
        assert "0.0.0.0" not in hosts
        assert hosts[-1] == "127.0.0.1"
        assert len(hosts) == len(set(hosts))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("/ip4/192.0.2.1/tcp/4001", Endpoint("192.0.2.1", 4001)),
        ("/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo", Endpoint("192.0.2.1", 4001, NodeId("12D3Koo"))),
        ("/ip6/2001:db8::1/tcp/4001", Endpoint("2001:db8::1", 4001)),
        ("/dns4/node.example/tcp/1", Endpoint("node.example", 1)),
        ("node.example:4001", Endpoint("node.example", 4001)),
        ("[2001:db8::1]:4001", Endpoint("2001:db8::1", 4001)),
    ],
)
def test_addresses_are_understood_in_every_usual_form(text: str, endpoint: Endpoint) -> None:
    assert parse_address(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", ":1", "host", "host:", "host:65536", "host:-1", "a b:1", "2001:db8::1:4001", "[host]:1"),
        *("/ip4/node/tcp/1", "/ip4/::1/tcp/1", "/ip4/192.0.2.1/udp/1", "/ip4/192.0.2.1/tcp/1/ws", "/dns/a/tcp/1/p2p/"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


async def test_a_host_name_can_be_dialled_and_an_unknown_one_is_named(world: Loopback) -> None:
    async with world.open("a") as a, world.open("b") as b:
        a.dial("no-such-host.invalid:4001")
        assert "no-such-host.invalid" in (await expect(a, DialFailed)).why
        a.dial(f"localhost:{parse_address(b.addresses[0]).port}")
        assert (await expect(a, PeerUp)).address == b.addresses[0]


# --- strangers


async def test_whoever_connects_and_says_nothing_is_closed(
    world: Loopback, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carrier.HANDSHAKE_S <= 5
    monkeypatch.setattr(carrier, "HANDSHAKE_S", 0.1)
    async with world.open("a") as a:
        endpoint = parse_address(a.addresses[0])
        with trio.fail_after(PATIENCE_S):
            async with await trio.open_tcp_stream(endpoint.host, endpoint.port) as silent:
                async for _ in silent:
                    pass  # the name of the protocol by which it would have gone on
            async with world.secured("b", a) as streams:  # proves an id and then says nothing
                await streams.event_closed.wait()
    assert told(log) == ["connection closed: it did not say who it is: within 0.1 s"] * 2


async def test_a_crowd_that_says_nothing_keeps_no_member_out(
    world: Loopback, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "STRANGERS_MAX", 8)
    async with world.open("a") as a, world.open("b") as b, AsyncExitStack() as crowd:
        endpoint = parse_address(a.addresses[0])
        silent = [await trio.open_tcp_stream(endpoint.host, endpoint.port) for _ in range(20)]
        for each in silent:
            await crowd.enter_async_context(each)
        with trio.fail_after(PATIENCE_S):
            async for _ in silent[11]:
                pass  # closed to make room for the last
        assert len(told(log)) >= 12
        await connect(b, a)
        await assert_connected(a, b)
        assert set(told(log)) == {"connection closed: it did not say who it is: others wait"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"major": 2}, "version 2.0"),
        ({"chain": ()}, "chain"),
        ({"chain": (b"x" * 200, b"y" * 200)}, "malformed"),
    ],
)
async def test_who_shows_bad_papers_is_told_why_and_nothing_else(
    world: Loopback, log: list[Any], change: dict[str, Any], reason: str
) -> None:
    async with world.open("a") as a:
        with trio.fail_after(PATIENCE_S):
            async with world.secured("b", a) as streams:
                stream = await streams.open(MESSAGES)
                await stream.write(encode(evolve(world.hello("b"), **change)))
                frames = Frames(stream)
                turned = decode(await frames.next(), PEER_KINDS)
                assert isinstance(turned, Turned)
                assert reason in turned.reason
            while not told(log):
                await trio.testing.wait_all_tasks_blocked()
        [line] = told(log)
        assert line.startswith("connection turned away: ")
        assert reason in line
        assert a.events.statistics().current_buffer_used == 0


async def test_each_log_says_in_one_line_why_two_grids_do_not_connect(world: Loopback, log: list[Any]) -> None:
    async with world.open("a") as a, world.open("x", grid="another") as x:
        x.dial(a.addresses[0])
        assert (await expect(x, DialFailed)).turned
    assert {line.split(":")[0] for line in told(log)} == {"connection turned away", "dialled node is not connected"}
    assert len(told(log)) == 2
    assert all("another grid" in line for line in told(log))


async def test_an_expired_certificate_is_refused(world: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = world.grid().identity("late")
    expired = world.grid().invite(expires_s=1000.0).admit(identity.node, host="late", serial="1", now_s=0.0)
    async with world.open("a") as a, world.open("late", membership_of=lambda: expired) as late:
        late.dial(a.addresses[0])
        failed = await expect(late, DialFailed)
        assert failed.turned
        assert "expired" in failed.why


async def test_a_member_whose_certificate_expires_is_parted_with(
    world: Loopback, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(carrier, "time", SimpleNamespace(time=lambda: now_s))
    identity = world.grid().identity("guest")
    until_2000 = world.grid().invite(expires_s=2000.0).admit(identity.node, host="guest", serial="1", now_s=0.0)
    async with world.open("a") as a, world.open("guest", membership_of=lambda: until_2000) as guest:
        await connect(guest, a)
        now_s = 2600.0
        down = await expect(a, PeerDown)
        assert "expired 10 min ago" in down.why
        assert (await expect(guest, PeerDown)).proof == "left"
        guest.dial(a.addresses[0])
        assert (await expect(guest, DialFailed)).turned
    assert [line for line in told(log) if line.startswith("connection closed: ")] == [f"connection closed: {down.why}"]


async def test_a_node_can_move_to_another_grid_while_it_runs(world: Loopback) -> None:
    identity, ours = world.member("a")
    now = ours
    async with world.open("a", membership_of=lambda: now) as a, world.open("b") as b:
        async with world.open("c", grid="another") as c:
            await connect(a, b)
            now = world.grid("another").admit(identity, host="a")
            a.disconnect(b.me, "moved")
            assert (await expect(b, PeerDown)).proof == "left"
            await expect(a, PeerDown)
            await connect(c, a)
            b.dial(a.addresses[0])
            assert (await expect(b, DialFailed)).turned


async def test_a_byte_stream_of_a_peer_that_is_not_up_is_not_served(world: Loopback) -> None:
    served = []

    async def serve(stream: ByteStream) -> None:
        served.append(stream)  # pragma: no cover

    async with world.open("a") as a:
        a.serve_streams(serve)
        async with world.secured("b", a) as streams:
            with pytest.raises(UnreachableError), trio.fail_after(PATIENCE_S):
                await streams.open(BULK)
    assert served == []


# --- nonsense


async def test_ten_thousand_random_frames_of_members_and_strangers_leave_it_serving(
    world: Loopback, log: list[Any]
) -> None:
    chance = random.Random(7)
    async with world.open("a") as a, world.open("b") as b:
        await connect(b, a)
        endpoint = parse_address(a.addresses[0])
        with trio.fail_after(2 * PATIENCE_S):
            for _ in range(100):  # at the port: 50 frames each
                async with await trio.open_tcp_stream(endpoint.host, endpoint.port) as tcp:
                    await ignoring_faults(tcp.send_all, b"".join(_random_frame(chance) for _ in range(50)))
            for _ in range(25):  # under Noise, in place of Yamux
                async with world.secured("x", a) as streams:
                    await ignoring_faults(streams.write_frame, b"".join(_random_frame(chance) for _ in range(40)))
            for _ in range(25):  # in place of a Hello
                async with world.secured("x", a) as streams:
                    stream = await streams.open(MESSAGES)
                    await ignoring_faults(stream.write, b"".join(_random_frame(chance) for _ in range(40)))
            for _ in range(60):  # of a member, among its messages
                async with world.admitted("x", a) as stream:
                    while not isinstance(await a.events.receive(), PeerUp):  # what comes with a Hello is a stranger's
                        pass
                    await ignoring_faults(stream.write, b"".join(_random_frame(chance) for _ in range(50)))
                    while isinstance(event := await a.events.receive(), PeerUp | Received):
                        assert is_heartbeat(event) or event.peer == world.member("x")[0].node
                    assert isinstance(event, PeerDown)
            await assert_connected(a, b)
            async with world.open("c") as c:
                await connect(c, a)
            with trio.fail_after(PATIENCE_S):
                while sum(entry.get("count", 1) for entry in of_strangers(log)) < 100 + 25:
                    await trio.testing.wait_all_tasks_blocked(0.01)
    # No member's connection is worth more than one line, and strangers' share what the log has for them.
    lines = len(of_strangers(log))
    assert lines <= LINES_AT_ONCE_MAX + 3 * PATIENCE_S
    assert len(told(log)) - lines <= 60 + 5


def of_strangers(log: list[Any]) -> list[Any]:
    return [entry for entry in log if entry["log_level"] != "debug" and "peer" not in entry]


async def ignoring_faults(send: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(Exception):  # it was closed while we wrote, as it should
        await send(data)


def _random_frame(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.randrange(60))
    if chance.random() < 0.5:
        return body
    return len(body).to_bytes(4, "big") + body


async def test_a_frame_that_is_too_long_ends_the_connection_before_its_bytes_are_awaited(
    world: Loopback, log: list[Any]
) -> None:
    async with world.open("a") as a:
        with trio.fail_after(PATIENCE_S):
            async with world.secured("b", a) as streams:
                stream = await streams.open(MESSAGES)
                await stream.write((carrier.HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
                with pytest.raises(UnreachableError):
                    await Frames(stream).next()
    assert "over the limit" in told(log)[0]


async def test_a_stranger_cannot_make_it_hold_much_data(world: Loopback) -> None:
    async with world.open("a") as a, world.secured("b", a) as streams:
        stream = await streams.open(MESSAGES)
        with trio.fail_after(PATIENCE_S), pytest.raises(Exception):  # noqa: B017, PT012  of libp2p or of the socket
            while True:
                stream.send_window = 2**30  # who minds no window
                await stream.write(bytes(60_000))


# --- deaths


_DOOMED = """
import sys, trio
from tests.net.test_libp2p import Loopback

async def main():
    async with Loopback().open("doomed") as network:
        network.dial(sys.argv[1])
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def doomed_process(network: Network) -> AsyncIterator[tuple[subprocess.Popen[bytes], PeerUp]]:
    process = subprocess.Popen([sys.executable, "-c", _DOOMED, network.addresses[0]])
    try:
        yield process, await expect(network, PeerUp)
    finally:
        process.kill()
        process.wait()


async def test_kill_9_is_proven_within_a_second(world: Loopback) -> None:
    async with world.open("a") as a, doomed_process(a) as (process, up):
        process.kill()
        killed_s = time.monotonic()
        down = await expect(a, PeerDown)
        assert (down.peer, down.proof) == (up.peer, "refused")
        assert time.monotonic() - killed_s < 1


async def test_a_stopped_process_is_silent_and_comes_back(world: Loopback) -> None:
    config = Config(listen="127.0.0.1:0", heartbeat_s=0.1, silence_s=0.5, redial_s=0.3)
    async with world.open("a", config=config) as a, doomed_process(a) as (process, up):
        os.kill(process.pid, signal.SIGSTOP)
        down = await expect(a, PeerDown)
        assert (down.peer, down.proof) == (up.peer, "silent")
        os.kill(process.pid, signal.SIGCONT)
        assert (await expect(a, PeerUp)).peer == up.peer  # it finds its connection broken, and redials


async def test_a_peer_in_doubt_that_is_heard_again_keeps_its_connection(world: Loopback) -> None:
    config = Config(listen="127.0.0.1:0", heartbeat_s=0.1, silence_s=2.0)
    async with world.open("a", config=config) as a, doomed_process(a) as (process, up):
        assert isinstance(a, Carrier)
        link = a._links[up.peer]

        async def until(in_doubt: bool) -> None:
            with trio.fail_after(PATIENCE_S):
                while (link.search is not None) is not in_doubt:
                    await trio.sleep(0.01)

        os.kill(process.pid, signal.SIGSTOP)
        await until(in_doubt=True)
        await trio.sleep(0.1)  # the system takes connections for a process that is stopped
        os.kill(process.pid, signal.SIGCONT)
        await until(in_doubt=False)
        with trio.move_on_after(0.5):
            while is_heartbeat(event := await a.events.receive()):
                pass
            raise AssertionError(event)
        assert a._links[up.peer] is link


async def test_a_peer_in_doubt_whose_port_refuses_is_gone_though_its_connection_was_never_closed(
    world: Loopback,
) -> None:
    config = Config(listen="127.0.0.1:0", heartbeat_s=0.05, silence_s=PATIENCE_S / 2)
    async with world.open("b") as b:
        addresses = b.addresses
    async with world.open("a", config=config) as a:
        async with world.admitted("b", a, hello=world.hello("b", addresses=addresses)):
            await expect(a, PeerUp)
            assert (await expect(a, PeerDown)).proof == "refused"


async def test_parting_with_a_peer_whose_connection_broke_ends_the_search(world: Loopback) -> None:
    async with world.open("a") as a, doomed_process(a) as (process, up):
        assert isinstance(a, Carrier)
        link = a._links[up.peer]
        os.kill(process.pid, signal.SIGSTOP)
        link.fail("broke", "a whim")
        with trio.fail_after(PATIENCE_S):
            while link.search is None:
                await trio.sleep(0.01)
        await trio.sleep(0.1)  # it has been dialled
        a.part(up.peer)
        assert (await expect(a, PeerDown)).proof == "parted"
        with trio.fail_after(PATIENCE_S):
            await link.ended.wait()
        assert link.search is None


async def test_a_peer_without_heartbeats_is_dropped_and_one_that_answers_a_redial_comes_up_anew(
    world: Loopback,
) -> None:
    config = Config(listen="127.0.0.1:0", heartbeat_s=0.05, silence_s=0.2, redial_s=0.2)
    async with world.open("a", config=config) as a:
        async with world.admitted("b", a):
            await expect(a, PeerUp)
            down = await expect(a, PeerDown)
            assert down.proof == "silent"
            assert 0.2 < down.silent_s < 1
        async with world.open("b") as b:
            async with world.admitted("b", a, hello=world.hello("b", addresses=b.addresses)):
                await expect(a, PeerUp)
                assert (await expect(a, PeerDown)).proof == "silent"
                assert (await expect(a, PeerUp)).address == b.addresses[0]
                await expect(b, PeerUp)
                await assert_connected(a, b)


async def test_a_refusal_where_the_peer_was_never_seen_proves_nothing(world: Loopback) -> None:
    config = Config(listen="127.0.0.1:0", redial_s=0.2)
    async with world.open("b") as b:
        refusing = parse_address(b.addresses[0])
    elsewhere = f"/dns4/localhost/tcp/{refusing.port}"
    async with world.open("a", config=config) as a:
        async with world.admitted("b", a, hello=world.hello("b", addresses=(elsewhere,))):
            await expect(a, PeerUp)
        assert (await expect(a, PeerDown)).proof == "silent"


async def test_a_peer_that_lets_messages_pile_up_is_dropped(world: Loopback) -> None:
    config = Config(listen="127.0.0.1:0", peer_queue_bytes_max=2**20, redial_s=0.1)
    async with world.open("a", config=config) as a, world.admitted("b", a):
        up = await expect(a, PeerUp)
        big = Turned("x" * 2**18)
        for _ in range(5):
            a.send(up.peer, big)  # type: ignore[arg-type]  # any large frame will do
        assert "peer_queue_bytes_max" in (await expect(a, PeerDown)).why


# --- many at once


async def test_any_number_of_simultaneous_dials_bring_each_pair_up_once(world: Loopback) -> None:
    chance = random.Random(11)
    for _ in range(20):
        async with world.open("a") as a, world.open("b") as b, world.open("c") as c, world.open("d") as d:
            nodes = [a, b, c, d]
            pairs = [pair for pair in itertools.permutations(nodes, 2) for _ in range(2)]
            chance.shuffle(pairs)
            for dialler, listener in pairs:
                dialler.dial(listener.addresses[0], listener.me if chance.random() < 0.5 else None)
                for _ in range(chance.randrange(30)):
                    await trio.lowlevel.checkpoint()
            for node in nodes:
                ups = [await expect(node, PeerUp) for _ in range(3)]
                assert {up.peer for up in ups} == {other.me for other in nodes} - {node.me}
            for one, other in itertools.combinations(nodes, 2):
                await assert_connected(one, other)


# --- byte streams


async def test_64_mib_go_through_a_byte_stream_while_messages_pass(world: Loopback) -> None:
    chunk = bytes(range(256)) * 256
    received = 0

    async def serve(stream: ByteStream) -> None:
        for _ in range(1024):
            await stream.send_all(chunk)

    async with world.open("a") as a, world.open("b") as b:
        b.serve_streams(serve)
        await connect(a, b)
        stream = await a.open_stream(b.me)
        with trio.fail_after(4 * PATIENCE_S):
            while data := await stream.receive_some(2**20):
                received += len(data)
        await stream.aclose()
        await assert_connected(a, b)
    assert received == 64 * 2**20


async def test_a_reader_that_pauses_for_long_does_not_lose_its_stream(world: Loopback, mock_clock: MockClock) -> None:
    size = 16 * 2**20

    async def serve(stream: ByteStream) -> None:
        await stream.send_all(bytes(size))

    mock_clock.autojump_threshold = 0.01  # real seconds without anything to do: then time jumps, heartbeat by heartbeat
    async with world.open("a") as a, world.open("b") as b:
        b.serve_streams(serve)
        await connect(a, b)
        stream = await a.open_stream(b.me)
        received = len(await stream.receive_some(1))
        await trio.sleep(20)
        while data := await stream.receive_some(2**20):
            received += len(data)
        await assert_connected(a, b)
    assert received == size


async def test_a_cancelled_write_does_not_harm_the_connection(world: Loopback) -> None:
    async def wait(stream: ByteStream) -> None:
        await trio.sleep_forever()

    async with world.open("a") as a, world.open("b") as b:
        b.serve_streams(wait)
        await connect(a, b)
        for _ in range(5):
            stuck = await a.open_stream(b.me)
            with trio.move_on_after(0.01) as scope:
                await stuck.send_all(bytes(32 * 2**20))  # nobody reads
            assert scope.cancelled_caught
            await assert_connected(a, b)
            await stuck.aclose()
        await assert_connected(a, b)


async def test_a_cancelled_read_loses_no_bytes(world: Loopback) -> None:
    payload = random.Random(1).randbytes(8 * 2**20)
    chance = random.Random(2)

    async def serve(stream: ByteStream) -> None:
        await stream.send_all(payload)

    async with world.open("a") as a, world.open("b") as b:
        b.serve_streams(serve)
        await connect(a, b)
        stream = await a.open_stream(b.me)
        received = bytearray()
        cancelled = 0
        with trio.fail_after(PATIENCE_S):
            while len(received) < len(payload):
                with trio.move_on_after(chance.choice([0, 0.0001, 0.0003])) as scope:
                    received += await stream.receive_some(chance.randrange(1, 2**17))
                cancelled += scope.cancelled_caught
        assert cancelled
        assert received == payload


async def test_streams_that_ended_leave_nothing_behind(world: Loopback) -> None:
    async def answer(stream: ByteStream) -> None:
        await stream.receive_some(10)
        await stream.send_all(b"unread")

    async with world.open("a") as a, world.open("b") as b:
        b.serve_streams(answer)
        await connect(a, b)
        with trio.fail_after(PATIENCE_S):
            for _ in range(300):  # more than may be open at once
                stream = await a.open_stream(b.me)
                await stream.send_all(b"x")
                await stream.aclose()
            for node in (a, b):
                assert isinstance(node, Carrier)
                [link] = node._links.values()
                while len(link.streams.streams) > 1:  # the messages remain
                    await trio.lowlevel.checkpoint()
        await assert_connected(a, b)
