"""A whole node from its parts: one nursery in which they run and hear of each other.

The same composition runs on a machine and in a simulated world; `node.opening` makes the real parts.

    network events → reach, directory, participation, applications → their effects → reach → network

Nothing here polls: each machine says when it wants to be called again (`node.alarm`), so that an idle node costs little
and a simulation jumps from one event to the next.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import structlog
import trio
from attrs import evolve

from jcpeer.coordinator.matching import unmet_need
from jcpeer.dht.machine import KeyMessage
from jcpeer.discovery import directory as found
from jcpeer.discovery.connections import Unreached
from jcpeer.discovery.directory import Directory, RecordChanged
from jcpeer.discovery.neighbours import EVERYBODY_MAX
from jcpeer.discovery.news import news_of, read_news
from jcpeer.discovery.other_grids import OtherGrids
from jcpeer.discovery.sighting import Discovery, Farewell, Sighting
from jcpeer.errors import RequestError
from jcpeer.ids import NodeId, short
from jcpeer.net.network import DialFailed, NetworkEvent, PeerDown, PeerUp, Received
from jcpeer.node.alarm import Alarm
from jcpeer.node.applications import Applications
from jcpeer.node.calling import Calling
from jcpeer.node.decisions import Decisions
from jcpeer.node.elsewhere import Elsewhere
from jcpeer.node.finder import Finder, NetworkFinder, candidate_of, judge_of
from jcpeer.node.finding import Finding
from jcpeer.node.helpers import Helpers
from jcpeer.node.home import Home
from jcpeer.node.offer import offered_disk, offered_gpus, told_disk
from jcpeer.node.participation import Participation
from jcpeer.node.parts import Parts
from jcpeer.node.publishing import Publishing
from jcpeer.node.reach import Reach
from jcpeer.node.service import Service
from jcpeer.node.submission import Submissions
from jcpeer.node.whereabouts import Whereabouts
from jcpeer.rdv.placement import Candidate
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
    PeerMessage,
    Ping,
    Pong,
    Probe,
    ProbeAnswer,
    RecordStored,
    Recruit,
    Release,
    Report,
    Started,
    StoreRecord,
    Take,
    Taken,
    TriedDial,
    TryDial,
    Withdraw,
)
from jcpeer.work.events import DiskMeasured, NotReached, Ordered, PolicyChanged, Reunited, Told
from jcpeer.work.policy import HouseRules, Opening
from jcpeer.work.transfer import Transfer

log = structlog.get_logger()

TICK_S = 0.1
"""While applications are coordinated here."""
EVENTS_AT_ONCE_MAX = 200
ALL_BY_KEY_MAX = 64
"""In a grid of so many all are offered to the table of keys; in a larger one it fills as nodes ask each other."""
LOAD_S = 2.0
"""Between looks at the machine's load."""
CLOCK_S = 60.0
"""Between looks at the clock on the wall, which may be set, or change to summer time."""
HOUR_S = 3600.0
UNCONNECTABLE = "cannot be dialled, and neither can the coordinator: so they are not connected"
LEAVE_S = 3.0
"""Bound on handing attempts back when the node stops."""


