"""The Unix socket at which a node serves the clients on its machine.

A connection carries any number of calls at once. Each call is a child that draws replies from the handler; one writer
a connection joins what they have queued. A client that does not read stops its own calls, at `OUTBOX_BYTES_MAX`, and
nobody else's. What a connection sends wrong ends that connection.

A request that is answered once is answered by one `Reply`, marked last. One that is answered by many ends with a `Done`
of its own, since a live series does not know its last reply in advance (`wire.requests.answered_by_many`).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import structlog
import trio

from jcpeer.errors import (
    ConfigError,
    JcpeerError,
    LocalProtocolError,
    RemoteProtocolError,
    RequestError,
    UnreachableError,
)
from jcpeer.net.local_client import RECEIVE_BYTES, check_socket_path
from jcpeer.net.sending import send_at_once
from jcpeer.wire.codec import CLIENT_KINDS, FrameReader, decode, encode
from jcpeer.wire.requests import (
    Abandon,
    Done,
    Refusal,
    Reply,
    ReplyBody,
    Request,
    RequestBody,
    answered_by_many,
)

Handler = Callable[[RequestBody], AsyncGenerator[ReplyBody, None]]

OUTBOX_BYTES_MAX = 1024 * 1024
"""Replies that wait for a slow client; over it that client's calls wait. One reply may exceed it."""

CALLS_MAX = 4096
"""Open calls of one connection; more than any client of ours has, few enough for a node's memory."""

BACKLOG = 1024
"""So many clients wait while the node is held up for a moment; those beyond are told that it is overloaded."""

_log = structlog.get_logger(__name__)


async def serve_local(
    path: Path, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve clients until cancelled; started once the socket listens.

    Args:
        path: Of the socket; its directory is made if it is missing, for its owner only.
        handler: Called for each request; what it yields are the replies. A `JcpeerError` becomes a refusal, any other
            exception is logged and refused, and cancellation means that the client no longer wants to know.

    Raises:
        ConfigError: another node listens there, or the path cannot be a socket.
    """
    listener, inode = _listen(path)

    async def serve_connection(stream: trio.SocketStream) -> None:
        await _Connection(stream, handler).serve()

    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            await trio.serve_listeners(serve_connection, [listener], handler_nursery=nursery)
    finally:
        _remove_own(path, inode)


def _listen(path: Path) -> tuple[trio.SocketListener, int]:
    check_socket_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(path)
        sock = trio.socket.from_stdlib_socket(_bound_socket(path))
        return trio.SocketListener(sock), path.stat().st_ino
    except OSError as error:
        raise ConfigError(f"cannot listen for local clients at {path}: {error.strerror}") from error


def _bound_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        # Nobody gets in before `listen`, so there is no moment at which the mode is wider.
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Make way, if what stands there is the socket of a node that has died."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is in the way of the local socket and is none: move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: alive, if not well
    raise ConfigError(f"another node listens at {path}: stop it, or give this one another --name")


def _remove_own(path: Path, inode: int) -> None:
    """Unless a successor has put its own there."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except OSError:
        pass  # gone already, which is what was wanted


class _Connection:
    """One client: a reader, a writer, and a child for each open call."""

    def __init__(self, stream: trio.SocketStream, handler: Handler) -> None:
        self._stream = stream
        self._handler = handler
        self._outbox = _Outbox()
        self._calls: dict[int, trio.CancelScope] = {}

    async def serve(self) -> None:
        async with self._stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            try:
                await self._read(nursery)
            except RemoteProtocolError as error:
                _log.warning("closed the connection of a local client", why=str(error))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client died; its calls go with it
            nursery.cancel_scope.cancel()

    async def _read(self, nursery: trio.Nursery) -> None:
        frames = FrameReader()
        while data := await self._stream.receive_some(RECEIVE_BYTES):
            for body in frames.feed(bytes(data)):
                match decode(body, CLIENT_KINDS):
                    case Request(call, request):
                        await self._open_call(nursery, call, request)
                    case Abandon(call):
                        if scope := self._calls.get(call):
                            scope.cancel()
                    case other:
                        raise RemoteProtocolError(f"a client sent a {type(other).__name__}")

    async def _open_call(self, nursery: trio.Nursery, call: int, request: RequestBody) -> None:
        if call in self._calls:
            raise RemoteProtocolError(f"call {call} was opened again while it was open")
        if len(self._calls) >= CALLS_MAX:
            refusal = Refusal("invalid", f"this connection has {CALLS_MAX} open calls: end some first")
            await self._outbox.put(encode(Reply(call, refusal)))
            return
        scope = self._calls[call] = trio.CancelScope()
        nursery.start_soon(self._answer, call, request, scope)

    async def _answer(self, call: int, request: RequestBody, scope: trio.CancelScope) -> None:
        last: bytes | None = None
        with scope:
            try:
                last = encode(Reply(call, await self._draw_replies(call, request)))
            except Exception as error:  # a bug in answering one request is no reason to fail the others
                last = encode(Reply(call, _refusal(request, error)))
        # First, for a client that has the last reply may use the number again.
        del self._calls[call]
        if last is not None:
            await self._outbox.put(last)

    async def _draw_replies(self, call: int, request: RequestBody) -> ReplyBody:
        """The last reply, once all others are queued."""
        many = answered_by_many(request)
        async with aclosing(self._handler(request)) as replies:
            async for body in replies:
                if not many:
                    return body
                await self._outbox.put(encode(Reply(call, body, last=False)))
        if not many:
            raise LocalProtocolError(f"{type(request).__name__} was not answered")
        return Done()

    async def _write(self, connection_scope: trio.CancelScope) -> None:
        try:
            while True:
                await send_at_once(self._stream, await self._outbox.take())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection_scope.cancel()


class _Outbox:
    """Frames on their way to one client: whoever puts waits while too much is queued, whoever takes gets them all."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._bytes = 0
        self._room = trio.Event()
        self._filled = trio.Event()

    async def put(self, frame: bytes) -> None:
        while self._bytes >= OUTBOX_BYTES_MAX:
            await self._room.wait()
        self._frames.append(frame)
        self._bytes += len(frame)
        self._filled.set()

    async def take(self) -> bytes:
        await self._filled.wait()
        joined = b"".join(self._frames)
        self._frames.clear()
        self._bytes = 0
        self._room.set()
        self._room, self._filled = trio.Event(), trio.Event()
        return joined


def _refusal(request: RequestBody, error: Exception) -> Refusal:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # a handler may work in a nursery
    # A name of a file may hold what cannot travel as text.
    text = str(error).encode(errors="backslashreplace").decode()
    match error:
        case RequestError():
            return Refusal(error.kind, text)
        case UnreachableError():
            return Refusal("unreachable", text)
        case JcpeerError() if not isinstance(error, LocalProtocolError):
            return Refusal("invalid", text)
        case _:
            _log.error("a bug in answering a local client", request=type(request).__name__, exc_info=error)
            return Refusal("invalid", f"internal error: {type(error).__name__}: {text}")
