"""Who is in the grid now, as one node sees it.

A node is in the directory from the moment when its certificate was checked (`PeerUp`) and its own record came over that
connection (`Announce`), until the connection is lost (`PeerDown`) or it says goodbye. Everything else that hears of
nodes (mDNS, the runtime directory, the address book, other nodes) only introduces: it is a reason to dial
(`discovery.dialling`), never a reason to believe.

- One entry a node; while its connection stands the highest (incarnation, version) wins.
- User and host of an entry are those of the certificate, whatever the record says.
- `Joined`, `Changed`... and `Left` of a node alternate, so that whoever listens needs no memory of its own.

Left to others: connections and heartbeats (`net`), what is done about a node that left (coordinator, participant).
"""

from __future__ import annotations

import math
from typing import Literal, assert_never

from attrs import define, evolve, field, frozen

from jcpeer.discovery.dialling import Dial, Dialling
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId, short
from jcpeer.membership.certificates import Certificate
from jcpeer.net.events import DialFailed, PeerDown, PeerUp, Received
from jcpeer.wire.messages import Announce, Goodbye, Introduce, Introduction, NodeRecord
from jcpeer.wire.requests import SeenNode

TELL_INTERVAL_S = 0.2
"""Changes of load and slots within it are told as one; a change of state is told at once."""
INTRODUCED_MAX = 64
"""Those introduced to a newcomer, the latest to join: they introduce it to their own in turn."""
OTHER_GRIDS_MAX = 16
"""Other grids of which a person is told; anybody on the local network can make up more."""
OTHER_GRID_NODES_MAX = 64
"""Nodes by which another grid is known to be there still."""

Proof = Literal["refused", "silent", "left"]

# --- events, beside those of `net.events` and `discovery.sighting`


@frozen
class RecordChanged:
    """What this node offers, or is doing, has changed. The directory counts versions."""

    record: NodeRecord


@frozen
class Tick:
    """Time passed."""


Event = PeerUp | PeerDown | Received | DialFailed | Sighting | Farewell | RecordChanged | Tick

# --- effects, beside `Dial`


@frozen
class Tell:
    """Send a peer a message."""

    peer: NodeId
    message: Announce | Introduce


@frozen
class Publish:
    """Announce the node's record by every way of discovery."""

    record: NodeRecord


@frozen
class Joined:
    """This node is now in the directory."""

    record: NodeRecord


@frozen
class Changed:
    record: NodeRecord


@frozen
class Left:
    """A node that had joined is out; "refused" is proof that its process is gone, "silent" a guess."""

    node: NodeId
    why: str
    proof: Proof


@frozen
class Remember:
    """A checked member can be dialled there: keep it for the next start."""

    node: NodeId
    addresses: tuple[str, ...]


@frozen
class Forget:
    """This node is no member any more: drop it from the address book."""

    node: NodeId


@frozen
class Notice:
    """One line for a person."""

    text: str


@frozen
class Disconnect:
    """The peer said what no sound node says."""

    peer: NodeId
    why: str


Effect = Dial | Tell | Publish | Joined | Changed | Left | Remember | Forget | Notice | Disconnect


@define(eq=False)
class _Up:
    """A connected, checked member; in the directory once its record came, and until it says goodbye."""

    certificate: Certificate
    incarnation: int
    address: str
    addresses: tuple[str, ...]
    heard_s: float
    record: NodeRecord | None = None
    left: bool = False


@define(eq=False)
class _OtherGrid:
    """A grid that is not ours, within sight as long as one of its nodes is."""

    text: str
    nodes: set[NodeId] = field(factory=set)


