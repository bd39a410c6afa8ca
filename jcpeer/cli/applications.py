"""`jcpeer list`, `status`, `wait`, `cancel`, `forget`: applications as a whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from jcpeer.cli import as_json as data
from jcpeer.cli import exits
from jcpeer.cli.exits import Leave, status_of_end
from jcpeer.cli.following import follow
from jcpeer.cli.local import session_here
from jcpeer.cli.options import Application, AsJson, OnNode
from jcpeer.cli.screens import Counts, screen_for, states_text
from jcpeer.cli.summary import (
    end_in_words,
    failure_lines,
    reconciled_lines,
    replica_text,
    share_lines,
    summary_lines,
    waits_for,
)
from jcpeer.cli.terminal import Column, say, show, show_fields, show_json, show_table
from jcpeer.cli.words import address, ago, counted, duration, joined, label_texts, one_line, plain, size
from jcpeer.client.blocking import deadline, run_blocking
from jcpeer.client.session import Session, ended
from jcpeer.errors import ConfigError
from jcpeer.wire.requests import ApplicationSummary, Status

_COLUMNS = (
    Column("ID"),
    Column("NAME"),
    Column("STATUS"),
    Column("FINISHED", right=True),
    Column("SUBMITTED", rank=1),
    Column("USER", rank=3),
    Column("COORDINATOR", rank=2),
)


def list_applications(as_json: AsJson = False, node: OnNode = None) -> None:
    """List the applications of your nodes, here and elsewhere, the latest first.

    \b
    Examples:
      jcpeer list
      jcpeer list --json
    """
    with session_here(node) as session:
        found = _latest_first(session)
    if as_json:
        show_json({"applications": [data.of_summary(each) for each in found]})
    elif found:
        _show_applications(found)
    else:
        say("No applications here. `jcpeer run FILE` runs one.")


def status(
    application: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="Its id, a unique beginning of the id, or its name.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Show how an application stands, or without APP the local node and what runs on its grid.

    \b
    Examples:
      jcpeer status
      jcpeer status corpus
      jcpeer status 3f2a --json
    """
    with session_here(node) as session:
        if application is None:
            _show_node(session, as_json=as_json)
            return
        found = run_blocking(session.status(application))
    if as_json:
        show_json(data.of_status(found))
    else:
        _show_status(found)


def wait(
    application: Application,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Wait no longer than this, as in 90s or 5min; then exit 75."),
    ] = None,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Wait for an application to end, showing how it goes on.

    The exit status is 0 if it ended well, 1 if it failed, 3 if it was cancelled. Ctrl-C stops the waiting only.

    \b
    Examples:
      jcpeer wait corpus
      jcpeer wait 3f2a --timeout 5min
    """
    timeout_s = None if timeout is None else _seconds(timeout)
    with session_here(node) as session:
        found = run_blocking(session.status(application))
        app = found.summary.app
        try:
            with deadline(timeout_s), screen_for(found.summary.name, as_json=False) as screen:
                found, seen = follow(session, app, screen, from_now=True)
        except TimeoutError:
            raise Leave(
                exits.LATER, f"{plain(found.summary.name)} still runs after {duration(timeout_s or 0.0)}"
            ) from None
        except KeyboardInterrupt:
            raise Leave(exits.INTERRUPTED, f"interrupted; {plain(found.summary.name)} goes on") from None
    if as_json:
        show_json(data.of_status(found))
    else:
        left = [] if found.summary.state == "cancelled" else [f"`jcpeer result {app[:8]}` shows what it left."]
        for line in summary_lines(found, seen, left):
            show(line)
    raise Leave(status_of_end(found.summary.state))


def cancel(
    application: Application,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Only this task.", show_default=False)] = None,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Cancel an application, or one of its tasks; what waits for that task is skipped.

    \b
    Examples:
      jcpeer cancel corpus
      jcpeer cancel corpus count-17
    """
    with session_here(node) as session:
        summary = run_blocking(session.status(application)).summary
        run_blocking(session.cancel(summary.app, task))
    if as_json:
        show_json({"application": summary.app, "name": summary.name, "task": task, "cancelled": True})
    else:
        say(f"Cancelled {f'{plain(task)} of ' if task else ''}{plain(summary.name)} ({summary.app[:8]}).")


