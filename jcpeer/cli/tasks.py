"""`jcpeer logs` and `jcpeer why`: one task."""

from __future__ import annotations

import codecs
import sys
from typing import Annotated

import typer

from jcpeer.cli.local import session_here
from jcpeer.cli.options import Application, AsJson, OnNode, TaskName
from jcpeer.cli.terminal import show, show_json
from jcpeer.cli.words import plain
from jcpeer.client.blocking import iterate_blocking, run_blocking


def logs(
    application: Application,
    task: TaskName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more until the attempt ends.", show_default=False)
    ] = False,
    stderr: Annotated[
        bool, typer.Option("--stderr", "-e", help="What it printed to stderr instead of stdout.", show_default=False)
    ] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="Which attempt.  [the latest]")
    ] = None,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Show what a task printed, as it printed it.

    \b
    Examples:
      jcpeer logs corpus count-17
      jcpeer logs corpus merge --follow
      jcpeer logs corpus count-17 --stderr --attempt 1
    """
    stream = "stderr" if stderr else "stdout"
    with session_here(node) as session:
        pieces = iterate_blocking(
            session.logs(application, task, attempt=attempt, stream="stderr" if stderr else "stdout", follow=follow)
        )
        if not as_json:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
            return
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        if follow:
            for piece in pieces:
                show_json({"task": task, "stream": stream, "text": decoder.decode(piece)})
        else:
            text = decoder.decode(b"".join(pieces), final=True)
            show_json({"task": task, "stream": stream, "text": text})


def why(application: Application, task: TaskName, as_json: AsJson = False, node: OnNode = None) -> None:
    """Show what a task waits for, or why it came to what it came to.

    \b
    Example:
      jcpeer why corpus merge
    """
    with session_here(node) as session:
        found = run_blocking(session.why(application, task))
    if as_json:
        show_json({"task": task, "state": found.state, "reasons": list(found.reasons)})
        return
    show(f"{plain(task)} is {found.state}" + (":" if found.reasons else "."))
    for reason in found.reasons:
        show("\n".join(f"  {line}" for line in plain(reason).splitlines()))
