"""What a node and its worker say to each other: one frame each way for a call.

A frame is a length (4 bytes, big-endian) and a msgpack array. Large content goes by file, never through the socket. A
worker runs users' code, so its node believes nothing of a reply but what `read_reply` checked: no path comes from it.

Several calls may be sent at once, a *line*: they are called one after another, and answered in that order. `DROP` takes
those back that have not begun by the time it is read; the same frame comes back as the answer, after which nothing of
the line follows.
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

HEADER_BYTES = 4
REPLY_BYTES_MAX = 1024 * 1024
"""A value, two logs and a traceback, each of a bounded size, are far below it."""

FUNCTIONS_MAX = 128
"""Functions that a worker keeps by digest. Node and worker count alike: the one that would be too many empties it."""

VALUE_FILE = "value"
"""Where a large value lies below the attempt's directory, beside `stdout`, `stderr` and `work`."""


class CallRequest(NamedTuple):
    """Call a function. Content is bytes, or the path of a file."""

    directory: str
    function_digest: str
    function_name: str
    function: bytes | str | None
    """None where the worker has it by its digest."""
    arguments: bytes | str
    values: dict[str, bytes | str]
    files: dict[str, str]
    env: dict[str, str]
    wants_value: bool
    has_work_directory: bool
    """Files lie in it."""


class CallReply(NamedTuple):
    """What came of a call. Where content is `True` it lies in its file below the attempt's directory."""

    failure: tuple[str, str, str] | None
    """(kind, text, remedy) of a `Failure`."""
    exit_status: int | None
    value: bytes | bool
    stdout: bytes | bool
    stderr: bytes | bool
    ran_s: float
    cpu_s: float
    spent: bool
    """The call left a process or a thread behind: this worker must not be used again, and calls nothing more."""
    left_files: bool
    """There is something in the attempt's directory."""


DROP = (1).to_bytes(HEADER_BYTES, "big") + b"\xc0"
"""A frame."""


def frame_of(message: CallRequest | CallReply) -> bytes:
    body: bytes = msgpack.packb(message, use_bin_type=True)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def read_request(body: bytes) -> CallRequest:
    return CallRequest(*msgpack.unpackb(body, raw=False))


def read_reply(body: bytes) -> CallReply:
    """The reply in a frame's body.

    Raises:
        ValueError: it is none.
    """
    try:
        fields = msgpack.unpackb(body, raw=False, use_list=False)
        reply = CallReply(*fields)
    except Exception as error:  # msgpack raises many types; a worker's memory may have been overwritten
        raise ValueError(f"malformed reply: {error}") from error
    if (
        not (reply.failure is None or (len(reply.failure) == 3 and all(type(each) is str for each in reply.failure)))
        or not (reply.exit_status is None or type(reply.exit_status) is int)
        or any(type(each) not in (bytes, bool) for each in (reply.value, reply.stdout, reply.stderr))
        or type(reply.ran_s) is not float
        or type(reply.cpu_s) is not float
        or type(reply.spent) is not bool
        or type(reply.left_files) is not bool
    ):
        raise ValueError("malformed reply")
    return reply
