"""What a client asks of a node, and what it hears: one protocol over the local socket and, inside `Ask`, the overlay.
At the end of the requests stand those that only nodes ask of each other: to hand an application to its home.

A client sends `Request(call, body)`; the node answers with one or more `Reply` of the same call, the last one marked.
Where many may come (`answered_by_many`), the marked one is a `Done` after all of them.
`Refusal` as a body ends a call with an error. An application is named by its id, a unique prefix of it, or its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import field

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Task
from jcpeer.ids import AppId, Digest, NodeId, TaskId
from jcpeer.values import Number, Value
from jcpeer.wire.facts import Tombstone
from jcpeer.wire.messages import NodeRecord, Output, Signed

TaskStateName = Literal["waiting", "ready", "assigned", "running", "finished", "failed", "cancelled", "skipped"]
ApplicationStateName = Literal["open", "running", "stalled", "ok", "failed", "cancelled"]
SeatState = Literal["coordinator", "copy", "catching up", "missing", "unsure"]
"""Of a replica. "unsure": its machine was switched off, so that its journal may lack what it had acknowledged."""

# --- requests


class WhoAreYou(Value, tag=True):
    """Answered by `Self`."""


class ListNodes(Value, tag=True):
    """Answered by `Nodes`; with `watch` again at each change."""

    watch: bool = False


class Submit(Value, tag=True):
    """Open an application. Answered by `Opened`; sent again, with the same id."""

    header: Header


class MissingBlobs(Value, tag=True):
    """Answered by `Missing`: which of these the application's home does not hold yet."""

    app: AppId
    digests: tuple[Digest, ...]


class PutBlob(Value, tag=True):
    """One piece of a blob, in order from offset 0; answered by `Done` at each piece, checked at the last."""

    app: AppId
    blob: BlobRef
    offset: int
    data: bytes


class PutBlobs(Value, tag=True):
    """Blobs that are not large, and that have no room in the batch that will read them. Answered by `Done`."""

    app: AppId
    data: Mapping[Digest, bytes]


class AddTasks(Value, tag=True):
    """One batch. `data` holds small blobs, the large ones were put before. Answered by `Done` once journalled."""

    app: AppId
    number: int
    tasks: tuple[Task, ...]
    blobs: tuple[BlobRef, ...] = ()
    data: Mapping[Digest, bytes] = field(default_factory=dict)


class SealApplication(Value, tag=True):
    """No batch after these. Answered by `Accepted` once journalled with every blob in place."""

    app: AppId
    batches: int


class ListApplications(Value, tag=True):
    """Answered by `Applications`."""


class GetStatus(Value, tag=True):
    """Answered by `Status`."""

    app: str


class Watch(Value, tag=True):
    """Answered by `News` of the committed events after `after_index`, then as they come, until the end.

    `progress` adds `Progress` a few times a second; `values` adds small outputs to the events. `after_epoch` is that of
    the event at `after_index`: a journal that has a higher one in its place is told of from there on. `only`: of these
    tasks alone, and the end.
    """

    app: str
    after_index: int = 0
    progress: bool = False
    values: bool = False
    after_epoch: int = 0
    only: tuple[str, ...] | None = None


class GetTask(Value, tag=True):
    """Answered by `TaskDetail`."""

    app: str
    task: str


class GetResults(Value, tag=True):
    """Answered by one or more `Results`, whose lists follow each other: outputs of one task, or of the application's
    last tasks where `task` is None."""

    app: str
    task: str | None = None


class GetBlob(Value, tag=True):
    """Answered by `Piece` after `Piece`; the node first fetches the blob if it does not hold it."""

    app: AppId
    blob: BlobRef


class GetLog(Value, tag=True):
    """Answered by `Piece` after `Piece` of what the attempt printed; `follow` waits for more until it ends."""

    app: str
    task: str
    attempt: int | None = None
    stream: Literal["stdout", "stderr"] = "stdout"
    follow: bool = False


class Cancel(Value, tag=True):
    """Answered by `Done` once journalled."""

    app: str
    task: str | None = None


class Why(Value, tag=True):
    """Answered by `Reasons`."""

    app: str
    task: str


class Forget(Value, tag=True):
    """Drop an ended application's results and journal. Answered by `Done`."""

    app: str


class JoinGrid(Value, tag=True):
    """Move this running node into the grid of the token. Answered by `Self`."""

    token: str


