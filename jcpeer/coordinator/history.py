"""What a client is told of a journal entry: the same whether it watches live or reads the past."""

from __future__ import annotations

from collections.abc import Callable

from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.facts import (
    AttemptLost,
    Cancelled,
    Ended,
    Entry,
    Failed,
    Finished,
    OutputLost,
    Sealed,
    TookOver,
)
from jcpeer.wire.messages import Outcome
from jcpeer.wire.requests import EventKind, Happened, NodeName


def happened(entry: Entry, name_of: Callable[[NodeId], str]) -> Happened | None:
    """The event that an entry is for a client, or None where it is none of its business."""

    def event(kind: EventKind, *, task: TaskId | None = None, text: str = "", final: bool = False) -> Happened:
        return Happened(entry.index, entry.at_s, kind, task=task, text=text, final=final)

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
            )
        case OutputLost(task=task, reason=reason):
            return event("output_lost", task=task, text=reason)
        case Cancelled(task=task):
            return event("cancelled", task=task, final=True)
        case TookOver(epoch=epoch):
            return event("took_over", text=f"{name_of(epoch.node)} took over at epoch {epoch.counter}")
        case Ended(status=status):
            return event("ended", text=status, final=True)
        case _:
            return None
