"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.", show_default=False)]
OnNode = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Which node of this machine to ask. Default: JCPEER_NODE, or the only one that runs here.",
        show_default=False,
    ),
]
Application = Annotated[
    str, typer.Argument(metavar="APP", help="Its id, a unique beginning of the id, or its name.", show_default=False)
]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The id of the task.", show_default=False)]