class Recover(Value, tag=True):
    """Have this node go on with an application of which too many replicas are lost, from its own copy and as a new
    replica set. Unless `confirmed` nothing is done, and the answer is a `RecoveryPlan`; else `Done` once it
    coordinates."""

    app: str
    confirmed: bool = False


class Drain(Value, tag=True):
    """Take nothing new, and leave when what runs has ended. Answered by `Draining` at each change, until it leaves."""


# --- requests of one node to another: the submitter's node to the application's home, and who looks for either


class Host(Value, tag=True):
    """This application is to live with you. `placed` is a signed `manifest.Placed`. Answered by `Hosted` once
    journalled; sent again, with what it was opened with."""

    placed: Signed


class GetPlacement(Value, tag=True):
    """Does this application live with you? Answered by `Hosted`."""

    app: AppId


class TakeBlobs(Value, tag=True):
    """Its tasks will read these: the small ones are in `data`, fetch the others from me. Answered by `Done` once they
    are there."""

    app: AppId
    blobs: tuple[BlobRef, ...] = ()
    data: Mapping[Digest, bytes] = field(default_factory=dict)


class TakeBatch(Value, tag=True):
    """A signed `manifest.Batch`; `data` holds small blobs, what else is missing is fetched from the asker. Answered by
    `Done` once journalled.

    `handed_on`: by a node that coordinated as well. It is answered before that is committed, which may have to wait for
    this very node; it drops what it has in exchange for the journal in which this is.
    """

    app: AppId
    batch: Signed
    data: Mapping[Digest, bytes] = field(default_factory=dict)
    handed_on: bool = False


class TakeSeal(Value, tag=True):
    """A signed `manifest.Seal`. Answered by `Accepted` once journalled with every blob in place; before, where it is
    `handed_on` (see `TakeBatch`)."""

    app: AppId
    seal: Signed
    handed_on: bool = False


class GetHolders(Value, tag=True):
    """Who has this blob of the application? Answered by `Holders`."""

    app: AppId
    digest: Digest


# --- replies


class Refusal(Value, tag=True):
    """No, and why: one line with the remedy. `kind` is "unknown", "ambiguous", "invalid" or "unreachable"."""

    kind: str
    text: str


class Done(Value, tag=True):
    """Yes."""


class Self(Value, tag=True):
    """The node that answers."""

    record: NodeRecord
    grid: str
    grid_fingerprint: str
    listens: tuple[str, ...]


class SeenNode(Value, tag=True):
    """A node in the directory; `age_s` since it last spoke, 0 for the node that answers; of one that is not `connected`
    to that node, since its record was heard from others, who would tell of its death."""

    record: NodeRecord
    age_s: Number
    address: str
    myself: bool = False
    connected: bool = True


class Nodes(Value, tag=True):
    nodes: tuple[SeenNode, ...]
    notices: tuple[str, ...] = ()
    """Lines for a person, such as another grid seen on the LAN and how to join it."""


class Opened(Value, tag=True):
    app: AppId


class Missing(Value, tag=True):
    digests: tuple[Digest, ...]


class Accepted(Value, tag=True):
    """`copies` journals hold it; `caveat` is the line that says what is not promised with so few."""

    app: AppId
    copies: int
    caveat: str = ""


class NodeName(Value, tag=True):
    id: NodeId
    name: str


class Hosted(Value, tag=True):
    """The application lives here; `placed` is what it was opened with."""

    placed: Signed


class Moved(Value, tag=True):
    """I have a copy of this application's journal, and do not coordinate it. `coordinator`: who does, as far as I know;
    None while there is none, `missing` then being the replicas for which a takeover waits. `replicas` may know more."""

    app: AppId
    epoch: int
    coordinator: NodeName | None = None
    replicas: tuple[NodeId, ...] = ()
    missing: tuple[NodeName, ...] = ()


class Forgotten(Value, tag=True):
    """The application ended and was forgotten."""

    tombstone: Tombstone


class Holders(Value, tag=True):
    """Best first."""

    nodes: tuple[NodeId, ...]


class ApplicationSummary(Value, tag=True):
    """Counts are tasks by state. `missing`: the replicas for which a stalled application waits."""

    app: AppId
    name: str
    user: str
    state: ApplicationStateName
    submitted_s: Number
    tasks: Mapping[str, int]
    coordinator: NodeName
    missing: tuple[NodeName, ...] = ()


class Applications(Value, tag=True):
    applications: tuple[ApplicationSummary, ...]


class Share(Value, tag=True):
    """What one node did for an application: attempts that succeeded, failed or were lost, and busy seconds."""

    node: NodeName
    finished: int
    failed: int
    lost: int
    busy_s: Number


