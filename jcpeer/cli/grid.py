"""`jcpeer grid`: create a grid, invite, join, show who let whom in."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Annotated

import typer

from jcpeer.application.quantities import parse_seconds
from jcpeer.cli import grid_view
from jcpeer.cli.local import nodes_here
from jcpeer.cli.options import AsJson
from jcpeer.cli.terminal import say, show, show_fields, show_json
from jcpeer.cli.words import counted, joined, plain
from jcpeer.client.blocking import SocketLink, deadline, run_blocking
from jcpeer.client.session import Session
from jcpeer.discovery.runtime_dir import LocalNode
from jcpeer.errors import ConfigError, JcpeerError
from jcpeer.membership.store import GridStore, OwnGrid
from jcpeer.places import data_dir

grid = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Create a grid, invite others, join one, show the grids of this machine.",
)

MOVE_WITHIN_S = 10.0
LOOK_S = 0.05
TOKEN_ADDRESSES_MAX = 12


@grid.command(short_help="Create a grid, whose key stays on this machine.")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.", show_default=False)],
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="What you are called in it.  [your login name]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a grid, whose key stays on this machine; the nodes of this machine enter it.

    \b
    Example:
      jcpeer grid create lab
    """
    store = GridStore(data_dir())
    made = store.create(name, user=user or login_name())
    moved, stayed = _move(made, store.invite(made.fingerprint, expires_s=None, addresses=(), now_s=time.time()))
    if as_json:
        show_json({**grid_view.as_json(made, default=True), "moved": moved, "stayed": stayed})
        return
    show(f"Grid {plain(made.name)} ({made.fingerprint}) is made, and entered by the nodes of this machine from now on.")
    show_fields(
        {
            "key": f"only here, in {data_dir()}: keep a copy of that directory, safe from others",
            "invite": "`jcpeer grid invite` prints a token that lets another machine in",
        }
    )
    _tell_of_nodes(made, moved, stayed)


