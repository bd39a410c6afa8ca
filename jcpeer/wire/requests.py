"""What a client asks of a node, and what it hears: one protocol over the local socket and, inside `Ask`, the overlay.
At the end of the requests stand those that only nodes ask of each other: to hand an application to its home.

A client sends `Request(call, body)`; the node answers with one or more `Reply` of the same call, the last one marked.
Where many may come (`answered_by_many`), the marked one is a `Done` after all of them.
`Refusal` as a body ends a call with an error. An application is named by its id, a unique prefix of it, or its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import AppId, Digest, NodeId, TaskId
from jcpeer.wire.facts import Tombstone
from jcpeer.wire.messages import NodeRecord, Output, Signed

TaskStateName = Literal["waiting", "ready", "assigned", "running", "finished", "failed", "cancelled", "skipped"]
ApplicationStateName = Literal["open", "running", "stalled", "ok", "failed", "cancelled"]
SeatState = Literal["coordinator", "copy", "catching up", "missing", "unsure"]
"""Of a replica. "unsure": its machine was switched off, so that its journal may lack what it had acknowledged."""

# --- requests


@frozen
class WhoAreYou:
    """Answered by `Self`."""


@frozen
class ListNodes:
    """Answered by `Nodes`; with `watch` again at each change."""

    watch: bool = False


@frozen
class Submit:
    """Open an application. Answered by `Opened`; sent again, with the same id."""

    header: Header


@frozen
class MissingBlobs:
    """Answered by `Missing`: which of these the application's home does not hold yet."""

    app: AppId
    digests: tuple[Digest, ...]


@frozen
class PutBlob:
    """One piece of a blob, in order from offset 0; answered by `Done` at each piece, checked at the last."""

    app: AppId
    blob: BlobRef
    offset: int
    data: bytes


@frozen
class AddTasks:
    """One batch. `data` holds small blobs, the large ones were put before. Answered by `Done` once journalled."""

    app: AppId
    number: int
    tasks: tuple[Task, ...]
    blobs: tuple[BlobRef, ...] = ()
    data: Mapping[Digest, bytes] = field(factory=dict)


@frozen
class SealApplication:
    """No batch after these. Answered by `Accepted` once journalled with every blob in place."""

    app: AppId
    batches: int


@frozen
class ListApplications:
    """Answered by `Applications`."""


@frozen
class GetStatus:
    """Answered by `Status`."""

    app: str


@frozen
class Watch:
    """Answered by `Happened` for each committed event after `after_index`, then as they come, until the end.

    `progress` adds `Progress` a few times a second; `values` adds small outputs to `Happened`. `after_epoch` is that of
    the event at `after_index`: a journal that has a higher one in its place is told of from there on.
    """

    app: str
    after_index: int = 0
    progress: bool = False
    values: bool = False
    after_epoch: int = 0


@frozen
class GetTask:
    """Answered by `TaskDetail`."""

    app: str
    task: str


@frozen
class GetResults:
    """Answered by one or more `Results`, whose lists follow each other: outputs of one task, or of the application's
    last tasks where `task` is None."""

    app: str
    task: str | None = None


@frozen
class GetBlob:
    """Answered by `Piece` after `Piece`; the node first fetches the blob if it does not hold it."""

    app: AppId
    blob: BlobRef


@frozen
class GetLog:
    """Answered by `Piece` after `Piece` of what the attempt printed; `follow` waits for more until it ends."""

    app: str
    task: str
    attempt: int | None = None
    stream: Literal["stdout", "stderr"] = "stdout"
    follow: bool = False


@frozen
class Cancel:
    """Answered by `Done` once journalled."""

    app: str
    task: str | None = None


@frozen
class Why:
    """Answered by `Reasons`."""

    app: str
    task: str


@frozen
class Forget:
    """Drop an ended application's results and journal. Answered by `Done`."""

    app: str


@frozen
class JoinGrid:
    """Move this running node into the grid of the token. Answered by `Self`."""

    token: str


@frozen
class Recover:
    """Have this node go on with an application of which too many replicas are lost, from its own copy and as a new
    replica set. Unless `confirmed` nothing is done, and the answer is a `RecoveryPlan`; else `Done` once it
    coordinates."""

    app: str
    confirmed: bool = False


@frozen
class Drain:
    """Take nothing new, and leave when what runs has ended. Answered by `Draining` at each change, until it leaves."""


# --- requests of one node to another: the submitter's node to the application's home, and who looks for either


@frozen
class Host:
    """This application is to live with you. `placed` is a signed `manifest.Placed`. Answered by `Hosted` once
    journalled; sent again, with what it was opened with."""

    placed: Signed


