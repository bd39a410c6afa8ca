"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from jcpeer.errors import ConfigError

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
Variables = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Give a variable of the file this value. Can be repeated."),
]


def variables_from(pairs: Sequence[str]) -> dict[str, str]:
    """What `--set` gave."""
    for each in pairs:
        if "=" not in each:
            raise ConfigError(f"--set {each}: write KEY=VALUE, as in --set shards=20")
    return {key.strip(): value for key, _, value in (each.partition("=") for each in pairs)}
