"""What the replicas of an application say to each other: its journal as it grows, votes, and what became of it.

All of it concerns one application, and most of it one epoch of it: what comes with a lower epoch than the receiver has
seen is refused, and a higher one is obeyed only after its `Reign`.
"""

from __future__ import annotations

from typing import Literal

from jcpeer.application.task import BlobRef
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.values import Value
from jcpeer.wire.facts import Brought, Entry
from jcpeer.wire.mandates import Mandate
from jcpeer.wire.messages import Outcome, Signed

Proof = Literal["refused", "silent", "left", "parted"]


class Reign(Value):
    """I coordinate this application in this epoch: before all else of the epoch to each node that it concerns, and to a
    replica on each new connection.

    `placed` is a signed `manifest.Placed`; `mandate` is there from the second epoch on. `invited`: the receiver is to
    become a replica, if it will; until it is one it only gets the journal.
    """

    app: AppId
    epoch: Epoch
    placed: Signed
    mandate: Mandate | None = None
    invited: bool = False


class AppendEntries(Value):
    """Entries that follow the one at `after_index`, which has `after_epoch` (None at the beginning).

    `blobs` are small ones that came with them, or with the one before; everything up to `committed` is on `ack`
    journals. Answered by `Kept`, once it is on the disk, or by `Differs`. (Ongaro 2014, section 3.5.)
    """

    app: AppId
    epoch: Epoch
    after_index: int
    after_epoch: Epoch | None
    entries: tuple[Entry, ...] = ()
    blobs: tuple[Brought, ...] = ()
    committed: int = 0


class Kept(Value):
    """My journal agrees with yours up to this index, and has it on the disk.

    `seated`: signed statements about sets that are younger than the one which your mandate proves.
    """

    app: AppId
    epoch: Epoch
    journal: str
    index: int
    seated: tuple[Signed, ...] = ()
    invited: bool = False
    """The sender knows that it is to get a seat, and keeps its copy for that."""


class Differs(Value):
    """My journal does not have the entry that yours follow: try again after this index, at most."""

    app: AppId
    epoch: Epoch
    journal: str
    after_index: int


class NoSeat(Value):
    """I have no copy of that application, or not in the journal that you take for mine: my seat is empty. `journal` is
    the one that I have."""

    app: AppId
    epoch: Epoch
    journal: str


class AskVote(Value):
    """May I coordinate in this epoch? With `pre` nothing is promised. Answered by `VoteAnswer`."""

    app: AppId
    epoch: Epoch
    pre: bool
    placed: Signed
    set_number: int = 0
    """Of the latest set that the sender knows of."""
    quorum_since: Epoch | None = None
    """In that epoch the sender's journal came to need a quorum, where it had been going on without one."""
    bound: bool = False
    """And that is committed, as the sender knows: what was promised since must stay."""


class VoteAnswer(Value):
    """Yes or no, why not, and how far the sender's journal goes. `vote` is a signed `mandates.Vote`, `seated` as in
    `Kept`; `highest` is the highest epoch that the sender has promised or seen."""

    app: AppId
    epoch: Epoch
    pre: bool
    granted: bool
    journal: str
    last_index: int = 0
    last_epoch: Epoch | None = None
    highest: Epoch | None = None
    why: str = ""
    vote: Signed | None = None
    seated: tuple[Signed, ...] = ()
    hears: NodeId | None = None
    """The coordinator that the sender believes alive."""
    unsure: bool = False
    """The sender's machine went down, and may have taken entries along: its yes counts only beside that of each other
    seat."""
    quorum_since: Epoch | None = None
    bound: bool = False
    """Both as in `AskVote`."""


class WantEntries(Value):
    """You voted for me in this epoch, and your journal goes further: send what follows this entry, if yours has it, up
    to `last_index`. Answered by `AppendEntries` of that epoch, one after another, or by `Differs`."""

    app: AppId
    epoch: Epoch
    after_index: int
    after_epoch: Epoch | None
    last_index: int


class UnderwayAttempt(Value):
    """Where an attempt was given to; so many `slots` the application had there then."""

    attempt: AttemptName
    node: NodeId
    slots: int = 0


class Underway(Value):
    """Attempts that were given to participants, and attempts that are so no longer: for whoever takes over. What gets
    lost of it is missing, no more."""

    app: AppId
    epoch: Epoch
    given: tuple[UnderwayAttempt, ...] = ()
    ended: tuple[AttemptName, ...] = ()
    whole: bool = False
    """What was said before counts no more."""


class AskAlive(Value):
    """To the FTC: I miss this participant; do you? Answered by `Alive` or `Suspect`."""

    app: AppId
    epoch: Epoch
    node: NodeId


class Alive(Value):
    """I hear this participant; when I no longer do you will hear of it."""

    app: AppId
    epoch: Epoch
    node: NodeId


class Suspect(Value):
    """I miss this participant, by such proof. That ends nothing: what follows is for the coordinator to say."""

    app: AppId
    epoch: Epoch
    node: NodeId
    proof: Proof


class Retired(Value):
    """I no longer coordinate, and `successor` is to go on; the others are not to wait for me."""

    app: AppId
    epoch: Epoch
    successor: NodeId


class GiveUpSeat(Value):
    """I am about to leave: find another in my place. Answered by a set without me, or not at all."""

    app: AppId


class KeepBlobs(Value):
    """Fetch these and keep them until the application needs them no more. Answered by `Fetched`, in parts, of what is
    here already at once, or by `CannotKeep`. It may come again."""

    app: AppId
    epoch: Epoch
    blobs: tuple[BlobRef, ...]
    holders: tuple[NodeId, ...]


class CannotKeep(Value):
    """There is no room for these, or nobody gave them: why, in words for a person."""

    app: AppId
    blobs: tuple[Digest, ...]
    why: str


class RanThere(Value):
    """An outcome that was journalled in another branch of the application's history, and where it ran."""

    outcome: Outcome
    node: NodeId


class Diverged(Value):
    """What my journal has beyond the point where it agrees with yours, as far as it may still be of use: both of us
    coordinated, each without the other. Answered by `DivergedTaken`; then it is dropped here.

    `cancelled` names tasks, or with None the application; `last` marks the last part.
    """

    app: AppId
    epoch: Epoch
    outcomes: tuple[RanThere, ...]
    cancelled: tuple[TaskId | None, ...]
    last: bool = True


class DivergedTaken(Value):
    app: AppId
    epoch: Epoch


class Buried(Value):
    """The application ended, and nothing is kept of it here but this: a packed `facts.Tombstone`."""

    app: AppId
    tombstone: bytes


ReplicaMessage = (
    Reign
    | AppendEntries
    | Kept
    | Differs
    | NoSeat
    | AskVote
    | VoteAnswer
    | WantEntries
    | Underway
    | AskAlive
    | Alive
    | Suspect
    | Retired
    | GiveUpSeat
    | KeepBlobs
    | CannotKeep
    | Diverged
    | DivergedTaken
    | Buried
)
