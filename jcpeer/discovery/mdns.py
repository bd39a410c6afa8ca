"""Nodes on the local network, by multicast DNS: service `_jcpeer._tcp`, one instance a node.

zeroconf lives on asyncio, so it runs in a thread with an event loop of its own; values cross over in both directions,
and nothing else does. Its records only introduce: a node that was killed lingers in other machines' caches for up to
75 minutes, so what mDNS says is never taken for a sign of life or death.

- The instance name holds a part of the node id, so names need no probing, and a node is announced at once instead of
  after 1.2 s. What a killed process of the same node left in caches is replaced: TXT bears the incarnation.
- Two services may announce the same node after a renaming; the directory asks the node itself.
- Interfaces are named one by one, loopback among them: zeroconf fails as a whole where one of its own choice fails,
  and on a machine without a network its nodes meet on loopback.
- Interfaces that come and go are noticed, and everything is announced again each minute: datagrams get lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psutil
import structlog
import trio
from attrs import frozen
from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId, short
from jcpeer.wire.messages import NodeRecord

SERVICE = "_jcpeer._tcp.local."

JITTER_S_MAX = 0.2
"""Nodes that start at the same instant announce themselves spread over this, or receivers lose datagrams."""
UPDATE_INTERVAL_S = 1.0
"""Between two changes of TXT: RFC 6762, section 6, allows a record to be multicast once a second."""
INTERFACES_INTERVAL_S = 3.0
REANNOUNCE_INTERVAL_S = 60.0
REQUEST_S_MAX = 3.0
"""For the rest of a service of which only a part was announced."""
GOODBYE_S_MAX = 0.8
"""A goodbye is three datagrams within 0.25 s; a stuck thread is left to the end of the process."""
NODES_MAX = 4096
INTERFACES_MAX = 16
"""The kernel lets a socket join 20 groups by default."""

_INSTANCE_BYTES_MAX = 63
_TXT_BYTES_MAX = 255
_MDNS_GROUP = "224.0.0.251"

_log = structlog.get_logger("jcpeer.discovery")

_Event = Sighting | Farewell


@frozen
class _Announcement:
    """All of a node that mDNS publishes; what is not in here causes no traffic when it changes."""

    instance: str
    port: int
    hosts: tuple[str, ...]
    properties: tuple[tuple[str, str], ...]

    def info(self, node: NodeId) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            self.instance,
            port=self.port,
            parsed_addresses=list(self.hosts),
            properties=dict(self.properties),
            # Not the machine's name: each instance says goodbye to its own addresses without taking others' along.
            server=f"jcpeer-{short(node, length=16).lower()}.local.",
        )


class _Inbox:
    """Events on their way from zeroconf's thread to trio, the latest of each service only, hence bounded."""

    def __init__(self) -> None:
        self._send, self.receive = trio.open_memory_channel[_Event](0)
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._pending: dict[str, _Event] = {}
        self._something = trio.Event()

    def put(self, service: str, event: _Event) -> None:
        """From zeroconf's thread."""
        with self._lock:
            if service not in self._pending and len(self._pending) >= NODES_MAX:
                return  # an invented crowd; real nodes are announced again within a minute
            self._pending[service] = event
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake, idempotent=True)

    async def pass_on(self) -> None:
        """In trio, for ever."""
        while True:
            await self._something.wait()
            self._something = trio.Event()
            while (event := self._take()) is not None:
                await self._send.send(event)

    def _wake(self) -> None:
        self._something.set()

    def _take(self) -> _Event | None:
        with self._lock:
            if not self._pending:
                return None
            return self._pending.pop(next(iter(self._pending)))


