"""What a client hands over: a header, then batches of tasks, then a seal.

A file is opened and sealed at once; an executor adds batches for as long as it lives. Task ids and batch numbers are
the client's, so that whatever is sent twice counts once. Each part is signed by the submitter's node over the packed
bytes (`wire.signed`), and the header's key binds the parts together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

from msgspec import field

from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import KEY_BITS, AppId, NodeId, key_of
from jcpeer.values import Number, Value

OnFailure = Literal["finish", "stop"]
Placement = Literal["rdv", "local"]
Dispatch = Literal["assign", "grab", "relay"]
Takeover = Literal["default", "quorum", "available"]

POLICIES: Mapping[str, tuple[str, ...]] = {
    "on_failure": get_args(OnFailure),
    "placement": get_args(Placement),
    "dispatch": get_args(Dispatch),
    "takeover": get_args(Takeover),
}
"""What a user may say in a word of how an application is run; of each the default first."""
POLICY_NAMES = (*POLICIES, "replicas", "inputs_stay")
"""The same, and what is said in numbers or by yes and no."""
REPLICAS_MAX = 7
"""More journals make each promise dearer, and hardly safer: seven already outlive the loss of any three."""


class RunPolicies(TypedDict, total=False):
    """What can be said anew of each run; see `Header`."""

    placement: Placement
    dispatch: Dispatch
    replicas: int
    takeover: Takeover
    inputs_stay: bool


class Policies(RunPolicies, total=False):
    """All that a user may say of how an application is run."""

    on_failure: OnFailure


def policies_fault(policies: Mapping[str, object]) -> str | None:
    """Why these policies, by name, cannot be so, or None."""
    return next((fault for name, value in policies.items() if (fault := policy_fault(name, value))), None)


def policy_fault(name: str, value: object) -> str | None:
    """Why this policy cannot be so, or None."""
    match name:
        case "replicas":
            known = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= REPLICAS_MAX
            wanted = f"a whole number from 1 to {REPLICAS_MAX}"
        case "inputs_stay":
            known, wanted = isinstance(value, bool), "true or false"
        case _:
            *others, last = map(repr, POLICIES[name])
            known, wanted = value in POLICIES[name], f"{', '.join(others)} or {last}"
    return None if known else f"{name} must be {wanted}, not {value!r:.60}"


class Header(Value):
    """What is said once of an application. `submitted_s` is seconds since 1970 by the client's clock; `nonce` makes
    two submissions in the same clock tick differ, and a retry of a lost one the same."""

    name: str
    submitted_s: Number
    nonce: bytes
    user: str = ""
    on_failure: OnFailure = "finish"
    placement: Placement = "rdv"
    """Where it lives: with the members closest to its key, or first with the submitter's node."""
    dispatch: Dispatch = "assign"
    """Who decides where a task runs: the coordinator, whoever takes an offer first, or who finished a parent."""
    replicas: int = 3
    """How many journals are to be kept, the coordinator's included."""
    takeover: Takeover = "default"
    """What a replica needs to go on when the coordinator is lost: most of the others ("quorum"), or nobody
    ("available"). The default is the former from three replicas on."""
    inputs_stay: bool = False
    """The submitter's node keeps the large inputs, and has to stay; otherwise replicas get copies first."""
    open_ended: bool = False
    """More batches may come for as long as the client lives (an executor): not a failure of patience."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it is, for nodes whose owners take or refuse work by that."""


QUORUM_SEATS_MIN = 3
"""With fewer, a majority would be everybody: one loss would stop all."""


class Seat(Value):
    """A place in a replica set: a node, and the very journal file that it keeps. An empty, restored or foreign file has
    another name, and so no place."""

    node: NodeId
    journal: str


class ReplicaSet(Value):
    """The nodes that keep an application's journal, in rank order. Sets are numbered from 0, the one that the submitter
    signed, and each differs from the one before by one seat.

    `quorum`: whatever is promised is on most of the seats, and most must agree to a takeover. Otherwise one suffices.
    """

    number: int
    seats: tuple[Seat, ...]
    quorum: bool

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return tuple([each.node for each in self.seats])

    @property
    def enough(self) -> int:
        """So many seats, for a promise (`ack`) as for a takeover (`votes`): `ack` + `votes` > seats where it counts."""
        return len(self.seats) // 2 + 1 if self.quorum else 1

    def seat_of(self, node: NodeId) -> Seat | None:
        return next((each for each in self.seats if each.node == node), None)

    def may_be_quorum(self, takeover: Takeover) -> bool:
        """It is large enough to become one; one that has shrunk stays what it was."""
        return takeover != "available" and len(self.seats) >= QUORUM_SEATS_MIN


class Placed(Value):
    """The signed part of a submission: where the application lives, decided once by the submitter's node.

    `seats`: its first replica set, in rank order.
    """

    app: AppId
    header: Header
    seats: tuple[Seat, ...]

    @property
    def replica_set(self) -> tuple[NodeId, ...]:
        return tuple([each.node for each in self.seats])

    @property
    def first_set(self) -> ReplicaSet:
        takeover = self.header.takeover
        enough = len(self.seats) >= QUORUM_SEATS_MIN
        return ReplicaSet(0, self.seats, quorum=takeover == "quorum" or (takeover == "default" and enough))


class Batch(Value):
    """Tasks that belong together on the wire, numbered from 0 by the client."""

    app: AppId
    number: int
    tasks: tuple[Task, ...]
    blobs: tuple[BlobRef, ...] = ()
    """What these tasks read that no task makes: the submitter holds it."""


class Seal(Value):
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
