"""Everything that a node may say to another one once they have met."""

from __future__ import annotations

from jcpeer.wire.messages import (
    Acknowledge,
    Answer,
    Ask,
    Assign,
    CallBack,
    CancelAttempts,
    ClaimRefused,
    Compare,
    Confirm,
    Decline,
    Engaged,
    Fetched,
    FindNode,
    FoundNodes,
    GivenBack,
    Gone,
    Goodbye,
    Gossip,
    Hand,
    Heartbeat,
    Known,
    Need,
    NotNeeded,
    Offer,
    Ping,
    Pong,
    Probe,
    ProbeAnswer,
    RecordStored,
    Recruit,
    Release,
    Report,
    Started,
    Stay,
    StoreRecord,
    Supervised,
    Take,
    Taken,
    TriedDial,
    TryDial,
    Vouched,
    Wanted,
    Withdraw,
    Yield,
)
from jcpeer.wire.replication import ReplicaMessage

PeerMessage = (
    Heartbeat
    | Goodbye
    | Need
    | Gossip
    | TryDial
    | TriedDial
    | CallBack
    | Compare
    | Known
    | Wanted
    | Ping
    | Pong
    | FindNode
    | FoundNodes
    | StoreRecord
    | RecordStored
    | Recruit
    | Assign
    | Vouched
    | Withdraw
    | CancelAttempts
    | Acknowledge
    | ClaimRefused
    | Offer
    | Gone
    | Yield
    | Supervised
    | Release
    | Confirm
    | Decline
    | Engaged
    | Take
    | Started
    | Stay
    | Report
    | GivenBack
    | Fetched
    | Probe
    | ProbeAnswer
    | NotNeeded
    | Hand
    | Taken
    | Ask
    | Answer
    | ReplicaMessage
)
