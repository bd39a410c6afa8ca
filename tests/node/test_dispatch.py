"""Whole nodes, simulated: each dispatch policy brings every application to the same results, also when nodes crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import trio

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.manifest import Dispatch
from jcpeer.net.memory import MemoryWorld
from simulations.checkers import application_problems, machine_problems
from simulations.grid import open_grid
from simulations.virtual_time import run_seeded
from simulations.workloads import bag, chains, layered, tree

FORK = Path(__file__).parents[1] / "application" / "fork.wfformat.json"
SHAPES: dict[str, Callable[[], LoadedApplication]] = {
    "a chain": lambda: chains(1, 30),
    "chains of small outputs": lambda: chains(7, 8, output_bytes=10),
    "a tree that is gathered": lambda: tree(3, 3),
    "layers of shared tasks": lambda: layered(3, layers=6, width=8),
    "a bag": lambda: bag("bag", [0.1] * 40),
    "a file of recorded work": lambda: load(FORK),
}


async def run_one(loaded: LoadedApplication, dispatch: Dispatch, crash_after_s: float | None) -> tuple[int, float]:
    """How many attempts and seconds it took; it ended well, and each task left what it should."""
    world = MemoryWorld(5, encode=True)
    async with open_grid(world) as grid:
        nodes = [await grid.start(f"node{number}") for number in range(4)]
        await trio.sleep(1)
        session = nodes[0].client.session
        app = (await session.submit(loaded, grid.header("one", dispatch=dispatch))).app
        if crash_after_s is not None:
            await trio.sleep(crash_after_s)
            grid.crash("node2")
        with trio.fail_after(300):
            status = await session.wait(app)
        assert status.summary.state == "ok"
        assert status.summary.tasks["finished"] == len(loaded.tasks)
        assert application_problems(grid, [app]) == []
        assert machine_problems(grid) == []
    return status.attempts, status.seconds


@pytest.mark.parametrize("dispatch", get_args(Dispatch))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_policy_runs_each_task_once(shape: str, dispatch: Dispatch) -> None:
    loaded = SHAPES[shape]()
    attempts, _ = run_seeded(run_one, loaded, dispatch, None, seed=5)
    assert attempts == len(loaded.tasks)


@pytest.mark.parametrize("dispatch", get_args(Dispatch))
@pytest.mark.parametrize("shape", ["chains of small outputs", "a tree that is gathered", "layers of shared tasks"])
def test_every_policy_survives_the_crash_of_a_participant(shape: str, dispatch: Dispatch) -> None:
    run_seeded(run_one, SHAPES[shape](), dispatch, 0.35, seed=5)
