"""A node of real parts on this machine: its files, sockets and processes, opened in order and closed in reverse."""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import structlog
import trio
from attrs import frozen

from jcpeer import places
from jcpeer.config import Config
from jcpeer.discovery.address_book import open_address_book
from jcpeer.discovery.bootstrap import bootstrap_sightings, open_machine_rendezvous
from jcpeer.discovery.mdns import open_mdns
from jcpeer.discovery.sighting import Sighting
from jcpeer.errors import ConfigError, RequestError
from jcpeer.ft.journal import open_journal
from jcpeer.ft.sqlite_disk import SqliteDisk
from jcpeer.ids import NodeId
from jcpeer.membership.store import GridStore, node_identity
from jcpeer.net.libp2p import open_libp2p
from jcpeer.net.libp2p.addresses import parse_address
from jcpeer.net.local import serve_local
from jcpeer.node.core import Node, open_core
from jcpeer.node.incarnation import next_incarnation
from jcpeer.node.parts import Machine, Parts, Standing
from jcpeer.wire.messages import Policy
from jcpeer.work.blobs import BlobStore
from jcpeer.work.executor import open_executor

log = structlog.get_logger()

STATE_BYTES_FREE_MIN = 16 * 2**20
"""Below this a journal would soon fail; better said at the start."""


@frozen
class NodeReady:
    """What is said of a node that listens. Sizes in bytes; `fresh` where it made the person's first grid just now;
    `invites` where the grid's root key is here."""

    name: str
    node: NodeId
    grid_name: str
    fingerprint: str
    user: str
    host: str
    listens: tuple[str, ...]
    socket: Path
    slots: int
    cpus: int
    memory_bytes: int
    gpus: int
    cost: float
    labels: dict[str, str]
    python: str
    trusts_grid: bool
    fresh: bool
    invites: bool = True
    notices: tuple[str, ...] = ()
    disk_bytes: int = 0
    policy: Policy = Policy()
    hours: str = ""
    coordinates: bool = True


@frozen(eq=False)
class OpenedNode:
    """A node that runs in this program, and what is said of it."""

    node: Node
    ready: NodeReady


@asynccontextmanager
async def open_node(config: Config) -> AsyncIterator[OpenedNode]:
    """A node in this program; leaving the block stops it.

    Raises:
        ConfigError: a setting, the state directory or the address is impossible or taken.
        MembershipError: the grid's keys or this node's certificate do not hold.
        StorageError: the disk is full or damaged; also later, when the journal can no longer be written.
    """
    async with _open_once(config, trio.Event(), trio.Event()) as opened:
        yield opened


