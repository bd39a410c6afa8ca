"""Who gets in, and what becomes of those who do not: real nodes on loopback, and whatever knocks at their ports."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
import structlog
import trio

from jcpeer.config import Config
from jcpeer.membership import handshake
from jcpeer.membership.identity import Identity
from jcpeer.membership.member import Membership
from jcpeer.membership.store import GridStore
from jcpeer.membership.token import read_token
from jcpeer.net.libp2p import open_libp2p
from jcpeer.net.libp2p.secured import MESSAGES, Keys, Streams, Wire
from jcpeer.net.libp2p.sparing import LINES_AT_ONCE_MAX
from jcpeer.net.network import DialFailed
from tests.grids.namespaces import Machine, RunningNode, this_machine, within

pytestmark = pytest.mark.real

CLOSED_S = 5.0
SEEN_S = 2.5
GROWTH_BYTES_MAX = 64 * 2**20
QUIET = ("--listen", "127.0.0.1:0", "--no-mdns")
TURNED, NOT_LET_IN = "connection turned away", "dialled node is not connected"


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    with this_machine("ada", "bob", "eve") as machines:
        yield machines


def vault(ada: Machine, *options: str) -> RunningNode:
    """A node of a grid of that name."""
    ada.run("grid", "create", "vault")
    return ada.start_node(*QUIET, "--name", "keeper", *options)


def connections(node: RunningNode) -> int:
    """How many stand at its port."""
    found = psutil.Process(node.process.pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == node.port for each in found)


def test_a_stranger_is_closed_with_a_line_in_each_log_and_learns_nothing(machines: list[Machine]) -> None:
    ada, _, eve = machines
    keeper = vault(ada)
    stranger = eve.start_node(*QUIET, "--name", "stranger", "--bootstrap", keeper.dialled_at)
    took_s = within(
        CLOSED_S,
        lambda: keeper.log.having(TURNED) and stranger.log.having(NOT_LET_IN) and not connections(keeper),
        "the stranger is closed",
        since_s=stranger.listening_since_s,
    )
    print(f"\n    a stranger is closed: {took_s:.2f} s", end="")
    for log in (keeper.log, stranger.log):
        [line] = log.having("another grid, 'eve'")
        assert "join with a token of the grid that is meant" in line
    told = "\n".join((*stranger.log.so_far, *stranger.out.so_far))
    assert not any(secret in told for secret in ("vault", "keeper", "ada", keeper.ready["fingerprint"]))
    assert keeper.sees()
    assert stranger.sees()


# --- members whose papers do not hold


def expired_membership(ada: Machine, identity: Identity) -> Membership:
    hour_ago_s = time.time() - 3600
    store = GridStore(ada.directory / "data")
    token = store.invite(expires_s=hour_ago_s + 60, addresses=(), now_s=hour_ago_s)
    return read_token(token).admission.admit(identity.node, host="late", serial="1", now_s=hour_ago_s)


def good_membership(ada: Machine, identity: Identity) -> Membership:
    store = GridStore(ada.directory / "data")
    return store.membership_for(identity, host="later", user="ada", now_s=time.time())


@pytest.mark.parametrize(
    ("membership_of", "major", "reason"),
    [
        pytest.param(expired_membership, 1, "expired 59 min ago", id="expired"),
        pytest.param(good_membership, 2, "update jcpeer on the older one", id="another-major-version"),
    ],
)
async def test_who_shows_papers_that_do_not_hold_is_closed_whoever_dials(
    machines: list[Machine],
    monkeypatch: pytest.MonkeyPatch,
    membership_of: Callable[[Machine, Identity], Membership],
    major: int,
    reason: str,
) -> None:
    ada = machines[0]
    keeper = vault(ada)
    identity = Identity.generate()
    membership = membership_of(ada, identity)
    monkeypatch.setattr(handshake, "VERSION_MAJOR", major)
    with structlog.testing.capture_logs() as lines:
        async with open_libp2p(
            identity, lambda: membership, Config(listen="127.0.0.1:0"), name="late", incarnation=1
        ) as late:
            with trio.fail_after(CLOSED_S):
                late.dial(keeper.dialled_at)
                failed = await late.events.receive()
                assert isinstance(failed, DialFailed)
                assert failed.turned
                assert reason in failed.why
                await until(lambda: keeper.log.having(TURNED, reason) and not connections(keeper))
            keeper.kill()
            keeper = ada.launch_node(*QUIET, "--name", "keeper", "--bootstrap", late.addresses[0])
            await until(lambda: keeper.out.so_far)
            with trio.fail_after(CLOSED_S):
                await until(lambda: keeper.log.having(NOT_LET_IN, reason))
                await until(lambda: len(told(lines)) >= 2)
    assert [line["event"] for line in told(lines)] == [NOT_LET_IN, TURNED]
    assert all(reason in line["why"] for line in told(lines))
    assert len(keeper.log.having(reason)) == 1
    assert keeper.sees()


def told(lines: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [line for line in lines if line["log_level"] != "debug"]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.02)


# --- nonsense


async def test_a_flood_of_nonsense_costs_neither_members_nor_memory_nor_the_log(machines: list[Machine]) -> None:
    ada, bob, _ = machines
    keeper = vault(ada)
    bob.run("grid", "join", ada.run("grid", "invite").line)
    member = bob.start_node(*QUIET)
    within(CLOSED_S, lambda: keeper.sees(member), "the member is in")
    await throw_frames(keeper, connections=50, frames=5)  # whatever is made at first use is made now
    before_bytes, before_lines = keeper.memory_bytes(), len(keeper.log.so_far)
    began_s = time.monotonic()

    await throw_frames(keeper, connections=1600, frames=5)
    await throw_under_noise(keeper, connections=25, frames=40)
    await throw_in_place_of_a_hello(keeper, connections=25, frames=40)
    thrown_s = time.monotonic() - began_s
    assert keeper.sees(member)
    assert not keeper.log.having("node left")
    held_s: list[float] = []
    crowded = True

    async def crowd() -> None:
        while crowded:
            await knock_and_say_nothing(keeper, held_s)

    async with trio.open_nursery() as nursery:
        for _ in range(400):
            nursery.start_soon(crowd)
        await trio.to_thread.run_sync(member.kill)
        member = await trio.to_thread.run_sync(lambda: bob.start_node(*QUIET))
        await trio.to_thread.run_sync(lambda: within(SEEN_S, lambda: keeper.sees(member), "the member is in again"))
        crowded = False

    grown_bytes = keeper.memory_bytes() - before_bytes
    lines = len(keeper.log.so_far) - before_lines
    seconds = time.monotonic() - began_s
    print(
        f"\n    10,000 random frames in {thrown_s:.1f} s; 400 half-open connections closed within {max(held_s):.1f} s; "
        f"memory + {grown_bytes / 2**20:.1f} MiB; {lines} lines in {seconds:.0f} s",
        end="",
    )
    assert max(held_s) < CLOSED_S
    assert grown_bytes < GROWTH_BYTES_MAX
    assert lines <= LINES_AT_ONCE_MAX + seconds + 5
    assert keeper.sees(member)


async def throw_frames(node: RunningNode, *, connections: int, frames: int) -> None:
    """At the port, as whoever does not know the protocol."""
    chance = random.Random(1)
    for _ in range(connections):
        async with await trio.open_tcp_stream("127.0.0.1", node.port) as tcp:
            await ignoring_faults(tcp.send_all, b"".join(random_frame(chance) for _ in range(frames)))


async def throw_under_noise(node: RunningNode, *, connections: int, frames: int) -> None:
    """After the handshake that anybody can do, in place of the multiplexer's frames."""
    chance = random.Random(2)
    for _ in range(connections):
        async with secured(node) as streams:
            await ignoring_faults(streams.write_frame, b"".join(random_frame(chance) for _ in range(frames)))