def forget(application: Application, as_json: AsJson = False, node: OnNode = None) -> None:
    """Drop an application that has ended: its results, its logs, its journal. There is no way back.

    \b
    Example:
      jcpeer forget corpus
    """
    with session_here(node) as session:
        summary = run_blocking(session.status(application)).summary
        run_blocking(session.forget(summary.app))
    if as_json:
        show_json({"application": summary.app, "name": summary.name, "forgotten": True})
    else:
        say(f"Forgot {plain(summary.name)} ({summary.app[:8]}).")


def _seconds(text: str) -> float:
    from jcpeer.application.quantities import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--timeout: {error}") from error


def _latest_first(session: Session) -> list[ApplicationSummary]:
    return sorted(run_blocking(session.applications()), key=lambda each: -each.submitted_s)


def _show_applications(found: Sequence[ApplicationSummary]) -> None:
    show_table(_COLUMNS, [_row(each) for each in found])
    for each in found:
        if what := waits_for(each):
            say(f"{one_line(each.name, length=40)} ({each.app[:8]}) {what}")


def _row(summary: ApplicationSummary) -> list[str]:
    return [
        summary.app[:8],
        one_line(summary.name, length=40),
        summary.state,
        f"{summary.tasks.get('finished', 0):,}/{Counts.of(summary.tasks).all:,}",
        ago(time.time() - summary.submitted_s),
        one_line(summary.user, length=24),
        one_line(summary.coordinator.name, length=40),
    ]


def _show_status(found: Status) -> None:
    summary = found.summary
    finished = summary.tasks.get("finished", 0)
    rest = states_text({state: count for state, count in summary.tasks.items() if state != "finished"})
    tasks = [f"{finished:,} of {counted(Counts.of(summary.tasks).all, 'task')} finished", rest]
    since = duration(found.seconds)
    how = f"{end_in_words(summary.state)} after {since}" if ended(found) else f"is {summary.state}, for {since}"
    fields = {
        "id": summary.app,
        "user": plain(summary.user),
        "tasks": ", ".join(each for each in tasks if each),
        "attempts": f"{found.attempts:,}",
        "coordinator": f"{plain(found.coordinator.name)}, epoch {found.epoch}"
        + (f", {counted(found.takeovers, 'takeover')}" if found.takeovers else ""),
        **({"labels": ", ".join(label_texts(found.labels))} if found.labels else {}),
        "dispatch": found.dispatch,
        "placement": found.placement,
        **({"FTC": plain(found.ftc.name)} if found.ftc else {}),
        "replica set": joined([plain(each.name) for each in found.replica_set]),
        "journal on": joined([replica_text(each) for each in found.replicas]),
        "promise": "" if ended(found) else plain(found.promise),
        "stalled": waits_for(summary),
        "worked on by" if ended(found) else "participants": joined([plain(each.name) for each in found.participants])
        or "nobody yet",
    }
    show(f"{one_line(summary.name, length=60)} {how}" + ("." if found.sealed else "; more tasks may come."))
    show_fields(fields)
    told = (share_lines(found.shares) if found.shares else [], reconciled_lines(found), failure_lines(found.failures))
    for lines in told:
        if lines:
            show("\n" + "\n".join(lines))


def _show_node(session: Session, *, as_json: bool) -> None:
    me = run_blocking(session.who())
    nodes = run_blocking(session.nodes())
    running = [each for each in _latest_first(session) if each.state in ("open", "running", "stalled")]
    if as_json:
        show_json(
            {
                "node": {"id": me.record.node, "name": me.record.name},
                "grid": me.grid,
                "fingerprint": me.grid_fingerprint,
                "listens": list(me.listens),
                "nodes": len(nodes.nodes),
                "slots": sum(each.record.slots for each in nodes.nodes),
                "slots_used": sum(each.record.slots_used for each in nodes.nodes),
                "applications": [data.of_summary(each) for each in running],
            }
        )
        return
    records = [each.record for each in nodes.nodes]
    used, slots = sum(each.slots_used for each in records), sum(each.slots for each in records)
    memory = sum(each.memory_bytes for each in records)
    show(f"Node {plain(me.record.name)} is {me.record.state}.")
    show_fields(
        {
            "grid": f"{plain(me.grid)} ({me.grid_fingerprint})",
            "listens": joined([address(each) for each in me.listens]),
            "nodes": f"{counted(len(records), 'node')}, {used}/{counted(slots, 'slot')} taken, {size(memory)} memory",
            "running": counted(len(running), "application") if running else "no application",
        }
    )
    if running:
        show("")
        _show_applications(running)
    for notice in nodes.notices:
        say(plain(notice))
