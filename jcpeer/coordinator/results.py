"""What finished tasks left: who holds it, what is brought here before the end, and what has to be made anew.

A finished task whose output has no holder left runs again if somebody still needs that output, and so do its ancestors
as far as theirs are gone, too; one that is marked `once` has failed instead. The application's results are collected by
this node, but for those that reports carried and the journal has; and so is what a task leaves that is marked `once`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from jcpeer.application.task import BlobRef, OutputOf
from jcpeer.coordinator.copies import Copies
from jcpeer.coordinator.events import Collect, CollectFailed, Effect
from jcpeer.coordinator.holdings import Holdings
from jcpeer.coordinator.losses import NOT_AGAIN
from jcpeer.coordinator.recorder import Recorder
from jcpeer.coordinator.task_record import TaskRecord
from jcpeer.ids import Digest, NodeId, TaskId
from jcpeer.wire.facts import OutputLost


class Results:
    """Blobs of one application, as far as its coordinator has to care for them."""

    def __init__(self, recorder: Recorder, *, me: NodeId, submitter: NodeId) -> None:
        """`submitter`: the node whose inputs stay there, where they do."""
        self.holdings = Holdings(me=me)
        self.copies = Copies(recorder, self.holdings, me=me)
        self._submitter = submitter
        self._recorder = recorder
        self._state = recorder.state
        self._me = me
        self._makers: dict[Digest, list[TaskId]] = {}
        """Which tasks left each blob that others hold; one that ran again may be named again."""
        self._collecting: dict[Digest, TaskId] = {}
        self._finished_early: dict[TaskId, None] = {}
        """Tasks without children that had finished before the application was sealed."""
        self._left_apart: list[TaskRecord] = []
        """Of those that were looked over."""
        self.given_up: list[TaskId] = []
        """Tasks that have just failed, since they lost what they left and must not run again."""

    @property
    def on_their_way(self) -> bool:
        """Some are being brought here."""
        return bool(self._collecting)

    def look_over(self, record: TaskRecord) -> None:
        """What the journal says of this task; `learn_again` follows when all were looked over."""
        if blobs := record.spec.blobs():
            self.add_inputs(blobs)
        if record.has_result and self._note_holders(record):
            self._left_apart.append(record)

    def learn_again(self, *, absent: Collection[Digest], now_s: float) -> list[Effect]:
        """Of an application whose journal was read. `absent` are blobs that this node has not, as others of the set may
        be taken to have."""
        finished, self._left_apart = self._left_apart, []
        self.assume_copies()
        for digest in absent:
            self.holdings.remove((self._me,), digest)
        effects: list[Effect] = []
        for record in finished:
            if absent and any(each.blob.digest in absent for each in record.apart):
                why = "it was in the memory of a process that is gone"
                effects += self._restore_if_needed(record.spec.id, why, now_s=now_s)
        for record in finished:
            effects += self._collect_if_final(record)
        return effects

    def add_inputs(self, blobs: Iterable[BlobRef]) -> None:
        """What no task makes."""
        stay = self._state.header.inputs_stay
        for blob in blobs:
            if blob.small:
                continue  # the journal has it
            self.holdings.add(self._submitter if stay else self._me, blob.digest)
            if not stay:
                self.copies.want(blob, "input")

    def assume_copies(self) -> None:
        """After a takeover: that those of the set have the inputs, and else the submitter's node. Who finds none there
        says so."""
        for blob in self.copies.inputs:
            for node in (*self._state.replica_set.nodes, self._submitter):
                if node != self._me:
                    self.holdings.add(node, blob.digest)

    def finished(self, record: TaskRecord) -> list[Effect]:
        """This task has just got its result."""
        self._note_holders(record)
        return self._collect_if_final(record)

    def sealed(self) -> list[Effect]:
        """No further task comes that could read what is there."""
        effects = [each for task in self._finished_early for each in self._collect_if_final(self._state.tasks[task])]
        self._finished_early.clear()
        return effects

    def only_at(self, node: NodeId) -> Iterator[BlobRef]:
        """What this node alone holds, and somebody still needs."""
        if self._state.ended is not None or self._state.stopped:
            return
        alone = [digest for digest in self.holdings.at(node) if self.holdings.of(digest) == {node}]
        for record in self._made(alone):
            needed = self._needed(record)
            for each in record.apart:
                if each.name in needed and self.holdings.of(each.blob.digest) == {node}:
                    yield each.blob

    def _made(self, digests: Iterable[Digest]) -> Iterator[TaskRecord]:
        """The tasks that left these, each once."""
        makers = (task for digest in digests for task in self._makers.get(digest, ()))
        return (self._state.tasks[each] for each in dict.fromkeys(makers))

    # --- making anew

    def lose_holder(self, node: NodeId, why: str, *, now_s: float) -> list[Effect]:
        concerned = self._made(self.holdings.lose(node))
        return [effect for each in concerned for effect in self._restore_if_needed(each.spec.id, why, now_s=now_s)]

    def doubt(self, digest: Digest, tasks: Iterable[TaskId], why: str, *, now_s: float) -> list[Effect]:
        """Nobody gave this blob to attempts of these tasks, though no holder is known to be gone."""
        if not self.holdings.doubt(digest):
            return []
        return [
            effect
            for task in tasks
            if task in self._state.tasks
            for each in self._state.tasks[task].spec.inputs
            if isinstance(each.source, OutputOf)
            for effect in self._restore_if_needed(each.source.task, why, now_s=now_s)
        ]

    def _restore_if_needed(self, task: TaskId, why: str, *, now_s: float) -> list[Effect]:
        """Run a finished task again if an output of it has no holder left and somebody still needs it; and, as the
        second run needs its own inputs, its ancestors as far as theirs are gone too."""
        effects: list[Effect] = []
        doubtful = [task]  # not by recursion: a chain of tasks may be longer than Python's stack
        while doubtful:
            record = self._state.tasks[doubtful.pop()]
            if not record.has_result or self._state.ended is not None or self._state.stopped:
                continue
            gone = [each for each in record.apart if not self.holdings.of(each.blob.digest)]
            needed = bool(gone) and not self._needed(record, by_started=False).isdisjoint(each.name for each in gone)
            if not needed and not record.spec.once:
                continue
            for each in gone:
                self._collecting.pop(each.blob.digest, None)
                self.copies.forget(each.blob.digest)
            if not needed:
                continue  # it was kept in case that it is
            if record.spec.once:
                fact = OutputLost(record.spec.id, f"{why}; {NOT_AGAIN}", final=True)
                effects += self._recorder.record(fact, now_s=now_s)
                self.given_up.append(record.spec.id)
                continue
            effects += self._recorder.record(OutputLost(record.spec.id, why), now_s=now_s)
            doubtful += reversed(record.spec.parents())
        return effects

    def restore_inputs(self, record: TaskRecord, why: str, *, now_s: float) -> list[Effect]:
        """What this task reads, which is to start after all, as far as nobody has it any more."""
        parents = record.spec.sources()
        return [effect for each in parents for effect in self._restore_if_needed(each, why, now_s=now_s)]

    def _needed(self, record: TaskRecord, *, by_started: bool = True) -> set[str]:
        """The outputs of this task that somebody still needs. `by_started`: what is marked `once` and has started
        counts, too, though it needs no input a second time."""
        if record.is_final:
            return set(record.spec.outputs)
        children = (self._state.tasks[each] for each in record.children)
        waiting = (each for each in children if each.standing == "pending" and (by_started or each.started is None))
        sources = (each.source for child in waiting for each in child.spec.inputs)
        return {each.output for each in sources if isinstance(each, OutputOf) and each.task == record.spec.id}

    # --- collecting

    def _note_holders(self, record: TaskRecord) -> bool:
        """Whether it left any that its report did not carry."""
        if record.ran_by is None or not record.apart:
            return False
        for output in record.apart:
            self.holdings.add(record.ran_by, output.blob.digest)
            self._makers.setdefault(output.blob.digest, []).append(record.spec.id)
        return True

    def _collect_if_final(self, record: TaskRecord) -> list[Effect]:
        once = record.spec.once  # what it left cannot be made again
        if not record.has_result or not (record.is_final or once):
            return []
        outputs = record.apart
        if not outputs:
            return []
        if not (self._state.whole or once):
            self._finished_early[record.spec.id] = None  # its children may still be on their way
            return []
        effects: list[Effect] = []
        for output in outputs:
            self.copies.want(output.blob, "result")
            if output.blob.digest in self._collecting:
                continue
            holders = self.holdings.of(output.blob.digest)
            if self._me not in holders:
                self._collecting[output.blob.digest] = record.spec.id
                effects.append(Collect(output.blob, tuple(sorted(holders))))
        return effects

    def collected(self, digest: Digest) -> None:
        self.holdings.add(self._me, digest)
        self.copies.held((digest,))
        self._collecting.pop(digest, None)

    def collects(self, digest: Digest) -> bool:
        """It is being brought here as a result."""
        return digest in self._collecting

    def collect_elsewhere(self, event: CollectFailed, *, now_s: float) -> list[Effect]:
        task = self._collecting.pop(event.digest, None)
        self.holdings.remove(event.holders, event.digest)
        if task is None:
            return []
        if self.holdings.of(event.digest):
            return self._collect_if_final(self._state.tasks[task])
        return self._restore_if_needed(task, "no holder gave it", now_s=now_s)
