"""The command `jcpeer`: finds the command that is meant, loads its module alone, and runs it.

The commands are listed here and not asked of their modules, so that help comes at once and each command pays for its
own imports only.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jcpeer import __version__
from jcpeer.cli import exits
from jcpeer.cli.exits import Leave
from jcpeer.cli.failures import guarded

COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Machines": {
        "node": ("node:node", "run a node on this machine"),
        "nodes": ("nodes:nodes", "show the nodes of the grid"),
        "grid": ("grid:grid", "create a grid, invite, join, show"),
    },
    "Applications": {
        "run": ("run:run", "run an application and follow it to its end"),
        "graph": ("graph:graph", "show an application's tasks and edges"),
        "list": ("applications:list_applications", "list the applications"),
        "status": ("applications:status", "show how an application stands"),
        "wait": ("applications:wait", "wait for an application to end"),
        "result": ("results:result", "show or bring what an application left"),
        "cancel": ("applications:cancel", "cancel an application or a task"),
        "recover": ("recovery:recover", "go on without lost replicas"),
        "forget": ("applications:forget", "drop an ended application"),
    },
    "Tasks": {
        "logs": ("tasks:logs", "show what a task printed"),
        "why": ("tasks:why", "show what a task waits for"),
    },
}
"""By heading: each command, where it is (module:attribute), and what it does."""

_WHERE = {name: where for group in COMMANDS.values() for name, (where, _) in group.items()}


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line, all but the program's name. Returns its exit status; everything is said by then."""
    return guarded(lambda: _dispatch(list(arguments)))


def _dispatch(arguments: list[str]) -> None:
    first = arguments[0] if arguments else "--help"
    if first in ("--help", "-h", "help"):
        if first == "help" and arguments[1:]:
            _dispatch([*arguments[1:], "--help"])
            return
        print(help_text())
    elif first in ("--version", "-V"):
        print(f"jcpeer {__version__}")
    elif first in _WHERE:
        _invoke(f"jcpeer {first}", _WHERE[first], arguments[1:])
    elif first.startswith("-"):
        raise Leave(exits.USAGE, f"there is no option {first!r} before the command; see `jcpeer --help`")
    else:
        close = difflib.get_close_matches(first[:40], _WHERE, n=1, cutoff=0.7)
        remedy = f"did you mean `jcpeer {close[0]}`?" if close else "see `jcpeer --help`"
        raise Leave(exits.USAGE, f"there is no command {first!r}; {remedy}")


def _invoke(path: str, where: str, arguments: list[str]) -> None:
    import typer

    module, attribute = where.split(":")
    found: Any = getattr(importlib.import_module(f"jcpeer.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command()(function)
    elif not arguments:
        arguments = ["--help"]  # of a group, what else
    command = typer.main.get_command(found)
    try:
        with command.make_context(path, arguments) as context:
            command.invoke(context)
    except typer.Exit as leaving:
        raise Leave(leaving.exit_code) from None
    except typer.TyperException as error:
        path = getattr(getattr(error, "ctx", None), "command_path", path)
        what = " ".join(error.format_message().split()).rstrip(".")
        raise Leave(exits.USAGE, f"{what}{' See' if what.endswith('?') else '; see'} `{path} --help`") from None


def help_text() -> str:
    """What `jcpeer --help` prints."""
    width = max(map(len, _WHERE))
    sections = [
        "\n".join([f"{heading}:", *(f"  {name:<{width}}  {what}" for name, (_, what) in group.items())])
        for heading, group in COMMANDS.items()
    ]
    return "\n\n".join(
        [
            "Usage: jcpeer COMMAND [OPTIONS] [ARGUMENTS]",
            "A peer-to-peer grid: hand any node a graph of tasks, with no server.",
            *sections,
            "`jcpeer COMMAND --help` explains a command. Results go to stdout, everything else to stderr;\n"
            "--json prints them for programs. JCPEER_NODE or --node says which of several local nodes to ask.",
            "\n".join(
                [
                    "Examples:",
                    "  jcpeer run examples/hello.toml   run an application, here and on the nodes that are found",
                    "  jcpeer node                      let this machine work for the grid",
                    "  jcpeer grid invite               print a token that lets another machine in",
                ]
            ),
            f"Exit status:\n{exits.table()}",
        ]
    )
