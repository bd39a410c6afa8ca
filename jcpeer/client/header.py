"""The edge where an application gets what makes it one of its kind: the time, and a random nonce."""

from __future__ import annotations

import secrets
import time

from jcpeer.application.manifest import Header, OnFailure

NONCE_BYTES = 16


def new_header(name: str, *, on_failure: OnFailure = "finish", open_ended: bool = False) -> Header:
    """The header of a new application. Keep it to resume its submission; each new one is another application."""
    return Header(
        name=name,
        submitted_s=time.time(),
        nonce=secrets.token_bytes(NONCE_BYTES),
        on_failure=on_failure,
        open_ended=open_ended,
    )
