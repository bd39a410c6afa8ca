"""What a coordinator hears, and what it wants done. Events come in order; effects are performed in order."""

from __future__ import annotations

from attrs import frozen

from jcpeer.application.manifest import Batch
from jcpeer.application.task import BlobRef
from jcpeer.ids import Digest, NodeId, TaskId
from jcpeer.net.events import Proof
from jcpeer.wire.facts import Entry, ReplicasChanged
from jcpeer.wire.messages import (
    AttemptOrder,
    Confirm,
    Decline,
    Engaged,
    Fetched,
    GivenBack,
    NodeRecord,
    Report,
    Signed,
    Started,
    Take,
)
from jcpeer.wire.peer import PeerMessage
from jcpeer.wire.replication import Alive, CannotKeep, Diverged, Suspect, Underway

# --- events


@frozen
class BatchAdded:
    """A checked batch came from the submitter, signed, and as it was before it was packed; its blobs are in the
    store."""

    batch: Batch
    signed: Signed


@frozen
class SealReceived:
    seal: Signed


@frozen
class NodeSeen:
    """A node is in the directory, or its record changed."""

    record: NodeRecord


@frozen
class NodeLost:
    """A node left the directory, with what it ran and what it held. `proof` as in `PeerDown`: silence is a guess."""

    node: NodeId
    why: str
    proof: Proof


Answer = (
    Confirm
    | Decline
    | Engaged
    | Take
    | Started
    | Report
    | GivenBack
    | Fetched
    | CannotKeep
    | Diverged
    | Alive
    | Suspect
)


@frozen
class Heard:
    """A participant's answer, or a replica's."""

    node: NodeId
    message: Answer


@frozen
class Committed:
    """All entries up to this index are on `ack` journals."""

    index: int


@frozen
class Collected:
    """Our own node now holds this blob."""

    digest: Digest


@frozen
class CollectFailed:
    """None of these holders gave it."""

    digest: Digest
    holders: tuple[NodeId, ...]


@frozen
class CancelRequested:
    """By the user: one task, or the application."""

    task: TaskId | None


@frozen
class SetChanged:
    """The next replica set is to be recorded."""

    fact: ReplicasChanged


@frozen
class FtcChanged:
    """This replica supervises participants from now on, beside us; None: nobody does."""

    node: NodeId | None


@frozen
class Woke:
    """This node was held up for a while: whom it now hears to be gone, it may itself have been silent to."""


@frozen
class Tick:
    """Time passed; a few times a second."""


@frozen
class Quiet:
    """No further event waits: the moment to place what is ready, once for many events."""


Event = (
    BatchAdded
    | SealReceived
    | NodeSeen
    | NodeLost
    | Heard
    | Committed
    | Collected
    | CollectFailed
    | CancelRequested
    | SetChanged
    | FtcChanged
    | Woke
    | Tick
    | Quiet
)

# --- effects


@frozen
class Record:
    """Append to the journal; `Committed` of its index follows."""

    entry: Entry


@frozen
class Send:
    """A message to a node; it may get lost with the connection."""

    node: NodeId
    message: PeerMessage


@frozen
class SendOrders:
    """`Assign` these, with the bytes of the small inputs named in `attach`."""

    node: NodeId
    orders: tuple[AttemptOrder, ...]
    attach: tuple[Digest, ...]


@frozen
class Tell:
    """To every client that watches: this is committed."""

    entry: Entry


@frozen
class Collect:
    """Bring a blob here; `Collected` or `CollectFailed` follows."""

    blob: BlobRef
    holders: tuple[NodeId, ...]


@frozen
class InputsKept:
    """All large inputs that have been added are on enough nodes: `Coordinator.inputs_kept`."""


@frozen
class TellReplicas:
    """Where attempts are, and are no longer, to the other nodes of the replica set; it may get lost."""

    underway: Underway


@frozen
class Over:
    """The application has ended, and that is committed."""

    status: str


Effect = Record | Send | SendOrders | Tell | Collect | InputsKept | TellReplicas | Over
