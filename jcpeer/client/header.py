"""The edge where an application gets what makes it one of its kind: the time, and a random nonce."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Unpack

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.manifest import Header, Policies, RunPolicies, policies_fault
from jcpeer.errors import GraphError

NONCE_BYTES = 16


def header_for(loaded: LoadedApplication, **policies: Unpack[RunPolicies]) -> Header:
    """The header of this application, as a new one.

    Args:
        policies: Instead of what the application says itself.

    Raises:
        GraphError: there is no such policy.
    """
    if fault := policies_fault(policies):
        raise GraphError(f"application {loaded.name}: {fault}")
    how: RunPolicies = {
        "placement": loaded.placement,
        "dispatch": loaded.dispatch,
        "replicas": loaded.replicas,
        "takeover": loaded.takeover,
        "inputs_stay": loaded.inputs_stay,
    }
    how.update(policies)
    return new_header(loaded.name, on_failure=loaded.on_failure, labels=loaded.labels, **how)


def new_header(
    name: str,
    *,
    open_ended: bool = False,
    labels: Mapping[str, str] | None = None,
    **policies: Unpack[Policies],
) -> Header:
    """The header of a new application. Keep it to resume its submission; each new one is another application."""
    return Header(
        name=name,
        submitted_s=time.time(),
        nonce=secrets.token_bytes(NONCE_BYTES),
        open_ended=open_ended,
        labels=labels or {},
        **policies,
    )
