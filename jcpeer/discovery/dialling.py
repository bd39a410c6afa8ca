"""Whom to dial, at which address, and when: the part of the directory that turns sightings into connections.

A *target* is somebody who may be somewhere: a node with the addresses at which it was seen, or a bare address that the
user named. Targets wait in a heap for their next dial, so nothing scans all of them. Those of a connected node are
set aside and come back when the connection goes.

- Of two nodes that see each other the one with the smaller id dials at once, the other after `PATIENCE_S`, so that as
  a rule a pair has one connection; and if only one of them sees the other, that one dials all the same.
- Addresses of a target are tried one after another, the next after a failure or `STAGGER_S`: a machine announces
  addresses, such as those of its bridges, that lead nowhere from elsewhere and cost seconds to find out.
- A round without success is repeated after a delay that doubles. What the user named is never given up.
- A sighting proves nothing. It adds addresses and can make a dial come sooner; it never removes what was known.
- Whom the directory has *met* (by whatever way) is dialled only if a connection is *wanted*: in a large grid nobody is
  connected to all. Of a crowd that is seen at once only a few are dialled a moment; the others are met meanwhile.
"""

from __future__ import annotations

import heapq
import math
import zlib

from attrs import define, field, frozen

from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId

PATIENCE_S = 0.5
"""How long the node with the larger id leaves the first dial to the other; a node must be seen within 2.5 s."""
STAGGER_S = 0.25
"""How long one address may be silent before the next is dialled beside it."""
DIAL_S_MAX = 10.0
"""A dial of which nothing was heard for so long has failed."""
SPACING_S = 0.05
"""Between dials to many at once: the address book can hold a thousand addresses that lead nowhere any more."""
CROWD = 4
"""So many who are seen at once are dialled at once, the others `CROWD_SPACING_S` after each other."""
CROWD_SPACING_S = 0.05
AGAIN_S = 1.0
"""Between rounds to one node that are for what was seen of it: anybody can announce new addresses all the time."""
NAMED_REST_S = 300.0
"""After a connection to one whom the user named was closed for want of use: it may be the bridge to others."""
OUTDATED_MAX = 1000
"""Words of the past that the heap may hold before it is sifted."""
TARGETS_MAX = 4096
"""Anybody on the local network can announce any number of nodes; over this the oldest is forgotten."""
ADDRESSES_MAX = 8


@frozen
class Dial:
    """Connect to this address, where `expected` should be."""

    address: str
    expected: NodeId | None


@frozen
class Pace:
    """The delay after the first round that failed, and what it doubles up to."""

    first_s: float
    max_s: float


SEEN = Pace(1.0, 30.0)
BOOTSTRAP = Pace(2.0, 30.0)
SLOW = Pace(1.0, 300.0)
"""For what is only remembered, has turned us away, or has not been reached for long."""
WANTED = Pace(1.0, 30.0)
"""For whom nobody has seen: forgotten when no longer wanted."""
WANTED_S_MAX = 3.0
"""Between rounds to whom a connection is wanted now: the two sides of a cut are to meet within 5 s after it."""
ATTEMPTS_MAX = 100
"""Rounds at the pace of `SEEN`, most of an hour; then it is tried slowly."""


@define(eq=False)
class _Target:
    key: str
    node: NodeId | None
    addresses: tuple[str, ...]
    incarnation: int
    pace: Pace
    due_s: float = math.inf
    attempts: int = 0
    began_s: float = -math.inf
    wanted: bool = False
    turned: bool = False
    """In this round somebody would not have us, or we not them: that seldom changes, and is a line in both logs."""
    waiting: list[str] = field(factory=list)
    """Addresses of this round that are still to be dialled."""
    dialling: set[str] = field(factory=set)


