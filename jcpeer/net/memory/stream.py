"""Byte streams of the simulated carrier: a window of unread bytes each way, as the real ones have."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import frozen

from jcpeer.errors import UnreachableError
from jcpeer.ids import NodeId, short
from jcpeer.net.memory.path import Path
from jcpeer.net.memory.way import Way

WINDOW_BYTES = 1024 * 1024
"""What may be on its way or unread; whoever sends more waits for the reader."""
PIECE_BYTES = 64 * 1024


@frozen
class _Opened:
    pass


@frozen
class _Data:
    data: bytes


@frozen
class _Credit:
    """So many bytes were read."""

    size: int


@frozen
class _Closed:
    pass


class MemoryStream:
    """One node's end of a byte stream. Implements `ByteStream`; made in pairs by `open_pair`."""

    def __init__(self, peer: NodeId, *, accept: Callable[[MemoryStream], None] | None = None) -> None:
        self._peer = peer
        self._accept = accept
        self._way: Way
        self._unread = bytearray()
        self._credit = WINDOW_BYTES
        self._owed = 0
        self._changed = trio.Event()
        self._arrived = accept is None
        self._ended = False
        self._closed = False
        self._broken: str | None = None

    @property
    def peer(self) -> NodeId:
        return self._peer

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            await self._until(lambda: self._credit > 0 or self._ended)
            if self._ended:
                raise UnreachableError(f"…{short(self._peer)} closed the stream")
            piece = bytes(rest[: min(self._credit, PIECE_BYTES)])
            rest = rest[len(piece) :]
            self._credit -= len(piece)
            self._way.put(_Data(piece), size=len(piece))

    async def receive_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        await self._until(lambda: bool(self._unread) or self._ended)
        data = bytes(self._unread[:bytes_max])
        del self._unread[: len(data)]
        self._owed += len(data)
        if self._owed >= WINDOW_BYTES // 2:  # not for each read, as the real carrier does it
            self._way.put(_Credit(self._owed), size=0)
            self._owed = 0
        return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._way.put(_Closed(), size=0)
            self._wake()
        await trio.lowlevel.checkpoint()

    def break_off(self, why: str) -> None:
        """The connection is gone: whatever waits here, or comes, fails."""
        self._broken = self._broken or why
        self._way.clear()
        self._wake()

    def resume(self) -> None:
        """The path may be free again."""
        self._way.resume()

    @property
    def open(self) -> bool:
        """It is there and was not closed here."""
        return self._arrived and not self._closed and self._broken is None

    @property
    def over(self) -> bool:
        """Nothing can come of it any more at this end."""
        return self._broken is not None or (self._closed and self._ended)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while True:
            if self._broken is not None:
                raise UnreachableError(f"the stream to …{short(self._peer)} broke: {self._broken}")
            if self._closed:
                raise UnreachableError(f"the stream to …{short(self._peer)} was closed here")
            if ready():
                return
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _come_out(self, item: object) -> None:
        if self._broken is not None:
            return
        match item:
            case _Opened():
                assert self._accept is not None
                self._arrived = True
                self._accept(self)
            case _Data(data):
                self._unread += data
            case _Credit(size):
                self._credit += size
            case _Closed():
                self._ended = True
        self._wake()


def open_pair(there: Path, back: Path, accept: Callable[[MemoryStream], None]) -> tuple[MemoryStream, MemoryStream]:
    """The opener's end and the other one, which `accept` is given once the opening has arrived there."""
    opened = MemoryStream(back.source)
    accepted = MemoryStream(there.source, accept=accept)
    opened._way = Way(there, accepted._come_out)
    accepted._way = Way(back, opened._come_out)
    opened._way.put(_Opened(), size=0)
    return opened, accepted
