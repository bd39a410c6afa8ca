"""From an address to a connection: who answers there, whether each lets the other in, and one connection a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from jcpeer.errors import MembershipError
from jcpeer.ids import NodeId, short
from jcpeer.membership.certificates import Certificate
from jcpeer.membership.handshake import judge_hello
from jcpeer.net.events import PeerUp
from jcpeer.net.memory.link import Link
from jcpeer.net.memory.path import Path
from jcpeer.wire.messages import Hello

if TYPE_CHECKING:
    from jcpeer.net.memory.node import MemoryNetwork

_log = structlog.get_logger(__name__)


class Dial:
    """One attempt of one node to connect. It ends in a connection, or by telling the node why there is none.

    The packets: a knock, the listener's proof of its key, the dialler's hello, the listener's hello. The dialler's
    acceptance of that comes first on the new connection.

    Attributes:
        redial: It looks for a peer whose connection broke, or that is silent.
        ended: Nothing more is told of it.
    """

    _there: Path
    _back: Path

    def __init__(
        self, node: MemoryNetwork, address: str, expected: NodeId | None, *, timeout_s: float, redial: bool = False
    ) -> None:
        self.node = node
        self.address = address
        self.expected = expected
        self.redial = redial
        self.ended = False
        self._link: Link | None = None
        """The connection that it waits for, be it another dial's: where two nodes dial each other, one wins."""
        self._world = node.world
        self._timeout_s = timeout_s

    def start(self) -> None:
        now_s = self._world.schedule.now_s
        self._world.schedule.at(now_s + self._timeout_s, self._give_up)
        there = self._world.last_at(self.address)
        if there is None:
            self._world.schedule.at(now_s, lambda: self.fail(f"nobody is at {self.address}", refused=True))
        elif there is self.node or not self._world.behind_firewall(there.me):
            self._there = Path(self._world, self.node, there)
            self._back = Path(self._world, there, self.node)
            self._there.carry(lambda: self._knock(there))

    def end(self) -> None:
        """Nothing more is told of it, and it holds on to nothing while it waits to be forgotten by the schedule."""
        self.ended = True
        self._link = None

    def fail(self, why: str, *, refused: bool = False, turned: bool = False) -> None:
        if not self.ended:
            self.ended = True
            self.node.dial_failed(self, why, refused=refused, turned=turned)

    def _knock(self, there: MemoryNetwork) -> None:
        if there.open:
            self._back.carry(lambda: self._see_who_answers(there))
        else:
            self._back.carry(lambda: self.fail("connection refused", refused=True))

    def _see_who_answers(self, there: MemoryNetwork) -> None:
        if there is self.node:
            self.fail("this node itself is there")
        elif self.expected is not None and self.expected != there.me:
            self.fail(f"node …{short(there.me)} is there, not …{short(self.expected)}")
        elif there.me in self.node.ends and not self.redial:
            self.node.dial_ended(self)
        elif not self.ended:
            hello = self._said(self.node)
            self._there.carry(lambda: self._show(there, hello))

    def _show(self, there: MemoryNetwork, hello: Hello) -> None:
        """The listener judges the dialler."""
        if self.ended or not there.open:
            return
        try:
            certificate = self._judge(hello, of=self.node, by=there)
        except MembershipError as error:
            why = str(error)
            self._back.carry(lambda: self.fail(f"turned away: {why}", turned=True))
            return
        existing = self._world.link_between(self.node, there)
        if existing is not None and existing.whole:
            self._wait_for(existing)
            if there.me in self.node.ends:
                self.node.dial_ended(self)
            return
        if existing is not None:
            existing.give_way()
        self._make_link(there, hello, certificate)

    def _make_link(self, there: MemoryNetwork, hello: Hello, certificate: Certificate) -> None:
        link = Link(self.node, there, there=self._there, back=self._back)
        self._wait_for(link)
        self._world.add_link(link)
        back = hello.addresses[0] if hello.addresses else ""
        link.listener.introduction = PeerUp(self.node.me, certificate, hello, back)
        answer = self._said(there)
        self._back.carry(lambda: self._admit(there, answer))

    def _admit(self, there: MemoryNetwork, hello: Hello) -> None:
        """The dialler judges the listener."""
        link = self._link
        if self.ended or link is None or not link.whole:
            return
        try:
            certificate = self._judge(hello, of=there, by=self.node)
        except MembershipError as error:
            self.fail(str(error), turned=True)
            link.abandon()
            return
        link.dialler.introduction = PeerUp(there.me, certificate, hello, self.address)
        link.dialler.admit()
        self.node.up(link.dialler)

    def _judge(self, hello: Hello, *, of: MemoryNetwork, by: MemoryNetwork) -> Certificate:
        try:
            return judge_hello(hello, proven=of.me, root=by.membership.root, now_s=self._world.wall_s)
        except MembershipError as error:
            _log.info("turned a node away", node=by.name, peer=of.me, why=str(error))
            raise

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        link = self._link
        self.end()
        if link is not None and link.dialler.node is self.node and link.dialler.state == "opening":
            link.abandon()

    def _give_up(self) -> None:
        if not self.ended:
            self.fail(f"no answer within {self._timeout_s:g} s")
            self.cancel()

    def _wait_for(self, link: Link) -> None:
        self._link = link
        link.waiting.append(self)

    def _said(self, node: MemoryNetwork) -> Hello:
        hello = node.hello()
        self._world.traffic.count(hello)
        return hello
