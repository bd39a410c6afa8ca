"""What a client is told of a journal entry: the same whether it watches live or reads the past."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection

from jcpeer.ids import Epoch, NodeId, TaskId
from jcpeer.wire.facts import (
    AttemptLost,
    Cancelled,
    Ended,
    Entry,
    Failed,
    Finished,
    OutputLost,
    Reconciled,
    ReplicasChanged,
    Sealed,
    TookOver,
)
from jcpeer.wire.messages import Outcome
from jcpeer.wire.requests import EventKind, Happened, NodeName

TASKS_TOLD_MAX = 10
"""By name, in one event."""


def happened(entry: Entry, name_of: Callable[[NodeId], str]) -> Happened | None:
    """The event that an entry is for a client, or None where it is none of its business."""

    def event(kind: EventKind, *, task: TaskId | None = None, text: str = "", final: bool = False) -> Happened:
        return Happened(entry.index, entry.at_s, kind, task=task, text=text, final=final, epoch=entry.epoch.counter)

    def of_outcome(kind: EventKind, node: NodeId, outcome: Outcome, *, text: str, final: bool) -> Happened:
        return Happened(
            entry.index,
            entry.at_s,
            kind,
            task=outcome.task,
            attempt=outcome.number,
            node=NodeName(node, name_of(node)),
            ran_s=outcome.ran_s,
            text=text,
            final=final,
            outputs=outcome.outputs,
            epoch=entry.epoch.counter,
        )

    match entry.fact:
        case Sealed():
            return event("accepted")
        case Finished(node=node, outcome=outcome):
            return of_outcome("finished", node, outcome, text="", final=True)
        case Failed(node=node, outcome=outcome, final=final):
            text = outcome.failure.text if outcome.failure else ""
            return of_outcome("failed", node, outcome, text=text, final=final)
        case AttemptLost(node=node, attempt=attempt, reason=reason, final=final):
            return Happened(
                entry.index,
                entry.at_s,
                "lost",
                task=attempt.task,
                attempt=attempt.number,
                node=NodeName(node, name_of(node)),
                text=reason,
                final=final,
                epoch=entry.epoch.counter,
            )
        case OutputLost(task=task, reason=reason, final=final):
            return event("output_lost", task=task, text=reason, final=final)
        case Cancelled(task=task):
            return event("cancelled", task=task, final=True)
        case TookOver(epoch=epoch, predecessor=predecessor, after_s=after_s, unsure=unsure):
            lost = "; its machines had gone down: what finished last may be lost, and run again" if unsure else ""
            return event("took_over", text=_succession(epoch, predecessor, after_s, name_of) + lost)
        case ReplicasChanged(replica_set=replica_set):
            names = ", ".join(map(name_of, replica_set.nodes))
            return event("replicas_changed", text=f"copies of the journal are now on {names}")
        case Reconciled(node=node, twice=twice, changed=changed):
            return event("reconciled", text=_reconciliation(name_of(node), twice, changed))
        case Ended(status=status):
            return event("ended", text=status, final=True)
        case _:
            return None


def _succession(epoch: Epoch, predecessor: NodeId | None, after_s: float, name_of: Callable[[NodeId], str]) -> str:
    successor = name_of(epoch.node)
    if predecessor == epoch.node:
        return f"{successor} goes on at epoch {epoch.counter}"
    if predecessor is None:
        return f"{successor} took over at epoch {epoch.counter}"
    return (
        f"coordinator {name_of(predecessor)} lost, {successor} took over at epoch {epoch.counter} after {after_s:.1f} s"
    )


def _reconciliation(other: str, twice: Collection[TaskId], changed: Collection[TaskId]) -> str:
    parts = [f"{other} had coordinated, too"]
    if twice:
        parts.append(f"ran twice: {_some(twice)}")
    if changed:
        parts.append(f"results that had been shown and are others now: {_some(changed)}")
    return "; ".join(parts)


def _some(tasks: Collection[TaskId]) -> str:
    names = ", ".join(itertools.islice(tasks, TASKS_TOLD_MAX))
    return f"{names} and {len(tasks) - TASKS_TOLD_MAX} more" if len(tasks) > TASKS_TOLD_MAX else names
