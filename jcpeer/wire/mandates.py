"""By what right a node coordinates an application: statements that replicas sign, and what they add up to.

Epoch 1 belongs to the first seat of the set that the submitter signed. Whoever took over shows a `Mandate`: enough
votes of a replica set, and for each change that led from the signed set to that one enough statements of the set before
it. So anybody can judge a new epoch who knows nothing but the submission. `ft.mandate` judges; see there.
"""

from __future__ import annotations

from jcpeer.application.manifest import ReplicaSet
from jcpeer.ids import AppId, Epoch
from jcpeer.values import Value
from jcpeer.wire.messages import Signed


class Vote(Value):
    """The signer has promised, on its disk, that journal `journal` takes nothing of a lower epoch any more."""

    app: AppId
    epoch: Epoch
    journal: str


class Seated(Value):
    """The signer's journal has the entry by which this set follows on the one before it."""

    app: AppId
    replica_set: ReplicaSet
    journal: str


class Link(Value):
    """A set, and signed `Seated` statements about it by seats of the set before it."""

    replica_set: ReplicaSet
    statements: tuple[Signed, ...]


class Recovered(Value):
    """The user has the one seat of this set go on in this epoch, whatever the journals out of reach may hold: sets are
    counted from it on. Signed by a node of the application's user."""

    app: AppId
    epoch: Epoch
    replica_set: ReplicaSet


class Mandate(Value):
    """For this epoch. `links` lead from the set that the submitter signed to the one of which `votes` are.

    `recovered` is a signed `Recovered`, where there was one: links lead from its set, and its own epoch needs neither
    links nor votes.
    """

    app: AppId
    epoch: Epoch
    links: tuple[Link, ...]
    votes: tuple[Signed, ...]
    recovered: Signed | None = None
