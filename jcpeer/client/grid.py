"""The grid as a plain program sees it: `with jcpeer.connect() as grid:`. Imports no trio."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Unpack

from jcpeer.application.manifest import Header, RunPolicies
from jcpeer.application.modules import import_root
from jcpeer.client.blocking import SocketLink, iterate_blocking, run_blocking
from jcpeer.client.executor import ExecutorOptions, GridExecutor
from jcpeer.client.feed import ExecutorFeed
from jcpeer.client.handle import Handle
from jcpeer.client.header import header_for
from jcpeer.client.loadable import Runnable, loaded_from
from jcpeer.client.local import find_socket
from jcpeer.client.session import Session, Upload
from jcpeer.wire.requests import ApplicationSummary, Nodes, Self


def connect(name: str | None = None, *, lasting: bool = True) -> Grid:
    """The grid, by way of a node on this machine.

    Args:
        name: Of the node, or the path of its socket. None: what JCPEER_NODE says, else the node named like this host,
            else the one that has run longest.
        lasting: Do not choose a node that somebody's `jcpeer run` started for itself.

    Raises:
        NoNodeError: no such node runs here; the remedy is `jcpeer node`.
    """
    link = SocketLink(find_socket(name, lasting=lasting))
    link.connect()
    return Grid(link)


class Grid:
    """A connection to the grid; every method may be called from any thread.

    If the local node goes away, methods wait 30 s for its return and go on. What was accepted goes on regardless.
    """

    def __init__(self, link: SocketLink) -> None:
        self.session = Session(link)
        self._link = link
        # Not the executors: one that nobody holds may still have calls under way.
        self._feeds: weakref.WeakSet[ExecutorFeed] = weakref.WeakSet()

    def __enter__(self) -> Grid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shut down this grid's executors, waiting for their calls, and disconnect. Applications go on."""
        try:
            for feed in list(self._feeds):
                feed.close()
                feed.join()
        finally:
            self._link.close()

    # --- applications

    def run(
        self,
        application: Runnable,
        *,
        header: Header | None = None,
        progress: Callable[[Upload], None] | None = None,
        **policies: Unpack[RunPolicies],
    ) -> Handle:
        """Hand an application over; when this returns it will end, whatever becomes of this program.

        Args:
            application: An `Application`, a loaded one, or the path of a file that describes one.
            header: That of an earlier try, to resume it instead of submitting another application.
            progress: Called as the submission goes on.
            policies: `placement`, `dispatch`, `replicas`, `takeover`, `inputs_stay`, instead of what it says itself;
                see `Application`.

        Raises:
            GraphError: it cannot be; nothing was sent.
            RequestError: the node refuses it.
        """
        loaded = loaded_from(application)
        header = header or header_for(loaded, **policies)
        return self.handle(run_blocking(self.session.submit(loaded, header, progress=progress)).app)

    def handle(self, application: str) -> Handle:
        """Take up an application by its id, a unique prefix of it, or its name."""
        return Handle(self.session, application)

    def applications(self) -> tuple[ApplicationSummary, ...]:
        """The applications that the node knows."""
        return run_blocking(self.session.applications())

    def forget(self, application: str) -> None:
        """Drop an ended application's results and journal."""
        run_blocking(self.session.forget(application))

    def executor(
        self, name: str = "executor", *, directory: str | Path | None = None, **options: Unpack[ExecutorOptions]
    ) -> GridExecutor:
        """A `concurrent.futures.Executor` whose calls run on the grid.

        Differences to the standard library's: a future as an argument of another call means its value, and a call that
        was sent can be cancelled until a node has started it.

        Args:
            name: Of the application that stays open until `shutdown`.
            directory: Where the user's own modules are, which travel with it; default: where the calling file's
                modules are imported from.
            options: What each call needs, as of `jcpeer.task`: `cpus`, `memory`, `gpus`, `timeout`, `retries`, …; and
                how all of it is run, as of `run`: `placement`, `dispatch`, `replicas`, `takeover`, `inputs_stay`.

        Raises:
            GraphError: an option is impossible.
        """
        file = sys._getframe(1).f_globals.get("__file__")
        if directory is None and isinstance(file, str) and Path(file).is_file():
            directory = import_root(Path(file))
        executor = GridExecutor(self.session, name, None if directory is None else Path(directory), **options)
        self._feeds.add(executor.feed)
        return executor

    # --- nodes

    def nodes(self) -> Nodes:
        """The nodes in the directory."""
        return run_blocking(self.session.nodes())

    def watch_nodes(self) -> Generator[Nodes, None, None]:
        """The directory, again at each change."""
        return iterate_blocking(self.session.watch_nodes())

    def who(self) -> Self:
        """The node that answers."""
        return run_blocking(self.session.who())

    def join_grid(self, token: str) -> Self:
        """Move the node into the grid of this token."""
        return run_blocking(self.session.join_grid(token))
