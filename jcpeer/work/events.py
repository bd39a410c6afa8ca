"""What a participant hears, and what it wants done. Events come in order; effects are performed in order."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from jcpeer.application.manifest import Header
from jcpeer.application.task import Task
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId
from jcpeer.wire.messages import (
    Acknowledge,
    Assign,
    AttemptOrder,
    CancelAttempts,
    ClaimRefused,
    Gone,
    Hand,
    NotNeeded,
    Offer,
    OrderedInput,
    Outcome,
    Policy,
    Probe,
    ProbeAnswer,
    Recruit,
    Release,
    Stay,
    Supervised,
    Taken,
    Withdraw,
    Yield,
)
from jcpeer.wire.peer import PeerMessage

# --- events


@frozen
class CalledUp:
    """A call-up whose signature holds; `header` is that of the application."""

    node: NodeId
    recruit: Recruit
    header: Header


@frozen
class Assigned:
    """Orders; what they carried is stored. `absent` are the inputs, by attempt, that are not here yet."""

    node: NodeId
    assign: Assign
    absent: Mapping[AttemptName, tuple[OrderedInput, ...]]


@frozen
class Ordered:
    """Any other order."""

    node: NodeId
    message: Withdraw | CancelAttempts | Acknowledge | ClaimRefused | Offer | Gone | Yield | Stay | Supervised | Release


@frozen
class InputsHere:
    """All inputs of the attempt are in the store."""

    key: AttemptKey


@frozen
class InputsMissing:
    """No holder gave these; where none is named, it is this node that could not take them."""

    key: AttemptKey
    digests: tuple[Digest, ...]
    why: str


@frozen
class Ran:
    """The attempt ran to its end."""

    key: AttemptKey
    outcome: Outcome


@frozen
class Killed:
    """Nothing of the attempt runs any more, as was wanted."""

    key: AttemptKey


@frozen
class Unstarted:
    """The attempt was in a line, and has not begun: one before it lasts, or ended their process."""

    key: AttemptKey


@frozen
class Reunited:
    """This node is connected, after a break perhaps: what was told to it last may not have arrived."""

    node: NodeId


@frozen
class Found:
    """Nodes that may have room for what a search looks for, best first."""

    search: int
    nodes: tuple[NodeId, ...]


@frozen
class Told:
    """Another participant's word about a search, ours or its own."""

    node: NodeId
    message: Probe | ProbeAnswer | NotNeeded | Taken


@frozen
class Handed:
    """Another participant's orders, for an application of this user whose signature holds; what they carried is stored,
    and `absent` as in `Assigned`."""

    node: NodeId
    hand: Hand
    header: Header
    absent: Mapping[AttemptName, tuple[OrderedInput, ...]]


@frozen
class NotReached:
    """A message to this node could not be delivered."""

    node: NodeId


@frozen
class Leave:
    """The node stops: hand everything back."""

    reason: str


@frozen
class Drain:
    """The node is to leave when what runs has ended: give back the rest, and take nothing new."""

    reason: str


@frozen
class DiskMeasured:
    """So much is free for tasks."""

    free_bytes: int


@frozen
class PolicyChanged:
    """What the owner allows now, and where nothing new is taken, for how long."""

    policy: Policy
    opens_in_s: float | None = None


@frozen
class Tick:
    """Time passed; a few times a second."""


@frozen
class Quiet:
    """No further event waits: the moment to start attempts and to send reports, once for many events."""


@frozen
class AttemptKey:
    """An attempt of any application."""

    app: AppId
    name: AttemptName


Event = (
    CalledUp
    | Assigned
    | Ordered
    | InputsHere
    | InputsMissing
    | Ran
    | Killed
    | Unstarted
    | Reunited
    | Found
    | Told
    | Handed
    | NotReached
    | Leave
    | Drain
    | DiskMeasured
    | PolicyChanged
    | Tick
    | Quiet
)

# --- effects


@frozen
class Send:
    node: NodeId
    message: PeerMessage


@frozen
class Fetch:
    """Bring these inputs here; `InputsHere` or `InputsMissing` follows, unless `Kill` comes first."""

    key: AttemptKey
    inputs: tuple[OrderedInput, ...]


@frozen
class Find:
    """Name nodes that may have room for so many tasks like this one; `Found` follows."""

    search: int
    app: AppId
    task: Task
    wanted: int


@frozen
class SendHand:
    """Say this, with the bytes of the small inputs that are here."""

    node: NodeId
    hand: Hand


@frozen
class Start:
    """Execute; `Ran` follows, or `Killed` after `Kill`."""

    key: AttemptKey
    epoch: Epoch
    order: AttemptOrder
    waited_s: float
    gpus: tuple[str, ...] = ()
    """Those of the machine that are its own while it runs."""
    behind: tuple[Start, ...] = ()
    """These are likely to be over at once, like this one: they follow it in the same slot. `Ran` follows for each, or
    `Unstarted`."""


@frozen
class Kill:
    """Stop fetching or executing; `Killed` follows."""

    key: AttemptKey


@frozen
class DropBlobs:
    """The application needs nothing here any more."""

    app: AppId


Effect = Send | Fetch | Find | SendHand | Start | Kill | DropBlobs
