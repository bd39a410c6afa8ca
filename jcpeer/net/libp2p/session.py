"""What Noise has decrypted, on its way to the multiplexer.

libp2p's multiplexer needs two turns of the event loop, and some 100 us, to sort one frame. Nearly all frames are plain
data of a stream that is ours already: these are taken out here, and go straight to their stream.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from libp2p.abc import ISecureConn
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux import yamux


class Receiver(Protocol):
    """A stream, as far as its data is concerned."""

    def feed(self, data: bytes) -> None:
        """This is next. Never waits, and raises nothing."""


class Session(SecureSession):
    """libp2p's, from the moment when frames begin."""

    def adopt(self, receiver_of: Callable[[int, int], Receiver | None]) -> None:
        """Take over from libp2p, which made it.

        Args:
            receiver_of: For the number of a stream and the bytes of a frame, who takes them; None leaves the frame to
                libp2p. Whatever it raises ends the connection.
        """
        self._receiver_of = receiver_of
        self._received = bytearray()
        self._body_left = 0
        """Of the frame that libp2p reads."""

    async def read(self, n: int | None = None) -> bytes:
        """The next header, or a piece of the body after it, of a frame that is left to libp2p."""
        while not self._body_left:
            header = await self._exactly(yamux.HEADER_SIZE)
            _, kind, flags, stream_id, size = struct.unpack(yamux.YAMUX_HEADER_FORMAT, header)
            is_plain = kind == yamux.TYPE_DATA and not flags and size <= yamux.MAX_WINDOW_SIZE
            receiver = self._receiver_of(stream_id, size) if is_plain else None
            if receiver is None:
                self._body_left = size if kind == yamux.TYPE_DATA else 0
                return header
            receiver.feed(await self._exactly(size))
        data = await self._exactly(self._body_left if n is None else min(n, self._body_left))
        self._body_left -= len(data)
        return data

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += await super().read()
        data = bytes(memoryview(self._received)[:size])
        del self._received[:size]
        return data


def adopted(secured: ISecureConn, receiver_of: Callable[[int, int], Receiver | None]) -> Session:
    """The same session, which libp2p names inside a long function; see `Session.adopt`."""
    assert isinstance(secured, SecureSession)
    secured.__class__ = Session
    assert isinstance(secured, Session)
    secured.adopt(receiver_of)
    return secured