class Dialling:
    """Who is sought, until they are connected. Invariants: see `check`."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._targets: dict[str, _Target] = {}
        self._connected: dict[NodeId, list[_Target]] = {}
        self._heap: list[tuple[float, int, _Target]] = []
        self._pushed = 0
        self._from_book = 0
        self._met: dict[NodeId, int] = {}
        """Whom the directory has, with the incarnation."""
        self._crowd_s = -math.inf
        self._vain: list[NodeId] = []

    def sighted(self, sighting: Sighting, now_s: float) -> list[Dial]:
        """Somebody was seen; dials those for whom it is time."""
        if sighting.node is None:
            # Each bare address is a target of its own, for who is behind it will only be known once it answers.
            pace = _pace_of(sighting)
            return [dial for address in sighting.addresses for dial in self._seek_address(address, pace, now_s)]
        if sighting.node == self._me or not sighting.addresses:
            return []
        if sighting.node in self._connected:
            self._learn_of_connected(sighting.node, sighting)
            return []
        target = self._targets.get(sighting.node)
        if target is None:
            if self._has_met(sighting.node, sighting.incarnation) and sighting.source != "bootstrap":
                return []
            target = _Target(sighting.node, sighting.node, (), sighting.incarnation, _pace_of(sighting))
            _learn(target, sighting)
            self._add(target)
            return self._begin(target, self._first_dial_s(sighting, now_s), now_s)
        restarted, new = _learn(target, sighting)
        if restarted:
            delay_s = 0.0
        elif new and not target.dialling and not target.waiting:
            delay_s = self._first_delay_s(sighting)
        else:
            return []
        at_s = max(now_s + delay_s, target.began_s + AGAIN_S)
        return self._begin(target, at_s if restarted else min(target.due_s, at_s), now_s)

    def meet(self, node: NodeId, incarnation: int) -> None:
        """The directory has this node: that it is seen is no reason to dial any more."""
        self._met[node] = incarnation

    def lose_sight(self, node: NodeId) -> None:
        """The directory no longer has this node."""
        self._met.pop(node, None)

    def want(self, node: NodeId, addresses: tuple[str, ...], incarnation: int, now_s: float) -> list[Dial]:
        """A connection to this node is wanted, at one of these addresses if it is known at no other."""
        if node == self._me or node in self._connected:
            return []
        target = self._targets.get(node)
        if target is None:
            if not addresses:
                return []
            target = _Target(node, node, (), incarnation, WANTED)
            self._add(target)
        if addresses:
            _learn(target, Sighting("peer", node, addresses, incarnation=incarnation))
        target.wanted = True
        return [] if target.dialling or target.waiting else self._begin(target, now_s, now_s)

    def no_longer_want(self, node: NodeId) -> None:
        """As `want` had never been said."""
        target = self._targets.get(node)
        for each in (target,) if target is not None else self._connected.get(node, ()):
            each.wanted = False
        if target is not None and target.pace is WANTED:
            del self._targets[node]

    def forget(self, node: NodeId) -> None:
        """It cannot be dialled: it is no longer looked for, unless the user named it."""
        target = self._targets.get(node)
        if target is not None and target.pace is not BOOTSTRAP:
            del self._targets[node]

    def seeks(self, node: NodeId) -> bool:
        """Whether this node is being looked for."""
        return node in self._targets

    def take_vain(self) -> list[NodeId]:
        """Those of whom every address has been tried in vain since the last call."""
        vain, self._vain = self._vain, []
        return vain

    def said_farewell(self, node: NodeId, incarnation: int) -> None:
        """A node stops being announced. It says nothing about a connection that stands."""
        target = self._targets.get(node)
        if target is not None and target.pace is not BOOTSTRAP and target.incarnation <= incarnation:
            del self._targets[node]

    def connected(self, node: NodeId, addresses: tuple[str, ...], incarnation: int) -> None:
        """A connection stands: whatever led to that node need not be dialled now."""
        aside = self._connected.setdefault(node, [])
        target = self._targets.pop(node, None)
        if target is None and not any(each.node == node for each in aside):
            target = _Target(node, node, (), incarnation, SEEN)
        if target is not None:
            aside.append(target)
        aside += [found for address in addresses if (found := self._targets.pop(address, None)) is not None]
        for each in aside:
            _rest(each)
        self.reachable_at(node, addresses, incarnation)

    def reachable_at(self, node: NodeId, addresses: tuple[str, ...], incarnation: int) -> None:
        """A connected node says where it can be dialled."""
        self._learn_of_connected(node, Sighting("peer", node, addresses, incarnation=incarnation))

    def lost(self, node: NodeId, now_s: float, *, incarnation: int, left: bool) -> list[Dial]:
        """The connection went. `incarnation` is what was connected; `left` where the node itself said goodbye."""
        dials = []
        for target in self._connected.pop(node, ()):
            restarted = target.node is not None and target.incarnation > incarnation
            if left and not restarted and target.pace is not BOOTSTRAP:
                continue
            if target.pace is WANTED and not target.wanted:
                continue
            # Whoever was connected and needed is looked for though the directory has it no longer: it may be the only
            # bridge to the other part of a grid that was cut in two.
            target.pace = target.pace if target.pace is BOOTSTRAP else SEEN
            target.attempts = 0 if restarted else 1
            self._add(target)
            dials += self._begin(target, now_s if restarted else now_s + self._delay_s(target), now_s)
        return dials

    def parted(self, node: NodeId, now_s: float) -> None:
        """The connection was closed for want of use."""
        for target in self._connected.pop(node, ()):
            if target.pace is BOOTSTRAP:
                self._add(target)
                self._begin(target, now_s + NAMED_REST_S, now_s)

    def failed(self, address: str, expected: NodeId | None, now_s: float, *, turned: bool) -> tuple[list[Dial], bool]:
        """A dial came to nothing.

        Returns:
            What to dial instead, and whether this was the first round that failed at an address of the user's.
        """
        target = self._targets.get(address if expected is None else expected)
        if target is None or address not in target.dialling:
            return [], False
        target.dialling.discard(address)
        target.turned = target.turned or turned
        if target.waiting:
            return self._dial_next(target, now_s), False
        if target.dialling:
            return [], False
        self._end_round(target, now_s)
        return [], target.pace is BOOTSTRAP and target.attempts == 1

    def hurry(self, now_s: float) -> list[Dial]:
        """This machine has a new address: whoever was out of reach may be in reach now."""
        for place, target in enumerate(each for each in self._targets.values() if each.pace is not SLOW):
            target.attempts = 0
            if not target.waiting and not target.dialling:
                self._schedule(target, min(target.due_s, now_s + place * SPACING_S))
        return self.due(now_s)

    def due(self, now_s: float) -> list[Dial]:
        """Time passed."""
        dials = []
        while self._heap and self._heap[0][0] <= now_s:
            entry = heapq.heappop(self._heap)
            if not self._is_current(*entry):
                continue  # a later word of this target's has its own place in the heap
            target = entry[2]
            if self._is_met(target):
                del self._targets[target.key]
                continue
            if target.waiting:
                dials += self._dial_next(target, now_s)
            elif target.dialling:
                self._end_round(target, now_s)
            else:
                dials += self._begin(target, now_s, now_s)
        return dials

    def wake_s(self) -> float:
        """When `due` may have something to do."""
        while self._heap and not self._is_current(*self._heap[0]):
            heapq.heappop(self._heap)  # most dials are answered long before they would be given up
        return self._heap[0][0] if self._heap else math.inf

    def check(self) -> None:
        """Asserts the invariants."""
        current = {entry[2].key for entry in self._heap if self._is_current(*entry)}
        assert current == self._targets.keys(), "forgotten in the heap"
        assert all(key == target.key for key, target in self._targets.items())
        assert not self._targets.keys() & self._connected.keys(), "sought while connected"
        assert self._me not in self._targets, "sought itself"
        assert len(self._targets) <= TARGETS_MAX + sum(each.pace is BOOTSTRAP for each in self._targets.values())
        for node, aside in self._connected.items():
            nodes = [each.node for each in aside if each.node is not None]
            assert nodes == [node], "one target of its own for each who is connected"
            assert not any(each.dialling or each.waiting for each in aside)

    def _seek_address(self, address: str, pace: Pace, now_s: float) -> list[Dial]:
        if (known := self._targets.get(address)) is not None:
            known.pace = BOOTSTRAP if pace is BOOTSTRAP else known.pace
            return []
        target = _Target(address, None, (address,), 0, pace)
        for aside in self._connected.values():  # only what the user or a token names comes here, at the start
            if any(address in each.addresses for each in aside):
                if all(each.key != address for each in aside):
                    aside.append(target)
                return []
        self._add(target)
        return self._begin(target, now_s, now_s)

    def _learn_of_connected(self, node: NodeId, sighting: Sighting) -> None:
        for target in self._connected[node]:
            if target.node == node:
                _learn(target, sighting)

    def _has_met(self, node: NodeId, incarnation: int) -> bool:
        return self._met.get(node, -1) >= incarnation

    def _is_met(self, target: _Target) -> bool:
        """Only a sighting made it a target, and the directory has met the node since."""
        if target.node is None or target.wanted or target.pace is BOOTSTRAP or target.waiting or target.dialling:
            return False
        return self._has_met(target.node, target.incarnation)

    def _first_dial_s(self, sighting: Sighting, now_s: float) -> float:
        self._crowd_s = max(self._crowd_s, now_s - CROWD * CROWD_SPACING_S) + CROWD_SPACING_S
        return max(now_s + self._first_delay_s(sighting), self._crowd_s)

    def _first_delay_s(self, sighting: Sighting) -> float:
        match sighting.source:
            case "bootstrap":
                return 0.0
            case "book":
                self._from_book += 1
                return SPACING_S * (self._from_book - 1)
            case _:
                assert sighting.node is not None
                return 0.0 if self._me < sighting.node else PATIENCE_S

    def _add(self, target: _Target) -> None:
        self._targets[target.key] = target
        if len(self._targets) > TARGETS_MAX:
            oldest = next((each for each in self._targets.values() if each.pace is not BOOTSTRAP), target)
            if oldest.pace is not BOOTSTRAP and oldest is not target:
                del self._targets[oldest.key]

    def _begin(self, target: _Target, at_s: float, now_s: float) -> list[Dial]:
        """A round of all addresses, at that time."""
        target.waiting.clear()
        target.dialling.clear()
        target.turned = False
        if at_s > now_s:
            self._schedule(target, at_s)
            return []
        target.began_s = now_s
        target.waiting.extend(target.addresses)
        return self._dial_next(target, now_s)

    def _dial_next(self, target: _Target, now_s: float) -> list[Dial]:
        address = target.waiting.pop(0)
        target.dialling.add(address)
        self._schedule(target, now_s + (STAGGER_S if target.waiting else DIAL_S_MAX))
        return [Dial(address, target.node)]

    def _end_round(self, target: _Target, now_s: float) -> None:
        target.dialling.clear()
        target.attempts += 1
        if target.node is not None:
            self._vain.append(target.node)
        if target.pace is SEEN and target.attempts > ATTEMPTS_MAX and not target.wanted:
            target.pace = SLOW
        self._schedule(target, now_s + self._delay_s(target))

    def _delay_s(self, target: _Target) -> float:
        """Doubles with each attempt, give or take a fifth, so that two nodes do not go on dialling past each other.

        The deviation is drawn from the names alone: the same world is the same again.
        """
        pace = SLOW if target.turned else target.pace
        max_s = WANTED_S_MAX if target.wanted and not target.turned else pace.max_s
        delay_s = min(pace.first_s * 2.0 ** min(target.attempts - 1, 30), max_s)
        drawn = zlib.crc32(f"{self._me} {target.key} {target.attempts}".encode()) / 2**32
        return delay_s * (0.8 + 0.4 * drawn)

    def _schedule(self, target: _Target, at_s: float) -> None:
        target.due_s = at_s
        self._pushed += 1
        heapq.heappush(self._heap, (at_s, self._pushed, target))
        if len(self._heap) > 2 * len(self._targets) + OUTDATED_MAX:
            self._heap = [each for each in self._heap if self._is_current(*each)]
            heapq.heapify(self._heap)

    def _is_current(self, due_s: float, _: int, target: _Target) -> bool:
        return due_s == target.due_s and self._targets.get(target.key) is target


def _pace_of(sighting: Sighting) -> Pace:
    match sighting.source:
        case "bootstrap":
            return BOOTSTRAP
        case "book":
            return SLOW
        case _:
            return SEEN


def _learn(target: _Target, sighting: Sighting) -> tuple[bool, bool]:
    """Take in what was seen. Returns whether it is a later start of a node, and whether it says anything new at all."""
    restarted = 0 < target.incarnation < sighting.incarnation
    new = [address for address in sighting.addresses if address not in target.addresses]
    says_new = bool(new) or sighting.incarnation > target.incarnation
    if sighting.incarnation >= target.incarnation:
        addresses = dict.fromkeys((*sighting.addresses, *target.addresses))
    else:
        addresses = dict.fromkeys((*target.addresses, *new))
    target.addresses = tuple(addresses)[:ADDRESSES_MAX]
    target.incarnation = max(target.incarnation, sighting.incarnation)
    if sighting.source == "bootstrap":
        target.pace = BOOTSTRAP
    elif sighting.source not in ("book", "peer") and target.pace in (SLOW, WANTED):
        target.pace = SEEN
    if restarted:
        target.attempts = 0
    return restarted, says_new


def _rest(target: _Target) -> None:
    target.waiting.clear()
    target.dialling.clear()
    target.attempts = 0
    target.due_s = math.inf
