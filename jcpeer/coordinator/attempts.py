"""Which attempts of one application are under way where, and which tasks wait for one.

Soft knowledge, learnt again after a takeover. Invariants (`check`): an attempt is under way at exactly the participant
that was given it; a runnable task is under way, ready or held back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jcpeer.coordinator.ready import ReadyQueues
from jcpeer.coordinator.room import Assigned, Participant
from jcpeer.coordinator.roster import Roster, mean_run_s
from jcpeer.coordinator.state import ApplicationState
from jcpeer.coordinator.task_record import TaskRecord
from jcpeer.coordinator.underway import UnderwayNews
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.wire.replication import UnderwayAttempt

NOBODY: frozenset[NodeId] = frozenset()
NUMBER_MAX = 2**31
"""Of an attempt, as a participant has it."""


class Attempts:
    """Everything under way, and everything ready."""

    def __init__(self, state: ApplicationState, roster: Roster) -> None:
        self.ready = ReadyQueues(self.is_ready)
        self.mean_run_s: float | None = None
        """How long the attempts ran of late."""
        self.news = UnderwayNews()
        self._state = state
        self._roster = roster
        self._under_way: dict[TaskId, dict[AttemptName, NodeId]] = {}
        self._numbers: dict[TaskId, int] = {}
        """The highest number of each task, where the journal does not know it."""
        self._closed: set[AttemptName] = set()
        self._shunned: dict[TaskId, set[NodeId]] = {}
        """Nodes that gave a task back of their own will: not asked again while another can run it."""
        self._held_back: dict[TaskId, int] = {}
        """Tasks that are given to nobody for now, with the number of reasons."""
        self.stranded: dict[TaskId, None] = {}
        """Tasks that have started, must not start again, and are under way no more."""

    def __len__(self) -> int:
        """How many tasks are under way."""
        return len(self._under_way)

    def of(self, task: TaskId) -> dict[AttemptName, NodeId]:
        """The attempts of this task that are under way; not to be changed."""
        return self._under_way.get(task, {})

    def tasks(self) -> list[TaskId]:
        """Those under way."""
        return list(self._under_way)

    def node_of(self, name: AttemptName) -> NodeId | None:
        return self.of(name.task).get(name)

    # --- ready

    def is_ready(self, task: TaskId) -> bool:
        return self._state.tasks[task].runnable and task not in self._under_way and task not in self._held_back

    def make_ready(self, task: TaskId, *, first: bool = False) -> None:
        self.ready.add(self._state.tasks[task].spec, avoid=self.to_avoid(task), first=first)

    def requeue(self, task: TaskId) -> None:
        """No attempt of this task is under way any more, perhaps."""
        if self.is_ready(task):
            self.make_ready(task, first=True)
        elif self.is_stranded(task):
            self.stranded[task] = None

    def look_over(self, record: TaskRecord) -> None:
        """What the journal says of this task, after those that came before it."""
        task = record.spec.id
        if self.is_ready(task):
            self.make_ready(task)
        elif self.is_stranded(task):
            self.stranded[task] = None

    def is_stranded(self, task: TaskId) -> bool:
        record = self._state.tasks[task]
        return record.started is not None and record.standing == "pending" and task not in self._under_way

    def hold_back(self, task: TaskId) -> None:
        """Give this task to nobody until it is let go as often."""
        self._held_back[task] = self._held_back.get(task, 0) + 1

    def let_go(self, task: TaskId) -> None:
        self._held_back[task] -= 1
        if not self._held_back[task]:
            del self._held_back[task]
            self.requeue(task)

    def held_back(self, task: TaskId) -> bool:
        return task in self._held_back

    def all(self) -> Iterator[UnderwayAttempt]:
        """Everything under way, and where; what has ended without that being committed included."""
        for participant in self._roster.participants.values():
            for name in participant.assigned:
                yield UnderwayAttempt(name, participant.record.node, participant.slots)
        yield from self.news.ending()

    def shun(self, task: TaskId, node: NodeId) -> None:
        self._shunned.setdefault(task, set()).add(node)

    def to_avoid(self, task: TaskId) -> frozenset[NodeId]:
        """Who is given this task only if no other can run it."""
        past = self._state.tasks[task].past
        if not past and task not in self._shunned:
            return NOBODY
        failed = (each.node for each in past)
        return frozenset((*failed, *self._shunned.get(task, ())))

    # --- under way

    def next_name(self, task: TaskId, epoch: Epoch) -> AttemptName:
        """A name that no attempt of this task has had in this epoch."""
        number = self._numbers[task] = self._highest(task) + 1
        return AttemptName(task, epoch.counter, number)

    def _highest(self, task: TaskId) -> int:
        return max(self._numbers.get(task, 0), self._state.tasks[task].last_number)

    def may_exist(self, name: AttemptName, epoch: Epoch) -> bool:
        """Whether an attempt can have this name: in this epoch those that were given one, in others any within reason,
        since further numbers follow on it."""
        highest = self._highest(name.task) if name.epoch == epoch.counter else NUMBER_MAX
        return 0 < name.number <= highest

    def note_number(self, task: TaskId, number: int) -> None:
        """Attempts up to this number are known of."""
        if number > self._highest(task):
            self._numbers[task] = number

    def recorded(self, record: TaskRecord) -> None:
        """What came of an attempt of this task is in the journal."""
        if self._numbers.get(record.spec.id, 0) <= record.last_number:
            self._numbers.pop(record.spec.id, None)

    def give(self, participant: Participant, attempt: Assigned) -> None:
        self._roster.give(participant, attempt)
        self.news.given(UnderwayAttempt(attempt.name, participant.record.node, participant.slots))
        self._under_way.setdefault(attempt.name.task, {})[attempt.name] = participant.record.node

    def forget(self, name: AttemptName) -> Assigned | None:
        """The attempt is no longer under way; returns it as it was."""
        attempts = self._under_way.get(name.task)
        node = attempts.pop(name, None) if attempts else None
        if attempts is not None and not attempts:
            del self._under_way[name.task]
        participant = self._roster.participants.get(node) if node else None
        if node is not None:
            self.news.ended(UnderwayAttempt(name, node, participant.slots if participant else 0))
        return self._roster.take_back(participant, name) if participant else None

    def free(self, name: AttemptName) -> None:
        """The attempt ended without telling anything of its task."""
        self.forget(name)
        self.close(name)
        self.requeue(name.task)

    def close(self, name: AttemptName) -> None:
        """The attempt came to nothing: who says that it is in somebody's hands has not heard of that."""
        self._closed.add(name)

    def is_closed(self, name: AttemptName) -> bool:
        return name in self._closed or bool(self._state.tasks[name.task].past_of(name))

    def ran(self, seconds: float) -> None:
        """An attempt has run for so long."""
        self.mean_run_s = mean_run_s(self.mean_run_s, seconds)

    def check(self, holds: Callable[[TaskId], bool]) -> None:
        """Assert what holds after each event; for tests and simulations, since it looks at everything. `holds`: the
        ready task waits elsewhere."""
        given = {name: node for node, each in self._roster.participants.items() for name in each.assigned}
        assert given == {name: node for attempts in self._under_way.values() for name, node in attempts.items()}
        for participant in self._roster.participants.values():
            assert participant.slots_given == sum(each.slots for each in participant.assigned.values())
        for task, record in self._state.tasks.items():
            if record.runnable and self._state.ended is None:
                assert task in self._under_way or self.ready.holds(task) or task in self._held_back or holds(task)