class Directory:
    """The nodes of a grid that one of them is connected to, and the search for the others.

    Feed every event to `handle`, in order, and perform the effects in order; tick at least when `wake_s` says so.
    Invariants: see `check`.
    """

    def __init__(self, me: NodeRecord, grid: str) -> None:
        """`grid` is the fingerprint of the node's own."""
        self._me = me
        self._grid = grid
        self._up: dict[NodeId, _Up] = {}
        self._dialling = Dialling(me.node)
        self._told = me
        self._told_s = -math.inf
        self._other_grids: dict[str, _OtherGrid] = {}

    def handle(self, event: Event, *, now_s: float) -> list[Effect]:
        match event:
            case Received():
                return self._receive(event, now_s)
            case PeerUp():
                return self._peer_up(event, now_s)
            case PeerDown():
                return self._peer_down(event, now_s)
            case DialFailed():
                return self._dial_failed(event, now_s)
            case Sighting():
                return self._sighted(event, now_s)
            case Farewell():
                self._dialling.said_farewell(event.node, event.incarnation)
                self._lose_sight(event.node)
                return []
            case RecordChanged():
                return self._record_changed(event.record, now_s)
            case Tick():
                told = self._tell_change(now_s) if now_s >= self._told_s + TELL_INTERVAL_S else []
                return [*told, *self._dialling.due(now_s)]
            case _:
                assert_never(event)

    def view(self, now_s: float) -> tuple[SeenNode, ...]:
        """Everybody in the directory for a person's eyes: this node first, then by name."""
        others = [
            SeenNode(up.record, age_s=max(0.0, now_s - up.heard_s), address=up.address)
            for up in self._up.values()
            if up.record is not None and not up.left
        ]
        others.sort(key=lambda seen: (seen.record.name, seen.record.node))
        myself = SeenNode(self._me, age_s=0.0, address=next(iter(self._me.addresses), ""), myself=True)
        return (myself, *others)

    def notices(self) -> tuple[str, ...]:
        """Lines for a person, as long as they are true: other grids within sight, and how to join them."""
        return tuple(other.text for other in self._other_grids.values() if other.nodes)

    def wake_s(self) -> float:
        """When a `Tick` may have something to do."""
        tell_s = self._told_s + TELL_INTERVAL_S if self._told != self._me else math.inf
        return min(tell_s, self._dialling.wake_s())

    def check(self) -> None:
        """Asserts the invariants."""
        assert self._me.node not in self._up, "connected to itself"
        for node, up in self._up.items():
            assert up.certificate.node == node, "certificate of somebody else"
            assert up.record is None or up.record.node == node, "record of somebody else"
        assert self._told.version <= self._me.version, "told of a version to come"
        assert len(self._other_grids) <= OTHER_GRIDS_MAX
        assert self._grid not in self._other_grids
        self._dialling.check()

    # --- connections

    def _peer_up(self, event: PeerUp, now_s: float) -> list[Effect]:
        if event.peer == self._me.node:
            return []
        effects: list[Effect] = []
        before = self._up.get(event.peer)
        if before is not None:
            if event.hello.incarnation < before.incarnation:
                return []  # a connection of a process that is gone was announced late
            if event.hello.incarnation > before.incarnation:
                effects += self._leave(event.peer, before, "it started anew", "refused")
                before = None
        addresses = tuple(dict.fromkeys((event.address, *event.hello.addresses)))
        addresses = tuple(address for address in addresses if address)
        self._up[event.peer] = _Up(
            certificate=event.certificate,
            incarnation=event.hello.incarnation,
            address=event.address,
            addresses=addresses,
            heard_s=now_s,
            record=before.record if before is not None and not before.left else None,
        )
        self._dialling.connected(event.peer, addresses, event.hello.incarnation)
        effects.append(Tell(event.peer, Announce(self._me)))
        return effects

    def _peer_down(self, event: PeerDown, now_s: float) -> list[Effect]:
        up = self._up.pop(event.peer, None)
        if up is None:
            return []
        proof: Proof = "left" if event.proof == "parted" else event.proof
        left = up.left or proof == "left"
        return [
            *self._leave(event.peer, up, event.why, proof),
            *self._dialling.lost(event.peer, now_s, incarnation=up.incarnation, left=left),
        ]

    def _leave(self, node: NodeId, up: _Up, why: str, proof: Proof) -> list[Effect]:
        if up.record is None or up.left:
            return []  # nobody was told that it had joined, or everybody that it left
        return [Left(node, why, proof)]

    def _dial_failed(self, event: DialFailed, now_s: float) -> list[Effect]:
        dials, news = self._dialling.failed(event.address, event.expected, now_s, turned=event.turned)
        effects: list[Effect] = [*dials]
        if event.turned and event.expected is not None:
            effects.append(Forget(event.expected))
        if news and not event.turned:  # of that the carrier has told
            effects.append(Notice(f"no node of this grid at {event.address} yet, trying again: {event.why}"))
        return effects

    # --- what peers say

    def _receive(self, event: Received, now_s: float) -> list[Effect]:
        up = self._up.get(event.peer)
        if up is None:
            return []
        up.heard_s = now_s
        match event.message:
            case Announce(record):
                return self._announced(event.peer, up, record)
            case Goodbye():
                effects = self._leave(event.peer, up, "it said goodbye", "left")
                up.left = True
                return effects
            case Introduce(nodes):
                return [dial for each in nodes[:INTRODUCED_MAX] for dial in self._introduced(each, now_s)]
            case _:
                return []

    def _announced(self, peer: NodeId, up: _Up, record: NodeRecord) -> list[Effect]:
        if record.node != peer:
            return [Disconnect(peer, f"it announced the record of another node, …{short(record.node)!r:.20}")]
        if up.left:
            return []
        before = up.record
        if before is not None and (record.incarnation, record.version) <= (before.incarnation, before.version):
            return []
        # A name is the node's own to choose; who owns it, and where it is, its certificate says.
        record = evolve(record, user=up.certificate.user, host=up.certificate.host)
        up.record = record
        effects: list[Effect] = [Joined(record) if before is None else Changed(record)]
        if before is None or record.addresses != before.addresses:
            up.addresses = record.addresses or up.addresses
            self._dialling.reachable_at(peer, up.addresses, up.incarnation)
            if up.addresses:
                effects.append(Remember(peer, up.addresses))
        if before is None:
            effects += self._introduce_others(peer)
        return effects

    def _introduce_others(self, newcomer: NodeId) -> list[Effect]:
        """To the newcomer only: it will dial them, so they need not be told of it."""
        others: list[Introduction] = []
        for node, up in reversed(self._up.items()):
            if len(others) == INTRODUCED_MAX:
                break
            if node != newcomer and up.record is not None and not up.left and up.addresses:
                others.append(Introduction(node, up.addresses, up.incarnation))
        return [Tell(newcomer, Introduce(tuple(others)))] if others else []

    def _introduced(self, other: Introduction, now_s: float) -> list[Dial]:
        return self._dialling.sighted(
            Sighting("peer", other.node, other.addresses, incarnation=other.incarnation), now_s
        )

    # --- what is seen

    def _sighted(self, sighting: Sighting, now_s: float) -> list[Effect]:
        if sighting.grid and sighting.grid != self._grid:
            return self._see_other_grid(sighting)
        if sighting.node is not None:
            self._lose_sight(sighting.node)  # it may have moved to our grid
        return [*self._dialling.sighted(sighting, now_s)]

    def _see_other_grid(self, sighting: Sighting) -> list[Effect]:
        if sighting.node is None:
            return []
        self._dialling.said_farewell(sighting.node, sighting.incarnation)  # it moved to the other grid
        self._lose_sight(sighting.node)
        other = self._other_grids.get(sighting.grid)
        if other is not None:
            if len(other.nodes) < OTHER_GRID_NODES_MAX:
                other.nodes.add(sighting.node)
            return []
        if len(self._other_grids) >= OTHER_GRIDS_MAX and not self._forget_a_grid_out_of_sight():
            return []
        text = _how_to_join(sighting)
        self._other_grids[sighting.grid] = _OtherGrid(text, {sighting.node})
        return [Notice(text)]

    def _lose_sight(self, node: NodeId) -> None:
        """Of a node in another grid: it ended, or went elsewhere."""
        for other in self._other_grids.values():
            other.nodes.discard(node)

    def _forget_a_grid_out_of_sight(self) -> bool:
        gone = next((grid for grid, other in self._other_grids.items() if not other.nodes), None)
        return gone is not None and self._other_grids.pop(gone, None) is not None

    # --- this node's own record

    def _record_changed(self, record: NodeRecord, now_s: float) -> list[Effect]:
        before = self._me
        if evolve(record, version=before.version) == before:
            return []
        self._me = evolve(record, version=max(record.version, before.version + 1))
        elsewhere = set(record.addresses) - set(before.addresses)
        dials = self._dialling.hurry(now_s) if elsewhere else []
        if record.state != self._told.state or now_s >= self._told_s + TELL_INTERVAL_S:
            return [*self._tell_change(now_s), *dials]
        return [*dials]  # the next tick after the interval tells it

    def _tell_change(self, now_s: float) -> list[Effect]:
        if self._told == self._me:
            return []
        self._told = self._me
        self._told_s = now_s
        announce = Announce(self._me)
        return [Publish(self._me), *(Tell(peer, announce) for peer in self._up)]


def _how_to_join(sighting: Sighting) -> str:
    name = f"{_printable(sighting.grid_name)!r} ({_printable(sighting.grid)})"
    where = "on this machine" if sighting.source == "machine" else "on this network"
    host = f", on {_printable(sighting.host)}" if sighting.host else ""
    return (
        f"another grid is {where}: {name}{host}; to join it, `jcpeer grid invite` there "
        "and `jcpeer grid join TOKEN` here"
    )


def _printable(text: str) -> str:
    """What strangers call themselves, fit for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:64])
