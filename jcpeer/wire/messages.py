"""What nodes say to each other, as frozen values.

Every order (`Recruit`, `Assign`, `Withdraw`, `CancelAttempts`, `Acknowledge`, `Yield`, `Release`) bears application and
epoch once a frame. An order of a lower epoch than the highest seen is refused; an
outcome is a fact and passes with any. New fields get defaults: a reader ignores what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import field

from jcpeer.application.task import BlobRef, Needs, Task, Work
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.values import Number, Value

VERSION_MAJOR = 1
VERSION_MINOR = 0

NodeState = Literal["idle", "participant", "coordinator"]


class Signed(Value):
    """Packed bytes and who vouches for them: an Ed25519 signature by the node that `chain` certifies."""

    payload: bytes
    signature: bytes
    chain: tuple[bytes, ...] = ()


# --- the first frame of a connection, both ways


class Hello(Value):
    """Opens a connection: the dialler's first, the listener's in answer once the dialler's was found good.

    `chain` is the packed certificate chain from the grid's root to the node (`membership.certificates`), `addresses`
    are multiaddresses at which the sender can be dialled, `incarnation` its start time in milliseconds since 1970.
    """

    major: int
    minor: int
    chain: tuple[bytes, ...]
    name: str
    incarnation: int
    addresses: tuple[str, ...] = ()


class Turned(Value):
    """The answer to a `Hello` that was found wanting: one line, and the connection closes. Tells nothing else."""

    reason: str


class Heartbeat(Value):
    """I live; sent each `heartbeat_s` where nothing else was sent."""


class Goodbye(Value):
    """I close this connection on purpose: do not redial. `stays`: for want of use only, and I live on; otherwise I
    leave, and am to be forgotten at once."""

    stays: bool = False


class Need(Value):
    """Whether I need this connection for more than what is being said. One that neither end needs, and over which
    nothing was said for a while, is closed."""

    needed: bool


# --- the directory


class Policy(Value):
    """Whose work a node takes, and which. A label with the value "" stands for any value of it."""

    only_users: tuple[str, ...] = ()
    refuse_users: tuple[str, ...] = ()
    only_labels: Mapping[str, str] = field(default_factory=dict)
    refuse_labels: Mapping[str, str] = field(default_factory=dict)
    closed: str = ""
    """Why nothing new is taken at present, and until when, in words; empty where it is."""


class NodeRecord(Value):
    """What a node offers and what it is doing. A higher (incarnation, version) replaces a lower one."""

    node: NodeId
    name: str
    user: str
    host: str
    incarnation: int
    version: int
    state: NodeState
    slots: int
    slots_used: int
    cpus: int
    memory_bytes: int
    load: Number
    python: str
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    coordinates: bool = True
    trusts_grid: bool = False
    gpus: int = 0
    disk_bytes: int = 0
    """Free for tasks when the record was made."""
    cost: Number = 0.0
    """What its owner charges for an hour of one slot, in whatever unit the grid has agreed upon."""
    dialable: bool = True
    """Others can connect to it; False once it was found that they cannot."""
    policy: Policy = Policy()
    journal: str = ""
    """The name of the journal file in which it would keep copies for others."""


class News(Value):
    """A node's record as that node signed it, so that anybody can pass it on; named beside it is what must be known to
    see whether it is news at all."""

    node: NodeId
    incarnation: int
    version: int
    record: Signed


class Obituary(Value):
    """A node was lost by one that was connected to it, when its record had this (incarnation, version); a record of a
    higher one refutes it."""

    node: NodeId
    incarnation: int
    version: int
    proof: Literal["refused", "silent", "left"]


class Gossip(Value):
    """Who is there, and who no longer is, as the sender has lately heard."""

    news: tuple[News, ...] = ()
    deaths: tuple[Obituary, ...] = ()


class Contact(Value):
    """A node and where it can be dialled. Its key follows from its id, and the handshake proves the id, so a contact is
    no more than a reason to ask there."""

    node: NodeId
    addresses: tuple[str, ...]


class TryDial(Value):
    """Can you connect to me, at any of these? Answered by `TriedDial` of the same call."""

    call: int
    addresses: tuple[str, ...]


class TriedDial(Value):
    call: int
    reached: bool


class CallBack(Value):
    """`target` cannot be dialled, so it is to dial `caller` itself; passed on by one that is connected to both."""

    target: NodeId
    caller: Contact


class Compare(Value):
    """A digest of all that the sender knows of nodes; who knows something else answers `Known`."""

    digest: str


class KnownNode(Value):
    node: NodeId
    incarnation: int
    version: int


class Known(Value):
    """Of whom the sender knows how much. Answered by `Gossip` of what is newer here, and by `Wanted`."""

    nodes: tuple[KnownNode, ...]


class Wanted(Value):
    """The sender lacks these; answered by `Gossip`."""

    nodes: tuple[NodeId, ...]


# --- finding by key (Kademlia); keys are 40 hexadecimal digits


class Ping(Value):
    """Answered by `Pong` of the same call."""

    call: int


class Pong(Value):
    call: int


class FindNode(Value):
    """Whom do you know nearest to this key? Answered by `FoundNodes` of the same call.

    `record`: and the record that you keep under that very key. `introduce`: and your own news.
    """

    call: int
    key: str
    record: bool = False
    introduce: bool = False


class FoundNodes(Value):
    """The nearest that the sender knows, itself left out, nearest first."""

    call: int
    contacts: tuple[Contact, ...]
    record: Signed | None = None
    news: News | None = None


class StoreRecord(Value):
    """Keep this under that key for as long as it says of itself. Answered by `RecordStored` of the same call."""

    call: int
    key: str
    record: Signed


class RecordStored(Value):
    """`refusal` is empty where it was kept; otherwise why not, in words."""

    call: int
    refusal: str = ""


# --- orders of a coordinator


class Recruit(Value):
    """Take part in this application: a claim on slots. `placed` is the submitter's signature over `manifest.Placed`."""

    app: AppId
    epoch: Epoch
    placed: Signed
    slots: int = 0
    """How many the application could use now, on all nodes together; 0: as many as you have."""
    at_once: int = 1
    """How many its widest ready task takes: fewer would not help it."""
    ftc: NodeId | None = None
    """Who supervises beside me: keep a connection to it, too."""


