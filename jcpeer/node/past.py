"""What the journal of an earlier run tells about a copy."""

from __future__ import annotations

from attrs import frozen

from jcpeer.ft.events import LogShape, Run, SetChange
from jcpeer.ft.journal import Journal
from jcpeer.ids import AppId
from jcpeer.wire.facts import Ended, ReplicasChanged, Submitted, TookOver
from jcpeer.wire.messages import Signed


@frozen
class Past:
    """What a journal tells about a copy ."""

    shape: LogShape
    placed: Signed | None
    facts: tuple[Submitted | TookOver | ReplicasChanged, ...]
    """What proves its sets."""


def past_of(journal: Journal, app: AppId) -> Past:
    """What the journal has of an application.

    Raises:
        StorageError: it is damaged.
    """
    sets: list[SetChange] = []
    facts: list[Submitted | TookOver | ReplicasChanged] = []
    placed: Signed | None = None
    ended_index = 0
    for entry in journal.read(app):
        if entry.index > journal.written_index(app):
            break  # of a copy that was dropped a moment ago, of which the disk does not know yet
        fact = entry.fact
        if isinstance(fact, Submitted):
            placed = fact.placed
        if isinstance(fact, ReplicasChanged):
            sets.append(SetChange(entry.index, fact.replica_set))
        if isinstance(fact, Submitted | TookOver | ReplicasChanged):
            facts.append(fact)
        if isinstance(fact, Ended):
            ended_index = entry.index
    shape = LogShape(
        runs=tuple(Run(first, epoch) for first, epoch in journal.shape(app)),
        last_index=journal.last_index(app),
        committed=journal.committed(app),
        sets=tuple(sets),
        promised=journal.promised(app),
        unsure=journal.unsure(app),
        new=journal.new(app),
        ended_index=ended_index,
    )
    return Past(shape, placed, tuple(facts))
