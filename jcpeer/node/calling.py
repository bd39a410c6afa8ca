"""Calls between nodes that cannot dial each other freely: whether we can be dialled, and having others called.

peers, addresses → `discovery.dialability` → TryDial → a peer probes us → TriedDial → our record says `dialable`
somebody wants a node that cannot be dialled → CallBack → a neighbour of it → CallBack → it dials the caller
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import structlog
import trio

from jcpeer.discovery import dialability
from jcpeer.discovery.dialability import Dialability
from jcpeer.discovery.directory import Directory
from jcpeer.ids import NodeId, short
from jcpeer.node.alarm import Alarm
from jcpeer.node.reach import Reach
from jcpeer.wire.messages import CallBack, Contact, TriedDial, TryDial

log = structlog.get_logger()

PROBE_S = 4.0
PROBES_MAX = 8
"""Nodes that are probed at once for others; more are not answered, and ask somebody else."""
ADDRESSES_MAX = 4
CALLERS_MAX = 2
"""Neighbours through which a node is called."""
CALLS_MAX = 60
CALLS_S = 10.0
"""So many calls that one peer brings are answered within this time: each has this node dial whatever is named in it."""


class Calling:
    """Owns the dialability machine, and answers those of others."""

    def __init__(
        self, reach: Reach, directory: Directory, nursery: trio.Nursery, *, found: Callable[[bool], None]
    ) -> None:
        """`found` is told when it turns out whether others can connect to this node."""
        self._reach = reach
        self._directory = directory
        self._nursery = nursery
        self._found = found
        self._machine = Dialability(is_nearby=reach.machine.is_nearby)
        self._alarm = Alarm(self._machine.wake_s, lambda: self._tell(dialability.Tick()))
        self._probing: set[NodeId] = set()
        self._calls: Counter[NodeId] = Counter()
        self._calls_until_s = 0.0

    async def run(self) -> None:
        """Look whether we can be dialled when it is time, until cancelled."""
        await self._alarm.run()

    def peer_came(self, peer: NodeId) -> None:
        """A peer on another machine is connected."""
        self._tell(dialability.PeerCame(peer))

    def peer_went(self, peer: NodeId) -> None:
        self._tell(dialability.PeerWent(peer))

    def moved(self) -> None:
        """This machine has a new address."""
        self._tell(dialability.Moved())

    def heard(self, peer: NodeId, message: TryDial | TriedDial | CallBack) -> None:
        match message:
            case TryDial():
                if peer not in self._probing and len(self._probing) < PROBES_MAX:
                    self._probing.add(peer)
                    self._nursery.start_soon(self._probe, peer, message)
            case TriedDial():
                self._tell(dialability.Answered(peer, message.call, message.reached))
            case CallBack():
                self._call_back(peer, message)

    def call_for(self, node: NodeId, turn: int) -> None:
        """Have a node that cannot be dialled dial us, by way of those that it keeps connections with: at each turn by
        others, should these have lost it from sight."""
        caller = Contact(self._reach.me, self._reach.addresses)
        through = [each for each in self._directory.neighbours_of(node) if each != self._reach.me]
        through = [each for each in through if self._may_be_connected_to(each)]
        through.sort(key=lambda each: (each not in self._reach.machine.up, each))
        for step in range(min(CALLERS_MAX, len(through))):
            self._reach.send(through[(turn * CALLERS_MAX + step) % len(through)], CallBack(node, caller))

    def _may_be_connected_to(self, node: NodeId) -> bool:
        """Whoever cannot be dialled is not connected to another such one, unless they are near each other."""
        record = self._directory.record_of(node)
        return record is not None and record.dialable

    def _call_back(self, peer: NodeId, message: CallBack) -> None:
        caller = message.caller
        if message.target == self._reach.me:
            if caller.node not in self._reach.machine.up and self._may_bring_call(peer):
                for address in self._worth_dialling(caller.addresses):
                    self._reach.dial(address, caller.node)
        elif message.target in self._reach.machine.up and peer == caller.node:  # one step, so none goes round
            self._reach.send(message.target, message)

    def _may_bring_call(self, peer: NodeId) -> bool:
        now_s = trio.current_time()
        if now_s >= self._calls_until_s:
            self._calls.clear()
            self._calls_until_s = now_s + CALLS_S
        self._calls[peer] += 1
        return self._calls[peer] <= CALLS_MAX

    def _worth_dialling(self, addresses: tuple[str, ...]) -> list[str]:
        """Those that somebody else may well name; a node that is itself at such an address has all its peers there."""
        usual = {"", *map(_narrow, self._reach.addresses)}
        return [each for each in addresses if _narrow(each) in usual][:ADDRESSES_MAX]

    async def _probe(self, peer: NodeId, message: TryDial) -> None:
        """Whether one of the addresses leads to that peer."""
        reached = False
        try:
            with trio.move_on_after(PROBE_S):
                async with trio.open_nursery() as nursery:

                    async def look(address: str) -> None:
                        nonlocal reached
                        if await self._reach.probe(address, peer):
                            reached = True
                            nursery.cancel_scope.cancel()

                    for address in self._worth_dialling(message.addresses):
                        nursery.start_soon(look, address)
        finally:
            self._probing.discard(peer)
        log.debug("a node was probed", node=short(peer), reached=reached)
        self._reach.send(peer, TriedDial(message.call, reached))

    def _tell(self, event: dialability.Event) -> None:
        for effect in self._machine.handle(event, now_s=trio.current_time()):
            match effect:
                case dialability.Ask():
                    self._reach.send(effect.peer, TryDial(effect.call, self._reach.addresses))
                case dialability.Found():
                    self._reach.found_dialable(effect.dialable)
                    self._found(effect.dialable)
        self._alarm.look()


def _narrow(address: str) -> str:
    """Of an address that means something else on each machine, or on each wire, the kind; empty for all others."""
    _, kind, host, *_ = (*address.split("/"), "", "")
    if kind not in ("ip4", "ip6"):
        return "name" if kind.startswith("dns") or not address.startswith("/") else ""
    try:
        ip = ip_address(host)
    except ValueError:
        return "nonsense"
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    return "wire" if ip.is_link_local or ip.is_multicast else ""
