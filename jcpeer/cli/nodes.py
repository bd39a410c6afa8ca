"""`jcpeer nodes`: who is in the grid at present."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import typer

from jcpeer.cli import as_json as data
from jcpeer.cli.local import session_here
from jcpeer.cli.options import AsJson, OnNode
from jcpeer.cli.terminal import Column, say, show, show_json, table_lines, terminal_width
from jcpeer.cli.words import address, one_line, plain, size
from jcpeer.client.blocking import iterate_blocking, run_blocking
from jcpeer.ids import short
from jcpeer.wire.requests import Nodes, SeenNode

_COLUMNS = (
    Column("NODE"),
    Column("USER", rank=2),
    Column("STATE"),
    Column("SLOTS", right=True),
    Column("CPUS", rank=5, right=True),
    Column("MEMORY", rank=6, right=True),
    Column("LOAD", rank=1, right=True),
    Column("AGE", rank=4, right=True),
    Column("ADDRESS", rank=3),
    Column("ID", rank=7),
)


def nodes(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show them again at each change, until Ctrl-C.", show_default=False)
    ] = False,
    as_json: AsJson = False,
    node: OnNode = None,
) -> None:
    """Show the nodes of the grid.

    The node that answers is marked with a star. SLOTS are taken/all; LOAD is the work that the whole machine has,
    1.0 being one CPU's worth; AGE is the time since the node last gave a sign of life, or "others" where the node that
    answers is not connected to it, as in a large grid, and hears of it from others. ADDRESS says of whom other
    machines cannot connect to, though it connects to them, as behind a firewall.

    \b
    Examples:
      jcpeer nodes
      jcpeer nodes --watch
      jcpeer nodes --json
    """
    with session_here(node) as session:
        if not watch:
            _show([run_blocking(session.nodes())], as_json=as_json)
            return
        with suppress(KeyboardInterrupt):  # how a watch is meant to end
            _show(iterate_blocking(session.watch_nodes()), as_json=as_json, live=sys.stdout.isatty())


def _show(found: Iterable[Nodes], *, as_json: bool, live: bool = False) -> None:
    if as_json:
        for each in found:
            show_json(data.of_nodes(each))
    elif live:
        _show_live(found)
    else:
        _show_each(found)


def _show_each(found: Iterable[Nodes]) -> None:
    notices: tuple[str, ...] = ()
    for place, each in enumerate(found):
        if place:
            show("")
        for line in node_lines(each, terminal_width()):
            show(line)
        if each.notices != notices:
            notices = each.notices
            for notice in notices:
                say(plain(notice))


def _show_live(found: Iterable[Nodes]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        for each in found:
            lines = [*node_lines(each, console.width), *(plain(notice) for notice in each.notices)]
            live.update(Text("\n".join(lines)), refresh=True)


def node_lines(found: Nodes, width: int | None) -> list[str]:
    """The table, the node that answers first."""
    in_order = sorted(found.nodes, key=lambda each: (not each.myself, each.record.name, each.record.node))
    return table_lines(_COLUMNS, [_row(each) for each in in_order], width=width)


def _age(seen: SeenNode) -> str:
    if seen.myself:
        return ""
    return f"{seen.age_s:.1f} s" if seen.connected else "others"


def _address(seen: SeenNode) -> str:
    if not seen.record.dialable:
        return "cannot be dialled"  # its addresses are of use to itself alone
    return address(seen.address or next(iter(seen.record.addresses), ""))


def _row(seen: SeenNode) -> list[str]:
    record = seen.record
    return [
        one_line(record.name, length=40) + ("*" if seen.myself else ""),
        one_line(record.user, length=24),
        record.state,
        f"{record.slots_used}/{record.slots}",
        str(record.cpus),
        size(record.memory_bytes),
        f"{record.load:.1f}",
        _age(seen),
        _address(seen),
        short(record.node),
    ]
