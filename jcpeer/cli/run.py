"""`jcpeer run`: hand an application over, follow it to its end, bring its outputs."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from attrs import frozen

from jcpeer.application.loading import load
from jcpeer.application.manifest import policy_fault
from jcpeer.cli import exits
from jcpeer.cli.exits import Leave, status_of_end
from jcpeer.cli.following import follow
from jcpeer.cli.local import PatientLink
from jcpeer.cli.options import OnNode, Variables, variables_from
from jcpeer.cli.screens import screen_for
from jcpeer.cli.summary import end_as_json, outputs_line, summary_lines
from jcpeer.cli.terminal import say, show, show_json
from jcpeer.cli.values import value_lines, values_of
from jcpeer.cli.words import counted, duration, plain
from jcpeer.client.blocking import SocketLink, deadline, iterate_blocking, run_blocking
from jcpeer.client.header import header_for
from jcpeer.client.local import VARIABLE, find_socket
from jcpeer.client.own_node import own_node
from jcpeer.client.session import Session
from jcpeer.config import read_labels
from jcpeer.errors import ConfigError, JcpeerError, NoNodeError
from jcpeer.ids import AppId
from jcpeer.values import evolve

if TYPE_CHECKING:
    from jcpeer.application.loaded import LoadedApplication

PEERS_WITHIN_S = 2.5
"""A node that announces itself is seen by then, by the promise of discovery."""
CANCEL_WITHIN_S = 3.0
"""Until the node of a run that was interrupted is told to stop all the same."""


def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .toml or .py file, or a recorded run (WfFormat .json).", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Bring the output files there.  [NAME-ID, made if needed]"),
    ] = None,
    no_output: Annotated[
        bool, typer.Option("--no-output", help="Leave the outputs with the nodes.", show_default=False)
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Hand over, print the id, and do not wait.", show_default=False)
    ] = False,
    set_: Variables = None,
    placement: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="Where it lives: rdv or local.  [what the file says, or rdv]"),
    ] = None,
    dispatch: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="Who places tasks: assign, grab or relay.  [what the file says, or assign]"
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many nodes keep its journal, 1 to 7.  [what the file says, or 3]"),
    ] = None,
    takeover: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="What replicas need to go on without the coordinator: quorum, a majority; available, nothing.  "
            "[what the file says, or quorum with 3 replicas or more]",
        ),
    ] = None,
    inputs_stay: Annotated[
        bool | None,
        typer.Option(
            "--inputs-stay",
            help="Do not copy large inputs to the replicas first; this machine has to stay on.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What it is, for nodes that choose by that. Can be repeated."),
    ] = None,
    scale: Annotated[
        float, typer.Option(metavar="FACTOR", help="Of a recorded run: multiply its times.", show_default=False)
    ] = 1.0,
    burn: Annotated[
        bool, typer.Option("--burn", help="Of a recorded run: keep a CPU busy instead of sleeping.", show_default=False)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print events as JSON lines, and at the end a summary.", show_default=False),
    ] = False,
    node: OnNode = None,
) -> None:
    """Run an application and follow it to its end.

    It goes to the local node, which finds others to work for it. Where no node runs here, one is started for this
    run alone. Ctrl-C leaves an application that was handed to a running node to go on: `jcpeer wait` and `jcpeer
    cancel` find it again. One whose node was started for the run is cancelled.

    The exit status is 0 if it ended well, 1 if it failed, 3 if it was cancelled, and 75 if the local node went away
    and did not return within 30 s: the application is kept, and `jcpeer wait` comes back to it.

    \b
    Examples:
      jcpeer run corpus.toml
      jcpeer run corpus.toml --set shards=20 --output results
      jcpeer run recorded.json --scale 0.01
      id=$(jcpeer run corpus.toml --detach) && jcpeer wait $id
    """
    if output is not None and no_output:
        raise ConfigError("--output and --no-output contradict each other; leave one out")
    if output is not None and detach:
        raise ConfigError(
            "--detach waits for no outputs: leave --output out, and later `jcpeer result APP --output DIR` brings them"
        )
    policies = _policies(
        placement=placement, dispatch=dispatch, replicas=replicas, takeover=takeover, inputs_stay=inputs_stay
    )
    with _kept():
        loaded = load(file, variables=variables_from(set_ or ()), scale=scale, burn=burn)
    loaded = evolve(loaded, **policies, labels={**loaded.labels, **_labels(label or [])})
    wanted = _Wanted(output, leave=no_output or (output is None and loaded.recorded_makespan_s is not None))
    with _ended_by_signals(), _some_node(node, detach=detach) as place:
        if detach:
            _hand_over(place.session, loaded, as_json=as_json)
        else:
            _run_to_the_end(place, loaded, wanted, as_json=as_json)


@contextmanager
def _kept() -> Iterator[None]:
    """Nobody looks for cycles in what is made within the block: it stays, and that would take a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@frozen
class _Wanted:
    """What to do with the outputs: where to bring them (None: a directory of their own), or to leave them."""

    directory: Path | None
    leave: bool


@frozen
class _Place:
    """Where the application goes. `own`: a node that ends with this run."""

    session: Session
    own: bool


def _policies(**given: object) -> dict[str, Any]:
    """Those that were given."""
    for policy, value in given.items():
        if value is not None and (fault := policy_fault(policy, value)):
            raise ConfigError(f"--{fault}")
    return {policy: value for policy, value in given.items() if value is not None}


