"""`jcpeer result`: what an application left, and bringing it here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jcpeer.application.task import VALUE
from jcpeer.cli import as_json as data
from jcpeer.cli import exits
from jcpeer.cli.exits import Leave
from jcpeer.cli.local import session_here
from jcpeer.cli.options import Application, AsJson, OnNode
from jcpeer.cli.summary import end_in_words, outputs_line
from jcpeer.cli.terminal import Column, say, show, show_json, show_table
from jcpeer.cli.values import shown_values, value_lines
from jcpeer.cli.words import one_line, plain, size
from jcpeer.client.blocking import run_blocking
from jcpeer.client.session import Session
from jcpeer.wire.requests import Results


def result(
    application: Application,
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Only what this task left.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Bring the files there, made if needed.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Show what an application left, or bring its files.

    Without TASK it is what the last tasks left, those that no other task reads. Values of Python tasks are shown.

    \b
    Examples:
      jcpeer result corpus
      jcpeer result corpus --output results
      jcpeer result corpus count-17 --json
    """
    with session_here(node) as session:
        found = run_blocking(session.results(application, task))
        values = shown_values(session, found)
        paths = run_blocking(session.fetch(application, output, task)) if output is not None else ()
        if as_json:
            show_json(_as_json(found, values, paths))
        else:
            _show(session, found, values, paths, output)
    if not found.results:
        raise Leave(*_nothing(found, application, task))


def _show(
    session: Session, found: Results, values: dict[str, str], paths: tuple[Path, ...], directory: Path | None
) -> None:
    files = [(each.task, output) for each in found.results for output in each.outputs if output.name != VALUE]
    if directory is not None and paths:
        say(outputs_line(paths, directory))
        for path in paths:
            show(plain(str(path)))
    elif files:
        rows = [
            [one_line(task, length=60), one_line(output.name, length=80), size(output.blob.size)]
            for task, output in files
        ]
        show_table((Column("TASK"), Column("FILE"), Column("SIZE", right=True)), rows)
        say(f"`jcpeer result {found.app[:8]} --output DIR` brings them.")
    for line in value_lines(values):
        show(line)
    if found.results and not files and not values:
        say("It left no files, and no value other than None.")


def _nothing(found: Results, application: str, task: str | None) -> tuple[int, str]:
    what = f"task {task}" if task else f"application {application}"
    if found.state in ("open", "running", "stalled"):
        return exits.LATER, f"{what} has left nothing yet: `jcpeer wait {found.app[:8]}` waits for the end"
    if found.state == "ok":
        return exits.OK, ""
    return exits.status_of_end(found.state), f"{what} left nothing: the application {end_in_words(found.state)}"


def _as_json(found: Results, values: dict[str, str], paths: tuple[Path, ...]) -> dict[str, Any]:
    return {
        "application": found.app,
        "status": found.state,
        "results": [
            {
                "task": each.task,
                "outputs": [data.of_output(output) for output in each.outputs if output.name != VALUE],
                **({"value": values[each.task]} if each.task in values else {}),
            }
            for each in found.results
        ],
        "files": [str(each) for each in paths],
    }