class ReplicaView(Value, tag=True):
    """A node that keeps the journal, or is to. `missing_s`: how long it has not answered."""

    node: NodeName
    state: SeatState
    missing_s: Number = 0.0


class ReconciledView(Value, tag=True):
    """Two nodes had coordinated without each other. Of what `node` had done meanwhile `twice` ran on both sides, and of
    `changed` another result had been shown."""

    node: NodeName
    twice: tuple[TaskId, ...]
    changed: tuple[TaskId, ...]


class Status(Value, tag=True):
    """`promise` says in one line what may be lost without loss; see `node.safety`."""

    summary: ApplicationSummary
    epoch: int
    coordinator: NodeName
    replicas: tuple[ReplicaView, ...]
    participants: tuple[NodeName, ...]
    attempts: int
    takeovers: int
    seconds: Number
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
    index: int = 0
    index_epoch: int = 0
    """Of the last entry that had been told of when this was said: whoever watches from there on misses nothing."""


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


class Happened(Value):
    """A committed event. `index` is that of its journal entry; a client resumes after the last one that it saw."""

    index: int
    at_s: Number
    kind: EventKind
    task: TaskId | None = None
    attempt: int | None = None
    node: NodeName | None = None
    ran_s: Number = 0.0
    text: str = ""
    final: bool = False
    """No later event changes this task's state, barring `output_lost`."""
    outputs: tuple[Output, ...] = ()
    epoch: int = 0
    """The counter of its entry's epoch; 0 where that is not told."""


class News(Value, tag=True):
    """Events that follow each other: what had been committed when it was told, up to some hundred at a time. Of several
    tens of thousands a second each for itself would cost more than what it tells of."""

    events: tuple[Happened, ...]


class Progress(Value, tag=True):
    """How it stands: tasks by state; busy attempts by node; tasks finished a second of late; seconds left, if known.
    `missing`: the replicas for which it waits, where it is stalled. `copies`: who else could go on with it. Without
    tasks where nobody coordinates it, so that nobody counts."""

    tasks: Mapping[str, int]
    running: Mapping[str, int]
    rate: Number
    left_s: Number | None
    missing: tuple[NodeName, ...] = ()
    copies: tuple[NodeName, ...] = ()


class AttemptView(Value, tag=True):
    number: int
    epoch: int
    node: NodeName
    state: str
    started_s: Number | None = None
    waited_s: Number | None = None
    ran_s: Number | None = None
    exit_status: int | None = None
    text: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""


class TaskDetail(Value, tag=True):
    app: AppId
    task: TaskId
    state: TaskStateName
    attempts: tuple[AttemptView, ...]
    outputs: tuple[Output, ...] = ()
    holders: Mapping[Digest, tuple[NodeName, ...]] = field(default_factory=dict)


class TaskResult(Value, tag=True):
    task: TaskId
    outputs: tuple[Output, ...]


class Results(Value, tag=True):
    app: AppId
    state: ApplicationStateName
    results: tuple[TaskResult, ...]


class Piece(Value, tag=True):
    """The next bytes; an empty piece is the end of an empty blob."""

    data: bytes


class Reasons(Value, tag=True):
    """What a task waits for, most important first, each one line with names in it."""

    state: TaskStateName
    reasons: tuple[str, ...]


class LastWord(Value, tag=True):
    """A replica, and how long ago it was heard of last; None: not since this node began."""

    node: NodeName
    ago_s: Number | None


class RecoveryPlan(Value, tag=True):
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


class Draining(Value, tag=True):
    """Attempts that still run here, and the applications that this node coordinates and will hand over."""

    running: int
    coordinates: tuple[str, ...]


RequestBody = (
    WhoAreYou
    | ListNodes
    | Submit
    | MissingBlobs
    | PutBlob
    | PutBlobs
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
    | News
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


class Request(Value, tag=True):
    call: int
    body: RequestBody


class Reply(Value, tag=True):
    call: int
    body: ReplyBody
    last: bool = True


class Abandon(Value, tag=True):
    """The client no longer wants replies of this call."""

    call: int


ClientMessage = Request | Abandon


def answered_by_many(body: RequestBody) -> bool:
    """Whether any number of replies follows, and then a `Done` as the last; if not, the only reply is the last."""
    return isinstance(body, Watch | GetBlob | GetLog | GetResults | Drain) or (
        isinstance(body, ListNodes) and body.watch
    )
