"""What people are shown of an application: read from its coordinator machine, never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.matching import explain
from jcpeer.coordinator.task_record import PastAttempt, TaskRecord
from jcpeer.ids import NodeId, TaskId
from jcpeer.node.hosting import ApplicationHost
from jcpeer.node.safety import Safety, alone
from jcpeer.wire.messages import Outcome, Output
from jcpeer.wire.requests import (
    ApplicationStateName,
    ApplicationSummary,
    AttemptView,
    NodeName,
    Progress,
    Reasons,
    ReconciledView,
    ReplicaView,
    Share,
    Status,
    TaskDetail,
    TaskResult,
    TaskStateName,
)

REASONS_MAX = 12
LAST_WORDS = 5
"""Lines of what a failed program printed to stderr that its story repeats."""


class Views:
    """Of one application, with the names of nodes filled in."""

    def __init__(
        self,
        host: ApplicationHost,
        *,
        me: NodeId,
        name_of: Callable[[NodeId], str],
        now_s: float,
        safety: Safety | None = None,
    ) -> None:
        """`safety`: how its copies stand, where there may be others than ours."""
        self._host = host
        self._machine = host.machine
        self._state = host.machine.state
        self._me = me
        self._name_of = name_of
        self._now_s = now_s
        self._safety = safety or alone(me)

    def _named(self, node: NodeId) -> NodeName:
        return NodeName(node, self._name_of(node))

    # --- the application

    @property
    def _coordinator(self) -> NodeName:
        return self._named(next((each.node for each in self._safety.seats if each.state == "coordinator"), self._me))

    @property
    def _missing(self) -> tuple[NodeName, ...]:
        return tuple(self._named(each) for each in self._safety.missing) if self.state_name() == "stalled" else ()

    def state_name(self) -> ApplicationStateName:
        match self._host.ended:
            case "ok" | "failed" | "cancelled" as status:
                return status
            case _:
                if self._host.fault is not None or self._safety.stalled:
                    return "stalled"
                return "running" if self._state.sealed else "open"

    def summary(self) -> ApplicationSummary:
        state = self._state
        return ApplicationSummary(
            app=state.app,
            name=state.header.name,
            user=state.header.user,
            state=self.state_name(),
            submitted_s=state.header.submitted_s,
            tasks=self._machine.counts(),
            coordinator=self._coordinator,
            missing=self._missing,
        )

    def status(self, *, clock_s: float) -> Status:
        state = self._state
        until_s = state.ended_at_s if state.ended else clock_s
        return Status(
            summary=self.summary(),
            epoch=self._machine.epoch.counter,
            coordinator=self._coordinator,
            replicas=tuple(
                ReplicaView(self._named(each.node), each.state, each.missing_s) for each in self._safety.seats
            ),
            participants=tuple(self._named(each) for each in self._machine.roster.participants),
            attempts=state.attempts,
            takeovers=state.takeovers,
            seconds=max(0.0, until_s - state.header.submitted_s),
            sealed=state.sealed,
            shares=tuple(
                Share(self._named(node), each.finished, each.failed, each.lost, each.busy_s)
                for node, each in state.shares.items()
            ),
            failures=tuple(self._story_line(task, attempt) for task, attempt in state.troubles)
            + ((self._host.fault,) if self._host.fault else ()),
            placement=state.header.placement,
            dispatch=state.header.dispatch,
            labels=state.header.labels,
            replica_set=tuple(self._named(each) for each in state.replica_set.nodes),
            ftc=None if self._safety.ftc is None else self._named(self._safety.ftc),
            promise=self._safety.promise(wanted=state.header.replicas, name_of=self._name_of),
            reconciled=tuple(
                ReconciledView(self._named(each.node), each.twice, each.changed) for each in self._safety.reconciled
            ),
            index=self._host.told_index,
            index_epoch=self._host.told_epoch,
        )

    def progress(self) -> Progress:
        counts = self._machine.counts()
        rate = self._host.rate()
        left = self._state.counts["pending"]
        return Progress(
            tasks=counts,
            running={self._name_of(node): count for node, count in self._machine.running_by_node().items()},
            rate=rate,
            left_s=left / rate if rate and left else None,
            missing=self._missing,
            copies=tuple(self._named(each.node) for each in self._safety.seats if each.state == "copy"),
        )

    def results(self, task: TaskId | None) -> Iterator[TaskResult]:
        """One after another, since there may be a million; of the tasks that there were at the first."""
        records = [self._state.tasks[task]] if task is not None else list(self._state.final_tasks())
        return (TaskResult(each.spec.id, each.outputs) for each in records if each.has_result)

    def _story_line(self, task: TaskId, attempt: PastAttempt) -> str:
        """One line a person understands; then, indented, what the attempt said last."""
        outcome = attempt.outcome
        line = f"{task}: attempt {attempt.number} on {self._name_of(attempt.node)}"
        if outcome is None:
            return f"{line} was lost: {attempt.reason}"
        if outcome.failure is None:
            again = "" if self._state.tasks[task].spec.once else "; it runs again"
            return f"{line} finished, but its output is lost ({attempt.reason}){again}"
        return failure_story(f"{line} failed after {_seconds(outcome.ran_s)}", attempt.reason, outcome)

    # --- one task

    def task_state(self, task: TaskId) -> TaskStateName:
        record = self._state.tasks[task]
        if record.standing != "pending":
            return record.standing
        under_way = self._machine.under_way(task)
        if any(state == "running" for _, state in under_way.values()):
            return "running"
        if under_way:
            return "assigned"
        return "ready" if record.missing == 0 else "waiting"

    def detail(self, task: TaskId) -> TaskDetail:
        record = self._state.tasks[task]
        outputs = record.outputs
        return TaskDetail(
            app=self._state.app,
            task=task,
            state=self.task_state(task),
            attempts=tuple(self._attempts(task, record)),
            outputs=outputs,
            holders={each.blob.digest: self._holders(each) for each in outputs},
        )

    def _holders(self, output: Output) -> tuple[NodeName, ...]:
        if output.carried:
            return (self._coordinator,)  # whose journal has it
        return tuple(self._named(node) for node in sorted(self._machine.holders(output.blob.digest)))

    def attempt_numbers(self, task: TaskId) -> list[int]:
        return [each.number for each in self._attempts(task, self._state.tasks[task])]

    def _attempts(self, task: TaskId, record: TaskRecord) -> Iterator[AttemptView]:
        for past in record.past:
            if past.outcome is None:
                yield AttemptView(past.number, past.epoch, self._named(past.node), "lost", text=past.reason)
            else:
                state = "failed" if past.outcome.failure else "finished, output lost"
                yield self._ended_attempt(past.node, past.outcome, state, past.reason)
        if (result := record.result) is not None:
            yield self._ended_attempt(result.node, result.outcome, "finished", "")
        for name, (node, state) in self._machine.under_way(task).items():
            yield AttemptView(name.number, name.epoch, self._named(node), state)

    def _ended_attempt(self, node: NodeId, outcome: Outcome, state: str, text: str) -> AttemptView:
        return AttemptView(
            outcome.number,
            outcome.epoch.counter,
            self._named(node),
            state,
            started_s=outcome.started_s,
            waited_s=outcome.waited_s,
            ran_s=outcome.ran_s,
            exit_status=outcome.exit_status,
            text=text,
            stdout_tail=outcome.stdout_tail,
            stderr_tail=outcome.stderr_tail,
        )

    def ended_attempt(self, task: TaskId, number: int | None) -> tuple[NodeId, Outcome] | None:
        """The ended attempt with this number, or the latest that has an outcome."""
        record = self._state.tasks[task]
        ended = [(each.node, each.outcome) for each in record.past if each.outcome is not None]
        if (result := record.result) is not None:
            ended.append((result.node, result.outcome))
        return next((each for each in reversed(ended) if number in (None, each[1].number)), None)

    # --- what a task waits for

    def why(self, task: TaskId) -> Reasons:
        state = self.task_state(task)
        return Reasons(state, tuple(islice(self._reasons(task, state), REASONS_MAX)))

    def _reasons(self, task: TaskId, state: TaskStateName) -> Iterator[str]:
        record = self._state.tasks[task]
        match state:
            case "waiting":
                yield from self._missing_parents(record)
            case "ready":
                yield from self._why_not_placed(record)
            case "assigned":
                for name, (node, _) in self._machine.under_way(task).items():
                    if self._machine.start_held(name):
                        what = "that it starts is not on enough copies of the journal yet, and it is marked once"
                        yield f"attempt {name.number} is to go to {self._name_of(node)}; {what}"
                        continue
                    yield f"attempt {name.number} waits on {self._name_of(node)} for a free slot, or for its inputs"
            case "running":
                for name, (node, _) in self._machine.under_way(task).items():
                    yield f"attempt {name.number} runs on {self._name_of(node)}"
            case "finished":
                if (result := record.result) is not None:
                    outcome = result.outcome
                    on = self._name_of(result.node)
                    yield f"attempt {outcome.number} on {on} did it, in {_seconds(outcome.ran_s)}"
            case "skipped":
                yield from (
                    f"it never runs: {parent} {self._state.tasks[parent].standing}"
                    for parent in record.spec.parents()
                    if self._state.tasks[parent].standing not in ("pending", "finished")
                )
            case "failed" | "cancelled":
                yield f"it never runs again: it {'was ' if state == 'cancelled' else ''}{state}"
        for past in record.past[-3:]:
            yield self._story_line(task, past)

    def _missing_parents(self, record: TaskRecord) -> Iterator[str]:
        for each in record.spec.inputs:
            if isinstance(each.source, BlobRef):
                continue
            parent = each.source.task
            if self._state.tasks[parent].standing != "finished":
                what = f"input {each.name}" if not each.name.startswith("@") else "the result"
                yield f"{what} of task {parent}, which is {self.task_state(parent)}"
        for parent in record.spec.after:
            if self._state.tasks[parent].standing != "finished":
                yield f"task {parent} to finish first; it is {self.task_state(parent)}"

    def _why_not_placed(self, record: TaskRecord) -> Iterator[str]:
        if not self._state.whole:
            yield "the application is not accepted yet: the rest of it is still to come"
            return
        if self._machine.input_on_its_way(record.spec.id):
            yield "an input is being brought to the coordinator, since who was given the task could not reach it"
            return
        if (node := self._machine.awaited_at(record.spec.id)) is not None:
            yield f"{self._name_of(node)} is to say what became of it; it is marked once, so nobody else is given it"
            return
        yield from explain(record.spec, list(self._machine.roster.prospects(now_s=self._now_s)))


def failure_story(head: str, reason: str, outcome: Outcome) -> str:
    """One line a person understands, with the remedy; then, indented, the traceback or what the attempt said last."""
    told = reason.strip().splitlines() or [""]
    raised = told[0].startswith("Traceback (")
    line, rest = (told[-1], told) if raised else (told[0], told[1:])
    if outcome.failure is not None and outcome.failure.remedy:
        line += f"; {outcome.failure.remedy}"
    said = rest or outcome.stderr_tail.strip().splitlines()[-LAST_WORDS:]
    return "\n".join([f"{head}: {line}", *(f"    {each}" for each in said)])


def _seconds(ran_s: float) -> str:
    return f"{ran_s:.2f} s" if ran_s < 0.995 else f"{ran_s:.1f} s"
