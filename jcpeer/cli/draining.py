"""`jcpeer node --drain`: have a running node of this machine end without breaking anything off."""

from __future__ import annotations

import time
from contextlib import closing

from jcpeer.cli import exits
from jcpeer.cli.exits import Leave
from jcpeer.cli.terminal import say, show, show_json
from jcpeer.cli.words import counted, joined, plain
from jcpeer.client.blocking import SocketLink, iterate_blocking, run_blocking
from jcpeer.client.local import find_socket
from jcpeer.client.session import Session
from jcpeer.errors import NoNodeError
from jcpeer.wire.requests import Draining

GONE_WITHIN_S = 10.0
"""A node that leaves is gone within 5 s, by its own promise; pushing what it alone holds comes on top."""
LOOK_S = 0.1


def drain_node(name: str | None, *, as_json: bool) -> None:
    """Returns when the node of this name has left.

    Raises:
        Leave: there is none, or it goes on leaving without us.
    """
    try:
        link = SocketLink(find_socket(name), patience_s=0.0)
        link.connect()
    except NoNodeError as error:
        raise Leave(exits.NO_NODE, str(error)) from error
    with closing(link):
        session = Session(link)
        me = plain(run_blocking(session.who()).record.name)
        try:
            say(f"Node {me} takes nothing new from now on, and leaves when what runs there has ended.")
            left = _follow(session, as_json=as_json)
        except KeyboardInterrupt:
            raise Leave(exits.INTERRUPTED, f"interrupted; node {me} goes on, and leaves by itself") from None
    if as_json:
        show_json({"node": me, "left": left})
    else:
        show(f"Node {me} has left." if left else f"Node {me} has nothing to do any more, and is about to leave.")


def _follow(session: Session, *, as_json: bool) -> bool:
    try:
        for step in iterate_blocking(session.drain()):
            if as_json:
                show_json({"running": step.running, "coordinates": list(step.coordinates)})
            else:
                say(draining_text(step))
        gives_up_at = time.monotonic() + GONE_WITHIN_S
        while time.monotonic() < gives_up_at:
            run_blocking(session.who())
            time.sleep(LOOK_S)
    except NoNodeError:
        return True
    return False


def draining_text(step: Draining) -> str:
    """ "2 attempts still run; it hands over corpus when it leaves"."""
    running = f"{counted(step.running, 'attempt')} still {'runs' if step.running == 1 else 'run'}"
    names = joined([plain(each) for each in step.coordinates])
    return (
        f"{running if step.running else 'Nothing runs'}{f'; it coordinates {names} until it leaves' if names else ''}."
    )