async def throw_in_place_of_a_hello(node: RunningNode, *, connections: int, frames: int) -> None:
    chance = random.Random(3)
    for _ in range(connections):
        async with secured(node) as streams:
            stream = await streams.open(MESSAGES)
            await ignoring_faults(stream.write, b"".join(random_frame(chance) for _ in range(frames)))


async def knock_and_say_nothing(node: RunningNode, held_s: list[float]) -> None:
    """Adds for how long the connection was kept."""
    began_s = trio.current_time()
    async with await trio.open_tcp_stream("127.0.0.1", node.port) as tcp:
        with trio.fail_after(2 * CLOSED_S), contextlib.suppress(trio.BrokenResourceError):
            async for _ in tcp:
                pass
    held_s.append(trio.current_time() - began_s)


@asynccontextmanager
async def secured(node: RunningNode) -> AsyncIterator[Streams]:
    """A connection of somebody with a key of his own."""
    tcp = await trio.open_tcp_stream("127.0.0.1", node.port)
    async with trio.open_nursery() as nursery:
        streams = await Keys(Identity.generate()).secure(Wire(tcp, initiator=True), None)
        nursery.start_soon(streams.run)
        yield streams
        nursery.cancel_scope.cancel()


async def ignoring_faults(send: Callable[[bytes], Awaitable[object]], data: bytes) -> None:
    with contextlib.suppress(Exception):  # it was closed while we wrote, as it should
        await send(data)


def random_frame(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.randrange(60))
    return len(body).to_bytes(4, "big") + body if chance.random() < 0.5 else body
