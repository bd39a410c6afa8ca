"""The applications that this node coordinates, or has coordinated and keeps the results of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import structlog
import trio

from jcpeer.application.manifest import Placed
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import Committed, Effect, Event, Heard, NodeLost, NodeSeen, Woke
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState, TaskRecord
from jcpeer.errors import MembershipError, RequestError
from jcpeer.ft.journal import Written
from jcpeer.ids import AppId, Digest, Epoch, NodeId
from jcpeer.net.events import Proof
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.naming import ambiguous
from jcpeer.node.parts import Parts
from jcpeer.node.soundness import sound_report
from jcpeer.rdv.placement import open_placed
from jcpeer.wire.codec import unpack
from jcpeer.wire.facts import Submitted
from jcpeer.wire.messages import (
    Confirm,
    Decline,
    Engaged,
    Fetched,
    GivenBack,
    NodeRecord,
    Output,
    Release,
    Report,
    Signed,
    Started,
    Take,
)
from jcpeer.work.execution import Content
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

LOOK_S = 0.5
"""Between looks at the clock while applications run here."""
PAUSE_S = LOOK_S + 1.0
"""Who looks so late was held up."""

Answer = Confirm | Decline | Engaged | Take | Started | Report | GivenBack | Fetched


class Applications:
    """Finds an application's host, starts hosts, and passes on what concerns them."""

    def __init__(
        self,
        parts: Parts,
        transfer: Transfer,
        nursery: trio.Nursery,
        *,
        known_nodes: Callable[[], Iterable[NodeRecord]],
        changed: Callable[[], None],
        appeared: Callable[[ApplicationHost], None] = lambda host: None,
        forgotten: Callable[[ApplicationHost], None] = lambda host: None,
    ) -> None:
        """`appeared`: an application lives here, since now or again; `forgotten`: nothing is kept of it any more."""
        self._parts = parts
        self._transfer = transfer
        self._nursery = nursery
        self._known_nodes = known_nodes
        self._changed = changed
        self._appeared = appeared
        self._forgotten = forgotten
        self._hosts: dict[AppId, ApplicationHost] = {}
        self._of_other_grids: set[AppId] = set()
        """This node was in another grid when it kept them: they concern nobody in this one but its own clients."""
        self._awake_s = parts.clock_s()
        self._running: dict[AppId, None] = {}
        self._begun = trio.Event()

    # --- beginnings and ends

    def recover(self) -> None:
        """Go on with what the journal holds: applications that have not ended run again under a new epoch."""
        for app in self._parts.journal.applications():
            state = ApplicationState()
            for entry in self._parts.journal.read(app):
                state.apply(entry)
            if state.placed is None:
                continue
            host = self._hosts[app] = self._host(state)
            self._parts.store.pin(app, _blobs_of(state))
            if state.ended is None:
                log.info("application goes on", app=app, name=state.header.name)
                effects = host.machine.take_over(
                    now_s=trio.current_time(),
                    epoch=Epoch(host.machine.epoch.counter + 1, self._parts.identity.node),
                    predecessor=self._parts.identity.node,
                    absent=self._absent_outputs(state),
                )
                self._start(host, effects)
            if self._is_of_this_grid(state.placed):
                self._appeared(host)
            else:
                self._of_other_grids.add(app)

    def _is_of_this_grid(self, submitted: Submitted) -> bool:
        try:
            open_placed(submitted.placed, root=self._parts.standing.membership.root, now_s=None)
        except MembershipError:
            return False
        return True

    def _absent_outputs(self, state: ApplicationState) -> set[Digest]:
        """What our own attempts left that neither their reports nor our disk kept."""
        ours = (
            each.result
            for each in state.tasks.values()
            if each.result and each.result.node == self._parts.identity.node
        )
        blobs = (each.blob for result in ours for each in result.outcome.outputs if not each.carried)
        return {
            each.digest
            for each in blobs
            if not self._parts.store.has(each.digest)
            and not (each.small and self._parts.journal.inline(state.app, each.digest))
        }

    def open(self, signed: Signed) -> ApplicationHost:
        """The host of this submission; a submission that comes again finds the one that it opened."""
        app = unpack(signed.payload, Placed).app
        if app not in self._hosts:
            host = self._host(ApplicationState())
            effects = host.machine.open(Submitted(signed), now_s=trio.current_time())
            self._hosts[app] = host
            self._start(host, effects)
            self._appeared(host)
            self._changed()
        return self._hosts[app]

    def _host(self, state: ApplicationState) -> ApplicationHost:
        machine = Coordinator(
            state, me=self._parts.identity.node, now_s=trio.current_time(), clock_s=self._parts.clock_s()
        )
        return ApplicationHost(machine, self._parts, self._transfer)

    def _start(self, host: ApplicationHost, first: list[Effect]) -> None:
        if not self._running:
            self._awake_s = self._parts.clock_s()  # nobody looked before
            self._begun.set()
        self._running[host.app] = None
        for record in self._known_nodes():
            host.post(NodeSeen(record))
        self._nursery.start_soon(self._run, host, first)

    async def _run(self, host: ApplicationHost, first: list[Effect]) -> None:
        await host.run(first)
        if host.fault is None:
            state = host.machine.state
            results = {each.blob.digest for task in state.final_tasks() for each in _outputs(task)}
            self._parts.store.release(host.app, keep=results)
            self._parts.store.drop(each.blob.digest for task in state.tasks.values() for each in _outputs(task))
        self._running.pop(host.app, None)
        self._changed()

    def forget(self, host: ApplicationHost) -> None:
        """Drop an ended application.

        Raises:
            RequestError: it still runs.
        """
        if host.app in self._running:
            raise RequestError(f"{host.machine.state.header.name} has not ended; cancel it first")
        blobs = _blobs_of(host.machine.state)
        self._parts.store.release(host.app)
        self._parts.store.drop(blobs)
        self._parts.journal.forget(host.app)
        del self._hosts[host.app]
        self._forgotten(host)

    def forget_old(self) -> None:
        """Drop what ended long ago, as the settings say."""
        before_s = self._parts.clock_s() - self._parts.config.results_kept_s
        for host in list(self):
            if host.app not in self._running and host.machine.over and host.machine.state.ended_at_s < before_s:
                log.info("results dropped for their age", app=host.app, name=host.machine.state.header.name)
                self.forget(host)

    # --- finding

    def __iter__(self) -> Iterator[ApplicationHost]:
        return iter(self._hosts.values())

    @property
    def coordinating(self) -> bool:
        return bool(self._running)

    async def coordinates(self) -> None:
        """Return while an application runs here."""
        while not self._running:
            self._begun = trio.Event()
            await self._begun.wait()

    def get(self, app: AppId) -> ApplicationHost | None:
        return self._hosts.get(app)

    def find(self, wanted: str, *, user: str, local: bool = False) -> ApplicationHost | None:
        """An application of this user: by id, by unique prefix of it, or by name, of which the latest counts if all
        earlier ones have ended. `local`: the user is a client of this very node.

        Raises:
            RequestError: several are meant.
        """

        def shown(host: ApplicationHost) -> bool:
            return host.machine.state.header.user == user or (local and host.app in self._of_other_grids)

        if (exact := self._hosts.get(AppId(wanted))) is not None:
            return exact if shown(exact) else None
        theirs = [each for each in self if shown(each)]
        named = [each for each in theirs if each.machine.state.header.name == wanted]
        running = [each for each in named if each.app in self._running]
        found = running or named[-1:]
        if not found and len(wanted) >= 2:
            found = [each for each in theirs if each.app.startswith(wanted)]
        if len(found) > 1:
            raise ambiguous(wanted, (each.app for each in found))
        return found[0] if found else None

    def content(self, digest: Digest) -> Content | None:
        """What this node holds under that name: in its store or, of an application that it hosts, in the journal."""
        content = self._parts.store.content(digest)
        if content is not None:
            return content
        return next((data for host in self if (data := host.small_blob(digest)) is not None), None)

    # --- what concerns them

    def heard(self, node: NodeId, message: Answer) -> None:
        host = self._hosts.get(message.app)
        if host is None:
            log.info("answer for an unknown application", node=node, app=message.app)
        elif message.app in self._running:
            host.post(Heard(node, sound_report(message) if isinstance(message, Report) else message))
        elif not isinstance(message, Decline):
            # It was out of reach when the end was told.
            self._parts.network.send(node, Release(host.app, host.machine.epoch, ended=True))

    def written(self, app: AppId, written: Written) -> None:
        if app in self._running:
            self._hosts[app].post(Committed(written.index))

    def node_seen(self, record: NodeRecord) -> None:
        if self._running:
            self.note_pause()
            self._post_all(NodeSeen(record))

    def node_lost(self, node: NodeId, why: str, proof: Proof) -> None:
        self.note_pause()
        self._post_all(NodeLost(node, why, proof))

    def note_pause(self) -> None:
        """The clock on the wall runs on while the process is stopped, and while the machine is suspended. That it can
        be set does no harm here: whoever seems to have slept is only slower to give others up."""
        now_s = self._parts.clock_s()
        if now_s - self._awake_s > PAUSE_S:
            self._post_all(Woke())
        self._awake_s = now_s

    def _post_all(self, event: Event) -> None:
        for app in list(self._running):
            self._hosts[app].post(event)


def _outputs(task: TaskRecord) -> Iterator[Output]:
    if task.result is not None:
        yield from task.result.outcome.outputs


def _blobs_of(state: ApplicationState) -> set[Digest]:
    """All that the application's tasks read or left, as far as it has a name."""
    blobs = {
        each.source.digest
        for task in state.tasks.values()
        for each in task.spec.inputs
        if isinstance(each.source, BlobRef)
    }
    return blobs | {each.blob.digest for task in state.tasks.values() for each in _outputs(task)}
