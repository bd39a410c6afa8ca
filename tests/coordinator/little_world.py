"""One coordinator and several participants, machine to machine: no clock, no network, any order of events.

Messages keep their order between two nodes; all else is drawn from a seeded random number generator. Commits, fetches
and executions take effect when the world decides so.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence

from jcpeer.application.manifest import Batch, Dispatch, Header, OnFailure, Placed, Seal, Seat
from jcpeer.application.task import BlobRef, Task
from jcpeer.coordinator import events as coordinator_events
from jcpeer.coordinator.events import BatchAdded, Committed, Heard, NodeLost, NodeSeen, Quiet, SealReceived, Tick
from jcpeer.coordinator.machine import Coordinator
from jcpeer.coordinator.state import ApplicationState
from jcpeer.coordinator.underway import UnderwayMemory
from jcpeer.ids import AppId, AttemptName, Digest, Epoch, NodeId, TaskId, digest_of
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from jcpeer.wire.facts import Entry, Finished, Submitted
from jcpeer.wire.messages import (
    Assign,
    AttemptOrder,
    Failure,
    Fetched,
    Hand,
    NodeRecord,
    NotNeeded,
    OrderedInput,
    Outcome,
    Output,
    Probe,
    ProbeAnswer,
    Recruit,
    Signed,
    Taken,
)
from jcpeer.wire.peer import PeerMessage
from jcpeer.wire.replication import CannotKeep, KeepBlobs, Underway, UnderwayAttempt
from jcpeer.work import events as work
from jcpeer.work.participant import ParticipantMachine

APP = AppId("a" * 40)
ME = NodeId("coordinator")
HEADER = Header("application", 0.0, b"nonce", user="user")


def unsigned(value: object) -> Signed:
    return Signed(pack(value), b"")


def record_of(node: NodeId, *, slots: int = 2, incarnation: int = 1) -> NodeRecord:
    return NodeRecord(
        node=node,
        name=str(node),
        user="user",
        host=str(node),
        incarnation=incarnation,
        version=0,
        state="idle",
        slots=slots,
        slots_used=0,
        cpus=slots,
        memory_bytes=2**30,
        load=0.0,
        python="3.11",
    )


class Node:
    """A participant with a store of large blobs, and what it was asked to do."""

    def __init__(self, node: NodeId, *, slots: int) -> None:
        self.id = node
        self.slots = slots
        self.highest = Epoch(0, node)
        """Of the orders that it was given."""
        self.machine = ParticipantMachine(user="user", slots=slots, memory_bytes=2**30, trust_grid=False)
        self.blobs: set[Digest] = set()
        self.finding: deque[work.Find] = deque()
        self.fetching: dict[work.AttemptKey, work.Fetch] = {}
        self.running: dict[work.AttemptKey, work.Start] = {}


class LittleWorld:
    """Runs one application to its end, with crashes and losses on the way."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        nodes: int = 3,
        slots: int = 2,
        large: bool = False,
        dispatch: Dispatch = "assign",
        on_failure: OnFailure = "finish",
    ) -> None:
        self.random = random.Random(seed)
        self.large = large
        self.now_s = 0.0
        self.step_s = 0.05
        self.journal: list[Entry] = []
        self.uncommitted: deque[int] = deque()
        self.told: list[Entry] = []
        self._is_quiet = False
        self.over: str | None = None
        self.nodes: dict[NodeId, Node] = {}
        self.to_node: dict[NodeId, deque[tuple[NodeId, PeerMessage]]] = {}
        """With the coordinator that said it."""
        self.to_coordinator: dict[NodeId, deque[tuple[NodeId, PeerMessage]]] = {}
        """With the coordinator to which it is said."""
        self.me = ME
        """Who coordinates."""
        self.stream: deque[Underway] = deque()
        self.keeping: deque[tuple[NodeId, NodeId, KeepBlobs]] = deque()
        """Of replicas: who said so to which."""
        self.memory = UnderwayMemory()
        """What a replica was told of attempts under way."""
        self.between: dict[tuple[NodeId, NodeId], deque[PeerMessage]] = {}
        """From participant to participant."""
        self.collecting: list[coordinator_events.Collect] = []
        self.refusals = 0.0
        self.kept_by: dict[NodeId, set[Digest]] = {}
        self.executions: dict[TaskId, int] = {}
        self.started: dict[AttemptName, NodeId] = {}
        """Where each attempt started."""
        self.killed: list[AttemptName] = []
        """Attempts that were stopped though they ran."""
        self.failing: dict[TaskId, int] = {}
        self.cancelled: set[TaskId] = set()
        self.header = evolve(HEADER, on_failure=on_failure, dispatch=dispatch)
        self.machine = Coordinator(ApplicationState(), me=ME, now_s=0.0, clock_s=0.0)
        seats = tuple(Seat(each, "") for each in (ME, NodeId(f"{ME}1"), NodeId(f"{ME}2")))
        placed = unsigned(Placed(APP, self.header, seats))
        self._perform(self.machine.open(Submitted(placed), now_s=0.0))
        for index in range(nodes):
            self.join(NodeId(f"node{index}"), slots=slots)
        half = len(tasks) // 2
        for number, part in enumerate((tasks[:half], tasks[half:])):
            batch = Batch(APP, number, tuple(part))
            self.post(BatchAdded(batch, unsigned(batch)))
        self.post(SealReceived(unsigned(Seal(APP, 2))))

    # --- coordinator

    def _tick(self) -> None:
        """The coordinator is called at any time; before the one that it named, if nothing happened, it does nothing."""
        if self.over is not None:
            return
        wake_s = self.machine.wake_s() if self._is_quiet else self.now_s
        effects = [
            *self.machine.handle(Tick(), now_s=self.now_s),
            *self.machine.handle(Quiet(), now_s=self.now_s),
        ]
        assert wake_s <= self.now_s or not effects, (wake_s, self.now_s, effects)
        assert self.machine.wake_s() > self.now_s, "it does not ring for ever"
        self._perform(effects)
        if effects:
            self.machine.check()

    def post(self, event: coordinator_events.Event) -> None:
        if self.over is None:
            effects = self.machine.handle(event, now_s=self.now_s)
            self._perform(effects)
            if effects or self.over is not None:  # to look at everything costs most; what did nothing can wait
                self.machine.check()
            self._is_quiet = isinstance(event, Quiet)

    def _perform(self, effects: list[coordinator_events.Effect]) -> None:
        for effect in effects:
            match effect:
                case coordinator_events.Record():
                    assert effect.entry.index == len(self.journal) + 1
                    self.journal.append(effect.entry)
                    self.uncommitted.append(effect.entry.index)
                case coordinator_events.Send(node, KeepBlobs() as keep) if node.startswith(ME):
                    self.keeping.append((self.me, node, keep))
                case coordinator_events.Send():
                    if effect.node in self.to_node:
                        self.to_node[effect.node].append((self.me, effect.message))
                case coordinator_events.SendOrders():
                    assign = Assign(APP, self.machine.epoch, effect.orders)
                    if effect.node in self.to_node:
                        self.to_node[effect.node].append((self.me, assign))
                case coordinator_events.Tell():
                    self.told.append(effect.entry)
                case coordinator_events.Collect():
                    self.collecting.append(effect)
                case coordinator_events.TellReplicas():
                    self.stream.append(effect.underway)
                case coordinator_events.Over():
                    self.over = effect.status

    def _clear_ways(self) -> None:
        for queue in self.to_node.values():
            queue.clear()
        for answers in self.to_coordinator.values():
            answers.clear()

    def restart_coordinator(self) -> None:
        """What was committed is there again, everything else is gone; the participants never noticed."""
        committed = self.uncommitted[0] - 1 if self.uncommitted else len(self.journal)
        promised = self.machine.epoch.counter  # which is on the disk before anything of the epoch
        del self.journal[committed:]
        self.uncommitted.clear()
        self.collecting.clear()
        state = ApplicationState()
        for entry in self.journal:
            state.apply(entry)
        self._clear_ways()
        self.machine = Coordinator(state, me=ME, now_s=self.now_s, clock_s=0.0)
        if state.ended is not None:
            self.over = state.ended
            return
        self._succeed(Epoch(promised + 1, ME), predecessor=ME)

    def take_over(self, *, lost: int, underway: Sequence[UnderwayAttempt] | None, dies: NodeId | None = None) -> None:
        """Another node coordinates from now on, without the last `lost` of the entries that were not committed; what
        the former one has said is still on its way. `dies`: a participant on whose node that one was."""
        self.me = NodeId(f"{ME}{self.machine.epoch.counter + 1}")
        lost = min(lost, len(self.uncommitted))
        del self.journal[len(self.journal) - lost :]
        self.uncommitted = deque(list(self.uncommitted)[: len(self.uncommitted) - lost])
        self.collecting.clear()
        state = ApplicationState()
        for entry in self.journal:
            state.apply(entry)
        if dies is not None:
            self._fell(dies)
        predecessor, epoch = dies or self.machine.epoch.node, Epoch(self.machine.epoch.counter + 1, self.me)
        self.machine = Coordinator(state, me=self.me, now_s=self.now_s, clock_s=0.0)
        if state.ended is not None:
            self.over = state.ended
            return
        self._succeed(epoch, predecessor=predecessor, underway=underway)

    def _succeed(self, epoch: Epoch, *, predecessor: NodeId, underway: Sequence[UnderwayAttempt] | None = None) -> None:
        self.stream.clear()
        took_over = self.machine.take_over(now_s=self.now_s, epoch=epoch, predecessor=predecessor, underway=underway)
        self._perform(took_over)
        self._is_quiet = False
        for node in self.nodes.values():
            self.post(NodeSeen(record_of(node.id, slots=node.slots)))

    # --- participants

    def join(self, node: NodeId, *, slots: int = 2) -> None:
        self.nodes[node] = Node(node, slots=slots)
        self.to_node[node], self.to_coordinator[node] = deque(), deque()
        self.post(NodeSeen(record_of(node, slots=slots)))

    def _fell(self, node: NodeId) -> None:
        del self.nodes[node], self.to_node[node], self.to_coordinator[node]
        for ends in [each for each in self.between if node in each]:
            del self.between[ends]

    def crash(self, node: NodeId) -> None:
        self._fell(node)
        self.post(NodeLost(node, "its process is gone", "refused"))

    def leave(self, node: NodeId) -> None:
        """It stops of its own will; what it says before is heard."""
        self.refuse(node)
        while self.to_coordinator[node]:
            self._answer(node)
            self.post(Quiet())
        self.crash(node)

    def _answer(self, node: NodeId) -> None:
        to, message = self.to_coordinator[node].popleft()
        if to == self.me:
            self.post(Heard(node, message))  # type: ignore[arg-type]

    def refuse(self, node: NodeId) -> None:
        """It takes nothing any more, and hands back what it has."""
        self._tell(self.nodes[node], work.Leave("the node is leaving"))

    def hold_up_coordinator(self) -> None:
        """It is stopped for so long that all take it for dead, and then goes on."""
        self.post(coordinator_events.Woke())
        for node in list(self.nodes):
            self.disconnect(node)

    def disconnect(self, node: NodeId) -> None:
        """Both ways lose what was on its way, and the coordinator takes the node for dead, then sees it again."""
        self.to_node[node].clear()
        self.to_coordinator[node].clear()
        self.post(NodeLost(node, "silent", self.random.choice(["silent", "refused"])))
        self.post(NodeSeen(record_of(node, slots=self.nodes[node].slots)))
        self._tell(self.nodes[node], work.Reunited(self.me))

    def part(self, one: NodeId, other: NodeId) -> None:
        """Two participants lose what is on its way between them, and may hear of it."""
        for node, peer in ((one, other), (other, one)):
            self.between.pop((node, peer), None)
            if node in self.nodes and self.random.random() < 0.5:
                self._tell(self.nodes[node], work.NotReached(peer))

    def _deliver_between(self) -> None:
        sender, node = self.random.choice([ends for ends, queue in self.between.items() if queue])
        message = self.between[sender, node].popleft()
        match message:
            case Hand():
                orders = tuple(
                    evolve(order, inputs=tuple(evolve(each, holders=(sender, *each.holders)) for each in order.inputs))
                    for order in message.orders
                )
                hand = evolve(message, orders=orders)
                absent = self._absent(self.nodes[node], orders, hand.epoch)
                self._tell(self.nodes[node], work.Handed(sender, hand, self.header, absent))
            case Probe() | ProbeAnswer() | NotNeeded() | Taken():
                self._tell(self.nodes[node], work.Told(sender, message))
            case _:
                raise AssertionError(message)

    def _absent(
        self, node: Node, orders: tuple[AttemptOrder, ...], epoch: Epoch
    ) -> dict[AttemptName, tuple[OrderedInput, ...]]:
        absent = {}
        for order in orders:
            missing = tuple(each for each in order.inputs if not each.blob.small and each.blob.digest not in node.blobs)
            if missing:
                absent[AttemptName(order.task, epoch.counter, order.number)] = missing
        return absent

    def _deliver(self, node: Node, sender: NodeId, message: PeerMessage) -> None:
        epoch: Epoch = message.epoch  # type: ignore[union-attr]
        before = len(node.fetching), len(node.running)
        match message:
            case Recruit():
                self._tell(node, work.CalledUp(sender, message, self.header))
            case Assign():
                absent = self._absent(node, message.orders, message.epoch)
                self._tell(node, work.Assigned(sender, message, absent))
            case _:
                self._tell(node, work.Ordered(sender, message))  # type: ignore[arg-type]
        if epoch < node.highest:
            assert (len(node.fetching), len(node.running)) == before, "an order of a lower epoch changes nothing"
        elif isinstance(message, Recruit):
            node.highest = epoch

    def _tell(self, node: Node, event: work.Event) -> None:
        effects = node.machine.handle(event, now_s=self.now_s)
        effects += node.machine.handle(work.Quiet(), now_s=self.now_s)
        if effects:
            node.machine.check()
        for effect in effects:
            match effect:
                case work.Send(to, message) if to.startswith(ME):
                    if node.id in self.to_coordinator:
                        self.to_coordinator[node.id].append((to, message))
                case work.Send(to, message):
                    self._send_between(node.id, to, message)
                case work.SendHand(to, hand):
                    self._send_between(node.id, to, hand)
                case work.Find():
                    node.finding.append(effect)
                case work.Fetch():
                    node.fetching[effect.key] = effect
                case work.Start():
                    self.executions[effect.order.task] = self.executions.get(effect.order.task, 0) + 1
                    self._note_start(node.id, effect)
                    node.running[effect.key] = effect
                case work.Kill():
                    if node.fetching.pop(effect.key, None) is None and node.running.pop(effect.key, None) is not None:
                        self.killed.append(effect.key.name)
                        self._tell(node, work.Killed(effect.key))
                case work.DropBlobs():
                    pass

    def _send_between(self, sender: NodeId, node: NodeId, message: PeerMessage) -> None:
        if node in self.nodes:
            self.between.setdefault((sender, node), deque()).append(message)

    def _note_start(self, node: NodeId, start: work.Start) -> None:
        """An attempt never runs at two nodes."""
        assert self.started.setdefault(start.key.name, node) == node, start

    def _find(self, node: Node) -> None:
        others = [each for each in self.nodes if each != node.id]
        find = node.finding.popleft()
        chosen = self.random.sample(others, k=self.random.randint(0, len(others)))
        self._tell(node, work.Found(find.search, tuple(chosen)))

    def _finish_fetch(self, node: Node) -> None:
        key, fetch = next(iter(node.fetching.items()))
        del node.fetching[key]
        missing = []
        for each in fetch.inputs:
            holders = [self.nodes[holder] for holder in each.holders if holder in self.nodes]
            if any(each.blob.digest in holder.blobs for holder in holders):
                node.blobs.add(each.blob.digest)
            else:
                missing.append(each.blob.digest)
        if missing:
            self._tell(node, work.InputsMissing(key, tuple(missing), "no holder gave it"))
        else:
            self._tell(node, work.InputsHere(key))

    def _finish_run(self, node: Node) -> None:
        key = self.random.choice(list(node.running))
        start = node.running.pop(key)
        order = start.order
        fails = self.failing.get(order.task, 0) > 0
        if fails:
            self.failing[order.task] -= 1
        data = f"{order.task} of {[each.blob.digest for each in order.inputs]}".encode()
        size = 10**6 if self.large else len(data)
        outputs = tuple(Output(name, BlobRef(digest_of(data + name.encode()), size)) for name in order.outputs)
        node.blobs.update(each.blob.digest for each in outputs)
        outcome = Outcome(
            task=order.task,
            epoch=start.epoch,
            number=order.number,
            failure=Failure("exit", "exit status 1") if fails else None,
            outputs=() if fails else outputs,
            consumed=tuple(each.blob.digest for each in order.inputs),
            exit_status=1 if fails else 0,
            started_s=0.0,
            waited_s=0.0,
            ran_s=0.1,
        )
        self._tell(node, work.Ran(key, outcome))

    # --- time

    def step(self) -> None:
        """One thing happens somewhere."""
        self.now_s += self.step_s
        match self.random.randrange(8):
            case 0 if self.uncommitted:
                index = self.uncommitted.popleft()
                self.post(Committed(index))
            case 1 if node := self._any(lambda each: self.to_node[each.id]):
                self._deliver(node, *self.to_node[node.id].popleft())
            case 2 if node := self._any(lambda each: self.to_coordinator[each.id]):
                self._answer(node.id)
            case 3 if node := self._any(lambda each: each.fetching):
                self._finish_fetch(node)
            case 4 if node := self._any(lambda each: each.running):
                self._finish_run(node)
            case 5 if self.collecting:
                self._collect(self.collecting.pop())
            case 6 if node := self._any(lambda each: each.finding):
                self._find(node)
            case 7 if any(self.between.values()):
                self._deliver_between()
            case 6 | 7 if self.stream:
                self.memory.heard(self.stream.popleft())
            case 5 if self.keeping:
                self._keep(*self.keeping.popleft())
            case _:
                self._tick()
                for each in list(self.nodes.values()):
                    self._tell(each, work.Tick())
        self.post(Quiet())

    def _keep(self, to: NodeId, replica: NodeId, keep: KeepBlobs) -> None:
        """Each replica has a large disk, which is full now and then."""
        if to != self.me:
            return
        digests = tuple(each.digest for each in keep.blobs)
        here = [each in self.kept_by.setdefault(replica, set()) for each in digests]
        holders = [self.nodes[each].blobs for each in keep.holders if each in self.nodes]
        found = self.me in keep.holders or all(any(each in blobs for blobs in holders) for each in digests)
        if all(here) or (found and self.random.random() >= self.refusals):
            self.kept_by[replica].update(digests)
            self.post(Heard(replica, Fetched(APP, digests)))
        else:
            self.post(Heard(replica, CannotKeep(APP, digests, "its disk is full")))

    def _any(self, has: Callable[[Node], Collection[object]]) -> Node | None:
        """One of the nodes that have some."""
        nodes = [each for each in self.nodes.values() if has(each)]
        return self.random.choice(nodes) if nodes else None

    def _collect(self, effect: coordinator_events.Collect) -> None:
        holders = [self.nodes[each] for each in effect.holders if each in self.nodes]
        if any(effect.blob.digest in holder.blobs for holder in holders):
            self.post(coordinator_events.Collected(effect.blob.digest))
        else:
            self.post(coordinator_events.CollectFailed(effect.blob.digest, effect.holders))

    def run(self, *, steps_max: int = 60_000) -> str:
        """Until the end is committed."""
        for _ in range(steps_max):
            if self.over is not None:
                return self.over
            self.step()
        raise AssertionError(f"no end after {steps_max} steps: {self.machine.counts()}")

    def results(self) -> dict[TaskId, tuple[Digest, ...]]:
        return {
            entry.fact.outcome.task: tuple(each.blob.digest for each in entry.fact.outcome.outputs)
            for entry in self.journal
            if isinstance(entry.fact, Finished)
        }
