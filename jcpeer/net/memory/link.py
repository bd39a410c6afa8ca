"""A connection between two nodes: two ends, each of which finds out by itself that the other is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from jcpeer.ids import NodeId
from jcpeer.net.events import PeerUp, Received
from jcpeer.net.memory.heartbeats import HEARTBEAT
from jcpeer.net.memory.path import Path
from jcpeer.net.memory.stream import MemoryStream, open_pair
from jcpeer.net.memory.way import Way
from jcpeer.wire.codec import HEADER_BYTES, PEER_KINDS, decode, encode
from jcpeer.wire.messages import Goodbye
from jcpeer.wire.peer import PeerMessage

if TYPE_CHECKING:
    from jcpeer.net.memory.dial import Dial
    from jcpeer.net.memory.node import MemoryNetwork

MESSAGE_BYTES = 256
"""What a message counts for in queues and bandwidth while it is handed over by reference."""

_ADMITTED = object()
"""Comes first on the dialler's way: it found the listener's certificate good, too."""
_CLOSED = object()
"""Comes last on either way."""


class End:
    """What one node has of a connection: "opening" until both certificates were found good, "up", then "closed"."""

    other: End
    peer: NodeId
    way: Way
    """To the other end."""
    pulse: Received
    """What the node is told at each heartbeat."""
    introduction: PeerUp
    """What the node is told when this end goes up."""

    def __init__(self, link: Link, node: MemoryNetwork) -> None:
        self.link = link
        self.node = node
        self.state: Literal["opening", "up", "closed"] = "opening"
        self.sent_s = 0.0
        self.suspicion: object | None = None
        """Set while the peer cannot be heard; see `heartbeats`."""
        self.streams: list[MemoryStream] = []

    def join(self, other: End, path: Path) -> None:
        """`path` leads to the other end."""
        self.other = other
        self.peer = other.node.me
        self.pulse = Received(self.peer, HEARTBEAT)
        self.way = Way(path, other.come_out)

    @property
    def deaf(self) -> bool:
        """Nothing from the peer arrives at present."""
        return self.other.way.path.blocked

    def send(self, message: PeerMessage, *, last: bool = False) -> None:
        """Queue a message; if too much is queued, the connection ends, unless it is the last one anyway.

        Raises:
            LocalProtocolError: it is too long for a frame, where messages are encoded at all.
        """
        world = self.node.world
        self.sent_s = world.schedule.now_s
        if world.encode:
            frame = encode(message)
            world.traffic.count(message, len(frame))
            self.way.put(frame, size=len(frame))
        else:
            world.traffic.count(message)
            self.way.put(message, size=MESSAGE_BYTES)
        if not last and self.way.waiting_bytes > world.config.peer_queue_bytes_max:
            self.node.lost(self, f"more than {world.config.peer_queue_bytes_max} bytes are queued for it")

    def admit(self) -> None:
        """The dialler's word that the connection stands at its end."""
        self.way.put(_ADMITTED, size=0)

    def close(self, *, tell: bool = True) -> None:
        """For this node the connection is over; the peer learns of it, if told, after all that was sent."""
        if self.state == "closed":
            return
        was_opening = self.state == "opening"
        self.state = "closed"
        self.suspicion = None
        for stream in self.streams:
            stream.break_off("its connection closed")
        if self.other.state == "closed":
            self.node.world.remove_link(self.link)
        elif tell:
            self.way.put_last(_CLOSED)
        if not tell:
            self.way.clear()
        if was_opening:
            self.node.dials_failed(self.link, "the connection broke in the handshake")
        if self.other.state == "closed":
            self.link.dissolve()

    def open_stream(self) -> MemoryStream:
        """Both ends of a new stream; the peer's goes to its handler when the opening has arrived there."""
        opened, accepted = open_pair(self.way.path, self.other.way.path, self.other.node.accept)
        for end, stream in ((self, opened), (self.other, accepted)):
            end.streams = [each for each in end.streams if not each.over]
            end.streams.append(stream)
        if self.other.state == "closed":
            accepted.break_off("its connection closed")
        return opened

    def resume(self) -> None:
        """The path to the peer may be free again."""
        self.way.resume()
        for stream in self.streams:
            stream.resume()

    def come_out(self, item: object) -> None:
        """Something from the peer arrives at this end."""
        if self.state == "closed":
            return
        if item is _CLOSED:
            self._find_closed()
            return
        if item is _ADMITTED:
            self.node.up(self)
            return
        self.node.world.heartbeats.heard(self)
        message = decode(item[HEADER_BYTES:], PEER_KINDS) if isinstance(item, bytes) else cast(PeerMessage, item)
        match message:
            case Goodbye(stays):
                self.node.left(self, stays=stays)
            case _:
                self.node.receive(self.peer, message)

    def _find_closed(self) -> None:
        if self.state == "opening":
            self.close()
        else:
            self.node.lost(self, "the connection broke")


class Link:
    """The two ends of a connection, of which at most one is live between two nodes."""

    def __init__(self, dialler: MemoryNetwork, listener: MemoryNetwork, *, there: Path, back: Path) -> None:
        self.dialler = End(self, dialler)
        self.listener = End(self, listener)
        self.dialler.join(self.listener, there)
        self.listener.join(self.dialler, back)
        self.ends = self.dialler, self.listener
        self.waiting: list[Dial] = []
        """Dials that end as it does."""

    def dissolve(self) -> None:
        """Both ends have closed: let go of each other, for a world of short connections is else busy with garbage."""
        self.waiting.clear()
        for end in self.ends:
            end.way.seal()
            del end.other, end.link

    @property
    def whole(self) -> bool:
        """Neither end has closed."""
        return "closed" not in (self.dialler.state, self.listener.state)

    def give_way(self) -> None:
        """A new connection comes up, since one end closed this one and the other was not told yet."""
        for end in self.ends:
            if end.state == "up":
                end.node.lost(end, "it connected anew")
            else:
                end.close(tell=False)

    def abandon(self) -> None:
        """It does not come about."""
        for end in self.ends:
            end.close(tell=False)
