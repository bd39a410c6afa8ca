"""`jcpeer recover`: go on from one copy where too many others are lost, after the user has heard what that may cost."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jcpeer.cli import as_json as data
from jcpeer.cli import exits
from jcpeer.cli.exits import Leave
from jcpeer.cli.local import session_here
from jcpeer.cli.options import Application, AsJson, OnNode
from jcpeer.cli.terminal import say, show, show_fields, show_json
from jcpeer.cli.words import ago, counted, one_line, plain
from jcpeer.client.blocking import run_blocking
from jcpeer.wire.requests import LastWord, RecoveryPlan


def recover(
    application: Application,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", show_default=False)] = False,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Go on with an application that waits for replicas which will not return, from the copy of the local node.

    It first says what may be lost, and asks. A stalled application needs none of this if its replicas return: then it
    goes on by itself, and nothing is lost. With --json and without --yes it only says what may be lost.

    \b
    Examples:
      jcpeer recover corpus
      jcpeer recover 3f2a --yes
    """
    with session_here(node) as session:
        plan = run_blocking(session.recovery(application))
        if as_json and not yes:
            show_json(data.of_plan(plan))
            return
        if not as_json:
            _show_plan(plan)
        if not yes:
            _ask(plan)
        run_blocking(session.recover(plan.app))
    if as_json:
        show_json({**data.of_plan(plan), "recovered": True})
    else:
        say(f"{plain(plan.name)} ({plan.app[:8]}) goes on. `jcpeer status {plan.app[:8]}` shows how.")


def _show_plan(plan: RecoveryPlan) -> None:
    show(f"{one_line(plan.name, length=60)} would go on from the copy on {plain(plan.node.name)} alone.")
    show_fields(
        {
            "this copy": f"{plan.finished:,} of {counted(plan.tasks, 'task')} finished; "
            f"{counted(plan.entries, 'entry', plural='entries')}, {plan.committed:,} of them known to be acknowledged",
            "without": [_last_word(each) for each in plan.others],
            "may be lost": "what those had acknowledged beyond this copy: tasks run again, and a result that was shown "
            "may come out differently",
            "if they return": "their copies are replaced by this one",
        }
    )


def _last_word(word: LastWord) -> str:
    name = plain(word.node.name)
    return f"{name}, last heard of {ago(word.ago_s)}" if word.ago_s is not None else f"{name}, not heard of"


def _ask(plan: RecoveryPlan) -> None:
    if not sys.stdin.isatty():
        raise Leave(exits.USAGE, "there is nobody to ask: `--yes` goes on without asking")
    print("Go on like this? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Leave(exits.LATER, f"nothing was done; {plain(plan.name)} waits for its replicas")