@frozen
class GetPlacement:
    """Does this application live with you? Answered by `Hosted`."""

    app: AppId


@frozen
class TakeBlobs:
    """Its tasks will read these: the small ones are in `data`, fetch the others from me. Answered by `Done` once they
    are there."""

    app: AppId
    blobs: tuple[BlobRef, ...] = ()
    data: Mapping[Digest, bytes] = field(factory=dict)


@frozen
class TakeBatch:
    """A signed `manifest.Batch`; `data` holds small blobs, what else is missing is fetched from the asker. Answered by
    `Done` once journalled."""

    app: AppId
    batch: Signed
    data: Mapping[Digest, bytes] = field(factory=dict)


@frozen
class TakeSeal:
    """A signed `manifest.Seal`. Answered by `Accepted` once journalled with every blob in place."""

    app: AppId
    seal: Signed


@frozen
class GetHolders:
    """Who has this blob of the application? Answered by `Holders`."""

    app: AppId
    digest: Digest


# --- replies


@frozen
class Refusal:
    """No, and why: one line with the remedy. `kind` is "unknown", "ambiguous", "invalid" or "unreachable"."""

    kind: str
    text: str


@frozen
class Done:
    """Yes."""


@frozen
class Self:
    """The node that answers."""

    record: NodeRecord
    grid: str
    grid_fingerprint: str
    listens: tuple[str, ...]


@frozen
class SeenNode:
    """A node in the directory; `age_s` since it last spoke, 0 for the node that answers; of one that is not `connected`
    to that node, since its record was heard from others, who would tell of its death."""

    record: NodeRecord
    age_s: float
    address: str
    myself: bool = False
    connected: bool = True


@frozen
class Nodes:
    nodes: tuple[SeenNode, ...]
    notices: tuple[str, ...] = ()
    """Lines for a person, such as another grid seen on the LAN and how to join it."""


@frozen
class Opened:
    app: AppId


@frozen
class Missing:
    digests: tuple[Digest, ...]


@frozen
class Accepted:
    """`copies` journals hold it; `caveat` is the line that says what is not promised with so few."""

    app: AppId
    copies: int
    caveat: str = ""


@frozen
class NodeName:
    id: NodeId
    name: str


@frozen
class Hosted:
    """The application lives here; `placed` is what it was opened with."""

    placed: Signed


@frozen
class Moved:
    """I have a copy of this application's journal, and do not coordinate it. `coordinator`: who does, as far as I know;
    None while there is none, `missing` then being the replicas for which a takeover waits. `replicas` may know more."""

    app: AppId
    epoch: int
    coordinator: NodeName | None = None
    replicas: tuple[NodeId, ...] = ()
    missing: tuple[NodeName, ...] = ()


@frozen
class Forgotten:
    """The application ended and was forgotten."""

    tombstone: Tombstone


@frozen
class Holders:
    """Best first."""

    nodes: tuple[NodeId, ...]


@frozen
class ApplicationSummary:
    """Counts are tasks by state. `missing`: the replicas for which a stalled application waits."""

    app: AppId
    name: str
    user: str
    state: ApplicationStateName
    submitted_s: float
    tasks: Mapping[str, int]
    coordinator: NodeName
    missing: tuple[NodeName, ...] = ()


@frozen
class Applications:
    applications: tuple[ApplicationSummary, ...]


@frozen
class Share:
    """What one node did for an application: attempts that succeeded, failed or were lost, and busy seconds."""

    node: NodeName
    finished: int
    failed: int
    lost: int
    busy_s: float


@frozen
class ReplicaView:
    """A node that keeps the journal, or is to. `missing_s`: how long it has not answered."""

    node: NodeName
    state: SeatState
    missing_s: float = 0.0


@frozen
class ReconciledView:
    """Two nodes had coordinated without each other. Of what `node` had done meanwhile `twice` ran on both sides, and of
    `changed` another result had been shown."""

    node: NodeName
    twice: tuple[TaskId, ...]
    changed: tuple[TaskId, ...]


@frozen
class Status:
    """`promise` says in one line what may be lost without loss; see `node.safety`."""

    summary: ApplicationSummary
    epoch: int
    coordinator: NodeName
    replicas: tuple[ReplicaView, ...]
    participants: tuple[NodeName, ...]
    attempts: int
    takeovers: int
    seconds: float
    sealed: bool
    shares: tuple[Share, ...] = ()
    failures: tuple[str, ...] = ()
    """The story: one line for each attempt that failed or was lost, oldest first, the last 200."""
    placement: str = "local"
    replica_set: tuple[NodeName, ...] = ()
    """As the submitter's node signed it, in rank order; `replicas` are those that keep a journal now."""
    dispatch: str = "assign"
    labels: Mapping[str, str] = {}
    ftc: NodeName | None = None
    promise: str = ""
    reconciled: tuple[ReconciledView, ...] = ()


