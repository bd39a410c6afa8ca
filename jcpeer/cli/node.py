"""`jcpeer node`: a node on this machine, until Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jcpeer.cli import as_json as data
from jcpeer.cli.options import AsJson
from jcpeer.cli.terminal import field_lines, say, show, show_json
from jcpeer.cli.words import address, counted, joined, label_texts, plain, size

if TYPE_CHECKING:
    from jcpeer.cli.logs import Level
    from jcpeer.node.opening import NodeReady

COLLECT_AFTER = (20_000, 20, 20)
"""As `gc.set_threshold` takes them."""


def node(
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of this node. Several on one machine need different ones.  [the host's]"
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where other nodes reach this one.  [0.0.0.0:0, a free port]"),
    ] = None,
    slots: Annotated[str | None, typer.Option(metavar="N", help="Tasks at once.  [one a CPU]")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory for tasks, as in 8GiB.  [all of the machine's]")
    ] = None,
    gpus: Annotated[str | None, typer.Option(metavar="N", help="GPUs for tasks.  [those that are found]")] = None,
    disk: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Free disk for tasks at most, as in 100GiB.  [all of it]")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(metavar="X", help="Price of an hour of a slot, for tasks with a max_cost.  [0]")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Something that tasks can ask for. Can be repeated.")
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A node to begin with, where multicast is blocked. Can be repeated."),
    ] = None,
    mdns: Annotated[
        bool | None, typer.Option("--mdns/--no-mdns", help="Announce and look for nodes on the local network.  [yes]")
    ] = None,
    coordinate: Annotated[
        bool | None,
        typer.Option("--coordinate/--no-coordinate", help="Be willing to coordinate applications.  [yes]"),
    ] = None,
    trust_grid: Annotated[
        bool | None,
        typer.Option(
            "--trust-grid/--no-trust-grid",
            help="Run tasks of all members, not only of your own user; they can do all that you can.  [no]",
        ),
    ] = None,
    only_user: Annotated[
        list[str] | None,
        typer.Option(metavar="USER", help="Of the members, run tasks of this user only. Can be repeated."),
    ] = None,
    refuse_user: Annotated[
        list[str] | None, typer.Option(metavar="USER", help="Run no tasks of this user. Can be repeated.")
    ] = None,
    only_label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Run applications only that have this label. Can be repeated."),
    ] = None,
    refuse_label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Run no applications that have this label. Can be repeated."),
    ] = None,
    hours: Annotated[
        str | None,
        typer.Option(metavar="HOURS", help="When to take new tasks, as in Mon-Fri 18:00-08:00, Sat-Sun.  [always]"),
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="GRID", help="Which grid to be in, if this machine knows several.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where identity, journal and data of this node are kept.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in TOML.  [node.toml in the configuration directory]")
    ] = None,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Have the running node of that name take nothing new, and leave when what runs there has ended.",
            show_default=False,
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.", show_default=False)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.", show_default=False)] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log as JSON lines.", show_default=False)] = False,
    as_json: AsJson = False,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Run a node on this machine.

    It needs nothing: on its first start it makes an identity and a grid of your own, finds the other nodes of the
    grid, works for them, and takes applications from `jcpeer run`. Ctrl-C ends it: tasks under way are handed back, and
    run elsewhere from their beginning. --drain ends a running node without that, as soon as they are done.

    Each option can also stand in a TOML file (slots = 4) and in the environment (JCPEER_SLOTS=4). Options win over
    the environment, which wins over the file. With --json, one object on stdout says when the node listens.

    \b
    Examples:
      jcpeer node
      jcpeer node --name second --slots 2 --memory 4GiB
      jcpeer node --label gpu=a100 --bootstrap 192.0.2.7:4001 --no-mdns
      jcpeer node --name second --drain
    """
    if drain:
        from jcpeer.cli.draining import drain_node

        drain_node(name, as_json=as_json)
        return
    from jcpeer.config import load_config

    flags: dict[str, Any] = {
        "name": name,
        "listen": listen,
        "slots": slots,
        "memory": memory,
        "gpus": gpus,
        "disk": disk,
        "cost": cost,
        "labels": label,
        "bootstrap": bootstrap,
        "mdns": mdns,
        "coordinate": coordinate,
        "trust_grid": trust_grid,
        "only_users": only_user,
        "refuse_users": refuse_user,
        "only_labels": only_label,
        "refuse_labels": refuse_label,
        "hours": hours,
        "grid": grid,
        "state_dir": state_dir,
    }
    loaded = load_config(flags, os.environ, config)
    level: Level = "debug" if verbose else "warning" if quiet else "info"

    # Here and not above, since together they take a second: a wrong setting is told at once.
    import trio

    from jcpeer.cli import logs
    from jcpeer.node.opening import run_node

    logs.set_up(level, as_json=log_json)
    if until_eof:
        _end_with_stdin()
    name_told = ""

    def tell(ready: NodeReady) -> None:
        nonlocal name_told
        if as_json:
            show_json(_as_json(ready))
        elif name_told:
            show(f"Node {ready.name} is now in grid {plain(ready.grid_name)} ({ready.fingerprint}).")
        else:
            for line in ready_lines(ready):
                show(line)
        name_told = ready.name

    async def run() -> None:
        await run_node(loaded, on_ready=tell, passing=until_eof)

    # What was loaded stays; and what a burst of tasks makes is mostly gone before anybody need look for cycles in it.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    trio.run(run)
    if not quiet:
        say(f"Node {name_told} has left." if name_told else "Ended before the node listened.")