class OrderedInput(Value):
    """An input whose content is settled. `holders` have it beyond what the frame carries, best first."""

    name: str
    blob: BlobRef
    holders: tuple[NodeId, ...] = ()
    executable: bool = False


class Right(Value):
    """A task that may be started without asking, in the same epoch, once its only parent has succeeded here.

    The attempt that then begins has this number, which no other attempt of the task has; `shared` as in the order.
    """

    task: Task
    number: int
    shared: tuple[TaskId, ...] = ()


class AttemptOrder(Value):
    """Run this task once. `rights` are for the tasks below it, parents before children, and `shared` are those that
    wait for it and for others: whoever has finished it may claim them."""

    task: TaskId
    number: int
    work: Work
    inputs: tuple[OrderedInput, ...] = ()
    outputs: tuple[str, ...] = ()
    needs: Needs = Needs()
    timeout_s: Number | None = None
    rights: tuple[Right, ...] = ()
    shared: tuple[TaskId, ...] = ()
    once: bool = False
    """It must not start twice, not even where that is the simplest way to go on."""


class Assign(Value):
    """Run these; `blobs` holds the small inputs that the participant is not known to have."""

    app: AppId
    epoch: Epoch
    orders: tuple[AttemptOrder, ...]
    blobs: Mapping[Digest, bytes] = field(default_factory=dict)


class Vouched(Value):
    """A batch of the application as its submitter signed it (`manifest.Batch`): orders of its tasks follow. For
    participants that obey nobody else."""

    app: AppId
    batch: Signed


class Withdraw(Value):
    """Give these back if they have not started; each is answered by `GivenBack` or in time by its outcome."""

    app: AppId
    epoch: Epoch
    attempts: tuple[AttemptName, ...]


