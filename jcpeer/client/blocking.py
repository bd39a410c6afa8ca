"""The client's coroutines without an event loop: over a blocking socket each await is over when it returns.

So the logic in `session` exists once. Any thread may use a link: each call has a connection for itself, taken from
those at rest, and what abandons a call simply closes its connection.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from jcpeer.client.link import Link
from jcpeer.errors import LocalProtocolError, NoNodeError
from jcpeer.net import local_client
from jcpeer.wire.requests import Done, Reply, ReplyBody, Request, RequestBody, answered_by_many

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a client waits for its node to come back; a restart by hand or by a service manager fits in."""
RETRY_S = 0.1
UNDER_WAY_MAX = 4
"""Requests that are sent before the first of them is answered: the client, its node, the application's home and the
journals of the others are then all at work."""

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_NOTHING = object()


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """What this coroutine returns; it must never have to wait for an event loop."""
    try:
        work.send(None)
    except StopIteration as stopped:
        return stopped.value  # type: ignore[no-any-return]  # StopIteration carries an Any
    work.close()
    raise LocalProtocolError("a coroutine of the blocking face waited for an event loop")


def iterate_blocking(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The same items; closing this closes the other."""

    async def step() -> Any:
        return await anext(items, _NOTHING)

    try:
        while (item := run_blocking(step())) is not _NOTHING:
            yield item
    finally:
        run_blocking(items.aclose())


@contextmanager
def deadline(timeout_s: float | None) -> Iterator[None]:
    """Within the block, whatever waits for a node raises TimeoutError once this time is over. None: no limit."""
    token = _deadline.set(math.inf if timeout_s is None else time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _deadline.reset(token)


def remaining_s() -> float | None:
    """Time left until the deadline of the block around, None where there is none.

    Raises:
        TimeoutError: it has passed.
    """
    until = _deadline.get()
    if until == math.inf:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in the time given")
    return left


class SocketLink(Link):
    """The node behind a Unix socket. Implements `Link` without ever waiting for an event loop."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._resting: list[local_client.LocalLink] = []
        self._busy: set[local_client.LocalLink] = set()
        self._closed = False

    async def call(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        many = answered_by_many(body)
        connection = self._take()
        finished = False
        try:
            connection.send(Request(1, body))
            while not finished:
                reply = _receive(connection)
                finished = reply.last
                if finished:
                    self._give_back(connection)
                    if many and isinstance(reply.body, Done):
                        return  # only says that there are no more
                yield reply.body
        finally:
            if not finished:
                self._drop(connection)

    async def call_each(self, bodies: Iterable[RequestBody]) -> AsyncGenerator[ReplyBody, None]:
        """See `Link.call_each`: while the node is at one request, the next ones are packed and on their way."""
        connection = self._take()
        waiting: deque[int] = deque()
        early: dict[int, ReplyBody] = {}

        def next_reply() -> ReplyBody:
            number = waiting.popleft()
            while number not in early:
                reply = _receive(connection)
                early[reply.call] = reply.body
            return early.pop(number)

        finished = False
        try:
            for number, body in enumerate(bodies, start=1):
                connection.send(Request(number, body))
                waiting.append(number)
                if len(waiting) == UNDER_WAY_MAX:
                    yield next_reply()
            while waiting:
                yield next_reply()
            finished = True
            self._give_back(connection)
        finally:
            if not finished:
                self._drop(connection)

    async def await_return(self) -> None:
        gives_up_at = time.monotonic() + self._patience_s
        with self._lock:
            stale, self._resting = self._resting, []  # of the process that went away
        for connection in stale:
            connection.close()
        while not self._closed:
            try:
                connection = self._connect()
            except NoNodeError:
                pass
            else:
                self._give_back(connection)
                return
            remaining_s()
            if time.monotonic() > gives_up_at:
                raise NoNodeError(
                    f"the local node went away and did not return within {self._patience_s:.0f} s; start `jcpeer node`"
                )
            time.sleep(RETRY_S)
        raise NoNodeError("this connection to the node was closed")

    def connect(self) -> None:
        """Have a first connection at once.

        Raises:
            NoNodeError: nobody listens there.
        """
        self._give_back(self._connect())

    def close(self) -> None:
        """Ends every connection; calls that wait in other threads end with NoNodeError."""
        with self._lock:
            self._closed = True
            connections = [*self._resting, *self._busy]
            self._resting.clear()
        for connection in connections:
            connection.close()

    def _connect(self) -> local_client.LocalLink:
        connection = local_client.connect(self._path, timeout_s=remaining_s() or self._patience_s)
        with self._lock:
            self._busy.add(connection)
        return connection

    def _take(self) -> local_client.LocalLink:
        with self._lock:
            if self._closed:
                raise NoNodeError("this connection to the node was closed")
            if self._resting:
                connection = self._resting.pop()
                self._busy.add(connection)
                return connection
        return self._connect()

    def _give_back(self, connection: local_client.LocalLink) -> None:
        with self._lock:
            self._busy.discard(connection)
            if not self._closed:
                self._resting.append(connection)
                return
        connection.close()

    def _drop(self, connection: local_client.LocalLink) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()


def _receive(connection: local_client.LocalLink) -> Reply:
    return connection.receive(timeout_s=remaining_s())