class _Responder:
    """What runs in zeroconf's thread, but for `announce` and `stop`, which any thread may call."""

    def __init__(self, node: NodeId, announcement: _Announcement, put: Callable[[str, _Event], None]) -> None:
        self._node = node
        self._wanted = announcement
        self._put = put
        self._loop = asyncio.SelectorEventLoop()  # by name: other libraries replace asyncio's choice of loop
        self._woken = asyncio.Event()
        self._stopping = False
        self._known: dict[str, Sighting] = {}
        self._background: set[asyncio.Future[Any]] = set()

    def announce(self, announcement: _Announcement) -> None:
        self._wanted = announcement
        self._wake()

    def stop(self) -> None:
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """The thread, from start to end."""
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._main())
        except OSError as error:
            _log.warning("mDNS cannot be used; other machines need --bootstrap HOST:PORT", error=str(error))
        except Exception:
            # Discovery on the local network ends here, the node goes on: it has other ways, and its connections.
            _log.exception("mDNS failed; nodes on the local network are no longer announced or found")
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _main(self) -> None:
        interfaces = usable_interfaces()
        while not interfaces and not self._stopping:
            await self._wait(INTERFACES_INTERVAL_S)
            interfaces = usable_interfaces()
        if self._stopping:
            return
        zeroconf = AsyncZeroconf(interfaces=list(interfaces))
        browser = AsyncServiceBrowser(
            zeroconf.zeroconf,
            SERVICE,
            handlers=[self._service_changed],
            # Answers to QU questions come by unicast, to any one of the nodes of this machine that share the port.
            question_type=DNSQuestionType.QM,
        )
        try:
            await self._serve(zeroconf, interfaces)
        finally:
            await browser.async_cancel()
            for each in self._background:
                each.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await zeroconf.async_close()

    async def _serve(self, zeroconf: AsyncZeroconf, interfaces: tuple[str, ...]) -> None:
        """Announce this node, and announce it again whenever there is a reason, until told to stop."""
        await asyncio.sleep(_jitter_s(self._node))
        published = self._wanted
        await self._broadcast(
            zeroconf.async_register_service(published.info(self._node), cooperating_responders=True, strict=False)
        )
        announced_s = updated_s = looked_s = self._loop.time()
        while not self._stopping:
            await self._wait(INTERFACES_INTERVAL_S if self._wanted == published else UPDATE_INTERVAL_S)
            now_s = self._loop.time()
            if now_s >= looked_s + INTERFACES_INTERVAL_S:
                looked_s = now_s
                found = usable_interfaces()
                if found and found != interfaces:
                    interfaces = found
                    self._keep(zeroconf.async_update_interfaces(list(interfaces)))  # announces on the new ones
                    announced_s = -REANNOUNCE_INTERVAL_S  # and what was sent while the link was down, on all
            changed = self._wanted != published and now_s >= updated_s + UPDATE_INTERVAL_S
            if not self._stopping and (changed or now_s >= announced_s + REANNOUNCE_INTERVAL_S):
                published = self._wanted
                announced_s = updated_s = now_s
                await self._broadcast(zeroconf.async_update_service(published.info(self._node)))

    async def _broadcast(self, order: Coroutine[Any, Any, Any]) -> None:
        """zeroconf hands back what repeats the announcement over half a second; forgotten, it would be a warning."""
        self._keep(await order)

    def _keep(self, background: Any) -> None:
        future = asyncio.ensure_future(background)
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    async def _wait(self, seconds: float) -> None:
        """Until woken, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
        self._woken.clear()

    # --- the others

    def _service_changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            gone = self._known.pop(name, None)
            if gone is not None and gone.node is not None:
                self._put(name, Farewell(gone.node, gone.incarnation))
            return
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf) and (sighting := _sighting(info)) is not None:
            self._see(name, sighting)
        elif len(self._background) < NODES_MAX:
            self._keep(self._ask(zeroconf, info))

    async def _ask(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, REQUEST_S_MAX * 1000, question_type=DNSQuestionType.QM):
            sighting = _sighting(info)
            if sighting is not None:
                self._see(info.name, sighting)

    def _see(self, name: str, sighting: Sighting) -> None:
        if sighting.node == self._node or self._known.get(name) == sighting:
            return
        if name not in self._known and len(self._known) >= NODES_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = sighting
        self._put(name, sighting)


class _Mdns:
    """See `open_mdns`."""

    def __init__(self, responder: _Responder, inbox: _Inbox, describe: Callable[[NodeRecord], _Announcement]) -> None:
        self._responder = responder
        self._describe = describe
        self.sightings = inbox.receive

    def announce(self, record: NodeRecord) -> None:
        self._responder.announce(self._describe(record))


@asynccontextmanager
async def open_mdns(
    record: NodeRecord, *, grid_fingerprint: str, grid_name: str, port: int, addresses: tuple[str, ...]
) -> AsyncIterator[_Mdns]:
    """Announce this node on the local network and look for others, until the block is left, which says goodbye.

    Others hear of the node within 0.3 s. Where no interface can be used, that is a line in the log, and one that comes
    later is used.

    Args:
        record: The node as it is now; changes are told by `announce`.
        port: Where other nodes reach this one.
        addresses: Multiaddresses with that port; those of a later record replace them.
    """

    def describe(latest: NodeRecord) -> _Announcement:
        return _announcement(latest, grid_fingerprint, grid_name, port, latest.addresses or addresses)

    inbox = _Inbox()
    responder = _Responder(record.node, describe(record), inbox.put)
    if not usable_interfaces():
        _log.warning(
            "no network interface can be used for mDNS: other machines are not found by themselves, "
            "name one with --bootstrap HOST:PORT"
        )
    token = trio.lowlevel.current_trio_token()
    thread_ended = trio.Event()

    def run_thread() -> None:
        responder.run()
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(thread_ended.set)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.pass_on)
        # Not a thread of trio's: a program that ends does not wait for one that is stuck.
        threading.Thread(target=run_thread, name="jcpeer-mdns", daemon=True).start()
        try:
            yield _Mdns(responder, inbox, describe)
        finally:
            responder.stop()
            with trio.CancelScope(shield=True), trio.move_on_after(GOODBYE_S_MAX):
                await thread_ended.wait()
            nursery.cancel_scope.cancel()


def usable_interfaces() -> tuple[str, ...]:
    """IPv4 addresses, one an interface, on which multicast can be sent and received; loopback first."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        hosts = [each.address for each in addresses if each.family == socket.AF_INET]
        if name in up and hosts and _takes_multicast(hosts[0]):
            found.append(hosts[0])
    found.sort(key=lambda host: (not ipaddress.ip_address(host).is_loopback, host))
    return tuple(found[:INTERFACES_MAX])


