"""What a client hands over: a header, then batches of tasks, then a seal.

A file is opened and sealed at once; an executor adds batches for as long as it lives. Task ids and batch numbers are
the client's, so that whatever is sent twice counts once. Each part is signed by the submitter's node over the packed
bytes (`wire.signed`), and the header's key binds the parts together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

from attrs import field, frozen

from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import KEY_BITS, AppId, NodeId, key_of

OnFailure = Literal["finish", "stop"]
Placement = Literal["local", "rdv"]
Dispatch = Literal["assign", "grab", "relay"]

POLICIES: Mapping[str, tuple[str, ...]] = {
    "on_failure": get_args(OnFailure),
    "placement": get_args(Placement),
    "dispatch": get_args(Dispatch),
}
"""What a user may say of how an application is run; of each the default first."""


def policy_fault(name: str, value: object) -> str | None:
    """Why this policy cannot be so, or None."""
    *others, last = map(repr, POLICIES[name])
    return None if value in POLICIES[name] else f"{name} must be {', '.join(others)} or {last}, not {value!r:.60}"


@frozen
class Header:
    """What is said once of an application. `submitted_s` is seconds since 1970 by the client's clock; `nonce` makes
    two submissions in the same clock tick differ, and a retry of a lost one the same."""

    name: str
    submitted_s: float
    nonce: bytes
    user: str = ""
    on_failure: OnFailure = "finish"
    placement: Placement = "local"
    """Where it lives: first with the submitter's node, or with the members closest to its key."""
    dispatch: Dispatch = "assign"
    """Who decides where a task runs: the coordinator, whoever takes an offer first, or who finished a parent."""
    replicas: int = 1
    open_ended: bool = False
    """More batches may come for as long as the client lives (an executor): not a failure of patience."""
    labels: Mapping[str, str] = field(factory=dict)
    """What it is, for nodes whose owners take or refuse work by that."""


@frozen
class Placed:
    """The signed part of a submission: where the application lives, decided once by the submitter's node."""

    app: AppId
    header: Header
    replica_set: tuple[NodeId, ...]


@frozen
class Batch:
    """Tasks that belong together on the wire, numbered from 0 by the client."""

    app: AppId
    number: int
    tasks: tuple[Task, ...]
    blobs: tuple[BlobRef, ...] = ()
    """What these tasks read that no task makes: the submitter holds it."""


@frozen
class Seal:
    """No batch with this number or a higher one will come."""

    app: AppId
    batches: int


def application_key(header: Header, packed_header: bytes) -> AppId:
    """The application's key: SHA-256 over name, submission time, user, header digest and nonce, first 160 bits."""
    key = key_of(
        header.name.encode(),
        repr(float(header.submitted_s)).encode(),
        header.user.encode(),
        hashlib.sha256(packed_header).digest(),
        header.nonce,
    )
    return AppId(f"{key:0{KEY_BITS // 4}x}")
