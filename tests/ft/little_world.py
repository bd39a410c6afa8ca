"""A few copies of one application's journal, machine to machine, in virtual time: disks, connections and faults.

The network keeps its contract (`net.network`): in order on a connection, a suffix may be lost; across reconnects what
was said on an earlier one may come late and twice. A disk commits what has gathered in groups; a machine that goes
down may lose what was not synced. A coordinator that only counts records facts and notes what it may acknowledge. After
every step the invariants of all machines, and those between them, are checked:

- one winner per epoch, with votes of enough journals of its set; a promise never goes down, and is on the disk first;
- whatever anybody calls committed is the same everywhere, for ever, and in the journal of every later coordinator;
- it is committed only when enough journals of its set have said so in that epoch;
- nobody says that it has what its disk has not.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

from attrs import define, field, frozen

from jcpeer.application.manifest import Header, Placed, ReplicaSet, Seat, Takeover
from jcpeer.ft import events as ft
from jcpeer.ft.events import Heard, LogShape, Run, SetChange
from jcpeer.ft.replica import Replica
from jcpeer.ids import AppId, Epoch, NodeId, TaskId
from jcpeer.net.events import Proof
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import Cancelled, Ended, Entry, Fact, ReplicasChanged, TookOver
from jcpeer.wire.messages import Signed
from jcpeer.wire.replication import AppendEntries, AskVote, Kept, NoSeat, Retired, VoteAnswer, WantEntries

APP = AppId("a" * 40)
VOTE = Signed(b"vote", b"")
LEASE_S = 2.5
FRAME_ENTRIES = 16


@frozen
class Reign:
    """What `SendReign` puts on the wire, and `PassOnReign` once more."""

    node: NodeId
    epoch: Epoch
    proven: ReplicaSet
    invited: bool
    recovered: bool


@define
class Disk:
    """What is left when the process goes, and what when the machine does."""

    journal: str
    entries: list[Entry] = field(factory=list)
    committed: int = 0
    promised: Epoch | None = None
    unsure: bool = False
    new: bool = False
    begun: bool = False
    forgetful: bool = False
    """It had a copy that was dropped."""
    unsynced: list[tuple[list[Entry], int, bool]] = field(factory=list)
    """Earlier states to which a fall of the machine may take it back."""


@define
class Node:
    id: NodeId
    disk: Disk
    replica: Replica | None = None
    incarnation: int = 0
    alive: bool = True
    paused: bool = False
    disk_delay_s: float = 0.001
    entries: list[Entry] = field(factory=list)
    """The journal as ordered."""
    queue: list[ft.Effect] = field(factory=list)
    writing: list[ft.Effect] = field(factory=list)
    """What the disk is at; `queue` comes after it."""
    committing: bool = False
    backlog: deque[tuple[str, object]] = field(factory=deque)
    ticking_s: float = float("inf")
    reign: ft.BeginReign | None = None
    heard_last: Reign | None = None
    proven: ReplicaSet | None = None
    busy: bool = False
    """Its coordinator is still being built."""
    checked: int = 0
    """Up to here its entries were compared with those that are promised."""
    acknowledged: int = 0


@define
class Link:
    """A connection between two nodes, as each of them sees it."""

    ends: tuple[NodeId, NodeId]
    number: int
    up: set[NodeId] = field(factory=set)
    broken: bool = False
    last_s: dict[NodeId, float] = field(factory=dict)
    said: deque[tuple[NodeId, tuple[int, int], object]] = field(factory=lambda: deque(maxlen=6))


class World:
    """Nodes by rank; the first `seats` of them are the set that the submitter signed, the others may become it."""

    def __init__(
        self, *, seed: int, nodes: int = 3, seats: int = 3, replicas: int = 3, takeover: Takeover = "default"
    ) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.seen: Counter[str] = Counter()
        """Protocol states that were entered."""
        self.nodes = {each: Node(each, Disk(f"j.{each}.0")) for each in [NodeId(f"n{i}") for i in range(nodes)]}
        first = tuple([Seat(each.id, each.disk.journal) for each in list(self.nodes.values())[:seats]])
        self.placed = Placed(APP, Header("application", 0.0, b"", replicas=replicas, takeover=takeover), first)
        self.signed = Signed(pack(self.placed), b"")
        self.chosen: list[Entry] = []
        self.settled = self.placed.first_set
        self.winners: dict[Epoch, NodeId] = {}
        self.ruled: set[Epoch] = set()
        """Those who committed something of their own."""
        self.claims: dict[tuple[Epoch, str], int] = {}
        self.granted: dict[Epoch, set[tuple[NodeId, str]]] = {}
        self.unsure: defaultdict[Epoch, set[tuple[NodeId, str]]] = defaultdict(set)
        """And of those who may have lost something."""
        self.wanted: dict[TaskId, None] = {}
        self.acknowledged: set[TaskId] = set()
        self.strict = self.placed.first_set.quorum
        """What is promised holds; otherwise both sides of a split go on."""
        self.quorum_at = 0
        self.torn = False
        self.trace: deque[tuple[float, NodeId, object]] = deque(maxlen=1000)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._links: dict[frozenset[NodeId], Link] = {}
        self._promised: dict[str, Epoch] = {}
        self._old: dict[frozenset[NodeId], Link] = {}
        self._numbers = count()
        self._cuts: set[tuple[NodeId, NodeId]] = set()
        self._tasks = count()
        self.steps = 0
        for node in self.nodes.values():
            node.incarnation = 1
        for pair in self._pairs():
            self._join_later(*pair)

    # --- beginnings

    def open(self) -> None:
        """The application is handed to the first seat, if nothing of it is there yet."""
        opener = self.nodes[self.placed.seats[0].node]
        if self._untouched(opener):
            opener.replica = self._new_replica(opener)
            self._perform(opener, opener.replica.open(now_s=self.now_s))

    def take_seat(self, name: NodeId) -> None:
        """The first seat is out of the submitter's reach: the application is handed to this later one."""
        node = self.nodes[name]
        if self._untouched(node):
            self.seen["a later seat was to begin"] += 1
            self._begin_copy(node, learner=False)

    def _untouched(self, node: Node) -> bool:
        seated = Seat(node.id, node.disk.journal) in self.placed.seats
        fresh = node.replica is None and not node.disk.entries and node.disk.promised is None
        return node.alive and not node.paused and seated and fresh and not node.disk.forgetful

    # --- time

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_s + seconds, next(self._order), do))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        end_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= end_s:
            self.now_s, _, do = heapq.heappop(self._heap)
            do()
            if until is not None and until():
                return True
        self.now_s = end_s
        return until is not None and until()

    # --- faults

    def crash(self, name: NodeId, *, disk: str = "kept") -> None:
        """The process is gone. `disk`: "kept", "fallen" (the machine went down too), or "lost"."""
        node = self.nodes[name]
        if not node.alive:
            return
        self._log(name, f"crashes, disk {disk}")
        if node.replica is not None and node.replica.unsure and node.replica.last_index:
            self.seen["catching up was interrupted"] += 1
        if node.replica is not None and node.replica.role == "candidate":
            self.seen["a candidate crashed"] += 1
        node.alive = node.paused = node.committing = node.busy = False
        node.replica, node.reign = None, None
        node.queue.clear()
        node.backlog.clear()
        node.incarnation += 1
        if disk == "fallen":
            self._fall(node)
        elif disk == "lost":
            node.disk = Disk(f"j.{name}.{node.incarnation}")
        for other in self.nodes:
            if other != name:
                self._break(name, other, proof="refused" if self._reachable(name, other) else "silent")

    def _fall(self, node: Node) -> None:
        if node.disk.unsynced:
            at = self.random.randrange(len(node.disk.unsynced))
            self.seen["lost unsynced entries"] += 1
            node.disk.entries, node.disk.committed, node.disk.new = node.disk.unsynced[at]
            node.disk.unsynced.clear()
        node.disk.unsure = node.disk.begun

    def cut_power(self) -> None:
        """All machines go down at once. What is still on some disk must stay, the rest nobody can ask for."""
        for node in self.nodes.values():
            if node.alive:
                self.crash(node.id, disk="fallen")
            else:
                self._fall(node)
        if self.strict:
            self.seen["the power was cut"] += 1
            kept = max(
                self._chosen_on(self.nodes[seat.node].disk) for seat in self.settled.seats if not self._lost(seat)
            )
            self.seen["what was promised was lost with the power"] += kept < len(self.chosen)
            del self.chosen[kept:]
            self.quorum_at = min(self.quorum_at, kept)
            facts = [each.fact for each in self.chosen]
            self.acknowledged = {each.task for each in facts if isinstance(each, Cancelled) and each.task is not None}

    def _chosen_on(self, disk: Disk) -> int:
        """So many of the entries that are promised are there."""
        pairs = zip(disk.entries, self.chosen, strict=False)
        same = next((at for at, (ours, theirs) in enumerate(pairs) if ours is not theirs), len(disk.entries))
        return min(same, len(self.chosen))

    def may_cut_power(self) -> bool:
        """Of each set that may still count, enough can come back and tell what is left, and nobody has forgotten that
        it had more."""
        if not self.strict:
            return False
        entries = [entry for node in self.nodes.values() for entry in (*node.entries, *node.disk.entries)]
        sets = [entry.fact.replica_set for entry in entries if isinstance(entry.fact, ReplicasChanged)]
        for each in [self.settled, *sets]:
            if each.number < self.settled.number:
                continue
            disks = [self.nodes[seat.node].disk for seat in each.seats if not self._lost(seat)]
            if len(disks) < each.enough or any(disk.forgetful or self._may_be_new(disk) for disk in disks):
                return False
        return True

    def _may_be_new(self, disk: Disk) -> bool:
        """After a fall, too."""
        return disk.new or any(new for _, _, new in disk.unsynced)

    def _lost(self, seat: Seat) -> bool:
        return self.nodes[seat.node].disk.journal != seat.journal

    def vanish(self, name: NodeId, noticed_s: Mapping[NodeId, float], proof: Proof) -> None:
        """The process is gone, and each of these others notices after so long."""
        node = self.nodes[name]
        node.alive, node.replica, node.reign = False, None, None
        node.incarnation += 1
        for other, seconds in noticed_s.items():
            link = self._links[frozenset((name, other))]
            self.after(seconds, partial(self._tell_down, other, name, proof, link))

    def restart(self, name: NodeId) -> None:
        node = self.nodes[name]
        if node.alive:
            return
        self._log(name, "restarts")
        node.alive = True
        node.ticking_s = float("inf")
        node.entries = list(node.disk.entries)
        node.checked = node.acknowledged = 0
        if node.disk.begun:
            node.replica = self._new_replica(node)
            self._perform(node, node.replica.start(now_s=self.now_s))
        for other in self.nodes:
            if other != name:
                if self.nodes[other].alive:
                    self._join_later(name, other)
                elif self._reachable(name, other):
                    self.after(0.02, lambda other=other: self._post(name, ft.Down(other, "refused")))  # type: ignore[misc]

    def pause(self, name: NodeId, seconds: float) -> None:
        node = self.nodes[name]
        if not node.alive or node.paused:
            return
        self._log(name, f"is held up for {seconds:.1f} s")
        node.paused = True
        incarnation = node.incarnation
        if seconds > LEASE_S:
            for other in self.nodes:
                if other != name:
                    self.after(LEASE_S, lambda other=other: self._break(name, other, proof="silent"))  # type: ignore[misc]

        def resume() -> None:
            if node.incarnation == incarnation and node.paused:
                self._log(name, "goes on")
                node.paused = False
                self._post(name, ft.Woke())
                while node.backlog and node.replica is not None:
                    self._receive(node, *node.backlog.popleft())
                for other in self.nodes:
                    self._join_later(name, other)

        self.after(seconds, resume)

    def cut(self, source: NodeId, target: NodeId, *, both: bool = True) -> None:
        """Nothing gets from one to the other any more."""
        self._log(source, f"cut from {target}{'' if both else ', one way'}")
        self._cuts.add((source, target))
        if both:
            self._cuts.add((target, source))
        link = self._links.get(frozenset((source, target)))
        self.after(LEASE_S + self.random.random(), lambda: self._notice_cut(source, target, link))

    def heal(self) -> None:
        self._log(NodeId("*"), "all cuts healed")
        self._cuts.clear()
        for pair in self._pairs():
            self._join_later(*pair)

    def retire(self, name: NodeId) -> None:
        node = self.nodes[name]
        if node.alive and not node.paused and node.replica is not None:
            self._log(name, "retires")
            self._post(name, ft.Retire())
            self.after(1.5, lambda: self.crash(name))

    def may_harm(self, name: NodeId) -> bool:
        """Losing what this node has not synced, or all of it, is within what was promised: of each set that may still
        count, enough seats have never lost anything."""
        sets = [node.replica.replica_set for node in self.nodes.values() if node.replica is not None]
        if not self.strict:
            return False
        for each in [self.settled, *sets]:
            if each.number < self.settled.number:
                continue
            harmed = {seat.node for seat in each.seats if self._harmed(seat)} | {name}
            if len(harmed & set(each.nodes)) > len(each.seats) - each.enough:
                return False
        return True

    def _harmed(self, seat: Seat) -> bool:
        disk = self.nodes[seat.node].disk
        return disk.journal != seat.journal or disk.unsure or disk.forgetful

    # --- what users do

    def propose(self, number: int = 1) -> None:
        for _ in range(number):
            self.wanted[TaskId(f"t{next(self._tasks)}")] = None
        self.retry()

    def offer_newcomers(self) -> None:
        """Each coordinator hears who else there is."""
        for node in self.nodes.values():
            if node.replica is not None and node.alive and not node.paused:
                seats = [
                    Seat(each.id, each.disk.journal)
                    for each in self.nodes.values()
                    if each.alive
                    and each is not node
                    and Seat(each.id, each.disk.journal) not in node.replica.replica_set.seats
                ]
                self._post(node.id, ft.Newcomers(tuple(seats)))

    def coordinators(self) -> list[Node]:
        return [each for each in self.nodes.values() if each.alive and each.reign is not None]

    def retry(self) -> None:
        """Whatever was proposed and is in no coordinator's journal gets there."""
        if self.acknowledged.issuperset(self.wanted):
            return
        for node in self.coordinators():
            if node.paused or node.busy:
                continue
            there = {each.fact.task for each in node.entries if isinstance(each.fact, Cancelled)}
            facts: list[Fact] = [Cancelled(task) for task in self.wanted if task not in there]
            if facts:
                self._record(node, facts)

    def finish(self, node: Node) -> None:
        """The application ends at this coordinator."""
        self._record(node, [Ended("ok")])

    def _record(self, node: Node, facts: list[Fact]) -> None:
        assert node.reign is not None
        first = len(node.entries) + 1
        entries = tuple([Entry(node.reign.epoch, first + i, self.now_s, fact) for i, fact in enumerate(facts)])
        node.entries += entries
        synced = any(isinstance(fact, ReplicasChanged) for fact in facts)
        self._order_disk(node, ft.Write(entries, (), synced))
        self._post(node.id, ft.Recorded(entries))

    # --- copies

    def _new_replica(self, node: Node, *, learner: bool = False) -> Replica:
        disk = node.disk
        node.entries = list(disk.entries)
        disk.begun = True
        self._promised.pop(disk.journal, None)
        if learner:
            disk.unsure = disk.new = True
        runs: list[Run] = []
        sets: list[SetChange] = []
        for each in node.entries:
            if not runs or runs[-1].epoch != each.epoch:
                runs.append(Run(each.index, each.epoch))
            if isinstance(each.fact, ReplicasChanged):
                sets.append(SetChange(each.index, each.fact.replica_set))
        ended = max((each.index for each in node.entries if isinstance(each.fact, Ended)), default=0)
        shape = LogShape(
            tuple(runs), len(node.entries), disk.committed, tuple(sets), disk.promised, disk.unsure, disk.new, ended
        )
        return Replica(
            app=APP,
            me=Seat(node.id, disk.journal),
            placed=self.signed,
            first_set=self.placed.first_set,
            shape=shape,
            now_s=self.now_s,
            learner=learner,
        )

    def _make_copy(self, node: Node, message: object) -> bool:
        """Somebody wrote to a node that has no copy: is it to have one?"""
        invited = isinstance(message, Reign) and message.invited
        own = Seat(node.id, node.disk.journal) in self.placed.seats
        if not invited and not (own and isinstance(message, Reign | AskVote)):
            return False
        self._begin_copy(node, learner=not own or node.disk.forgetful)
        return True

    def _begin_copy(self, node: Node, *, learner: bool) -> None:
        node.replica = self._new_replica(node, learner=learner)
        for other in self.nodes:
            link = self._links.get(frozenset((node.id, other)))
            if link is not None and node.id in link.up:
                self._step(node, ft.Up(other))
        self._perform(node, node.replica.start(now_s=self.now_s))

    # --- events and effects

    def _post(self, name: NodeId, event: object) -> None:
        node = self.nodes[name]
        if not node.alive:
            return
        if node.paused:
            node.backlog.append(("", event))
        elif node.replica is not None:
            self._step(node, event)

    def _receive(self, node: Node, sender: str, message: object) -> None:
        """From the wire, or with no sender an event of this node's own."""
        if not sender:
            if node.replica is not None:
                self._step(node, message)
            return
        name = NodeId(sender)
        if node.replica is None and not self._make_copy(node, message):
            if isinstance(message, Reign):
                self.seen["a seat was found empty"] += not message.invited
                self._send(node, name, NoSeat(APP, message.epoch, node.disk.journal))
            if isinstance(message, AskVote):
                answer = VoteAnswer(APP, message.epoch, message.pre, False, node.disk.journal, why="has nothing of it")
                self._send(node, name, answer)
            return
        if isinstance(message, Reign):
            node.heard_last = evolve(message, invited=False)
            of, on = message.node, message.node != name
            self._step(
                node, ft.ReignHeard(of, message.epoch, message.proven, message.invited, message.recovered, passed_on=on)
            )
        else:
            self._step(node, Heard(name, message))  # type: ignore[arg-type]

    def _step(self, node: Node, event: object) -> None:
        replica = node.replica
        assert replica is not None
        before = self._promised.get(node.disk.journal)
        self._log(node.id, event)
        self._perform(node, replica.handle(event, now_s=self.now_s))  # type: ignore[arg-type]
        if node.replica is not replica:
            return
        self._check(node, before)

    def _perform(self, node: Node, effects: list[ft.Effect]) -> None:
        self.steps += 1
        for effect in effects:
            self._log(node.id, effect)
            self._perform_one(node, effect)
            if node.replica is None:
                return
        if node.replica is None:
            return
        wake_s = node.replica.wake_s()
        if wake_s < node.ticking_s:
            node.ticking_s = wake_s
            self.after(max(wake_s - self.now_s, 0.0), lambda: self._tick(node, wake_s))

    def _tick(self, node: Node, wake_s: float) -> None:
        if node.ticking_s != wake_s:
            return
        node.ticking_s = float("inf")
        if node.replica is None or not node.alive:
            return
        if node.replica.wake_s() <= self.now_s:
            self._post(node.id, ft.Tick())
            if node.replica is not None and not node.paused:
                assert node.replica.wake_s() > self.now_s, f"it would spin: {node.replica.wake_s()}"
        else:
            self._perform(node, [])

    def _perform_one(self, node: Node, effect: ft.Effect) -> None:
        replica = node.replica
        assert replica is not None
        match effect:
            case ft.Send(target, message):
                if isinstance(message, VoteAnswer) and message.granted and not message.pre:
                    message = self._note_vote(node, message)
                if isinstance(message, Kept):
                    self._note_claim(node, message)
                if isinstance(message, Retired):
                    self.seen["a coordinator handed over"] += 1
                if isinstance(message, WantEntries):
                    self.seen["a journal was adopted from a voter"] += 1
                self._send(node, target, message)
            case ft.SendReign(target, invited):
                assert node.reign is not None
                assert node.proven is not None
                assert self._promise_kept(node) >= node.reign.epoch
                if node.reign.alone is not None:
                    changes = [each.fact for each in node.disk.entries if isinstance(each.fact, ReplicasChanged)]
                    assert any(each.replica_set == node.reign.alone for each in changes), "shown too early"
                recovered = node.reign.alone is not None
                self._send(node, target, Reign(node.id, node.reign.epoch, node.proven, invited, recovered))
            case ft.PassOnReign(targets):
                assert node.heard_last is not None
                self.seen["a reign was passed on"] += 1
                for each in targets:
                    self._send(node, each, node.heard_last)
            case ft.Ship():
                self._ship(node, effect)
            case ft.Write(entries):
                node.entries += entries
                assert [each.index for each in entries] == list(range(entries[0].index, len(node.entries) + 1))
                self._order_disk(node, effect)
            case ft.Truncate(after_index):
                self.seen["a tail was taken back"] += 1
                if self.strict:
                    gone = zip(node.entries[after_index:], self.chosen[after_index:], strict=False)
                    assert not any(ours is theirs for ours, theirs in gone), "what was committed is taken back"
                del node.entries[after_index:]
                node.checked = min(node.checked, after_index)
                node.acknowledged = min(node.acknowledged, after_index)
                self._order_disk(node, effect)
            case ft.Promise():
                self._order_disk(node, effect)
            case ft.Committed(index):
                self._note_committed(node, index)
            case ft.BeginReign():
                self._begin_reign(node, effect)
            case ft.EndReign():
                assert node.reign is not None
                node.reign = None
            case ft.ChangeSet(replica_set):
                if not node.busy and node.reign is not None:
                    self.seen["set changes ordered"] += 1
                    self.after(0.0, lambda: self._change_set(node, replica_set))
            case ft.Diverging():
                self.seen["two histories met"] += 1
                self.after(0.05, lambda: self._post(node.id, ft.Told()))
            case ft.Sure():
                self._order_disk(node, effect)
                self.seen["a copy became sure"] += 1
            case ft.Dropped():
                self.seen["a copy was dropped"] += 1
                node.replica = None
                node.disk = Disk(node.disk.journal, forgetful=True)
                node.entries, node.queue, node.checked, node.acknowledged = [], [], 0, 0
            case ft.Stalled(missing):
                self.seen["stalled" if missing else "goes on"] += 1
            case ft.SeatEmpty():
                self.seen["a seat was found empty"] += 1

    def _change_set(self, node: Node, replica_set: ReplicaSet) -> None:
        if node.reign is not None and node.alive and not node.paused:
            latest = node.replica.replica_set if node.replica is not None else None
            if latest is not None and latest.number + 1 == replica_set.number:
                self._record(node, [ReplicasChanged(replica_set, VOTE)])

    def _begin_reign(self, node: Node, begin: ft.BeginReign) -> None:
        replica = node.replica
        assert replica is not None
        epoch = begin.epoch
        assert self.winners.setdefault(epoch, node.id) == node.id, f"two won {epoch}"
        assert epoch.node == node.id
        if epoch.counter > 1 and begin.alone is None:
            voters = self.granted.get(epoch, set()) | {(node.id, node.disk.journal)}
            seats, enough = replica.replica_set.seats, replica.replica_set.enough
            assert sum((seat.node, seat.journal) in voters for seat in seats) >= enough
            if node.disk.unsure:
                self.unsure[epoch].add((node.id, node.disk.journal))
            sure = sum((seat.node, seat.journal) in voters - self.unsure[epoch] for seat in seats)
            if sure < enough:
                every = all((seat.node, seat.journal) in voters or self._lost(seat) for seat in seats)
                assert every or not replica.replica_set.quorum, "unsure journals were counted"
                assert begin.unsure
                self.seen["all voted, but too few were sure"] += 1
            assert len(begin.votes) + 1 >= replica.replica_set.enough
            assert self._promise_kept(node) >= epoch
            assert node.disk.entries == node.entries, "it reigns with what its disk does not have"
            self.seen["takeovers"] += 1
            if max((each for each in self.winners if each < epoch), default=epoch) not in self.ruled:
                self.seen["a takeover during a takeover"] += 1
            if self.winners.get(max((each for each in self.winners if each < epoch), default=epoch)) == node.id:
                self.seen["a reign was followed by the same node's"] += 1
            if self._bound(node) and all(each < epoch for each in self.ruled):
                assert len(node.entries) >= len(self.chosen), "a later coordinator lacks what was committed"
                assert all(ours is theirs for ours, theirs in zip(node.entries, self.chosen, strict=False))
            if replica.replica_set.number > self.settled.number:
                self.seen["a takeover during a set change"] += 1
        node.reign, node.proven, node.busy = begin, replica.replica_set, True
        incarnation = node.incarnation

        def built() -> None:
            if node.incarnation == incarnation and node.reign is begin:
                node.busy = False
                if node.paused:
                    node.busy = True
                    self.after(0.1, built)
                    return
                alone = [ReplicasChanged(begin.alone, VOTE)] if begin.alone is not None else []
                self._record(node, [TookOver(epoch), *alone])
                self.retry()

        self.after(self.random.choice((0.0, 0.0, 0.05)), built)

    def _note_vote(self, node: Node, answer: VoteAnswer) -> VoteAnswer:
        assert node.disk.promised == answer.epoch, "a vote that is not on the disk"
        assert not node.disk.new
        self.granted.setdefault(answer.epoch, set()).add((node.id, node.disk.journal))
        assert (
            answer.unsure
            or not node.disk.unsure
            or any(isinstance(each, ft.Sure) for each in (*node.writing, *node.queue))
        )
        if answer.unsure:
            self.unsure[answer.epoch].add((node.id, node.disk.journal))
        return evolve(answer, vote=VOTE)

    def _note_claim(self, node: Node, kept: Kept) -> None:
        assert node.disk.promised is not None
        assert node.disk.promised >= kept.epoch, "an acknowledgement before the promise is on the disk"
        assert node.replica is not None
        assert node.replica.promised == kept.epoch, "an acknowledgement of what is not obeyed"
        assert len(node.disk.entries) >= kept.index, "an acknowledgement of what is not on the disk"
        assert node.disk.entries[: kept.index] == node.entries[: kept.index]
        key = kept.epoch, kept.journal
        self.claims[key] = max(self.claims.get(key, 0), kept.index)

    def _note_committed(self, node: Node, index: int) -> None:
        assert index <= len(node.entries)
        if node.reign is not None:
            self._check_count(node, node.reign.epoch, index)
            self.ruled.add(node.reign.epoch)
            quorum = self._settled_at(node, index).quorum
            if self.strict and quorum and not self._bound(node):
                # Both sides of a split, where each could go on alone, have grown to a quorum of their own. Nobody can
                # prevent that without stopping one of them while it is available; what was promised cannot hold.
                self.seen["two quorums grew from a split"] += 1
                self.strict, self.torn = False, True
            if not self.strict and quorum and not self.torn:
                self.strict, self.chosen, self.quorum_at = True, node.entries[:index], index
                self.settled = self._settled_at(node, index)
                self.seen["a quorum was made"] += 1
        if not self._bound(node):
            if node.reign is not None:
                self._acknowledge(node, index)
            return
        for at in range(min(node.checked, index), min(len(self.chosen), index)):
            assert node.entries[at] is self.chosen[at], f"two histories at {at + 1}"
        for entry in node.entries[len(self.chosen) : index]:
            assert node.reign is not None, "a follower knows more than was ever committed"
            self.chosen.append(entry)
        self._acknowledge(node, index)
        self._order_disk(node, ft.Committed(index))

    def _bound(self, node: Node) -> bool:
        """What it calls committed is promised for ever."""
        replica, at = node.replica, self.quorum_at - 1
        if not self.strict or replica is None:
            return False
        if self.placed.first_set.quorum:
            return True  # and so is each later one
        if not self.settled_by(node).quorum:
            return False
        # Before there was a quorum, two may have gone on without each other: the other one's history is not this one.
        return at < 0 or (len(node.entries) > at and node.entries[at] is self.chosen[at])

    def settled_by(self, node: Node) -> ReplicaSet:
        """The latest set that it knows to be committed."""
        assert node.replica is not None
        return self._settled_at(node, node.replica.committed)

    def _settled_at(self, node: Node, index: int) -> ReplicaSet:
        assert node.replica is not None
        changes = [change.replica_set for change in node.replica.shape().sets if change.index <= index]
        return changes[-1] if changes else self.placed.first_set

    def _acknowledge(self, node: Node, index: int) -> None:
        entries, node.acknowledged = node.entries[node.acknowledged : index], max(node.acknowledged, index)
        for entry in entries:
            if isinstance(entry.fact, Cancelled) and entry.fact.task is not None:
                self.acknowledged.add(entry.fact.task)
            if isinstance(entry.fact, ReplicasChanged) and entry.fact.replica_set.number > self.settled.number:
                self.settled = entry.fact.replica_set
                self.seen["sets settled"] += 1

    def _check_count(self, node: Node, epoch: Epoch, index: int) -> None:
        """Enough journals of some set in force said in this epoch that they have it."""
        replica = node.replica
        assert replica is not None
        assert node.entries[index - 1].epoch == epoch
        sets = [change.replica_set for change in replica.shape().sets if change.index < index]
        counted = sets[-1] if sets else self.placed.first_set
        have = sum(
            len(node.disk.entries) >= index
            if seat == Seat(node.id, node.disk.journal)
            else self.claims.get((epoch, seat.journal), 0) >= index
            for seat in counted.seats
        )
        assert have >= counted.enough, f"{index} is committed with {have} of {counted}"

    def _check(self, node: Node, promised_before: Epoch | None) -> None:
        replica = node.replica
        assert replica is not None
        replica.check()
        promised = replica.promised
        if promised is not promised_before:
            assert promised is not None
            assert promised_before is None or promised >= promised_before
            self._promised[node.disk.journal] = promised
        assert replica.last_index == len(node.entries)
        assert (replica.role == "coordinator") == (node.reign is not None)
        if self._bound(node) and not replica.unsure:  # it may have what the seats have lost with the power
            assert replica.committed <= len(self.chosen)
            for at in range(min(node.checked, replica.committed), replica.committed):
                assert node.entries[at] is self.chosen[at]
            node.checked = max(node.checked, replica.committed)

    # --- disks

    def _promise_kept(self, node: Node) -> Epoch:
        assert node.disk.promised is not None
        return node.disk.promised

    def _order_disk(self, node: Node, effect: ft.Effect) -> None:
        node.queue.append(effect)
        if not node.committing:
            node.committing = True
            self._commit_later(node)

    def _commit_later(self, node: Node) -> None:
        incarnation = node.incarnation
        disk = node.disk
        node.writing, node.queue = node.queue, []

        def committed() -> None:
            if node.incarnation != incarnation:
                return
            group, node.writing = node.writing, []
            if node.disk is disk:
                self._commit_group(node, group)
            if node.queue:
                self._commit_later(node)
            else:
                node.committing = False

        self.after(node.disk_delay_s * self.random.uniform(0.5, 1.5), committed)

    def _commit_group(self, node: Node, group: list[ft.Effect]) -> None:
        """What gathered until now; reports of it come at once, so that nothing was ordered since."""
        disk = node.disk
        synced, wrote, promised = False, False, None
        before = list(disk.entries), disk.committed, disk.new
        for effect in group:
            match effect:
                case ft.Write(entries, _, sync):
                    disk.entries += entries
                    synced, wrote = synced or sync, True
                case ft.Truncate(after_index):
                    del disk.entries[after_index:]
                    disk.committed = min(disk.committed, after_index)
                case ft.Promise(epoch):
                    assert disk.promised is None or epoch >= disk.promised, "a promise went down"
                    disk.promised, synced, promised = epoch, True, epoch
                case ft.Sure():
                    disk.unsure = disk.new = False
                case ft.Committed(index):
                    disk.committed = max(disk.committed, index)
        if synced:
            disk.unsynced.clear()
        else:
            disk.unsynced.append(before)
        if wrote:
            cuts = [each.after_index for each in node.queue if isinstance(each, ft.Truncate)]
            self._post(node.id, ft.Written(min([len(disk.entries), *cuts])))
        if promised is not None:
            self._post(node.id, ft.Promised(promised))

    # --- connections

    def _pairs(self) -> list[tuple[NodeId, NodeId]]:
        names = list(self.nodes)
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]

    def _reachable(self, a: NodeId, b: NodeId) -> bool:
        return (a, b) not in self._cuts and (b, a) not in self._cuts

    def _join_later(self, a: NodeId, b: NodeId) -> None:
        if a != b:
            self.after(self.random.uniform(0.01, 0.5), lambda: self._join(a, b))

    def _join(self, a: NodeId, b: NodeId) -> None:
        pair = frozenset((a, b))
        both = self.nodes[a], self.nodes[b]
        if pair in self._links or not self._reachable(a, b) or not all(each.alive and not each.paused for each in both):
            return
        if pair in self._old and self._old[pair].up:
            return  # one of them has still to hear that the earlier connection is gone; then it dials again
        link = self._links[pair] = Link((a, b), next(self._numbers))

        def stand(me: NodeId, other: NodeId) -> None:
            if not link.broken:
                link.up.add(me)
                self._post(me, ft.Up(other))
                self._late(me, other)

        later_s = self.random.uniform(0.0, 0.01)
        link.last_s[b] = self.now_s + later_s  # what a says at once comes after b knows of the connection
        self.after(later_s, lambda: stand(b, a))
        stand(a, b)

    def _late(self, me: NodeId, other: NodeId) -> None:
        """What was said on an earlier connection comes again."""
        old = self._old.get(frozenset((me, other)))
        if old is None:
            return
        processes = self.nodes[me].incarnation, self.nodes[other].incarnation
        for target, incarnations, message in list(old.said):
            if target == me and processes == incarnations and self.random.random() < 0.3:
                again = partial(self._deliver_late, me, other, message, processes[0])
                self.after(self.random.uniform(0.0, 0.5), again)

    def _deliver_late(self, me: NodeId, other: NodeId, message: object, incarnation: int) -> None:
        node = self.nodes[me]
        if node.alive and not node.paused and node.incarnation == incarnation and node.replica is not None:
            self.seen["late messages"] += 1
            self._receive(node, other, message)

    def _break(self, a: NodeId, b: NodeId, *, proof: str) -> None:
        """The connection is gone; each end hears of it, if it is there."""
        pair = frozenset((a, b))
        link = self._links.pop(pair, None)
        if link is None:
            return
        link.broken = True
        self._old[pair] = link
        link.up = {each for each in link.up if self.nodes[each].alive}
        for me, other in ((a, b), (b, a)):
            if me in link.up:
                gone = proof if not self.nodes[other].alive else "silent"
                self.after(
                    self.random.uniform(0.0, 0.05) if gone == "refused" or self.nodes[other].alive else LEASE_S,
                    lambda me=me, other=other, gone=gone: self._tell_down(me, other, gone, link),  # type: ignore[misc]
                )

    def _tell_down(self, me: NodeId, other: NodeId, proof: str, link: Link) -> None:
        if link.number >= 0 and me in link.up:
            link.up.discard(me)
            self._post(me, ft.Down(other, proof))  # type: ignore[arg-type]
        if self.nodes[me].alive and self.nodes[other].alive:
            self._join_later(me, other)

    def _notice_cut(self, a: NodeId, b: NodeId, link: Link | None) -> None:
        """What was lost is lost, even if the cut has healed."""
        if link is not None and not link.broken:
            self._break(a, b, proof="silent")

    def _send(self, node: Node, target: NodeId, message: object) -> None:
        link = self._links.get(frozenset((node.id, target)))
        if link is None or node.id not in link.up or link.broken:
            return
        other = self.nodes[target]
        at_s = max(link.last_s.get(target, 0.0), self.now_s + self.random.uniform(0.001, 0.01))
        link.last_s[target] = at_s
        incarnation = other.incarnation

        def arrive() -> None:
            if link.broken or other.incarnation != incarnation or (node.id, target) in self._cuts:
                return
            if target not in link.up:
                return
            link.said.append((target, (incarnation, node.incarnation), message))
            if other.paused:
                other.backlog.append((node.id, message))
            elif other.alive:
                self._receive(other, node.id, message)

        self.after(at_s - self.now_s, arrive)

    def _ship(self, node: Node, ship: ft.Ship) -> None:
        after, epoch = ship.after_index, ship.after_epoch
        while True:
            last = min(ship.last_index, after + FRAME_ENTRIES)
            entries = tuple(node.entries[after:last])
            self._send(node, ship.node, AppendEntries(APP, ship.epoch, after, epoch, entries, (), ship.committed))
            if last >= ship.last_index:
                return
            after, epoch = last, entries[-1].epoch

    def _log(self, name: NodeId, what: object) -> None:
        self.trace.append((self.now_s, name, what))

    def story(self, lines: int) -> str:
        """What happened last, for a person who looks for the reason of a failure."""
        return "\n".join(f"{at_s:8.3f} {name} {what}" for at_s, name, what in list(self.trace)[-lines:])