EventKind = Literal[
    "accepted",
    "finished",
    "failed",
    "lost",
    "output_lost",
    "cancelled",
    "took_over",
    "replicas_changed",
    "reconciled",
    "ended",
]


@frozen
class Happened:
    """A committed event. `index` is that of its journal entry; a client resumes after the last one that it saw."""

    index: int
    at_s: float
    kind: EventKind
    task: TaskId | None = None
    attempt: int | None = None
    node: NodeName | None = None
    ran_s: float = 0.0
    text: str = ""
    final: bool = False
    """No later event changes this task's state, barring `output_lost`."""
    outputs: tuple[Output, ...] = ()
    epoch: int = 0
    """The counter of its entry's epoch; 0 where that is not told."""


@frozen
class Progress:
    """How it stands: tasks by state; busy attempts by node; tasks finished a second of late; seconds left, if known.
    `missing`: the replicas for which it waits, where it is stalled. `copies`: who else could go on with it. Without
    tasks where nobody coordinates it, so that nobody counts."""

    tasks: Mapping[str, int]
    running: Mapping[str, int]
    rate: float
    left_s: float | None
    missing: tuple[NodeName, ...] = ()
    copies: tuple[NodeName, ...] = ()


@frozen
class AttemptView:
    number: int
    epoch: int
    node: NodeName
    state: str
    started_s: float | None = None
    waited_s: float | None = None
    ran_s: float | None = None
    exit_status: int | None = None
    text: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""


@frozen
class TaskDetail:
    app: AppId
    task: TaskId
    state: TaskStateName
    attempts: tuple[AttemptView, ...]
    outputs: tuple[Output, ...] = ()
    holders: Mapping[Digest, tuple[NodeName, ...]] = field(factory=dict)


@frozen
class TaskResult:
    task: TaskId
    outputs: tuple[Output, ...]


@frozen
class Results:
    app: AppId
    state: ApplicationStateName
    results: tuple[TaskResult, ...]


@frozen
class Piece:
    """The next bytes; an empty piece is the end of an empty blob."""

    data: bytes


@frozen
class Reasons:
    """What a task waits for, most important first, each one line with names in it."""

    state: TaskStateName
    reasons: tuple[str, ...]


@frozen
class LastWord:
    """A replica, and how long ago it was heard of last; None: not since this node began."""

    node: NodeName
    ago_s: float | None


@frozen
class RecoveryPlan:
    """What a recovery would go on with, and what it may lose.

    `entries` are in this node's copy of the journal, `committed` of them are known to be acknowledged; what the
    `others` had beyond those is lost. `finished` of `tasks` are done by this copy.
    """

    app: AppId
    name: str
    node: NodeName
    entries: int
    committed: int
    finished: int
    tasks: int
    others: tuple[LastWord, ...]


@frozen
class Draining:
    """Attempts that still run here, and the applications that this node coordinates and will hand over."""

    running: int
    coordinates: tuple[str, ...]


RequestBody = (
    WhoAreYou
    | ListNodes
    | Submit
    | MissingBlobs
    | PutBlob
    | AddTasks
    | SealApplication
    | ListApplications
    | GetStatus
    | Watch
    | GetTask
    | GetResults
    | GetBlob
    | GetLog
    | Cancel
    | Why
    | Forget
    | JoinGrid
    | Recover
    | Drain
)

HomeRequest = Host | GetPlacement | MissingBlobs | TakeBlobs | TakeBatch | TakeSeal | GetHolders

ReplyBody = (
    Refusal
    | Done
    | Self
    | Nodes
    | Opened
    | Missing
    | Accepted
    | Applications
    | Status
    | Happened
    | Progress
    | TaskDetail
    | Results
    | Piece
    | Reasons
    | Hosted
    | Holders
    | Moved
    | Forgotten
    | RecoveryPlan
    | Draining
)


@frozen
class Request:
    call: int
    body: RequestBody


@frozen
class Reply:
    call: int
    body: ReplyBody
    last: bool = True


@frozen
class Abandon:
    """The client no longer wants replies of this call."""

    call: int


ClientMessage = Request | Abandon


def answered_by_many(body: RequestBody) -> bool:
    """Whether any number of replies follows, and then a `Done` as the last; if not, the only reply is the last."""
    return isinstance(body, Watch | GetBlob | GetLog | GetResults | Drain) or (
        isinstance(body, ListNodes) and body.watch
    )
