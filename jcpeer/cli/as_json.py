"""What commands print with `--json`: plain values under names that stay, whatever changes inside.

A node is an object with `id` and `name`; times end in `_s`, sizes in `_bytes`; `application` is the application's id.
"""

from __future__ import annotations

from typing import Any

from jcpeer.wire.messages import Output, Policy
from jcpeer.wire.requests import (
    ApplicationSummary,
    AttemptView,
    Happened,
    NodeName,
    Nodes,
    RecoveryPlan,
    SeenNode,
    Share,
    Status,
    TaskDetail,
)

Data = dict[str, Any]


def of_node_name(node: NodeName) -> Data:
    return {"id": node.id, "name": node.name}


def of_seen_node(seen: SeenNode) -> Data:
    record = seen.record
    return {
        "id": record.node,
        "name": record.name,
        "user": record.user,
        "host": record.host,
        "state": record.state,
        "slots_used": record.slots_used,
        "slots": record.slots,
        "cpus": record.cpus,
        "memory_bytes": record.memory_bytes,
        "gpus": record.gpus,
        "disk_bytes": record.disk_bytes,
        "cost": record.cost,
        "load": record.load,
        "age_s": round(seen.age_s, 3),
        "connected": seen.connected,
        "address": seen.address,
        "addresses": list(record.addresses),
        "labels": dict(record.labels),
        "python": record.python,
        "coordinates": record.coordinates,
        "dialable": record.dialable,
        "trusts_grid": record.trusts_grid,
        "policy": of_policy(record.policy),
        "incarnation": record.incarnation,
        "myself": seen.myself,
    }


def of_policy(policy: Policy) -> Data:
    return {
        "only_users": list(policy.only_users),
        "refuse_users": list(policy.refuse_users),
        "only_labels": dict(policy.only_labels),
        "refuse_labels": dict(policy.refuse_labels),
        "closed": policy.closed,
    }


def of_nodes(nodes: Nodes) -> Data:
    return {"nodes": [of_seen_node(each) for each in nodes.nodes], "notices": list(nodes.notices)}


def of_summary(summary: ApplicationSummary) -> Data:
    return {
        "application": summary.app,
        "name": summary.name,
        "user": summary.user,
        "status": summary.state,
        "submitted_s": summary.submitted_s,
        "tasks": dict(summary.tasks),
        "coordinator": of_node_name(summary.coordinator),
        "missing": [of_node_name(each) for each in summary.missing],
    }


def of_status(status: Status) -> Data:
    return {
        **of_summary(status.summary),
        "epoch": status.epoch,
        "coordinator": of_node_name(status.coordinator),
        "placement": status.placement,
        "dispatch": status.dispatch,
        "labels": dict(status.labels),
        "replica_set": [of_node_name(each) for each in status.replica_set],
        "replicas": [
            {**of_node_name(each.node), "state": each.state, "missing_s": round(each.missing_s, 3)}
            for each in status.replicas
        ],
        "ftc": of_node_name(status.ftc) if status.ftc else None,
        "promise": status.promise,
        "reconciled": [
            {"node": of_node_name(each.node), "twice": list(each.twice), "changed": list(each.changed)}
            for each in status.reconciled
        ],
        "participants": [of_node_name(each) for each in status.participants],
        "attempts": status.attempts,
        "takeovers": status.takeovers,
        "seconds": round(status.seconds, 3),
        "sealed": status.sealed,
        "shares": [of_share(each) for each in status.shares],
        "failures": list(status.failures),
    }


def of_plan(plan: RecoveryPlan) -> Data:
    return {
        "application": plan.app,
        "name": plan.name,
        "node": of_node_name(plan.node),
        "entries": plan.entries,
        "committed": plan.committed,
        "finished": plan.finished,
        "tasks": plan.tasks,
        "others": [{**of_node_name(each.node), "ago_s": each.ago_s} for each in plan.others],
    }


def of_share(share: Share) -> Data:
    return {
        "node": of_node_name(share.node),
        "finished": share.finished,
        "failed": share.failed,
        "lost": share.lost,
        "busy_s": round(share.busy_s, 3),
    }


def of_event(event: Happened) -> Data:
    """Only what the event has to say beside its kind."""
    data: Data = {"event": event.kind, "index": event.index, "at_s": event.at_s}
    if event.task is not None:
        data["task"] = event.task
    if event.attempt is not None:
        data["attempt"] = event.attempt
    if event.node is not None:
        data["node"] = of_node_name(event.node)
    if event.kind in ("finished", "failed"):
        data["ran_s"] = round(event.ran_s, 3)
    if event.text:
        data["text"] = event.text
    if event.kind in ("failed", "lost"):
        data["final"] = event.final
    if event.outputs:
        data["outputs"] = [of_output(each) for each in event.outputs]
    return data


def of_output(output: Output) -> Data:
    return {"name": output.name, "digest": output.blob.digest, "size_bytes": output.blob.size}


def of_task(detail: TaskDetail) -> Data:
    return {
        "application": detail.app,
        "task": detail.task,
        "state": detail.state,
        "attempts": [of_attempt(each) for each in detail.attempts],
        "outputs": [
            {**of_output(each), "holders": [of_node_name(node) for node in detail.holders.get(each.blob.digest, ())]}
            for each in detail.outputs
        ],
    }


def of_attempt(attempt: AttemptView) -> Data:
    return {
        "attempt": attempt.number,
        "epoch": attempt.epoch,
        "node": of_node_name(attempt.node),
        "state": attempt.state,
        "started_s": attempt.started_s,
        "waited_s": attempt.waited_s,
        "ran_s": attempt.ran_s,
        "exit_status": attempt.exit_status,
        "text": attempt.text,
    }