class CancelAttempts(Value):
    """Stop these, started or not; answered by `GivenBack` once nothing of them runs."""

    app: AppId
    epoch: Epoch
    attempts: tuple[AttemptName, ...]


class Acknowledge(Value):
    """The outcomes of these are journalled: forget them. `attempts` may have been ordered in an earlier epoch."""

    app: AppId
    epoch: Epoch
    attempts: tuple[AttemptName, ...]


class ClaimRefused(Value):
    """These shared tasks that you claimed are not yours to start: why, task by task, in words."""

    app: AppId
    epoch: Epoch
    tasks: tuple[TaskId, ...]
    reasons: tuple[str, ...]


class Offered(Value):
    """A ready task that whoever has room may take."""

    task: TaskId
    needs: Needs = Needs()


class Offer(Value):
    """Who takes one of these first is given it. They stand for `lease_s`, or until `Gone`."""

    app: AppId
    epoch: Epoch
    tasks: tuple[Offered, ...]
    lease_s: Number


class Gone(Value):
    """These are no longer to be had: another was first, or they are over."""

    app: AppId
    epoch: Epoch
    tasks: tuple[TaskId, ...]


class Yield(Value):
    """Nothing more is to come for now: whoever wants them may have the slots beyond what runs and waits.

    As long as nobody does they stay granted, and orders may come. The next `Recruit` claims them again.
    """

    app: AppId
    epoch: Epoch


class Stay(Value):
    """You leave, and only you have these outputs, which are needed: stay while I fetch them, if you can. Those that are
    `fetched` keep you no longer; where nothing is needed, nothing is named."""

    app: AppId
    epoch: Epoch
    blobs: tuple[Digest, ...]
    fetched: tuple[Digest, ...] = ()


class Supervised(Value):
    """This node supervises beside me from now on, in place of the one before; None: nobody does."""

    app: AppId
    epoch: Epoch
    ftc: NodeId | None


class Release(Value):
    """You are no longer needed: stop what runs, drop the application's blobs. `ended` where the application has."""

    app: AppId
    epoch: Epoch
    ended: bool


# --- answers of a participant


class Confirm(Value):
    """The application has so many of my slots from now on; these attempts of it I already run or keep an outcome of.

    It comes in answer to `Recruit`, and whenever the number changes. What runs goes on whatever the number.
    """

    app: AppId
    epoch: Epoch
    slots: int
    known: tuple[AttemptName, ...] = ()
    why: str = ""
    """Why there are no more, in words for a person."""
    retry_s: Number | None = None
    """With no slots: when a claim may come again; None: in a while."""


class Decline(Value):
    """I do not take part, or no longer: why, in words for a person."""

    app: AppId
    epoch: Epoch
    reason: str
    retry_s: Number | None = None
    leaving: bool = False
    """I go, with outputs of it. Answered by `Stay`."""
    idle: bool = False
    """No attempt of it is here, and no outcome. Otherwise that is not known to whoever declines."""
    refused: tuple[AttemptName, ...] = ()
    """Orders that came, and are declined with this: they never started."""


class Engaged(Value):
    """I take part with so many slots, by the word of another participant, who has handed me these attempts."""

    app: AppId
    epoch: Epoch
    slots: int
    attempts: tuple[AttemptName, ...]


class Take(Value):
    """Of what was offered, I have room for these."""

    app: AppId
    epoch: Epoch
    tasks: tuple[TaskId, ...]


class Started(Value):
    """These attempts now run."""

    app: AppId
    attempts: tuple[AttemptName, ...]


class Output(Value):
    """What an attempt left under a name. `data` is there for a small blob in a report, and only there."""

    name: str
    blob: BlobRef
    data: bytes | None = None
    apart: bool = False
    """A small blob for which the report had no room: like a large one it is to be fetched from the participant."""

    @property
    def carried(self) -> bool:
        """Its bytes come with the report, and are journalled with it."""
        return self.blob.small and not self.apart


FailureKind = Literal["exit", "exception", "timeout", "missing_output", "missing_package", "setup", "killed"]


class Failure(Value):
    """Why an attempt did not succeed: `text` is one line or a traceback, `remedy` what the user can do, if known."""

    kind: FailureKind
    text: str
    remedy: str = ""


