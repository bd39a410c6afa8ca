"""The first frames of a byte stream beside the messages: what its opener wants, and what the other end says to it.

One frame (`wire.codec`) goes each way. After `Here` come plain bytes: of a blob, from the offset to its end; of a log,
until the stream ends.
"""

from __future__ import annotations

import typing
from typing import Literal

from jcpeer.ids import AppId, Digest, TaskId
from jcpeer.values import Value

FIRST_FRAME_BYTES_MAX = 4096
"""A first frame names things and carries none; whoever sends a longer one does not speak this protocol."""


class GetBlob(Value):
    """Send this blob from this offset on."""

    digest: Digest
    offset: int = 0


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


Opening = GetBlob | ReadLog
Reply = Here | NotHere

OPENING_KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Opening)}
REPLY_KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Reply)}
