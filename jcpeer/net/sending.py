"""Writing to a socket without a turn of the event loop, where the system takes the bytes at once."""

from __future__ import annotations

import contextlib
import os

import trio


async def send_at_once(stream: trio.SocketStream, data: bytes) -> None:
    """Like `stream.send_all`, but no checkpoint as long as the system has room: most writes of a node are a few hundred
    bytes, and the turn that trio gives everybody else then costs more than the write.

    Raises:
        trio.BrokenResourceError, trio.ClosedResourceError: see `trio.SocketStream.send_all`.
    """
    sent = 0
    with contextlib.suppress(OSError):  # full, or broken: trio waits, or says what is the matter
        sent = os.write(stream.socket.fileno(), data)
    if sent < len(data):
        await stream.send_all(memoryview(data)[sent:])