class Outcome(Value):
    """What an attempt ended in. It names the digests that it consumed, so that a result computed from a parent's
    result that did not survive is never taken.

    Times are in seconds; `started_s` since 1970 by the participant's clock, for showing only.
    """

    task: TaskId
    epoch: Epoch
    number: int
    failure: Failure | None
    outputs: tuple[Output, ...]
    consumed: tuple[Digest, ...]
    exit_status: int | None
    started_s: Number
    waited_s: Number
    ran_s: Number
    cpu_s: Number = 0.0
    stdout: BlobRef | None = None
    stderr: BlobRef | None = None
    stdout_tail: str = ""
    stderr_tail: str = ""

    @property
    def attempt(self) -> AttemptName:
        return AttemptName(self.task, self.epoch.counter, self.number)


class InHand(Value):
    """A successor that was started, or is about to be, by the right to do so: where. None: at the sender."""

    attempt: AttemptName
    node: NodeId | None = None


class Report(Value):
    """Outcomes, parents first; each is kept by the participant until acknowledged.

    `ran_by` says, one for one, where they ran, if that is not the sender everywhere (None is the sender). Of their
    successors those `in_hand` are taken care of, those `left` are again the coordinator's to place, and those shared
    ones that the sender would start are its `claims`.
    """

    app: AppId
    outcomes: tuple[Outcome, ...]
    ran_by: tuple[NodeId | None, ...] = ()
    in_hand: tuple[InHand, ...] = ()
    left: tuple[AttemptName, ...] = ()
    claims: tuple[TaskId, ...] = ()


class GivenBack(Value):
    """These attempts will have no outcome here: withdrawn, refused, or cut short.

    `missing` names inputs that no holder gave; the coordinator then looks whether anybody still has them.
    """

    app: AppId
    attempts: tuple[AttemptName, ...]
    reason: str
    missing: tuple[Digest, ...] = ()
    lost: bool = False
    """They had started: each counts as a lost attempt."""
    unstarted: bool = False
    """It is certain that none of them started here, nor will."""


class Fetched(Value):
    """I now hold these blobs beside their other holders."""

    app: AppId
    blobs: tuple[Digest, ...]


# --- from participant to participant


class Probe(Value):
    """Have you room for so many attempts with these needs, at once? `search` is the asker's name for what it looks
    for. Answered by `ProbeAnswer`."""

    app: AppId
    epoch: Epoch
    search: int
    wanted: int
    needs: Needs = Needs()


class ProbeAnswer(Value):
    """Room for so many is held for you for `lease_s`; if it is for none, why."""

    app: AppId
    search: int
    granted: int
    lease_s: Number = 0.0
    reason: str = ""


class NotNeeded(Value):
    """The room that you hold for this search."""

    app: AppId
    search: int


class Passed(Value):
    """An outcome that its coordinator may not have heard of yet, and who has its successors; None: the sender."""

    outcome: Outcome
    node: NodeId | None
    in_hand: tuple[InHand, ...] = ()


class Hand(Value):
    """Run these for that coordinator, in the room that you hold for me.

    `placed` is the submitter's signature over `manifest.Placed`, `ancestors` what came before, parents first, and
    `blobs` small inputs. Answered by `Taken`.
    """

    app: AppId
    epoch: Epoch
    search: int
    coordinator: NodeId
    placed: Signed
    orders: tuple[AttemptOrder, ...]
    ancestors: tuple[Passed, ...] = ()
    blobs: Mapping[Digest, bytes] = field(default_factory=dict)


class Taken(Value):
    """Of what you handed me I have these, and answer for them to the coordinator."""

    app: AppId
    search: int
    attempts: tuple[AttemptName, ...]


# --- clients' requests carried between nodes (`wire.requests`)


class Ask(Value):
    """A client's packed request, passed on to a node that may know the answer."""

    call: int
    request: bytes


class Answer(Value):
    """One packed reply to `Ask`; `last` ends the call."""

    call: int
    reply: bytes
    last: bool