def _labels(pairs: list[str]) -> dict[str, str]:
    try:
        return read_labels(pairs)
    except ValueError as error:
        raise ConfigError(f"--label: {error}") from error


# --- the node


@contextmanager
def _some_node(name: str | None, *, detach: bool) -> Iterator[_Place]:
    """The local node, or where none was asked for and none runs, one for as long as the block lasts."""
    try:
        link: SocketLink = PatientLink(find_socket(name, lasting=True))
        link.connect()
    except NoNodeError as error:
        if name or os.environ.get(VARIABLE):
            raise Leave(exits.NO_NODE, str(error)) from error
        if detach:
            raise Leave(
                exits.NO_NODE, "no node runs here that could keep the application: start one with `jcpeer node`"
            ) from error
    else:
        with closing(link):
            yield _Place(Session(link), own=False)
        return
    say("No node runs here: starting one for this run.")
    with own_node() as own, closing(SocketLink(find_socket(own.name), patience_s=0.0)) as link:
        session = Session(link)
        _tell_who_works(session)
        yield _Place(session, own=True)


def _tell_who_works(session: Session) -> None:
    """Wait a moment for others: a run that begins alone spreads later, but a short one would be over by then."""
    names: list[str] = []
    try:
        with deadline(PEERS_WITHIN_S):
            for found in iterate_blocking(session.watch_nodes()):
                names = [each.record.name for each in found.nodes if not each.myself]
                if names:
                    break
    except TimeoutError:
        pass
    if names:
        say(f"It works with {counted(len(names), 'other node')}: {', '.join(plain(each) for each in names)}.")
    else:
        say("No other nodes are in reach; it works alone.")


# --- the application


def _hand_over(session: Session, loaded: LoadedApplication, *, as_json: bool) -> None:
    header = header_for(loaded)
    accepted = run_blocking(session.submit(loaded, header))
    if as_json:
        show_json({"application": accepted.app, "name": loaded.name, "caveat": accepted.caveat})
        return
    show(accepted.app)
    say(f"{plain(loaded.name)} is accepted. `jcpeer wait {accepted.app[:8]}` waits for its end.")
    if accepted.caveat:
        say(plain(accepted.caveat))


def _run_to_the_end(place: _Place, loaded: LoadedApplication, wanted: _Wanted, *, as_json: bool) -> None:
    session = place.session
    app: AppId | None = None
    try:
        with screen_for(loaded.name, as_json=as_json) as screen:
            header = header_for(loaded)
            accepted = run_blocking(session.submit(loaded, header, progress=screen.upload))
            app = accepted.app
            if as_json:
                show_json({"event": "submitted", "application": app, "name": loaded.name})
            elif not place.own:
                screen.note(f"{plain(loaded.name)} is accepted as {app[:8]}: {counted(len(loaded.tasks), 'task')}.")
                if accepted.caveat:
                    screen.note(plain(accepted.caveat))
            status, seen = follow(session, app, screen)
    except KeyboardInterrupt:
        _interrupted(place, loaded.name, app)
    except NoNodeError as error:
        if not place.own:
            raise
        raise Leave(
            exits.LATER,
            "the node that was started for this run went away, and the application with it: run it again; "
            "with `jcpeer node` running it would be kept",
        ) from error
    paths: tuple[Path, ...] = ()
    values: dict[str, str] = {}
    lines: list[str] = []
    fault: JcpeerError | None = None
    if status.summary.state != "cancelled":
        try:
            values = values_of(session, app)
            directory = wanted.directory or Path(f"{_file_name(loaded.name)}-{app[:8]}")
            if not wanted.leave:
                paths = run_blocking(session.fetch(app, directory))
            if paths:
                lines.append(outputs_line(paths, directory))
            elif wanted.leave and not place.own:
                lines.append(f"Outputs: with the nodes; `jcpeer result {app[:8]} --output DIR` brings them.")
        except JcpeerError as error:
            fault = error  # the summary is worth having all the same
    if as_json:
        show_json({**end_as_json(status, paths), "values": values})
    else:
        if loaded.recorded_makespan_s is not None:
            lines.append(f"The recorded run took {duration(loaded.recorded_makespan_s)}.")
        for line in summary_lines(status, seen, [*lines, *value_lines(values)]):
            show(line)
    if fault is not None:
        raise fault
    raise Leave(status_of_end(status.summary.state))


def _interrupted(place: _Place, name: str, app: AppId | None) -> NoReturn:
    if app is None:
        raise Leave(exits.INTERRUPTED, f"interrupted before {name} was accepted: nothing runs")
    if not place.own:
        raise Leave(
            exits.INTERRUPTED,
            f"interrupted; {name} goes on without you. Come back with `jcpeer wait {app[:8]}`, "
            f"end it with `jcpeer cancel {app[:8]}`",
        )
    say("Interrupted: cancelling …")
    try:
        with deadline(CANCEL_WITHIN_S):
            run_blocking(place.session.cancel(app))
            run_blocking(place.session.wait(app))
    except (JcpeerError, TimeoutError):
        pass  # its node stops now, and takes its tasks along
    raise Leave(exits.INTERRUPTED, f"interrupted; {name} was cancelled")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._-")[:80] or "application"


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, signals that mean "go" unwind it, so that a node started here is stopped."""

    def go(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {each: signal.signal(each, go) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
