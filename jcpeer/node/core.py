"""A whole node from its parts: one nursery in which they run and hear of each other.

The same composition runs on a machine and in a simulated world; `node.opening` makes the real parts.

    network events → reach, directory, participation, applications → their effects → reach → network

Nothing here polls: each machine says when it wants to be called again (`node.alarm`), so that an idle node costs little
and a simulation jumps from one event to the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog
import trio

from jcpeer.application.manifest import Placed
from jcpeer.coordinator.matching import unmet_need
from jcpeer.dht.machine import KeyMessage
from jcpeer.discovery.connections import Unreached
from jcpeer.discovery.directory import Directory, RecordChanged
from jcpeer.errors import MembershipError, RequestError
from jcpeer.ids import AppId, NodeId, short
from jcpeer.net.events import Proof
from jcpeer.net.network import DialFailed, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.node.applications import LOOK_S, Applications
from jcpeer.node.calling import Calling
from jcpeer.node.copies import Copies
from jcpeer.node.decisions import Decisions
from jcpeer.node.draining import Drain
from jcpeer.node.elsewhere import Elsewhere
from jcpeer.node.finder import Finder, NetworkFinder, candidate_of, judge_of
from jcpeer.node.finding import Finding
from jcpeer.node.handing_on import HandingOn
from jcpeer.node.helpers import Helpers
from jcpeer.node.home import Home
from jcpeer.node.offer import offered_gpus
from jcpeer.node.own_record import OwnRecord
from jcpeer.node.participation import Participation
from jcpeer.node.parts import Parts
from jcpeer.node.publishing import Publishing
from jcpeer.node.reach import Reach
from jcpeer.node.recovery import Recovery
from jcpeer.node.reigns import Reigns
from jcpeer.node.reunion import Reunion
from jcpeer.node.service import Service
from jcpeer.node.sight import Sight
from jcpeer.node.submission import Submissions
from jcpeer.node.whereabouts import Whereabouts
from jcpeer.rdv.placement import Candidate
from jcpeer.values import evolve
from jcpeer.wire.codec import unpack
from jcpeer.wire.messages import (
    Acknowledge,
    Answer,
    Ask,
    Assign,
    CallBack,
    CancelAttempts,
    ClaimRefused,
    Confirm,
    Contact,
    Decline,
    Engaged,
    Fetched,
    FindNode,
    FoundNodes,
    GivenBack,
    Gone,
    Hand,
    News,
    NodeRecord,
    NodeState,
    NotNeeded,
    Offer,
    Ping,
    Pong,
    Probe,
    ProbeAnswer,
    RecordStored,
    Recruit,
    Release,
    Report,
    Started,
    Stay,
    StoreRecord,
    Supervised,
    Take,
    Taken,
    TriedDial,
    TryDial,
    Vouched,
    Withdraw,
    Yield,
)
from jcpeer.wire.peer import PeerMessage
from jcpeer.wire.replication import (
    Alive,
    AppendEntries,
    AskAlive,
    AskVote,
    Buried,
    CannotKeep,
    Differs,
    Diverged,
    DivergedTaken,
    GiveUpSeat,
    KeepBlobs,
    Kept,
    NoSeat,
    Reign,
    Retired,
    Suspect,
    Underway,
    VoteAnswer,
    WantEntries,
)
from jcpeer.work.events import NotReached, Ordered, Reunited
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

EVENTS_AT_ONCE_MAX = 200
ALL_BY_KEY_MAX = 64
"""In a grid of so many all are offered to the table of keys; in a larger one it fills as nodes ask each other."""
LOOK_AROUND_S = 1800.0
"""In the space of keys, while nobody comes or goes: who is there the directory tells, and lookups begin with that."""
HOUR_S = 3600.0
UNCONNECTABLE = "cannot be dialled, and neither can the coordinator: so they are not connected"
HAND_OVER_S = 1.5
LEAVE_S = 4.0
"""Bound on handing attempts back when the node stops, and what only it holds; with the goodbye it makes five seconds,
which is as long as a person waits before trying harder."""


class Node:
    """One running node. Opened by `open_core`, or with real parts by `node.opening`."""

    def __init__(
        self,
        parts: Parts,
        nursery: trio.Nursery,
        *,
        join_grid: Callable[[str], Awaitable[None]],
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._vanished = False
        self.reach = Reach(
            parts.network,
            undelivered=self._undelivered,
            unreached=self._unreached,
            turned_away=lambda node: self.sight.turned_away(node),
            call_for=lambda node, turn: self.calling.call_for(node, turn),
        )
        self.parts = parts = evolve(parts, network=self.reach)
        self._users = {parts.identity.node: parts.standing.membership.certificate.user}
        self._coordinators: frozenset[NodeId] = frozenset()
        self.reigns = Reigns(lambda: parts.standing.membership.root)
        self._own = OwnRecord(
            parts,
            doing=self._doing,
            interval_s=lambda: self.directory.tell_interval_s,
            measured=lambda event: self.participation.post(event),
            changed=self._tell_of_myself,
        )
        self.sight = Sight(
            parts, self.reach, self.record, known=self._know, left=self._lose, published=self._renew_contact
        )
        self.calling = Calling(self.reach, self.directory, nursery, found=self._own.found_dialable)
        self.participation = Participation(
            parts,
            user=self.record.user,
            slots=self.record.slots,
            memory_bytes=self.record.memory_bytes,
            disk_bytes=self.record.disk_bytes,
            gpus=offered_gpus(parts.config, parts.machine),
            reigns=self.reigns,
            opening=self._own.opening,
            changed=self._show_state,
            hosted_here=lambda app: self.copies.get(app) is not None,
            journalled=parts.journal.inline,
            offers=lambda task: unmet_need(task, self.record) is None,
            helpers=Helpers(self.id, self.sight.others, lambda: self.finder),
        )
        self.transfer = Transfer(
            parts.network,
            parts.store,
            find=lambda digest: self.applications.content(digest),
            open_log=self.participation.open_log,
        )
        self.finding = Finding(
            self._contact,
            self._ask_contact,
            judge=judge_of(parts),
            watched=self._is_in_directory,
            near=self._contacts_near,
            quiet_s=LOOK_AROUND_S,
        )
        self.finder: Finder = NetworkFinder(self.finding, me=self._own_candidate, read=self._candidate_of)
        self._publishing = Publishing(parts, self.finder)
        self.copies = Copies(
            parts,
            hold=partial(self.reach.hold, "replicas"),
            hold_watched=partial(self.reach.hold, "watched"),
            up=lambda: self.reach.machine.up,
            known=self.sight.others,
            candidate=self._candidate_in,
            changed=self._show_state,
        )
        self.applications = Applications(
            parts,
            self.transfer,
            nursery,
            self.copies,
            known_nodes=self.directory.records,
            changed=self._show_state,
            appeared=self._publishing.show,
            forgotten=self._publishing.hide,
            handing_on=lambda: HandingOn(parts, self.elsewhere.request),
        )
        self.drain = Drain(self.participation, self._own, nursery, coordinated=self._coordinated, drained=drained)
        home = Home(parts, self.applications, self.transfer, me=self._candidate, name_of=self.sight.name_of)
        self.decisions = Decisions(parts.journal, parts.clock_s)
        self.elsewhere = Elsewhere(
            parts,
            self.applications,
            home,
            nursery,
            holding=self.reach.holding,
            known_of=lambda wanted, user: self.copies.known_of(wanted, user, name_of=self.sight.name_of),
        )
        whereabouts = Whereabouts(
            parts, self.finder, self.decisions, self.elsewhere, others=self.sight.others, name_of=self.sight.name_of
        )
        submissions = Submissions(
            parts,
            self.applications,
            home,
            self.decisions,
            self.elsewhere,
            whereabouts,
            self.finder,
            nursery,
            me=self._candidate,
        )
        self.service = Service(
            parts,
            self.applications,
            self.participation,
            self.directory,
            self.transfer,
            submissions,
            home,
            whereabouts,
            safety_of=self.copies.safety,
            recover=Recovery(parts, self.copies, self.applications, name_of=self.sight.name_of).recover,
            name_of=self.sight.name_of,
            notices=self.sight.notices,
            join_grid=join_grid,
            drain=self.drain.watch,
        )
        self.reunion = Reunion(
            parts.network,
            self.participation,
            about=whereabouts.about,
            is_up=lambda node: node in self.reach.machine.up,
            is_seat=self._is_seat,
        )
        self.elsewhere.answer_with(self.service.answer, self.service.summaries)

    @property
    def id(self) -> NodeId:
        return self.parts.identity.node

    @property
    def directory(self) -> Directory:
        """Who is there, as this node sees it."""
        return self.sight.directory

    @property
    def record(self) -> NodeRecord:
        """What this node offers and is doing, as last told to the directory."""
        return self._own.record

    # --- what runs

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started once everything listens."""
        self.parts.journal.report_commits(self.copies.written)
        self.parts.network.serve_streams(self.transfer.serve)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.participation.run, self.transfer)
            for part in (
                self.reach,
                self.finding,
                self.calling,
                self.copies,
                self.reunion,
                self._publishing,
                self._own,
            ):
                nursery.start_soon(part.run)
            nursery.start_soon(self._watch_for_pauses)
            nursery.start_soon(self._forget_old_applications)
            await nursery.start(self.sight.run)
            self._renew_contact()
            self.applications.recover()
            task_status.started()
            async for event in self.reach.events:
                self._take(event)
                self._take_more()

    def _take_more(self) -> None:
        """What else has come: one by one, each would cost a round of the scheduler."""
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            for _ in range(EVENTS_AT_ONCE_MAX):
                self._take(self.reach.events.receive_nowait())

    def _take(self, event: NetworkEvent) -> None:
        match event:
            case PeerUp():
                self._users[event.peer] = event.certificate.user
                if event.certificate.host != self.parts.machine.host:
                    self.calling.peer_came(event.peer)
            case PeerDown():
                self.elsewhere.lost(event.peer)
                self.calling.peer_went(event.peer)
            case _:
                pass
        taken = self.reach.take(event)
        match event:
            case PeerUp():
                self.copies.peer_up(event.peer)
            case PeerDown():
                self.copies.peer_down(event.peer, event.proof)
                self.reunion.peer_down()
            case _:
                pass
        if taken or (isinstance(event, Received) and self._hear(event)):
            return
        assert not isinstance(event, DialFailed), "that concerns connections only"
        self.sight.tell(event)
        if isinstance(event, PeerUp) and event.peer in self._coordinators:
            self.participation.post(Reunited(event.peer))  # after our record, without which we count for nothing

    def _hear(self, event: Received) -> bool:
        """Pass a message on; False if it is for the directory."""
        node, message = event.peer, event.message
        match message:
            case Confirm() | Decline() | Engaged() | Take() | Started() | Report() | GivenBack():
                self.applications.heard(node, message)
            case Fetched() | CannotKeep() | Alive() | Suspect():
                self.applications.heard(node, message)
            case Recruit():
                self.participation.called_up(node, message)
            case Assign():
                self.participation.assigned(node, message, user=self._users.get(node, ""))
            case Vouched():
                self.participation.vouched(node, message)
            case (
                Withdraw()
                | CancelAttempts()
                | Acknowledge()
                | ClaimRefused()
                | Offer()
                | Gone()
                | Yield()
                | Stay()
                | Supervised()
                | Release()
            ):
                self.participation.post(Ordered(node, message))
            case Probe() | ProbeAnswer() | NotNeeded() | Taken():
                self.participation.told(node, message, user=self._users.get(node, ""))
            case Hand():
                self.participation.handed(node, message, user=self._users.get(node, ""))
            case Ping() | Pong() | FindNode() | FoundNodes() | StoreRecord() | RecordStored():
                record = self.directory.record_of(node)
                self.finding.heard(node, message, record.addresses if record and record.dialable else ())
            case TryDial() | TriedDial() | CallBack():
                self.calling.heard(node, message)
            case Reign():
                self._hear_reign(node, message)
            case AskAlive():
                self.copies.asked_about(node, message)
            case KeepBlobs():
                self.applications.keep_blobs(node, message)
            case Diverged():
                self.applications.diverged(node, message)
            case Buried():
                self.applications.buried(node, message)
            case (
                AppendEntries()
                | Kept()
                | Differs()
                | NoSeat()
                | AskVote()
                | VoteAnswer()
                | WantEntries()
                | Underway()
                | Retired()
                | GiveUpSeat()
                | DivergedTaken()
            ):
                self.copies.heard(node, message)
            case Ask():
                self.elsewhere.asked(node, self._users.get(node, ""), message)
            case Answer():
                self.elsewhere.answered(node, message)
            case _:
                return False
        return True

    def _hear_reign(self, node: NodeId, reign: Reign) -> None:
        """From its coordinator before all else of the epoch, or from who hands something over or knows better."""
        try:
            known = self.reigns.hear(node, reign)
        except MembershipError as error:
            log.warning("a reign is not believed", node=short(node), app=reign.app, reason=str(error))
            return
        highest = self.reigns.known(reign.app)
        if highest is not None and highest.epoch > known.epoch:
            if node == known.coordinator:
                self.reach.send(node, highest.reign)  # who was out of reach steps down as soon as it meets anybody
        else:
            self.copies.reign_heard(node, reign, known)

    # --- who is there

    def _know(self, record: NodeRecord) -> None:
        """A record is new in the directory."""
        if not record.dialable:
            self.finding.gone(record.node)
        elif len(self.directory) <= ALL_BY_KEY_MAX or self.finding.machine.knows(record.node):
            self.finding.seen(Contact(record.node, record.addresses))
        self.applications.node_seen(record)
        self.copies.node_seen()

    def _lose(self, node: NodeId, why: str, proof: Proof) -> None:
        self.finding.gone(node)
        self.applications.node_lost(node, why, proof)
        self.copies.node_seen()

    def _undelivered(self, node: NodeId, message: PeerMessage) -> None:
        match message:
            case Ask():
                self.elsewhere.lost(node)
            case Recruit():
                why = UNCONNECTABLE if self.reach.machine.is_hopeless(node) else "cannot be reached by the coordinator"
                log.debug("a node was not called up", node=self.sight.name_of(node), app=message.app, why=why)
                self.applications.heard(node, Decline(message.app, message.epoch, why))
            case Probe() | Hand():
                self.participation.post(NotReached(node))
            case _:
                pass

    def _unreached(self, node: NodeId) -> None:
        self.finding.unreached(node)
        self.sight.tell(Unreached(node))

    def _is_in_directory(self, node: NodeId) -> bool:
        return self.directory.record_of(node) is not None

    def _contacts_near(self, key: int, count: int) -> Iterator[Contact]:
        near = self.directory.near(key, count)
        return (Contact(each.node, each.addresses) for each in near if each.dialable)

    # --- where this node is found, and as what

    @property
    def _contact(self) -> Contact:
        """Where others find this node."""
        return Contact(self.id, self.record.addresses if self.record.dialable else ())

    def _renew_contact(self) -> None:
        self.finding.renew(self._contact, self.directory.news_of(self.id))

    def _ask_contact(self, contact: Contact, message: KeyMessage) -> None:
        self.reach.send_to(contact.node, contact.addresses, message)

    def _candidate(self) -> Candidate:
        """This node, as the home of what it is handed by its own clients."""
        record = evolve(self.record, coordinates=self.parts.config.coordinate and not self.drain.begun)
        return Candidate(record, self.parts.standing.membership.certificate, passing=self.parts.passing)

    def _own_candidate(self) -> Candidate:
        """This node, as a home that others choose."""
        return Candidate(self.record, self.parts.standing.membership.certificate)

    def _candidate_in(self, record: NodeRecord) -> Candidate | None:
        """A member of the directory, if its own word for it holds."""
        news = self.directory.news_of(record.node)
        try:
            return self._candidate_of(news) if news is not None else None
        except MembershipError:
            return None

    def _candidate_of(self, news: News) -> Candidate:
        return candidate_of(news, root=self.parts.standing.membership.root, now_s=self.parts.clock_s())

    # --- in time

    async def _watch_for_pauses(self) -> None:
        while True:
            await self.applications.coordinates()
            await trio.sleep(LOOK_S)
            self.applications.note_pause()

    async def _forget_old_applications(self) -> None:
        while True:
            self.applications.forget_old()
            self.decisions.forget_old(age_s=self.parts.config.results_kept_s)
            await trio.sleep(HOUR_S)

    # --- the node's own record

    def _doing(self) -> tuple[NodeState, int]:
        machine = self.participation.machine
        if self.applications.coordinating:
            return "coordinator", machine.slots_used
        return "participant" if machine.engaged else "idle", machine.slots_used

    def _show_state(self) -> None:
        """Called at each step of what runs here."""
        coordinators = self.participation.machine.coordinators - {self.id}
        if coordinators != self._coordinators:
            self._coordinators = coordinators
            self.reach.hold("coordinators", coordinators)
        self.reach.hold("supervisors", self.participation.machine.supervisors - {self.id})
        self._own.show()

    def _tell_of_myself(self, record: NodeRecord, moved: bool) -> None:
        self.sight.tell(RecordChanged(record))
        if moved:
            self.reach.moved()
            self.calling.moved()
        self.applications.node_seen(record)

    # --- the end

    def vanish(self) -> None:
        """What follows is no end of its own making: nothing is handed over any more, as after SIGKILL."""
        self._vanished = True

    async def leave(self, reason: str) -> None:
        """Hand over what is coordinated here, hand attempts back, and what only this node holds; bounded, and not to be
        cancelled."""
        if self._vanished:
            return
        with trio.move_on_after(LEAVE_S, shield=True):
            with trio.move_on_after(HAND_OVER_S):
                handed_over = await self.copies.retire()
                await self.participation.follow(handed_over)  # what runs here is handed back to the successors
            await self.participation.leave(reason, in_reach=self._is_in_reach)
        for app, outputs in self.participation.machine.farewell.left_behind():
            log.warning("left before what only this node has was fetched", app=app, outputs=outputs or "unknown")

    def _is_seat(self, app: AppId, node: NodeId) -> bool:
        known, placed = self.reigns.known(app), self.participation.machine.placed_of(app)
        submitted = unpack(placed.payload, Placed).replica_set if placed is not None else ()
        return node in submitted or (known is not None and node in known.proven.nodes)

    def _is_in_reach(self, node: NodeId) -> bool:
        return node == self.id or node in self.reach.machine.up

    def _coordinated(self) -> list[str]:
        """Names of the applications that run here."""
        return [each.machine.state.header.name for each in self.applications if not each.machine.over]

    def refuse_to_move(self) -> None:
        """Raises: RequestError: applications run here that another grid's members would not work for."""
        running = self._coordinated()
        if running:
            raise RequestError(
                f"this node coordinates {', '.join(running)}; wait for the end, or cancel, before it joins another grid"
            )


async def _no_other_grid(token: str) -> None:
    raise RequestError("this node cannot move to another grid")


@asynccontextmanager
async def open_core(
    parts: Parts,
    *,
    join_grid: Callable[[str], Awaitable[None]] = _no_other_grid,
    drained: Callable[[], None] = lambda: None,
) -> AsyncIterator[Node]:
    """A running node of these parts; leaving the block hands its attempts back and stops every child. `drained` is
    called when a client had asked the node to leave, and nothing runs any more."""
    async with trio.open_nursery() as hosts:
        node = Node(parts, hosts, join_grid=join_grid, drained=drained)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                yield node
            finally:
                await node.leave("the node is leaving")
                nursery.cancel_scope.cancel()
                hosts.cancel_scope.cancel()
                parts.journal.report_commits(lambda app, written: None)  # it outlives us, and may commit once more
