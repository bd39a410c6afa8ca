"""The orders of a coordinator in its epoch; most of all what an attempt is told: its task, the content of its inputs,
and who has them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from jcpeer.application.task import BlobRef, OutputOf, Task
from jcpeer.coordinator.attempts import Attempts
from jcpeer.coordinator.events import Effect, Send, SendOrders
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.results import Results
from jcpeer.coordinator.room import Assigned, Participant
from jcpeer.coordinator.roster import Roster, slots_of
from jcpeer.ids import AttemptName, Digest, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.messages import AttemptOrder, CancelAttempts, OrderedInput, Recruit, Right, Withdraw, Yield

TASKS_PER_FRAME_MAX = 500
"""Ordered, or named in rights."""
SENT_MAX = 10_000
"""Small inputs that a participant is known to have been sent; beyond these all is forgotten, and sent again if need
be."""
HOLDERS_TOLD_MAX = 4
"""Of a blob that many have. An order with thousands of inputs must still fit a frame."""


class Orders:
    """Makes orders, and remembers which small inputs each participant was sent with them."""

    def __init__(self, recorder: Recorder, roster: Roster, attempts: Attempts, results: Results, *, me: NodeId) -> None:
        self._recorder = recorder
        self._roster = roster
        self._attempts = attempts
        self._holdings = results.holdings
        self._me = me
        self.ftc: NodeId | None = None
        """Who supervises beside this node."""
        self._sent_small: dict[NodeId, set[Digest]] = {}

    def recruit(self, nodes: list[NodeId]) -> list[Effect]:
        """Call these up."""
        if not nodes:
            return []
        state = self._recorder.state
        assert state.placed is not None
        widest = self._attempts.ready.widest
        recruit = Recruit(state.app, self._recorder.epoch, state.placed.placed, state.runnable, widest)
        recruit = evolve(recruit, ftc=self.ftc) if self.ftc else recruit
        self._roster.claim(nodes)
        return [Send(node, recruit) for node in nodes]

    def make(
        self,
        task: Task,
        participant: Participant,
        *,
        now_s: float,
        rights: tuple[Right, ...] = (),
        shared: tuple[TaskId, ...] = (),
    ) -> AttemptOrder:
        """The order of a ready task, which is then under way at this participant."""
        name = self._attempts.next_name(task.id, self._recorder.epoch)
        self._attempts.give(participant, Assigned(name, slots_of(task.needs), now_s, once=task.once))
        inputs = []
        for each in task.inputs:
            blob, journalled = self._input_blob(each.source)
            holders = self._best_holders(blob, participant.record.node, journalled=journalled)
            inputs.append(OrderedInput(each.name, blob, holders, each.executable))
        return AttemptOrder(
            task.id,
            name.number,
            task.work,
            tuple(inputs),
            task.outputs,
            task.needs,
            task.timeout_s,
            rights,
            shared,
            task.once,
        )

    def right(self, task: Task, *, shared: tuple[TaskId, ...]) -> Right:
        """To start this task; the attempt that may come of it has its name from now on."""
        return Right(task, self._attempts.next_name(task.id, self._recorder.epoch).number, shared)

    def to_send(self, node: NodeId, orders: list[AttemptOrder]) -> list[SendOrders]:
        """These, as many to a frame as fit, each small input with the first that needs it."""
        frames: list[SendOrders] = []
        part: list[AttemptOrder] = []
        tasks = 0
        for order in orders:
            if part and tasks + 1 + len(order.rights) > TASKS_PER_FRAME_MAX:
                frames.append(self._frame(node, tuple(part)))
                part, tasks = [], 0
            part.append(order)
            tasks += 1 + len(order.rights)
        if part:
            frames.append(self._frame(node, tuple(part)))
        return frames

    def withdraw(self, node: NodeId, names: list[AttemptName]) -> list[Effect]:
        return [Send(node, Withdraw(self._recorder.app, self._recorder.epoch, tuple(names)))] if names else []

    def stop(self, node: NodeId, names: list[AttemptName]) -> list[Effect]:
        """Have these cancelled, whether or not they are known to be under way there."""
        return [Send(node, CancelAttempts(self._recorder.app, self._recorder.epoch, tuple(names)))] if names else []

    def cancel(self, task: TaskId | None) -> list[Effect]:
        """Stop all attempts of this task, or of all where none is named."""
        effects: list[Effect] = []
        for each in self._attempts.tasks() if task is None else [task]:
            for name, node in self._attempts.of(each).items():
                attempt = self._roster.participants[node].assigned[name]
                if attempt.state != "cancelling":
                    attempt.state = "cancelling"
                    effects += self.stop(node, [name])
        return effects

    def let_go(self, nodes: Iterable[NodeId]) -> list[Effect]:
        """Claim nothing more of these for now."""
        effects: list[Effect] = []
        for node in nodes:
            self._roster.unclaim(node)
            effects.append(Send(node, Yield(self._recorder.app, self._recorder.epoch)))
        return effects

    def forget_sent(self, node: NodeId) -> None:
        """What was sent to it may not have arrived."""
        self._sent_small.pop(node, None)

    def large_inputs(self, task: Task) -> list[BlobRef]:
        return [blob for each in task.inputs if not (blob := self._input_blob(each.source)[0]).small]

    def local_bytes(self, blobs: Iterable[BlobRef], node: NodeId) -> int:
        """How many bytes of these this node holds."""
        return sum([blob.size for blob in blobs if self._holdings.holds(node, blob.digest)])

    def holders_of_more(self, blobs: Iterable[BlobRef], node: NodeId) -> set[NodeId]:
        """Who holds any of these that this node does not."""
        lacking = (blob.digest for blob in blobs if not self._holdings.holds(node, blob.digest))
        return {holder for digest in lacking for holder in self._holdings.of(digest)}

    def _input_blob(self, source: BlobRef | OutputOf) -> tuple[BlobRef, bool]:
        """And whether the journal has it."""
        if isinstance(source, BlobRef):
            return source, source.small
        output = self._recorder.state.output(source)
        assert output is not None, "a ready task's parents are finished, and a success has all declared outputs"
        return output.blob, output.carried

    def _best_holders(self, blob: BlobRef, node: NodeId, *, journalled: bool) -> tuple[NodeId, ...]:
        """A few, and others for each node that asks, so that an order stays short and nobody is asked by all. They come
        before ourselves, so that bulk data does not all pass through the coordinator."""
        holders = self._holdings.of(blob.digest)
        others = holders - {node, self._me}
        told = heapq.nsmallest(HOLDERS_TOLD_MAX, others, key=lambda each: (each < node, each)) if others else ()
        ours = (journalled or self._me in holders) and node != self._me
        return (*told, self._me) if ours else tuple(told)

    def _frame(self, node: NodeId, orders: tuple[AttemptOrder, ...]) -> SendOrders:
        sent = self._sent_small.setdefault(node, set())
        if len(sent) > SENT_MAX:
            sent.clear()
        attach = []
        for order in orders:
            for blob in blobs_of(order):
                if blob.small and blob.digest not in sent:
                    sent.add(blob.digest)
                    attach.append(blob.digest)
        return SendOrders(node, orders, tuple(attach))


def blobs_of(order: AttemptOrder) -> Iterator[BlobRef]:
    """The inputs of the ordered task, and those of the tasks below it whose content is settled."""
    for each in order.inputs:
        yield each.blob
    for right in order.rights:
        for needed in right.task.inputs:
            if isinstance(needed.source, BlobRef):
                yield needed.source
