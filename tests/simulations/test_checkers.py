"""Each checker objects to the world that breaks its rule, and to no sound one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from jcpeer.ids import AppId
from jcpeer.net.memory import MemoryWorld
from jcpeer.values import evolve
from jcpeer.wire.facts import Ended, Entry, Finished, OutputLost, TookOver
from simulations.checkers import (
    application_problems,
    directory_problems,
    journal_problems,
    machine_problems,
    rest_problems,
)
from simulations.grid import SimulatedGrid, open_grid
from simulations.virtual_time import run_seeded
from simulations.workloads import bag, layered

Entries = list[Entry]


@asynccontextmanager
async def three_nodes() -> AsyncIterator[SimulatedGrid]:
    async with open_grid(MemoryWorld(seed=1)) as grid:
        for name in ("a", "b", "c"):
            await grid.start(name)
        await trio.sleep(2)
        yield grid


def in_three_nodes(check: Callable[[SimulatedGrid], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with three_nodes() as grid:
            await check(grid)

    run_seeded(whole, seed=1)


@pytest.fixture(scope="module")
def sound_journal() -> Entries:
    async def whole() -> Entries:
        async with three_nodes() as grid:
            session = grid.nodes["a"].client.session
            app = (await session.submit(layered(1, layers=3, width=3), grid.header("small"))).app
            await session.wait(app)
            assert application_problems(grid, [app]) == []
            return list(grid.nodes["a"].disk.read(app, after_index=0))

    return run_seeded(whole, seed=1)


def renumbered(entries: Entries) -> Entries:
    return [evolve(entry, index=index) for index, entry in enumerate(entries, 1)]


def finish_of(entries: Entries, task: str) -> int:
    """Where this task finished."""
    (at,) = (
        at for at, each in enumerate(entries) if isinstance(each.fact, Finished) and each.fact.outcome.task == task
    )
    return at


def with_outcome(entry: Entry, **changes: Any) -> Entry:
    assert isinstance(entry.fact, Finished)
    return evolve(entry, fact=evolve(entry.fact, outcome=evolve(entry.fact.outcome, **changes)))


def test_a_sound_journal_has_no_problems(sound_journal: Entries) -> None:
    assert journal_problems(sound_journal) == []


def test_a_task_that_finished_twice_is_a_problem_unless_its_output_was_lost(sound_journal: Entries) -> None:
    at = finish_of(sound_journal, "t2.0")
    first, rest = sound_journal[: at + 1], sound_journal[at + 1 :]
    assert journal_problems(renumbered([*first, first[-1], *rest])) == ["task t2.0 finished twice"]
    lost = evolve(first[-1], fact=OutputLost(first[-1].fact.outcome.task, "gone"))  # type: ignore[union-attr]
    assert journal_problems(renumbered([*first, lost, first[-1], *rest])) == []
    assert journal_problems(renumbered([*first, lost, lost, first[-1], *rest])) == [
        "task t2.0 lost an output that it had not made"
    ]


def test_a_finish_before_that_of_a_parent_is_a_problem(sound_journal: Entries) -> None:
    entries = list(sound_journal)
    child = entries.pop(finish_of(entries, "t2.0"))
    entries.insert(finish_of(entries, "t0.0"), child)
    assert journal_problems(renumbered(entries)) == ["task t2.0 finished before its parents"]


def test_other_inputs_and_other_outputs_are_problems(sound_journal: Entries) -> None:
    at = finish_of(sound_journal, "t1.1")
    other, entries = sound_journal[finish_of(sound_journal, "t0.0")], list(sound_journal)
    entries[at] = with_outcome(entries[at], consumed=())
    assert journal_problems(entries) == ["task t1.1 read other inputs than its parents left"]
    assert isinstance(other.fact, Finished)
    entries[at] = with_outcome(sound_journal[at], outputs=other.fact.outcome.outputs)
    assert journal_problems(entries) == ["output out of task t1.1 is not what it leaves"]


def test_a_gap_an_entry_after_the_end_and_an_end_too_early_are_problems(sound_journal: Entries) -> None:
    *before, end = sound_journal
    assert isinstance(end.fact, Ended)
    assert journal_problems([*before[:3], *before[4:], end]) == ["entry 5 follows entry 3"]
    assert "comes after the end" in journal_problems(renumbered([*sound_journal, end]))[0]
    early = renumbered([*before[:-1], end])
    assert journal_problems(early) == ["it ended ok with 8 of 9 tasks finished"]


def test_an_epoch_that_does_not_rise_is_a_problem(sound_journal: Entries) -> None:
    entries = list(sound_journal)
    epoch = entries[2].epoch
    entries[2] = evolve(entries[2], epoch=evolve(epoch, counter=7))
    assert journal_problems(entries) == ["entry 3 is not of the epoch that reigns"]
    entries[2:2] = [evolve(entries[1], fact=TookOver(epoch))]
    assert journal_problems(renumbered(entries))[0] == "entry 3 is not of the epoch that reigns"


def test_an_application_that_did_not_end_or_ended_otherwise_is_a_problem() -> None:
    async def check(grid: SimulatedGrid) -> None:
        session = grid.nodes["a"].client.session
        app = (await session.submit(bag("long", [60.0] * 3), grid.header("long"))).app
        assert application_problems(grid, [app]) == [f"application {app[:12]} was accepted and has not ended"]
        assert application_problems(grid, [AppId("f" * 40)]) == [
            "application ffffffffffff was accepted and has not ended"
        ]
        await session.cancel(app)
        await session.wait(app)
        await trio.sleep(1)  # its journal is written
        assert application_problems(grid, [app]) == [f"application {app[:12]} ended cancelled, not ok"]

    in_three_nodes(check)


def test_attempts_that_are_left_are_a_problem() -> None:
    async def check(grid: SimulatedGrid) -> None:
        assert rest_problems(grid) == []
        session = grid.nodes["a"].client.session
        await session.submit(bag("long", [60.0] * 6), grid.header("long"))
        await trio.sleep(1)
        assert rest_problems(grid) == ["a still has attempts", "b still has attempts", "c still has attempts"]

    in_three_nodes(check)


def test_who_is_missed_or_seen_though_gone_is_a_problem() -> None:
    async def check(grid: SimulatedGrid) -> None:
        assert directory_problems(grid) == []
        await grid.start("late")
        assert "late does not see a, b, c" in directory_problems(grid)
        await trio.sleep(2)
        assert directory_problems(grid) == []
        grid.crash("b", machine=True)
        assert len(directory_problems(grid)) == 3
        await trio.sleep(10)
        assert directory_problems(grid) == []

    in_three_nodes(check)


def test_an_unsound_machine_is_a_problem() -> None:
    async def check(grid: SimulatedGrid) -> None:
        assert machine_problems(grid) == []
        grid.nodes["b"].running.participation.machine._room.slots_used = 99
        assert [each.split(" is unsound")[0] for each in machine_problems(grid)] == ["b: its participant"]

    in_three_nodes(check)
