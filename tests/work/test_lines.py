"""Attempts that are over at once run in lines: many in one slot, one after another."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from jcpeer.application.task import VALUE, Call, Needs
from jcpeer.ids import TaskId
from jcpeer.values import evolve
from jcpeer.wire.messages import AttemptOrder, CancelAttempts, GivenBack, Outcome, Report, Started, Withdraw
from jcpeer.work import events as work
from jcpeer.work.execution import Execution, InLine
from jcpeer.work.executor import ProcessExecutor, open_executor
from jcpeer.work.participant import BRIEF_S, LINE_MAX
from tests.work.orders import PYTHON, call
from tests.work.test_participant import (
    APP,
    COORDINATOR,
    FIRST,
    Driver,
    assigned,
    called,
    key,
    messages,
    name,
    started,
)

# --- the machine


def brief(task: str, **changes: Any) -> AttemptOrder:
    return evolve(AttemptOrder(TaskId(task), 1, Call(PYTHON), needs=Needs(1)), **changes)


def ran(task: str, *, seconds: float = BRIEF_S / 10) -> work.Ran:
    return work.Ran(key(task), Outcome(TaskId(task), FIRST, 1, None, (), (), 0, 0.0, 0.0, seconds))


def lines(effects: list[work.Effect]) -> list[list[str]]:
    """The tasks of each start, in their order."""
    starts = [each for each in effects if isinstance(each, work.Start)]
    return [[each.key.name.task, *(other.key.name.task for other in each.behind)] for each in starts]


def used_to_brief_ones(*, slots: int = 1) -> Driver:
    driver = Driver(slots=slots)
    driver.settle(called(), assigned(brief("first")))
    driver.settle(ran("first"))
    return driver


def test_nothing_is_lined_up_before_it_is_known_that_attempts_are_brief() -> None:
    driver = Driver(slots=1)
    driver(called())
    assert lines(driver.settle(assigned(brief("a"), brief("b")))) == [["a"]]
    assert lines(driver.settle(ran("a", seconds=2 * BRIEF_S))) == [["b"]]


def test_brief_attempts_share_a_slot_and_those_that_other_slots_can_run_are_left_to_them() -> None:
    assert lines(used_to_brief_ones().settle(assigned(*map(brief, "abcd")))) == [["a", "b", "c", "d"]]
    assert lines(used_to_brief_ones(slots=2).settle(assigned(*map(brief, "abcd")))) == [["a", "b"], ["c", "d"]]


def test_a_line_has_an_end() -> None:
    many = [brief(f"t{number}") for number in range(3 * LINE_MAX)]
    (line,) = lines(used_to_brief_ones().settle(assigned(*many)))
    assert len(line) <= LINE_MAX


@pytest.mark.parametrize(
    "change",
    [{"timeout_s": 5.0}, {"once": True}, {"needs": Needs(1, memory_bytes=1000)}],
    ids=["it has a time of its own", "it must not start twice", "it needs something else"],
)
def test_an_attempt_that_is_no_matter_of_a_slot_alone_is_not_lined_up(change: dict[str, Any]) -> None:
    driver = used_to_brief_ones()
    assert lines(driver.settle(assigned(brief("a"), brief("b", **change), brief("c")))) == [["a"]]


def test_the_slot_is_free_when_the_last_of_the_line_has_ended() -> None:
    driver = used_to_brief_ones()
    driver.settle(assigned(*map(brief, "ab")))
    assert driver.machine.slots_used == 1
    driver.settle(ran("a"))
    assert driver.machine.slots_used == 1
    driver.settle(ran("b"))
    assert driver.machine.slots_used == 0


def test_what_was_not_begun_starts_anew_in_its_turn() -> None:
    driver = used_to_brief_ones(slots=2)
    driver.settle(assigned(*map(brief, "abcd")))  # a and b in one slot, c and d in the other
    driver(work.Unstarted(key("b")))
    assert started(driver.settle()) == []
    assert lines(driver.settle(ran("c"), ran("d"))) == [["b"]]
    reports = [each for each in messages(driver.settle(ran("a"), ran("b"))) if isinstance(each, Report)]
    assert {each.task for report in reports for each in report.outcomes} >= {"b"}


def test_what_was_wanted_back_and_was_not_begun_goes_back() -> None:
    driver = used_to_brief_ones()
    driver.settle(assigned(*map(brief, "abc")))
    wanted = work.Ordered(COORDINATOR, Withdraw(APP, FIRST, (name("b"), name("c"))))
    assert messages(driver.settle(wanted)) == [], "they may have begun"
    effects = driver.settle(work.Unstarted(key("c")), ran("b"))
    assert GivenBack(APP, (name("c"),), "withdrawn", unstarted=True) in messages(effects)
    assert started(driver.settle(ran("a"))) == []


def test_only_the_first_of_a_line_is_told_as_started() -> None:
    driver = used_to_brief_ones()
    driver.settle(assigned(*map(brief, "ab")))
    driver.now_s += 1
    assert messages(driver.settle(work.Tick())) == [Started(APP, (name("a"),))]
    driver.settle(ran("a"))
    driver.now_s += 1
    assert Started(APP, (name("b"),)) in messages(driver.settle(work.Tick()))


def test_one_of_a_line_can_be_cancelled_and_the_others_go_on() -> None:
    driver = used_to_brief_ones()
    driver.settle(assigned(*map(brief, "abc")))
    cancel = work.Ordered(COORDINATOR, CancelAttempts(APP, FIRST, (name("b"),)))
    assert driver.settle(cancel) == [work.Kill(key("b"))]
    # Their process is killed with it: nobody knows how far it was.
    effects = driver.settle(ran("a"), work.Unstarted(key("c")), work.Killed(key("b")))
    assert GivenBack(APP, (name("b"),), "cancelled") in messages(effects)
    assert started(effects) == ["c"]


# --- real workers


@define
class Heard:
    """What a line told of itself."""

    executions: list[Execution] = field(factory=list)
    lasted: int = 0

    async def ended(self, execution: Execution) -> None:
        self.executions.append(execution)

    def lasts(self) -> None:
        self.lasted += 1

    @property
    def values(self) -> list[Any]:
        contents = [each.outputs[VALUE] for each in self.executions if each.failure is None]
        return [pickle.loads(each) for each in contents if isinstance(each, bytes)]


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[ProcessExecutor]:
    async with open_executor(slots=1, runtime_dir=tmp_path / "runtime") as opened:
        assert isinstance(opened, ProcessExecutor)
        yield opened


def line_of(directory: Path, *calls: tuple[Any, ...]) -> list[InLine]:
    return [InLine(*call(*each), directory / str(number)) for number, each in enumerate(calls)]


def add(one: int, other: int) -> int:
    return one + other


def multiply(one: int, other: int) -> int:
    return one * other


@pytest.mark.real
async def test_a_line_of_calls_is_called_in_order_by_one_process(executor: ProcessExecutor, tmp_path: Path) -> None:
    def process(number: int) -> tuple[int, int]:
        return number, os.getpid()

    heard = Heard()
    await executor.run_line(line_of(tmp_path, *((process, each) for each in range(50))), heard.ended, heard.lasts)
    assert [number for number, _ in heard.values] == list(range(50))
    assert len({pid for _, pid in heard.values}) == 1
    assert not any(each.left_files for each in heard.executions)


@pytest.mark.real
async def test_each_call_of_a_line_has_its_own_failure_output_and_files(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    def fails() -> None:
        raise ValueError("no")

    def prints() -> None:
        print("something")

    def leaves() -> None:
        Path("left").write_text("here")

    heard = Heard()
    await executor.run_line(
        line_of(tmp_path, (add, 1, 2), (fails,), (prints,), (leaves,), (add, 3, 4)), heard.ended, heard.lasts
    )
    first, failed, printed, left, last = heard.executions
    assert failed.failure is not None
    assert "ValueError: no" in failed.failure.text
    assert [each.stdout for each in (first, printed, last)] == [b"", b"something\n", b""]
    assert (left.left_files, (tmp_path / "3" / "work" / "left").read_text()) == (True, "here")
    assert heard.values == [3, None, None, 7]


@pytest.mark.real
async def test_those_behind_a_call_that_lasts_are_free_at_once_and_the_worker_serves_on(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def waits(path: str) -> str:
        while not os.path.exists(path):
            time.sleep(0.01)
        return "it lasted"

    heard, free = Heard(), trio.Event()

    def lasts() -> None:
        heard.lasts()
        free.set()

    async with trio.open_nursery() as nursery:
        line = line_of(tmp_path, (add, 1, 1), (waits, str(gate)), (multiply, 2, 2), (add, 3, 3))
        nursery.start_soon(executor.run_line, line, heard.ended, lasts)
        with trio.fail_after(20):
            await free.wait()
        assert heard.values == [2]
        gate.touch()
    assert (heard.values, heard.lasted) == ([2, "it lasted"], 1)
    again = Heard()
    await executor.run_line(line_of(tmp_path, (multiply, 2, 2), (multiply, 3, 3)), again.ended, again.lasts)
    assert again.values == [4, 9], "what was taken back says nothing any more, but that function came with it"


@pytest.mark.real
async def test_a_call_that_ends_the_process_is_the_last_of_its_line(executor: ProcessExecutor, tmp_path: Path) -> None:
    heard = Heard()
    await executor.run_line(line_of(tmp_path, (add, 1, 1), (os._exit, 3), (add, 2, 2)), heard.ended, heard.lasts)
    first, ended = heard.executions
    assert first.failure is None
    assert ended.failure is not None
    assert "exit status 3" in ended.failure.text


@pytest.mark.real
async def test_a_line_that_is_cancelled_leaves_nothing_running(executor: ProcessExecutor, tmp_path: Path) -> None:
    heard = Heard()
    with trio.move_on_after(1) as scope:
        await executor.run_line(line_of(tmp_path, (time.sleep, 1000), (add, 1, 1)), heard.ended, heard.lasts)
    assert scope.cancelled_caught
    assert heard.executions == []
    await executor.run_line(line_of(tmp_path, (add, 1, 1)), heard.ended, heard.lasts)
    assert heard.values == [2]
