"""What must hold in a simulated grid, whatever happened: each checker returns a line for each thing that does not.

They look at what is durable (the journals on the disks) and at the machines themselves, never at what a node says of
itself to clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import trio

from jcpeer.application.task import Timed
from jcpeer.coordinator.state import ApplicationState
from jcpeer.ids import AppId, Epoch, digest_of
from jcpeer.node.core import Node
from jcpeer.wire.facts import Ended, Entry, Finished, OutputLost, ReplicasChanged, TookOver
from jcpeer.work.files import filler
from simulations.grid import SimulatedGrid

Problems = list[str]


def machine_problems(grid: SimulatedGrid) -> Problems:
    """The invariants of every machine of every running node."""
    problems = []
    for simulated in grid.running:
        for name, check in _machines(simulated.running):
            try:
                check()
            except AssertionError as error:
                problems.append(f"{simulated.name}: {name} is unsound: {error or 'an invariant is broken'}")
        for copy in simulated.running.copies:
            if copy.fault is not None:
                problems.append(f"{simulated.name}: the copy of {copy.header.name} stalls: {copy.fault}")
    return problems


def _machines(node: Node) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "its directory", node.directory.check
    yield "its participant", node.participation.machine.check
    for host in node.applications:
        yield f"the coordinator of {host.machine.state.header.name}", host.machine.check
    for copy in node.copies:
        yield f"the copy of {copy.header.name}", copy.machine.check


def application_problems(
    grid: SimulatedGrid, accepted: Iterable[AppId], *, statuses: Sequence[str] = ("ok",)
) -> Problems:
    """Every accepted application has ended in one of these ways, on a disk that is left, and each journal of it is
    sound."""
    problems = []
    for app in accepted:
        journals = list(_journals(grid, app))
        ends = [
            fact.status
            for _, entries in journals
            for fact in (each.fact for each in entries)
            if isinstance(fact, Ended)
        ]
        if not ends:
            problems.append(f"application {app[:12]} was accepted and has not ended")
        elif not set(ends) <= set(statuses):
            problems.append(f"application {app[:12]} ended {', '.join(sorted(set(ends)))}, not {' or '.join(statuses)}")
        for name, entries in journals:
            problems += [f"journal of {app[:12]} on {name}: {each}" for each in journal_problems(entries)]
    return problems


def _journals(grid: SimulatedGrid, app: AppId) -> Iterator[tuple[str, list[Entry]]]:
    for name, simulated in grid.nodes.items():
        if entries := list(simulated.disk.read(app, after_index=0)):
            yield name, entries


def journal_problems(entries: Iterable[Entry], *, repeatable: bool = True) -> Problems:
    """Each task is finished once (again only after its output was lost), after its parents, from their outputs; timed
    work left what it leaves; indices follow each other; each epoch
    is higher than the one before; the end is the end. `repeatable`: timed work leaves the same each time."""
    problems: Problems = []
    state = ApplicationState()
    for entry in entries:
        fact = entry.fact
        if state.last_index and entry.index != state.last_index + 1:
            return [*problems, f"entry {entry.index} follows entry {state.last_index}"]
        if state.epoch is not None and not _reigns(entry, state.epoch):
            problems.append(f"entry {entry.index} is not of the epoch that reigns")
        if state.ended is not None and not isinstance(fact, TookOver | ReplicasChanged):  # who commits the end
            problems.append(f"entry {entry.index} comes after the end")
        if isinstance(fact, Finished):
            problems += _finish_problems(state, fact, repeatable=repeatable)
            if problems:
                return problems  # what follows from a wrong finish is no news
        elif isinstance(fact, OutputLost) and state.tasks[fact.task].standing != "finished":
            return [*problems, f"task {fact.task} lost an output that it had not made"]
        state.apply(entry)
    try:
        state.check()
    except AssertionError as error:
        problems.append(f"its state is unsound: {error}")
    if state.ended == "ok" and state.counts["finished"] != len(state.tasks):
        problems.append(f"it ended ok with {state.counts['finished']} of {len(state.tasks)} tasks finished")
    return problems


def _reigns(entry: Entry, epoch: Epoch) -> bool:
    if not isinstance(entry.fact, TookOver):
        return entry.epoch == epoch
    # Whoever takes over an application of which nothing was kept anywhere begins with its submission.
    return entry.fact.epoch > epoch or (entry.index == 2 and entry.fact.epoch == entry.epoch == epoch)


def _finish_problems(state: ApplicationState, fact: Finished, *, repeatable: bool) -> Iterator[str]:
    outcome = fact.outcome
    record = state.tasks.get(outcome.task)
    if record is None:
        yield f"task {outcome.task} finished, and is unknown"
        return
    if record.standing == "finished":
        yield f"task {outcome.task} finished twice"
    elif record.missing:
        yield f"task {outcome.task} finished before its parents"
    elif state.consumed(outcome.task) != outcome.consumed:
        yield f"task {outcome.task} read other inputs than its parents left"
    work = record.spec.work
    if isinstance(work, Timed) and repeatable:
        for output in outcome.outputs:
            expected = filler(outcome.task, output.name, work.output_bytes.get(output.name, 0))
            if output.blob.digest != digest_of(expected):
                yield f"output {output.name} of task {outcome.task} is not what it leaves"


def rest_problems(grid: SimulatedGrid) -> Problems:
    """Once every application has ended and the word of it has gone round, nothing runs or waits anywhere."""
    return [
        f"{simulated.name} still has attempts"
        for simulated in grid.running
        if simulated.running.participation.machine.engaged or simulated.running.participation.machine.slots_used
    ]


def directory_problems(grid: SimulatedGrid) -> Problems:
    """After quiet, everybody sees everybody who runs, and nobody else."""
    living = {each.id: each.name for each in grid.running}
    problems = []
    for simulated in grid.running:
        seen = {each.record.node for each in simulated.running.directory.view(trio.current_time())}
        if missed := [name for node, name in living.items() if node not in seen]:
            problems.append(f"{simulated.name} does not see {_some(missed)}")
        if ghosts := sorted(seen - living.keys()):
            problems.append(f"{simulated.name} sees {_some(ghosts)}, gone")
    return problems


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