class Node:
    """One running node. Opened by `open_core`, or with real parts by `node.opening`."""

    def __init__(self, parts: Parts, nursery: trio.Nursery, *, join_grid: Callable[[str], Awaitable[None]]) -> None:
        self.reach = Reach(
            parts.network,
            undelivered=self._undelivered,
            unreached=self._unreached,
            turned_away=self._turned_away,
            call_for=lambda node, turn: self.calling.call_for(node, turn),
        )
        self.parts = parts = evolve(parts, network=self.reach)
        self._rules = HouseRules(parts.config)
        self._users: dict[NodeId, str] = {}
        self._names: dict[NodeId, str] = {parts.identity.node: parts.name}
        opening = self._opening()
        self._policy = opening.policy
        self._record = evolve(_first_record(parts), policy=opening.policy)
        self._addresses = self._record.addresses
        self._load = 0.0
        self._disk = self._record.disk_bytes
        self._refresh_s = math.inf
        self._refreshing = Alarm(lambda: self._refresh_s, self._refresh_record)
        self._dialable = True
        self._coordinators: frozenset[NodeId] = frozenset()
        self._other_grids = OtherGrids(parts.standing.membership.fingerprint)
        self.directory = Directory(self._record, sign=self._sign, read=self._read)
        self.calling = Calling(self.reach, self.directory, nursery, found=self._found_dialable)
        self._telling = Alarm(self.directory.wake_s, lambda: self._tell_directory(found.Tick()))
        self.participation = Participation(
            parts,
            user=self._record.user,
            slots=self._record.slots,
            memory_bytes=self._record.memory_bytes,
            disk_bytes=self._record.disk_bytes,
            gpus=offered_gpus(parts.config, parts.machine),
            opening=opening,
            changed=self._show_state,
            hosted_here=lambda app: self.applications.get(app) is not None,
            offers=lambda task: unmet_need(task, self._record) is None,
            helpers=Helpers(parts.identity.node, self.other_nodes, lambda: self.finder),
        )
        self.transfer = Transfer(
            parts.network,
            parts.store,
            find=lambda digest: self.applications.content(digest),
            open_log=self.participation.open_log,
        )
        self.finding = Finding(self._contact, self._ask_contact, judge=judge_of(parts), watched=self._is_in_directory)
        self.finder: Finder = NetworkFinder(self.finding, me=self._own_candidate, read=self._candidate_of)
        self._publishing = Publishing(parts, self.finder)
        self.applications = Applications(
            parts,
            self.transfer,
            nursery,
            known_nodes=self.known_nodes,
            changed=self._show_state,
            appeared=self._publishing.show,
            forgotten=self._publishing.hide,
        )
        home = Home(parts, self.applications, self.transfer, me=self.candidate)
        self.decisions = Decisions(parts.journal, parts.clock_s)
        self.elsewhere = Elsewhere(parts, self.applications, home, nursery, holding=self.reach.holding)
        whereabouts = Whereabouts(
            parts, self.finder, self.decisions, self.elsewhere, others=self.other_nodes, name_of=self.name_of
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
            me=self.candidate,
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
            name_of=self.name_of,
            notices=self._other_grids.notices,
            join_grid=join_grid,
        )
        self.elsewhere.answer_with(self.service.answer, self.service.summaries)
        self._nursery: trio.Nursery | None = None
        self._remember: Callable[[NodeId, tuple[str, ...]], None] = lambda node, addresses: None
        self._forget: Callable[[NodeId], None] = lambda node: None

    @property
    def id(self) -> NodeId:
        return self.parts.identity.node

    @property
    def record(self) -> NodeRecord:
        """What this node offers and is doing, as last told to the directory."""
        return self._record

    def name_of(self, node: NodeId) -> str:
        """What people call a node; the end of its id for one never met."""
        return self._names.get(node, short(node))

    def known_nodes(self) -> Iterator[NodeRecord]:
        """Everybody in the directory, this node first."""
        return self.directory.records()

    def other_nodes(self) -> Iterator[NodeRecord]:
        return (each for each in self.known_nodes() if each.node != self.id)

    def candidate(self) -> Candidate:
        """This node, as the home of what it is handed by its own clients."""
        record = evolve(self._record, coordinates=self.parts.config.coordinate)
        return Candidate(record, self.parts.standing.membership.certificate)

    def _own_candidate(self) -> Candidate:
        """This node, as a home that others choose."""
        return Candidate(self._record, self.parts.standing.membership.certificate)

    def _candidate_of(self, news: News) -> Candidate:
        return candidate_of(news, root=self.parts.standing.membership.root, now_s=self.parts.clock_s())

    @property
    def _contact(self) -> Contact:
        """Where others find this node."""
        return Contact(self.id, self._record.addresses if self._dialable else ())

    def _is_in_directory(self, node: NodeId) -> bool:
        return self.directory.record_of(node) is not None

    def _ask_contact(self, contact: Contact, message: KeyMessage) -> None:
        self.reach.send_to(contact.node, contact.addresses, message)

    def keep_addresses(
        self, remember: Callable[[NodeId, tuple[str, ...]], None], forget: Callable[[NodeId], None]
    ) -> None:
        """Have the addresses of members kept for the next start."""
        self._remember, self._forget = remember, forget

    # --- what runs

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started once everything listens."""
        self.parts.journal.report_commits(self.applications.committed)
        self.parts.network.serve_streams(self.transfer.serve)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.participation.run, self.transfer)
            for alarm in (self.reach, self.finding, self.calling, self._telling, self._refreshing):
                nursery.start_soon(alarm.run)
            nursery.start_soon(self._tick_applications)
            nursery.start_soon(self._watch_load)
            nursery.start_soon(self._publishing.run)
            if self.parts.config.hours:
                nursery.start_soon(self._keep_hours)
            nursery.start_soon(self._forget_old_applications)
            self._nursery = nursery
            for discovery in self.parts.discoveries:
                nursery.start_soon(self._take_sightings, discovery)
            self.finding.renew(self._contact, self.directory.news_of(self.id))
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
                self._names[event.peer] = event.hello.name
                if event.certificate.host != self.parts.machine.host:
                    self.calling.peer_came(event.peer)
            case PeerDown():
                self.elsewhere.lost(event.peer)
                self.calling.peer_went(event.peer)
            case _:
                pass
        if self.reach.take(event) or (isinstance(event, Received) and self._hear(event)):
            return
        assert not isinstance(event, DialFailed), "that concerns connections only"
        self._tell_directory(event)
        if isinstance(event, PeerUp):
            self.participation.post(Reunited(event.peer))  # after our record, without which we count for nothing

    def _hear(self, event: Received) -> bool:
        """Pass a message on; False if it is for the directory."""
        node, message = event.peer, event.message
        match message:
            case Confirm() | Decline() | Engaged() | Take() | Started() | Report() | GivenBack() | Fetched():
                self.applications.heard(node, message)
            case Recruit():
                self.participation.called_up(node, message)
            case Assign():
                self.participation.assigned(node, message)
            case Withdraw() | CancelAttempts() | Acknowledge() | ClaimRefused() | Offer() | Gone() | Release():
                self.participation.post(Ordered(node, message))
            case Probe() | ProbeAnswer() | NotNeeded() | Taken():
                self.participation.post(Told(node, message))
            case Hand():
                self.participation.handed(node, message)
            case Ping() | Pong() | FindNode() | FoundNodes() | StoreRecord() | RecordStored():
                record = self.directory.record_of(node)
                self.finding.heard(node, message, record.addresses if record and record.dialable else ())
            case TryDial() | TriedDial() | CallBack():
                self.calling.heard(node, message)
            case Ask():
                self.elsewhere.asked(node, self._users.get(node, ""), message)
            case Answer():
                self.elsewhere.answered(node, message)
            case _:
                return False
        return True

    def _tell_directory(self, event: found.Event) -> None:
        for effect in self.directory.handle(event, now_s=trio.current_time()):
            match effect:
                case found.Tell():
                    self.reach.send(effect.peer, effect.message)
                case found.Publish():
                    for discovery in self.parts.discoveries:
                        discovery.announce(effect.record)
                    self.finding.renew(self._contact, self.directory.news_of(self.id))
                case found.Joined():
                    if len(self.directory) <= EVERYBODY_MAX:  # in a large grid it is no news for a person
                        log.info("node joined", node=effect.record.name, id=short(effect.record.node))
                    self._names[effect.record.node] = effect.record.name
                    self._know(effect.record)
                case found.Changed():
                    self._know(effect.record)
                case found.Left():
                    log.info("node left", node=self.name_of(effect.node), id=short(effect.node), why=effect.why)
                    self.reach.lost_sight(effect.node)
                    self.finding.gone(effect.node)
                    self.applications.node_lost(effect.node, effect.why)
                case found.Neighbours():
                    self.reach.hold("neighbours", effect.nodes)
                case found.Disconnect():
                    self.reach.disconnect(effect.peer, effect.why)
        self._telling.look()

    def _know(self, record: NodeRecord) -> None:
        """A record is new in the directory."""
        self.reach.met(record)
        if not record.dialable:
            self.finding.gone(record.node)
        elif len(self.directory) <= ALL_BY_KEY_MAX or self.finding.machine.knows(record.node):
            self.finding.seen(Contact(record.node, record.addresses))
        if record.addresses:
            self._remember(record.node, record.addresses)
        self.applications.node_seen(record)

    def _sign(self, record: NodeRecord) -> News:
        return news_of(record, self.parts.identity, self.parts.standing.membership.chain)

    def _read(self, news: News) -> NodeRecord:
        return read_news(news, root=self.parts.standing.membership.root, now_s=self.parts.clock_s())

    def _found_dialable(self, dialable: bool) -> None:
        log.info("others can connect to this node" if dialable else "no other machine can connect to this node")
        self._dialable = dialable
        self._refresh_record()

    def _undelivered(self, node: NodeId, message: PeerMessage) -> None:
        match message:
            case Ask():
                self.elsewhere.lost(node)
            case Recruit():
                why = UNCONNECTABLE if self.reach.machine.is_hopeless(node) else "cannot be reached by the coordinator"
                log.debug("a node was not called up", node=self.name_of(node), app=message.app, why=why)
                self.applications.heard(node, Decline(message.app, message.epoch, why))
            case Probe() | Hand():
                self.participation.post(NotReached(node))
            case _:
                pass

    def _unreached(self, node: NodeId) -> None:
        self.finding.unreached(node)
        self._tell_directory(Unreached(node))

    def _turned_away(self, node: NodeId) -> None:
        self._forget(node)

    def look_by(self, discovery: Discovery) -> None:
        """Find nodes, and be found, in one more way."""
        assert self._nursery is not None, "the node runs"
        self.parts.discoveries.append(discovery)
        discovery.announce(self._record)
        self._nursery.start_soon(self._take_sightings, discovery)

    async def _take_sightings(self, discovery: Discovery) -> None:
        async for sighting in discovery.sightings:
            self.sighted(sighting)

    def sighted(self, sighting: Sighting | Farewell) -> None:
        """Somebody may be at an address, or no longer is: so a way of discovery, the user or an earlier start says."""
        if isinstance(sighting, Farewell):
            self._other_grids.lose_sight(sighting.node)
            self.reach.sighted(sighting)
            return
        is_other, notice = self._other_grids.see(sighting)
        if notice is not None:
            log.warning(notice)
        if not is_other:
            self.reach.sighted(sighting)
        elif sighting.node is not None:  # it may have moved there from our grid
            self.reach.sighted(Farewell(sighting.node, sighting.incarnation))

    async def _tick_applications(self) -> None:
        while True:
            await self.applications.coordinates()
            await trio.sleep(TICK_S)
            self.applications.tick()

    async def _watch_load(self) -> None:
        while True:
            # Looking up the machine's addresses costs a millisecond, so it is done here, not at each change.
            self._addresses = self.parts.network.addresses
            self._load = round(self.parts.machine.load(), 1)
            self._measure_disk()
            self._refresh_record()
            await trio.sleep(LOAD_S)

    def _measure_disk(self) -> None:
        free = offered_disk(self.parts.config, self.parts.machine.disk_free())
        if (told := told_disk(free, self._disk)) != self._disk:
            self._disk = told
            self.participation.post(DiskMeasured(told))

    async def _keep_hours(self) -> None:
        while True:
            opening = self._opening()
            if opening.policy != self._policy:
                self._policy = opening.policy
                self.participation.post(PolicyChanged(opening.policy, opening.opens_in_s))
                self._refresh_record()
            await trio.sleep(min(opening.changes_in_s, CLOCK_S))

    def _opening(self) -> Opening:
        clock_s = self.parts.clock_s()
        return self._rules.at(clock_s + self.parts.utc_offset_s(clock_s))

    async def _forget_old_applications(self) -> None:
        while True:
            self.applications.forget_old()
            self.decisions.forget_old(age_s=self.parts.config.results_kept_s)
            await trio.sleep(HOUR_S)

    # --- the node's own record

    def _state(self) -> NodeState:
        if self.applications.coordinating:
            return "coordinator"
        return "participant" if self.participation.machine.engaged else "idle"

    def _show_state(self) -> None:
        """Called at each step of what runs here: a change of state is told at once, of slots a little later."""
        machine = self.participation.machine
        coordinators = machine.coordinators - {self.id}
        if coordinators != self._coordinators:
            self._coordinators = coordinators
            self.reach.hold("coordinators", coordinators)
        if self._state() != self._record.state:
            self._refresh_record()
        elif self._refresh_s == math.inf and machine.slots_used != self._record.slots_used:
            self._refresh_s = trio.current_time() + self.directory.tell_interval_s
            self._refreshing.look()

    def _refresh_record(self) -> None:
        self._refresh_s = math.inf
        before = self._record.addresses
        record = evolve(
            self._record,
            state=self._state(),
            slots_used=self.participation.machine.slots_used,
            load=self._load,
            disk_bytes=self._disk,
            policy=self._policy,
            addresses=self._addresses,
            dialable=self._dialable,
        )
        if record != self._record:
            self._record = record
            self._tell_directory(RecordChanged(record))
            if set(record.addresses) - set(before):
                self.reach.moved()
                self.calling.moved()
            self.applications.node_seen(record)

    # --- the end

    async def leave(self, reason: str) -> None:
        """Hand attempts back; bounded, and not to be cancelled."""
        with trio.move_on_after(LEAVE_S, shield=True):
            await self.participation.leave(reason)

    def refuse_to_move(self) -> None:
        """Raises: RequestError: applications run here that another grid's members would not work for."""
        running = [each.machine.state.header.name for each in self.applications if not each.machine.over]
        if running:
            raise RequestError(
                f"this node coordinates {', '.join(running)}; wait for the end, or cancel, before it joins another grid"
            )