@grid.command()
def invite(
    user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="What the guest is called. Default: you, for another machine of your own."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When the guest's nodes are out again, as in 7d or 12h.  [never]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--grid", metavar="GRID", help="To which grid.  [the one that nodes here enter]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a token that lets another machine in. Hand it over as you would a password.

    \b
    Examples:
      jcpeer grid invite
      jcpeer grid invite --user ana --expires 7d
    """
    store = GridStore(data_dir())
    found = store.get(name) if name else store.default
    now_s = time.time()
    expires_s = None if expires is None else now_s + _seconds(expires)
    addresses = _addresses_of(found)
    token = store.invite(
        found.fingerprint if found else None, user=user, expires_s=expires_s, addresses=addresses, now_s=now_s
    )
    assert found is not None  # `invite` refuses where there is no grid
    guest = user or found.user
    if as_json:
        show_json(
            {
                "token": token,
                "grid": found.name,
                "fingerprint": found.fingerprint,
                "user": guest,
                "expires_s": expires_s,
                "addresses": list(addresses),
            }
        )
        return
    show(token)
    until = f", until {grid_view.instant(expires_s)}" if expires_s is not None else ""
    say(f"\nWhoever has this token can bring nodes into grid {plain(found.name)} as {plain(guest)}{until}.")
    say("On the other machine:  jcpeer grid join TOKEN  and then  jcpeer node")
    if user is not None and user != found.user:
        say("A node runs tasks of its own user only; with `jcpeer node --trust-grid` those of all members.")
    if not addresses:
        say(
            f"No node of grid {plain(found.name)} runs here, so the token has no address: nodes find each other on the "
            "same local network only, or by --bootstrap HOST:PORT."
        )


@grid.command(short_help="Enter the grid of a token.")
def join(
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The whole line that `invite` printed.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Enter the grid of a token; nodes that run on this machine move to it.

    \b
    Example:
      jcpeer grid join jcpeer1-AbCd…
    """
    store = GridStore(data_dir())
    entered = store.join(token, now_s=time.time())
    moved, stayed = _move(entered, token)
    if as_json:
        show_json({**grid_view.as_json(entered, default=True), "moved": moved, "stayed": stayed})
        return
    show(f"This machine is in grid {plain(entered.name)} ({entered.fingerprint}) as {plain(entered.user)}.")
    _tell_of_nodes(entered, moved, stayed)
    if not moved and not stayed:
        say("`jcpeer node` starts a node in it.")


@grid.command(name="show", short_help="Show the grids of this machine, and who let whom in.")
def show_grid(
    name: Annotated[
        str | None, typer.Argument(metavar="GRID", help="A name or fingerprint.  [all]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the grids of this machine: who let whom in, as what, until when.

    \b
    Examples:
      jcpeer grid show
      jcpeer grid show lab --json
    """
    store = GridStore(data_dir())
    grids = [store.get(name)] if name else [store.get(each) for each in store.names()]
    default = store.default
    pairs = [(each, default is not None and each.fingerprint == default.fingerprint) for each in grids]
    if as_json:
        show_json({"grids": [grid_view.as_json(each, default=is_default) for each, is_default in pairs]})
        return
    if not pairs:
        say("No grid yet: `jcpeer node` makes one of your own, `jcpeer grid create` or `join` others.")
    for place, (each, is_default) in enumerate(pairs):
        if place:
            show("")
        for line in grid_view.lines(each, default=is_default):
            show(line)


def login_name() -> str:
    """What the operating system calls this person."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigError("your login name is unknown on this machine: say with --user what you are called") from error


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--expires: {error}") from error


def _addresses_of(found: OwnGrid | None) -> tuple[str, ...]:
    """Where nodes of the grid here can be dialled: from other machines, if there is any such address."""
    nodes = [each for each in nodes_here() if found is not None and each.grid == found.fingerprint]
    every = list(dict.fromkeys(address for each in nodes for address in each.addresses))
    outside = [each for each in every if not _is_loopback(each)]
    return tuple((outside or every)[:TOKEN_ADDRESSES_MAX])


def _is_loopback(address: str) -> bool:
    return any(address.startswith(each) for each in ("/ip4/127.", "/ip6/::1/", "/dns/localhost/"))


def _move(into: OwnGrid, token: str) -> tuple[list[str], dict[str, str]]:
    """Take the running nodes along, but for those that refuse: who moved, and who did not and why."""
    moved: list[str] = []
    stayed: dict[str, str] = {}
    for node in nodes_here():
        if node.grid == into.fingerprint:
            continue
        try:
            _ask_to_join(node, token)
            _await_in(node, into)
            moved.append(node.name)
        except (JcpeerError, TimeoutError) as error:
            stayed[node.name] = str(error)
    return moved, stayed


def _ask_to_join(node: LocalNode, token: str) -> None:
    link = SocketLink(Path(node.socket), patience_s=0.0)
    try:
        with deadline(MOVE_WITHIN_S):
            run_blocking(Session(link).join_grid(token))
    finally:
        link.close()


def _await_in(node: LocalNode, into: OwnGrid) -> None:
    """It says yes, then starts anew; whoever asks it something next should not find it gone."""
    until_s = time.monotonic() + MOVE_WITHIN_S
    while not any(each.name == node.name and each.grid == into.fingerprint for each in nodes_here()):
        if time.monotonic() > until_s:
            raise TimeoutError(f"it did not come back in grid {into.name} within {MOVE_WITHIN_S:.0f} s")
        time.sleep(LOOK_S)


def _tell_of_nodes(into: OwnGrid, moved: list[str], stayed: dict[str, str]) -> None:
    if moved:
        say(f"{counted(len(moved), 'running node')} moved to it: {joined(moved)}.")
    for name, why in stayed.items():
        say(f"Node {name} stays where it is: {plain(why)}.")