def _takes_multicast(host: str) -> bool:
    """Tried rather than read from flags: loopback has no MULTICAST flag and works, some tunnels have it and do not."""
    group = socket.inet_aton(_MDNS_GROUP) + socket.inet_aton(host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
        except OSError:
            return False
    return True


def _announcement(
    record: NodeRecord, grid: str, grid_name: str, port: int, addresses: tuple[str, ...]
) -> _Announcement:
    hosts = dict.fromkeys(host for host, at in map(_host_and_port, addresses) if at == port)
    properties = {
        "grid": grid,
        "gname": grid_name,
        "id": record.node,
        "inc": str(record.incarnation),
        "host": record.host,
        "state": record.state,
        "slots": f"{record.slots_used}/{record.slots}",
        "cpus": str(record.cpus),
        "memory": str(record.memory_bytes),
    }
    return _Announcement(
        instance=f"{_instance(record)}.{SERVICE}",
        port=port,
        hosts=tuple(hosts),
        properties=tuple((key, _cut(text, _TXT_BYTES_MAX - len(key) - 1)) for key, text in properties.items()),
    )


def _instance(record: NodeRecord) -> str:
    suffix = f" {short(record.node)}"
    # A dot would be a further label of the name, in some readers' eyes.
    return _cut(record.name.replace(".", "-"), _INSTANCE_BYTES_MAX - len(suffix.encode())) + suffix


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")


def _host_and_port(address: str) -> tuple[str, int]:
    """Of a multiaddress with an IP address; ("", 0) for any other."""
    match address.split("/"):
        case ["", "ip4" | "ip6", host, "tcp", port] if port.isdigit():
            return host, int(port)
        case _:
            return "", 0


def _sighting(info: AsyncServiceInfo) -> Sighting | None:
    """None where somebody else's service has our type, or parts are missing."""
    texts = {key: value or "" for key, value in info.decoded_properties.items()}
    addresses = tuple(
        f"/ip{6 if ':' in host else 4}/{host}/tcp/{info.port}"
        for host in info.parsed_addresses()
        if not host.startswith("fe80")  # leads somewhere only together with an interface of the dialler
    )
    node, grid = texts.get("id", ""), texts.get("grid", "")
    if not node or not grid or not addresses or not info.port:
        return None
    incarnation = texts.get("inc", "")
    return Sighting(
        "mdns",
        NodeId(node),
        addresses,
        grid=grid,
        incarnation=int(incarnation) if incarnation.isascii() and incarnation.isdigit() else 0,
        grid_name=texts.get("gname", ""),
        host=texts.get("host", ""),
    )


def _jitter_s(node: NodeId) -> float:
    return JITTER_S_MAX * zlib.crc32(node.encode()) / 2**32