def _first_record(parts: Parts) -> NodeRecord:
    config, machine = parts.config, parts.machine
    return NodeRecord(
        node=parts.identity.node,
        name=parts.name,
        user=parts.standing.membership.certificate.user,
        host=machine.host,
        incarnation=parts.incarnation,
        version=1,
        state="idle",
        slots=config.slots or machine.cpus,
        slots_used=0,
        cpus=machine.cpus,
        memory_bytes=config.memory or machine.memory_bytes,
        load=0.0,
        python=machine.python,
        labels=config.labels,
        addresses=parts.network.addresses,
        coordinates=config.coordinate and not parts.passing,
        trusts_grid=config.trust_grid,
        gpus=len(offered_gpus(config, machine)),
        disk_bytes=told_disk(offered_disk(config, machine.disk_free()), 0),
        cost=config.cost,
    )


async def _no_other_grid(token: str) -> None:
    raise RequestError("this node cannot move to another grid")


@asynccontextmanager
async def open_core(
    parts: Parts, *, join_grid: Callable[[str], Awaitable[None]] = _no_other_grid
) -> AsyncIterator[Node]:
    """A running node of these parts; leaving the block hands its attempts back and stops every child."""
    async with trio.open_nursery() as hosts:
        node = Node(parts, hosts, join_grid=join_grid)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            try:
                yield node
            finally:
                await node.leave("the node is leaving")
                nursery.cancel_scope.cancel()
                hosts.cancel_scope.cancel()
