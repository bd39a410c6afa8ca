"""The client's end of a node's Unix socket, blocking: for programs without an event loop, so no trio is imported.

One connection carries any number of calls; whoever uses it from several threads gives each call its own number and
lets one thread receive.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from pathlib import Path

from jcpeer.errors import ConfigError, NoNodeError, RemoteProtocolError
from jcpeer.wire.codec import CLIENT_KINDS, FrameReader, decode, encode
from jcpeer.wire.requests import ClientMessage, Reply

PATH_BYTES_MAX = 107
"""The kernel's limit: `sun_path` has 108 bytes, the last of which is zero."""

RECEIVE_BYTES = 64 * 1024


def check_socket_path(path: Path) -> None:
    """That the kernel takes this path for a Unix socket.

    Raises:
        ConfigError: it is too long, whoever chose it.
    """
    length = len(os.fsencode(path))
    if length > PATH_BYTES_MAX:
        raise ConfigError(
            f"the path of the local socket has {length} bytes, the system allows {PATH_BYTES_MAX}: {path}; "
            "choose a shorter --name, or set XDG_RUNTIME_DIR to a shorter directory"
        )


def connect(path: Path, timeout_s: float | None = None) -> LocalLink:
    """A connection to the node that listens there.

    Raises:
        NoNodeError: nobody listens there, or not in time, or only for another user.
        ConfigError: the path is too long for a socket.
    """
    check_socket_path(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(os.fspath(path))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        connection.close()
        raise NoNodeError(f"no node listens at {path}: start one with `jcpeer node`") from error
    except PermissionError as error:
        connection.close()
        raise NoNodeError(f"the node at {path} belongs to another user: start your own with `jcpeer node`") from error
    except (TimeoutError, BlockingIOError) as error:
        connection.close()
        raise NoNodeError(f"the node at {path} is there but does not answer: is it stopped or overloaded?") from error
    except OSError as error:
        connection.close()
        raise NoNodeError(f"cannot reach a node at {path}: {error.strerror}") from error
    return LocalLink(connection, path)


class LocalLink:
    """A connection to the local node. `send` and `close` may be called from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        # The timeout of a socket holds for both ways and all threads, so this one has none and `receive` polls.
        connection.settimeout(None)
        self._connection = connection
        self._path = path
        self._send_lock = threading.Lock()
        self._reader = FrameReader()
        self._replies: deque[Reply] = deque()

    def send(self, message: ClientMessage) -> None:
        """Waits as long as the node does not take it.

        Raises:
            NoNodeError: the node went away, or this link was closed.
        """
        frame = encode(message)
        try:
            with self._send_lock:
                self._connection.sendall(frame)
        except OSError as error:
            raise self._gone() from error

    def receive(self, timeout_s: float | None = None) -> Reply:
        """The next reply of any call.

        Raises:
            NoNodeError: the node went away, or this link was closed.
            TimeoutError: no reply in this time; the link can be used on.
            RemoteProtocolError: what listens there does not speak this protocol.
        """
        while not self._replies:
            for body in self._reader.feed(self._receive_some(timeout_s)):
                reply = decode(body, CLIENT_KINDS)
                if not isinstance(reply, Reply):
                    raise RemoteProtocolError(f"the node at {self._path} sent a {type(reply).__name__}")
                self._replies.append(reply)
        return self._replies.popleft()

    def close(self) -> None:
        """Ends the connection and with it every call; threads that wait in it get NoNodeError. May be called again."""
        with contextlib.suppress(OSError):  # the node was first, or this was closed before
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _receive_some(self, timeout_s: float | None) -> bytes:
        try:
            if timeout_s is not None:
                readable = select.poll()
                readable.register(self._connection, select.POLLIN)
                if not readable.poll(timeout_s * 1000):
                    raise TimeoutError(f"the node at {self._path} did not answer within {timeout_s:g} s")
            data = self._connection.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:  # ValueError: closed by another thread before it was registered
            raise self._gone() from error
        if not data:
            raise self._gone()
        return data

    def _gone(self) -> NoNodeError:
        return NoNodeError(f"the node at {self._path} went away: start one with `jcpeer node`")
