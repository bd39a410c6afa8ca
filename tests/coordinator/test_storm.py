"""Everything goes wrong at once, by a seed: whatever the order of events, an application with a living node ends, what
was told stands, and no limit is exceeded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from jcpeer.application.manifest import POLICIES, Dispatch, OnFailure
from jcpeer.application.task import Command, Input, Needs, OutputOf, Task
from jcpeer.coordinator.events import CancelRequested, Collect, Collected, CollectFailed
from jcpeer.coordinator.losses import LOST_ATTEMPTS_MAX
from jcpeer.ids import AttemptName, Digest, NodeId, TaskId
from jcpeer.wire.facts import AttemptLost, Cancelled, Failed, Finished, OutputLost
from jcpeer.work import events as work
from tests.coordinator.little_world import ME, LittleWorld, Node

FAULT_EVERY = 12
"""Steps between two faults, on average."""


def tangled(draw: random.Random, *, size: int) -> list[Task]:
    """A graph of any shape: inputs and mere order, results that are kept, needs that exclude some nodes."""
    tasks: list[Task] = []
    for at in range(size):
        inputs, after = [], []
        for parent in draw.sample(tasks, k=min(at, draw.choice([0, 1, 1, 2, 3]))):
            if draw.random() < 0.2:
                after.append(parent.id)
            else:
                inputs.append(Input(str(parent.id), OutputOf(parent.id, draw.choice(parent.outputs))))
        tasks.append(
            Task(
                TaskId(f"t{at}"),
                Command(("true",)),
                tuple(inputs),
                draw.choice([("out",), ("out", "more")]),
                tuple(after),
                Needs(cpus=draw.choice([1, 1, 1, 2]), memory_bytes=draw.choice([0, 0, 2**29])),
                retries=draw.choice([0, 1, 2]),
                keep=draw.random() < 0.15,
            )
        )
    return tasks


def branching(draw: random.Random, *, size: int) -> list[Task]:
    """Mostly isolated tasks: chains that branch, and now and then meet."""
    tasks: list[Task] = []
    for at in range(size):
        parents = draw.sample(tasks, k=min(at, draw.choice([1, 1, 1, 1, 2])))
        inputs = tuple(Input(str(each.id), OutputOf(each.id, "out")) for each in parents if draw.random() < 0.9)
        after = tuple(each.id for each in parents if not any(each.id == item.name for item in inputs))
        tasks.append(Task(TaskId(f"t{at}"), Command(("true",)), inputs, ("out",), after, retries=draw.choice([0, 1])))
    return tasks


class Storm(LittleWorld):
    """A little world with faults; the coordinator's own node keeps what it collected."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        restarts: bool,
        cancels: bool,
        dispatch: Dispatch,
        on_failure: OnFailure = "finish",
    ) -> None:
        self.mine: set[Digest] = set()
        self.names = 0
        self.restarts, self.cancels = restarts, cancels
        super().__init__(tasks, seed=seed, large=bool(seed % 3), dispatch=dispatch, on_failure=on_failure)

    def _collect(self, effect: Collect) -> None:
        holders = [self.nodes[each] for each in effect.holders if each in self.nodes]
        if effect.blob.digest in self.mine or any(effect.blob.digest in each.blobs for each in holders):
            self.mine.add(effect.blob.digest)
            self.post(Collected(effect.blob.digest))
        else:
            self.post(CollectFailed(effect.blob.digest, effect.holders))

    def _finish_fetch(self, node: Node) -> None:
        fetch = next(iter(node.fetching.values()))
        coordinators = {each.blob.digest for each in fetch.inputs if any(one.startswith(ME) for one in each.holders)}
        node.blobs |= coordinators & self.mine
        super()._finish_fetch(node)

    def fault(self) -> None:
        nodes = list(self.nodes)
        one = self.random.choice(nodes)
        match self.random.randrange(11):
            case 0 if len(nodes) > 1:
                self.crash(one)
            case 1:
                for each in self.random.sample(nodes, k=self.random.randint(1, len(nodes))):
                    self.disconnect(each)
            case 2:  # a new process with the same name, and nothing of the old one
                self.crash(one)
                self.join(one)
            case 3 if len(nodes) < 5:
                self.names += 1
                self.join(NodeId(f"late{self.names}"), slots=self.random.choice([2, 4]))
            case 4 if len(nodes) > 1:
                self.leave(one)
            case 5 if self.restarts and self.machine.state.sealed and self.journal[-1].index > 4:
                if not self.uncommitted or self.uncommitted[0] > 4:  # the submission is the client's to repeat
                    self.restart_coordinator()
            case 6 if self.cancels and not self.random.randrange(4):
                self.post(CancelRequested(self.random.choice([None, *self.machine.state.tasks])))
            case 7 if self.nodes[one].blobs:  # its disk was tidied up
                self.nodes[one].blobs.discard(self.random.choice(sorted(self.nodes[one].blobs)))
            case 8 if self.nodes[one].running:
                key = next(iter(self.nodes[one].running))
                del self.nodes[one].running[key]
                self._tell(self.nodes[one], work.Killed(key))
            case 9:
                self.part(one, self.random.choice(nodes))
            case 10 if self.restarts and self.machine.state.sealed:
                if not self.uncommitted or self.uncommitted[0] > 4:
                    known = self.random.choice([True, True, True, False])
                    self.take_over(
                        lost=self.random.choice([0, 0, 1, 5, 100]),
                        underway=self.memory.known() if known else None,
                        dies=one if len(nodes) > 1 and self.random.random() < 0.3 else None,
                    )
            case _:
                pass

    def endure(self, steps: int) -> None:
        """So many steps with faults, then calm to the end."""
        for _ in range(steps):
            self.step()
            if self.over is None and self.random.randrange(FAULT_EVERY) == 0:
                self.fault()
        if self.over is None:
            self.join(NodeId("steady"), slots=4)
        self.run(steps_max=8000)

    def check_journal(self, tasks: Sequence[Task]) -> None:
        """What was recorded is possible, and each attempt counts once."""
        retries = {each.id: each.retries for each in tasks}
        finished: set[TaskId] = set()
        failures: Counter[AttemptName] = Counter()
        losses: Counter[AttemptName] = Counter()
        counted: Counter[TaskId] = Counter()
        cancelled = False
        epochs = [each.epoch for each in self.journal]
        assert epochs == sorted(epochs)
        for entry in self.journal:
            match entry.fact:
                case Finished(_, outcome):
                    assert outcome.task not in finished
                    assert not cancelled
                    finished.add(outcome.task)
                case OutputLost(task, _):
                    assert not cancelled
                    finished.remove(task)
                case Failed(_, outcome, _):
                    failures[outcome.attempt] += 1
                case AttemptLost(_, attempt, _, _, counts):
                    losses[attempt] += 1
                    counted[attempt.task] += counts
                case Cancelled(None):
                    cancelled = True
        assert set((failures + losses).values()) <= {1, 2}  # lost, then back, and failed
        assert set(failures.values()) | set(losses.values()) <= {1}
        for task, count in Counter(each.task for each in failures).items():
            assert count <= retries[task] + 1
        assert max(counted.values(), default=0) <= LOST_ATTEMPTS_MAX


@pytest.mark.parametrize("dispatch", POLICIES["dispatch"])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_goes_wrong_the_application_ends_and_its_journal_makes_sense(seed: int, dispatch: Dispatch) -> None:
    endure(seed, dispatch)


def endure(seed: int, dispatch: Dispatch) -> None:
    draw = random.Random(seed)
    tasks = draw.choice([tangled, branching])(draw, size=draw.choice([3, 8, 20]))
    world = Storm(
        tasks,
        seed=seed,
        restarts=draw.random() < 0.5,
        cancels=draw.random() < 0.3,
        dispatch=dispatch,
        on_failure=draw.choice(["finish", "finish", "stop"]),
    )
    world.refusals = 0.1
    world.failing = {each.id: draw.randint(1, 3) for each in tasks if draw.random() < 0.15}
    world.endure(draw.choice([100, 400, 900]))
    world.check_journal(tasks)
    assert world.told == world.journal[: len(world.told)] or world.restarts