def ready_lines(ready: NodeReady) -> list[str]:
    """What a person reads when the node listens."""
    offers = [
        counted(ready.slots, "slot"),
        counted(ready.cpus, "CPU"),
        f"{size(ready.memory_bytes)} memory",
        *([counted(ready.gpus, "GPU")] if ready.gpus else []),
        *([f"{size(ready.disk_bytes)} free disk"] if ready.disk_bytes else []),
        f"Python {ready.python}",
        *label_texts(ready.labels),
        *([f"{ready.cost:g} an hour of a slot"] if ready.cost else []),
    ]
    inviting = "`jcpeer grid invite` " + ("here" if ready.invites else "where the grid was created")
    fields = {
        "grid": f"{plain(ready.grid_name)} ({ready.fingerprint})" + (", made for you just now" if ready.fresh else ""),
        "listens": joined([address(each) for each in ready.listens]),
        "offers": ", ".join(plain(each) for each in offers),
        "runs": _whose_tasks(ready),
        **({"but": "; ".join(limits)} if (limits := _limits(ready)) else {}),
        "use it": "`jcpeer run FILE` in another terminal; `jcpeer nodes` shows who is there",
        "add to it": f"{inviting}, then `jcpeer grid join TOKEN` and `jcpeer node` on another machine",
    }
    notices = [f"  {plain(each)}" for each in ready.notices]
    return [f"Node {ready.name} listens. Ctrl-C ends it.", *field_lines(fields), *notices]


def _whose_tasks(ready: NodeReady) -> str:
    only, refused = ready.policy.only_users, ready.policy.refuse_users
    if ready.trusts_grid:
        whose = (
            f"{joined([plain(each) for each in only])} only" if only else f"every member of {plain(ready.grid_name)}"
        )
        less = f" but {joined([plain(each) for each in refused])}" if refused else ""
        return f"tasks of {whose}{less}, with all that you may do on this machine"
    if ready.user in refused or (only and ready.user not in only):
        return f"nothing: its settings leave out {plain(ready.user)}, and without --trust-grid it runs no others' tasks"
    return f"tasks of {plain(ready.user)} only; --trust-grid lets in those of other members"


def _limits(ready: NodeReady) -> list[str]:
    """What its owner's settings leave out, whoever asks."""
    only, refused = label_texts(ready.policy.only_labels), label_texts(ready.policy.refuse_labels)
    return [
        *([f"only applications with the label {joined(only)}"] if only else []),
        *([f"no applications with the label {joined(refused)}"] if refused else []),
        *([f"takes tasks at {plain(ready.hours)} only"] if ready.hours else []),
        *([] if ready.coordinates else ["coordinates no applications"]),
    ]


def _as_json(ready: NodeReady) -> dict[str, Any]:
    return {
        "name": ready.name,
        "id": ready.node,
        "grid": ready.grid_name,
        "fingerprint": ready.fingerprint,
        "user": ready.user,
        "host": ready.host,
        "listens": list(ready.listens),
        "socket": str(ready.socket),
        "slots": ready.slots,
        "cpus": ready.cpus,
        "memory_bytes": ready.memory_bytes,
        "gpus": ready.gpus,
        "disk_bytes": ready.disk_bytes,
        "cost": ready.cost,
        "labels": dict(ready.labels),
        "python": ready.python,
        "trusts_grid": ready.trusts_grid,
        "policy": data.of_policy(ready.policy),
        "hours": ready.hours,
        "coordinates": ready.coordinates,
        "fresh": ready.fresh,
        "notices": list(ready.notices),
        "pid": os.getpid(),
    }


def _end_with_stdin() -> None:
    """Stop when whoever started this node is gone, however it went: its end of our stdin closes."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
