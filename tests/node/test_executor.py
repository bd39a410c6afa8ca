"""The executor against real nodes."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from jcpeer.errors import ApplicationFailedError
from tests.node.project import arithmetic
from tests.real_grid import Gate, RealGrid, eventually

pytestmark = pytest.mark.real


def test_an_executor_on_the_grid(world: RealGrid, gate: Gate) -> None:
    a, _ = world.ensure("a", "b", slots=1)
    with a.connect() as grid, grid.executor(directory=Path(__file__).parents[2]) as executor:
        futures = [executor.submit(arithmetic.double, number) for number in range(6)]
        done = concurrent.futures.as_completed(futures, timeout=20)
        assert sorted(each.result() for each in done) == [0, 2, 4, 6, 8, 10]
        assert list(executor.map(arithmetic.double, range(10), chunksize=3)) == list(range(0, 20, 2))
        assert executor.submit(arithmetic.double, futures[1]).result(10) == 4  # type: ignore[arg-type]  # its value

        raised = executor.submit(arithmetic.refuse, 7).exception(10)
        assert isinstance(raised, arithmetic.TooLarge)
        assert str(raised) == "7 is too large"
        with pytest.raises(ModuleNotFoundError, match="no_such_package") as missing:
            executor.submit(arithmetic.need_a_package).result(10)
        assert "package 'no_such_package' is not installed" in str(missing.value.__cause__)
        with pytest.raises(ApplicationFailedError, match="exit status 3"):
            executor.submit(arithmetic.vanish).result(10)

        held = [executor.submit(arithmetic.await_end, str(gate.path)) for _ in range(2)]
        waiting = [executor.submit(arithmetic.double, number) for number in range(2)]
        eventually(lambda: all(each.running() for each in held), within_s=10, what="both slots are taken")
        assert [each.cancel() for each in (*held, *waiting)] == [False, False, True, True]
        gate.open()
        assert [each.result(10) for each in held] == [0, 0]


def test_an_executor_outlives_the_death_of_its_node(world: RealGrid, gate: Gate) -> None:
    a, _ = world.ensure("a", "b", slots=1)
    with a.connect() as grid, grid.executor(directory=Path(__file__).parents[2]) as executor:
        held = executor.submit(arithmetic.await_end, str(gate.path))
        assert executor.submit(arithmetic.double, 20).result(10) == 40
        eventually(held.running, within_s=10, what="it runs")
        a.kill()
        world.ensure("a", "b", slots=1)
        gate.open()
        assert executor.submit(arithmetic.double, 21).result(20) == 42
        assert held.result(20) == 0
