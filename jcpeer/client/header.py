"""The edge where an application gets what makes it one of its kind: the time, and a random nonce."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Dispatch, Header, OnFailure, Placement, policy_fault
from jcpeer.errors import GraphError

NONCE_BYTES = 16


def header_for(
    loaded: LoadedApplication, *, placement: Placement | None = None, dispatch: Dispatch | None = None
) -> Header:
    """The header of this application, as a new one.

    Args:
        placement: Instead of what the application says itself.
        dispatch: Likewise.

    Raises:
        GraphError: there is no such policy.
    """
    placement = loaded.placement if placement is None else placement
    dispatch = loaded.dispatch if dispatch is None else dispatch
    if fault := policy_fault("placement", placement) or policy_fault("dispatch", dispatch):
        raise GraphError(f"application {loaded.name}: {fault}")
    return new_header(
        loaded.name,
        on_failure=loaded.on_failure,
        placement=placement,
        dispatch=dispatch,
        labels=loaded.labels,
    )


def new_header(
    name: str,
    *,
    on_failure: OnFailure = "finish",
    placement: Placement = "local",
    dispatch: Dispatch = "assign",
    open_ended: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Header:
    """The header of a new application. Keep it to resume its submission; each new one is another application."""
    return Header(
        name=name,
        submitted_s=time.time(),
        nonce=secrets.token_bytes(NONCE_BYTES),
        on_failure=on_failure,
        placement=placement,
        dispatch=dispatch,
        open_ended=open_ended,
        labels=labels or {},
    )
