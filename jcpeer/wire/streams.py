"""The first frames of a byte stream beside the messages: what its opener wants, and what the other end says to it.

One frame (`wire.codec`) goes each way. After `Here` come plain bytes: of a blob, from the offset to its end; of a log,
until the stream ends. Blobs that are not large come many to a frame, until the stream ends.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Literal

from jcpeer.ids import AppId, Digest, TaskId
from jcpeer.values import Value

FIRST_FRAME_BYTES_MAX = 64 * 1024
"""A first frame names things and carries none; whoever sends a longer one does not speak this protocol."""


class GetBlob(Value):
    """Send this blob from this offset on."""

    digest: Digest
    offset: int = 0


BLOBS_MAX = 900
"""So many digests fit the first frame."""
BLOBS_BYTES_MAX = 2**20
"""Of a frame of blobs: once it has so many bytes, it goes."""


class GetBlobs(Value):
    """Send those of these blobs that are there and not large, in frames of `Blobs`."""

    digests: tuple[Digest, ...]


class Blobs(Value):
    """Some of the blobs that were asked for."""

    data: Mapping[Digest, bytes]


class ReadLog(Value):
    """Send what the attempt with this number printed, from this offset on; `follow` waits for more until it ends."""

    app: AppId
    task: TaskId
    number: int
    stream: Literal["stdout", "stderr"] = "stdout"
    offset: int = 0
    follow: bool = False


class Here(Value):
    """The bytes follow. `size` is that of the whole blob; a log, which may still grow, has none."""

    size: int | None = None


class NotHere(Value):
    """Nothing follows, and why."""

    reason: str


Opening = GetBlob | GetBlobs | ReadLog
Reply = Here | NotHere

OPENING_KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Opening)}
BLOBS_KINDS: dict[str, type] = {"Blobs": Blobs}
REPLY_KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Reply)}
