"""A grid executor behaves as the standard library's: the same calls on both, with the same outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest

from jcpeer.client.blocking import SocketLink, run_blocking
from jcpeer.client.executor import GridExecutor
from jcpeer.client.session import Session
from jcpeer.client.story import RemoteError
from tests.client.fake_service import FakeNode, serving

WORKERS = 2
STARTED = threading.Semaphore(0)
RELEASE = threading.Event()


class OwnError(Exception):
    pass


def hold(value: int = 0) -> int:
    """Says that it runs, and runs until released; both sides of the fake are in one process."""
    STARTED.release()
    assert RELEASE.wait(10)
    return value


def raise_own() -> None:
    raise OwnError("told so")


def square(value: int) -> int:
    return value * value


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    global STARTED
    STARTED = threading.Semaphore(0)
    RELEASE.clear()
    yield
    RELEASE.set()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with serving(tmp_path / "node", slots=WORKERS) as node:
        yield node


@pytest.fixture
def grid_executor(node: FakeNode, tmp_path: Path) -> Iterator[GridExecutor]:
    link = SocketLink(tmp_path / "node", patience_s=0.2)
    executor = GridExecutor(Session(link))
    try:
        yield executor
    finally:
        RELEASE.set()
        executor.shutdown()
        link.close()


@pytest.fixture(params=["threads", "grid"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "grid":
        yield request.getfixturevalue("grid_executor")
    else:
        with ThreadPoolExecutor(WORKERS) as pool:
            yield pool
            RELEASE.set()


def busy(executor: Executor) -> list[Future[int]]:
    """Calls that occupy every worker, running."""
    futures = [executor.submit(hold, number) for number in range(WORKERS)]
    for _ in futures:
        assert STARTED.acquire(timeout=10)
    return futures


# --- the same on both


def test_submit_passes_arguments_and_gives_the_result(executor: Executor) -> None:
    future = executor.submit(divmod, 17, 5)
    assert future.result(timeout=10) == (3, 2)
    assert (future.done(), future.running(), future.cancelled(), future.exception()) == (True, False, False, None)
    assert executor.submit(dict, a=1).result(timeout=10) == {"a": 1}


def test_the_exception_of_a_call_is_raised_again(executor: Executor) -> None:
    future = executor.submit(raise_own)
    assert isinstance(future.exception(timeout=10), OwnError)
    with pytest.raises(OwnError, match="told so"):
        future.result()


def test_map_keeps_the_order_and_stops_at_the_shortest(executor: Executor) -> None:
    assert list(executor.map(pow, range(50), [2] * 40)) == [each**2 for each in range(40)]
    assert list(executor.map(square, [])) == []


@pytest.mark.parametrize("chunksize", [1, 7, 100])
def test_map_in_chunks_gives_the_same(executor: Executor, chunksize: int) -> None:
    assert list(executor.map(square, range(20), chunksize=chunksize)) == [each * each for each in range(20)]


def test_map_raises_in_its_place_and_drops_the_rest(executor: Executor) -> None:
    results = executor.map(lambda each: 1 // each, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_map_times_out(executor: Executor) -> None:
    results = executor.map(hold, [1], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    RELEASE.set()


def test_result_times_out_and_comes_later(executor: Executor) -> None:
    (future, *_) = busy(executor)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    RELEASE.set()
    assert future.result(timeout=10) == 0


def test_a_running_call_is_not_cancelled_and_a_waiting_one_is(executor: Executor) -> None:
    running = busy(executor)
    waiting = executor.submit(square, 3)
    assert [each.running() for each in (*running, waiting)] == [True, True, False]
    assert [each.cancel() for each in (*running, waiting)] == [False, False, True]
    assert waiting.cancel()
    assert (waiting.cancelled(), waiting.done()) == (True, True)
    with pytest.raises(CancelledError):
        waiting.result(timeout=10)
    RELEASE.set()
    assert [each.result(timeout=10) for each in running] == [0, 1]
    assert not running[0].cancel()


def test_wait_and_as_completed_see_results_failures_and_cancellations(executor: Executor) -> None:
    running = busy(executor)
    waiting = executor.submit(square, 3)
    done, not_done = wait([*running, waiting], timeout=0.01)
    assert (done, not_done) == (set(), {*running, waiting})
    waiting.cancel()
    RELEASE.set()
    failing: Future[Any] = executor.submit(raise_own)
    assert failing in wait([failing], return_when=FIRST_EXCEPTION, timeout=10).done
    everything: list[Future[Any]] = [*running, waiting, failing]
    assert set(as_completed(everything, timeout=10)) == set(everything)
    assert wait(everything, return_when=ALL_COMPLETED, timeout=10).not_done == set()


def test_callbacks_are_called_once_with_the_future(executor: Executor) -> None:
    seen: list[Future[int]] = []
    called = threading.Event()
    future = executor.submit(square, 2)
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(10)
    assert seen == [future]


def test_after_shutdown_no_call_is_taken_and_all_are_done(executor: Executor) -> None:
    futures = [executor.submit(square, each) for each in range(20)]
    executor.shutdown()
    assert all(each.done() for each in futures)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    executor.shutdown()


def test_shutdown_can_cancel_what_waits(executor: Executor) -> None:
    running = busy(executor)
    waiting = [executor.submit(square, each) for each in range(5)]
    executor.shutdown(wait=False, cancel_futures=True)
    for each in waiting:
        with pytest.raises(CancelledError):  # `wait` would not do: that of a thread pool never hears of these
            each.result(timeout=10)
    RELEASE.set()
    assert [each.result(timeout=10) for each in running] == [0, 1]


# --- the grid's own


def test_a_future_as_an_argument_means_its_value(grid_executor: GridExecutor) -> None:
    first = grid_executor.submit(hold, 5)
    second = grid_executor.submit(square, first)  # type: ignore[arg-type]
    third = grid_executor.submit(pow, second, exp=first)  # type: ignore[arg-type]
    RELEASE.set()
    assert (first.result(10), second.result(10), third.result(10)) == (5, 25, 25**5)


def test_what_waits_for_a_failed_or_cancelled_call_ends_as_it_did(grid_executor: GridExecutor) -> None:
    failing = grid_executor.submit(raise_own)
    before = grid_executor.submit(repr, failing)
    assert isinstance(before.exception(timeout=10), OwnError)
    assert isinstance(grid_executor.submit(repr, failing).exception(timeout=10), OwnError)
    running = busy(grid_executor)
    waiting = grid_executor.submit(square, 3)
    child = grid_executor.submit(square, waiting)  # type: ignore[arg-type]
    grandchild = grid_executor.submit(square, child)  # type: ignore[arg-type]
    assert waiting.cancel()
    assert wait([child, grandchild], timeout=10).not_done == set()
    assert child.cancelled()
    assert grandchild.cancelled()
    assert not any(each.done() for each in running)


def test_the_cause_of_an_exception_is_its_traceback_over_there(grid_executor: GridExecutor) -> None:
    error = grid_executor.submit(raise_own).exception(timeout=10)
    assert error is not None
    assert isinstance(error.__cause__, RemoteError)
    assert "in raise_own" in str(error.__cause__)


def test_what_cannot_be_pickled_shows_in_the_future(grid_executor: GridExecutor) -> None:
    assert "pickle" in str(grid_executor.submit(repr, threading.Lock()).exception(timeout=10))
    foreign: Future[int] = Future()
    assert "another executor" in str(grid_executor.submit(repr, foreign).exception(timeout=10))
    assert grid_executor.submit(square, 2).result(timeout=10) == 4


def test_calls_travel_together_and_their_function_once(grid_executor: GridExecutor, node: FakeNode) -> None:
    assert list(grid_executor.map(square, range(700))) == [each * each for each in range(700)]
    assert node.grid.asked["AddTasks"] < 20


def test_of_calls_one_after_the_other_each_is_one_request(grid_executor: GridExecutor, node: FakeNode) -> None:
    def call(value: int) -> None:
        assert grid_executor.submit(square, value).result(timeout=10) == value * value

    call(0)  # its function rides along
    call(1)  # from here on it is known to be there
    before = node.grid.asked.copy()
    for value in range(2, 5):
        call(value)
    assert node.grid.asked - before == {"AddTasks": 3}


def test_what_a_node_has_lost_meanwhile_is_given_to_it_again(grid_executor: GridExecutor, node: FakeNode) -> None:
    assert grid_executor.submit(square, 2).result(timeout=10) == 4
    with node.grid.changed:
        node.grid.store.clear()
    assert grid_executor.submit(square, 3).result(timeout=10) == 9


def test_large_arguments_and_results_come_through(grid_executor: GridExecutor) -> None:
    data = bytes(range(256)) * 2000
    assert grid_executor.submit(bytes.__add__, data, b"!").result(timeout=10) == data + b"!"


def test_calls_survive_a_node_that_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path / "node", slots=0) as before:
        link = SocketLink(tmp_path / "node")
        executor = GridExecutor(Session(link))
        early = executor.submit(square, 3)
        before.grid.await_request("Watch")
    with serving(tmp_path / "node", before.grid):
        late = executor.submit(square, early)  # type: ignore[arg-type]
        assert (early.result(10), late.result(10)) == (9, 81)
        executor.shutdown()
        link.close()


def test_futures_break_when_the_node_stays_away(tmp_path: Path) -> None:
    with serving(tmp_path / "node", slots=0) as node:
        link = SocketLink(tmp_path / "node", patience_s=0.1)
        executor = GridExecutor(Session(link))
        future = executor.submit(square, 1)
        node.grid.await_request("Watch")
    assert "jcpeer node" in str(future.exception(timeout=10))
    with pytest.raises(BrokenExecutor, match="jcpeer node"):
        executor.submit(square, 1)
    executor.shutdown()
    link.close()


def test_an_executor_whose_application_is_cancelled_takes_no_more(grid_executor: GridExecutor, node: FakeNode) -> None:
    running = busy(grid_executor)
    assert grid_executor.application is not None
    other = SocketLink(node.path)
    run_blocking(Session(other).cancel(grid_executor.application))
    other.close()
    assert wait(running, timeout=10).not_done == set()
    assert all(each.cancelled() for each in running)
    with pytest.raises(BrokenExecutor, match="has ended: cancelled"):
        grid_executor.submit(square, 1)
