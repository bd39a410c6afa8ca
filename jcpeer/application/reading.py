"""The text of a file that describes an application, or one line that says why there is none."""

from __future__ import annotations

import stat
from pathlib import Path

from jcpeer.application.local_blobs import reason
from jcpeer.errors import GraphError

TEXT_BYTES_MAX = 256 * 1024 * 1024
"""A graph of a million recorded tasks stays below; a disk image given by mistake does not."""


def read_text(path: Path) -> str:
    """What this file says.

    Raises:
        GraphError: it is not there, not readable, not a file, empty, enormous, or not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise GraphError(f"{path}: this is a directory; name the file in it that describes the application")
        if not stat.S_ISREG(mode):
            raise GraphError(f"{path}: this is not a regular file; name one that describes an application")
        with path.open("rb") as file:
            data = file.read(TEXT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise GraphError(f"{path}: it cannot be read: {reason(error)}; correct the path") from error
    if len(data) > TEXT_BYTES_MAX:
        raise GraphError(f"{path}: it is over {TEXT_BYTES_MAX // 2**20} MiB, too large to describe an application")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GraphError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error
    if not text.strip():
        raise GraphError(f"{path}: the file is empty; describe at least one task in it")
    if "\0" in text:
        raise GraphError(f"{path}: this is a binary file; name one that describes an application")
    return text
