"""What one copy of an application's journal hears, and what it wants done. Events come in order; effects are performed
in order, and nothing of a later event before them.

The machine (`ft.replica`) knows the shape of the log and who has how much of it, not what is in it.
"""

from __future__ import annotations

from attrs import frozen

from jcpeer.application.manifest import ReplicaSet, Seat
from jcpeer.ids import Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.wire.facts import Brought, Entry
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import (
    AppendEntries,
    AskVote,
    Differs,
    GiveUpSeat,
    Kept,
    NoSeat,
    Retired,
    VoteAnswer,
    WantEntries,
)

Heeded = AppendEntries | Kept | Differs | NoSeat | AskVote | VoteAnswer | WantEntries | Retired | GiveUpSeat

# --- what it begins with


@frozen
class Run:
    """Entries from this index on have this epoch, up to the next run."""

    first_index: int
    epoch: Epoch


@frozen
class SetChange:
    """The entry at this index brought this set."""

    index: int
    replica_set: ReplicaSet


@frozen
class LogShape:
    """A journal as it is on the disk: `committed` is what its last run knew to be on `ack` journals."""

    runs: tuple[Run, ...] = ()
    last_index: int = 0
    committed: int = 0
    sets: tuple[SetChange, ...] = ()
    promised: Epoch | None = None
    unsure: bool = False
    """The machine went down since, and may have taken entries along; or the copy is new."""
    new: bool = False
    """It has never caught up, and may have been made in place of one that was counted for something."""
    ended_index: int = 0
    """Of the application's end; 0 where it has not come."""


# --- events


@frozen
class Heard:
    """A message of a member; what is signed in it was checked, and the sender of a `VoteAnswer` signed its vote."""

    node: NodeId
    message: Heeded


@frozen
class ReignHeard:
    """This node coordinates in that epoch: its mandate holds. `proven`: the set that voted for it."""

    node: NodeId
    epoch: Epoch
    proven: ReplicaSet
    invited: bool
    recovered: bool = False
    """By its user's word and not by votes: whatever differs from its journal is to go, committed or not."""
    passed_on: bool = False
    """Somebody else says so: it may not know that this copy is here."""


@frozen
class Recorded:
    """This node's coordinator recorded these; they are queued for the disk already."""

    entries: tuple[Entry, ...]


@frozen
class Written:
    """The disk has the journal up to this index, as all that was ordered until now makes it: what a `Truncate` took
    back does not count any more, even if the disk has still to hear of it."""

    index: int


@frozen
class Promised:
    """The disk has this promise."""

    epoch: Epoch


@frozen
class Up:
    """A connection to this node stands."""

    node: NodeId


@frozen
class Down:
    """And now it does not. `proof` as in `PeerDown`; a redial that was refused proves that the process is gone."""

    node: NodeId
    proof: Proof


@frozen
class Newcomers:
    """Eligible members beyond the set, best first; as they are at present."""

    seats: tuple[Seat, ...]


@frozen
class Retire:
    """The node leaves: hand over what it coordinates, and give up its seat."""


@frozen
class Told:
    """The coordinator has taken what `Diverging` was about: it may go now."""


@frozen
class Recover:
    """The user wants this copy to go on alone, whatever may be lost."""


@frozen
class Unproven:
    """This node cannot show by what right it would coordinate: too few have signed that they have its set. Somebody who
    has a seat in the set before it may."""


@frozen
class Woke:
    """This node was held up: what it believes of others may be long past."""


@frozen
class Tick:
    """Time passed."""


Event = (
    Heard
    | ReignHeard
    | Recorded
    | Written
    | Promised
    | Up
    | Down
    | Newcomers
    | Retire
    | Told
    | Recover
    | Unproven
    | Woke
    | Tick
)

# --- effects


@frozen
class Send:
    """To a replica. The shell signs what is to be signed: the vote in a granted `VoteAnswer`, statements about sets."""

    node: NodeId
    message: AppendEntries | Kept | Differs | NoSeat | AskVote | VoteAnswer | WantEntries | Retired | GiveUpSeat


@frozen
class SendReign:
    """The `Reign` of this node's current epoch, or an invitation in it."""

    node: NodeId
    invited: bool = False


@frozen
class PassOnReign:
    """The `Reign` that was heard of last, to those who followed this node until then: nobody else may know of them."""

    nodes: tuple[NodeId, ...]


@frozen
class Ship:
    """`AppendEntries` with what follows `after_index`, up to `last_index`, in as many frames as needed; where both are
    the same, one frame without entries."""

    node: NodeId
    epoch: Epoch
    after_index: int
    after_epoch: Epoch | None
    last_index: int
    committed: int


@frozen
class Write:
    """Append to the journal; `Written` follows. `synced`: a set changes by it."""

    entries: tuple[Entry, ...]
    blobs: tuple[Brought, ...]
    synced: bool


@frozen
class Truncate:
    """Take back what is after this index. `even_committed`: it counted as promised, where nobody else was needed."""

    after_index: int
    even_committed: bool = False


@frozen
class Promise:
    """`Promised` follows."""

    epoch: Epoch


@frozen
class Committed:
    """Everything up to this index is on `ack` journals, as this node's coordinator counts, or as it was told."""

    index: int


@frozen
class BeginReign:
    """This node coordinates from now on, with the journal as it is: `votes` (signed, those of others) are its right.

    The shell builds the coordinator, which records `TookOver` at once; that comes back as `Recorded`.
    """

    epoch: Epoch
    votes: tuple[Signed, ...]
    predecessor: NodeId | None
    since_s: float
    """When the predecessor was first missed here."""
    alone: ReplicaSet | None = None
    """By the user's word: there are no votes, and this is the next set. To be recorded together with the first entry,
    and on the disk before anybody hears of the reign."""
    unsure: bool = False
    """Too few of those who voted are sure to have all that they had: what was promised last may be lost, everywhere."""


@frozen
class EndReign:
    """Another one does, or nobody: this node's coordinator is to stop, and nothing of it is sent any more."""

    why: str


@frozen
class ChangeSet:
    """This node's coordinator is to record this as the next set."""

    replica_set: ReplicaSet


@frozen
class Stalled:
    """Too few journals are in reach for a promise: these are missing. Empty: it goes on."""

    missing: tuple[NodeId, ...]


@frozen
class Diverging:
    """The coordinator's journal differs from ours after this index, and ours has entries there that somebody may have
    been promised: tell it of them (`Diverged`). Until it has taken them, nothing is truncated."""

    coordinator: NodeId
    epoch: Epoch
    after_index: int


@frozen
class Sure:
    """This copy has caught up: it counts again."""


@frozen
class Dropped:
    """This node has no seat any more: its copy may go. What has to stay is that there was one: a copy that is made
    again begins unsure, for it forgot what it was counted for."""


@frozen
class SeatEmpty:
    """The set gives this node a seat, under a journal that it does not have."""


Effect = (
    Send
    | SendReign
    | PassOnReign
    | Ship
    | Write
    | Truncate
    | Promise
    | Committed
    | BeginReign
    | EndReign
    | ChangeSet
    | Stalled
    | Diverging
    | Sure
    | Dropped
    | SeatEmpty
)