async def run_node(config: Config, *, on_ready: Callable[[NodeReady], None], passing: bool = False) -> None:
    """A node as a program of its own, until SIGTERM or Ctrl-C, or until it is drained; one that joins another grid
    starts anew in it.

    Args:
        on_ready: Called when it listens.
        passing: It will end with whoever started it, and coordinates for nobody else.

    Raises:
        JcpeerError: see `open_node`.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        while True:
            moved, drained = trio.Event(), trio.Event()
            async with _open_once(config, moved, drained, passing=passing) as opened:
                on_ready(opened.ready)
                if await _until_signal_or(moved, drained, signals):
                    return
            log.info("moving to another grid")


async def _until_signal_or(moved: trio.Event, drained: trio.Event, signals: AsyncIterator[int]) -> bool:
    """True at a signal, after which a second one ends the program at once, and where the node is drained."""
    stopped = False

    async with trio.open_nursery() as nursery:

        async def wait_for_signal() -> None:
            nonlocal stopped
            async for _ in signals:
                stopped = True
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                nursery.cancel_scope.cancel()
                return

        async def wait_for_drain() -> None:
            nonlocal stopped
            await drained.wait()
            stopped = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait_for_signal)
        nursery.start_soon(wait_for_drain)
        await moved.wait()
        nursery.cancel_scope.cancel()
    return stopped


@asynccontextmanager
async def _open_once(
    config: Config, moved: trio.Event, drained: trio.Event, *, passing: bool = False
) -> AsyncIterator[OpenedNode]:
    name = places.check_node_name(config.name or places.default_node_name())
    state = config.state_dir or places.state_dir(name)
    with _state_directory(state, name):
        identity = node_identity(state)
        host, user = socket.gethostname(), getpass.getuser()
        grids = GridStore(places.data_dir())
        fresh = grids.default is None
        membership = grids.membership_for(
            identity, host=host, user=user, now_s=time.time(), grid=config.grid or None, state_dir=state
        )
        standing = Standing(membership)
        incarnation = next_incarnation(state / "incarnation", clock_ms=time.time_ns() // 1_000_000)
        attempts = _empty_directory(state / "attempts")
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(
                open_journal(SqliteDisk(state / "journal.db", durability=config.durability))
            )
            store = BlobStore(state / "blobs", bytes_max=config.store_bytes_max)
            executor = await stack.enter_async_context(
                open_executor(slots=config.slots or cpu_count(), runtime_dir=state / "executor")
            )
            network = await stack.enter_async_context(
                open_libp2p(identity, lambda: standing.membership, config, name=name, incarnation=incarnation)
            )
            parts = Parts(
                config=config,
                name=name,
                identity=identity,
                standing=standing,
                incarnation=incarnation,
                machine=this_machine(host, state=state),
                network=network,
                executor=executor,
                store=store,
                journal=journal,
                passing=passing,
                attempts_dir=attempts,
                clock_s=time.time,
                utc_offset_s=lambda clock_s: time.localtime(clock_s).tm_gmtoff,
            )

            async def join_grid(token: str) -> None:
                if config.grid:
                    raise RequestError(
                        f"it was put into grid {config.grid} by --grid, JCPEER_GRID or its settings: "
                        "start it without, to have it move"
                    )
                node.refuse_to_move()
                own = grids.join(token, now_s=time.time())
                standing.membership = grids.membership_for(
                    identity, host=host, user=user, now_s=time.time(), grid=own.fingerprint, state_dir=state
                )
                moved.set()

            node = await stack.enter_async_context(open_core(parts, join_grid=join_grid, drained=drained.set))
            store.trim()
            path = places.socket_path(name)
            await stack.enter_async_context(_served_locally(path, node))
            own = grids.get(membership.fingerprint)
            await _look_for_others(stack, node, config, state, path, own.addresses)
            ready = NodeReady(
                name=name,
                node=identity.node,
                grid_name=membership.grid_name,
                fingerprint=membership.fingerprint,
                user=membership.certificate.user,
                host=host,
                listens=network.addresses,
                socket=path,
                slots=node.record.slots,
                cpus=node.record.cpus,
                memory_bytes=node.record.memory_bytes,
                gpus=node.record.gpus,
                cost=node.record.cost,
                labels=dict(config.labels),
                python=node.record.python,
                trusts_grid=config.trust_grid,
                fresh=fresh,
                invites=own.root_key is not None,
                disk_bytes=node.record.disk_bytes,
                policy=node.record.policy,
                hours=config.hours,
                coordinates=config.coordinate,
            )
            yield OpenedNode(node, ready)


async def _look_for_others(
    stack: AsyncExitStack, node: Node, config: Config, state: Path, path: Path, begin_at: tuple[str, ...]
) -> None:
    """Every way of discovery; those that wait for nobody first. The grid's token said where to begin."""
    membership, addresses = node.parts.standing.membership, node.parts.network.addresses
    book = await stack.enter_async_context(open_address_book(state / "addresses.json", grid=membership.fingerprint))
    node.sight.keep_addresses(book.remember, book.forget)
    node.sight.look_by(
        await stack.enter_async_context(
            open_machine_rendezvous(
                places.runtime_dir(),
                node.record,
                grid_fingerprint=membership.fingerprint,
                grid_name=membership.grid_name,
                addresses=addresses,
                socket=path,
            )
        )
    )
    if config.mdns:
        node.sight.look_by(
            await stack.enter_async_context(
                open_mdns(
                    node.record,
                    grid_fingerprint=membership.fingerprint,
                    grid_name=membership.grid_name,
                    port=parse_address(addresses[0]).port,
                    addresses=addresses,
                )
            )
        )
    for sighting in (*bootstrap_sightings(config.bootstrap), Sighting("token", None, begin_at), *book.sightings()):
        node.sight.sighted(sighting)


@asynccontextmanager
async def _served_locally(path: Path, node: Node) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_local, path, node.service.handle)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


# --- this machine


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def gpu_ids(environ: Mapping[str, str], devices: Path = Path("/dev")) -> tuple[str, ...]:
    """The GPUs that this program may use: those that whoever started it chose, or else all of NVIDIA's."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(each.strip() for each in chosen.split(",") if each.strip())
    numbers = [each.name.removeprefix("nvidia") for each in devices.glob("nvidia[0-9]*")]
    return tuple(sorted((each for each in numbers if each.isdigit()), key=int))


def this_machine(host: str, *, state: Path) -> Machine:
    """Facts about the computer that this program runs on; its disk is the one that `state` is on."""
    return Machine(
        host=host,
        cpus=cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        load=lambda: os.getloadavg()[0],
        gpus=gpu_ids(os.environ),
        disk_free=lambda: shutil.disk_usage(state).free,
    )


@contextmanager
def _state_directory(state: Path, name: str) -> Iterator[None]:
    """The directory, made and held against a second node; its faults are one line."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"cannot use the state directory {state}: {error.strerror}; choose another with JCPEER_STATE_DIR"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"node {name} runs already on {state}; give a second node on this machine its own --name"
            ) from None
        free = shutil.disk_usage(state).free
        if free < STATE_BYTES_FREE_MIN:
            raise ConfigError(
                f"the disk of {state} is full ({free // 2**20} MiB free): make room, or choose another place with "
                "JCPEER_STATE_DIR"
            )
        yield
    except OSError as error:
        raise ConfigError(f"node {name}: {error}") from error
    finally:
        os.close(lock)


def _empty_directory(path: Path) -> Path:
    """Without what attempts of a killed node left."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    return path
