"""A command's connection to a node of this machine. Loads neither trio nor libp2p: commands answer at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from jcpeer.cli import exits
from jcpeer.cli.exits import Leave
from jcpeer.cli.terminal import say
from jcpeer.client.blocking import SocketLink
from jcpeer.client.local import OWN_PREFIX, find_socket
from jcpeer.client.session import Session
from jcpeer.discovery.runtime_dir import LocalNode, local_nodes
from jcpeer.errors import NoNodeError
from jcpeer.places import runtime_dir


def nodes_here() -> list[LocalNode]:
    """This person's nodes on this machine, but for those that live only as long as one run."""
    return [each for each in local_nodes(runtime_dir()) if not each.name.startswith(OWN_PREFIX)]


@contextmanager
def session_here(name: str | None) -> Iterator[Session]:
    """Dealings with the local node that is meant.

    Raises:
        Leave: there is none.
    """
    try:
        path = find_socket(name)
        link = PatientLink(path)
        link.connect()
    except NoNodeError as error:
        raise Leave(exits.NO_NODE, str(error)) from error
    with closing(link):
        yield Session(link)


class PatientLink(SocketLink):
    """Says that it waits when the node goes away, since for half a minute nothing else would show."""

    async def await_return(self) -> None:
        say(f"The local node went away; waiting up to {self._patience_s:.0f} s for its return.")
        await super().await_return()
        say("The local node is back.")
