"""Real nodes: whoever places its tasks, wherever it lives, an application comes to the same results, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

import jcpeer
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.manifest import Dispatch, Placement
from jcpeer.client.blocking import run_blocking
from jcpeer.errors import GraphError
from jcpeer.ids import Digest, TaskId
from tests.real_grid import RealGrid

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RECORDED = ROOT / "tests" / "application" / "fork.wfformat.json"
NO_APPLICATION = {"demo.py", "drill.py", "darts.py", "embed_asyncio.py", "embed_trio.py", "executor.py"}
"""Programs of their own; and the one that `matrix.toml` runs."""
VARIABLES: Mapping[str, Mapping[str, str]] = {"corpus.toml": {"source": str(ROOT / "jcpeer" / "work"), "shards": "10"}}
LIMIT_S = 60
USUAL: tuple[Placement, Dispatch] = ("rdv", "assign")
OTHERS: list[tuple[Placement, Dispatch]] = [
    (placement, dispatch)
    for placement in get_args(Placement)
    for dispatch in get_args(Dispatch)
    if (placement, dispatch) != USUAL
]

Left = dict[TaskId, dict[str, Digest]]
"""What each task left: digests by the outputs' names. A digest is that of the bytes."""


def applications() -> dict[str, LoadedApplication]:
    """All that users are shown, and a recorded run, quickened."""
    files = [each for each in sorted(EXAMPLES.iterdir()) if each.suffix in (".toml", ".py")]
    loaded = {
        each.name: load(each, variables=VARIABLES.get(each.name)) for each in files if each.name not in NO_APPLICATION
    }
    assert {"hello.toml", "squares.py", "corpus.toml", "matrix.toml", "functions.py"} <= loaded.keys()
    return {**loaded, RECORDED.name: load(RECORDED, scale=0.001)}


@pytest.fixture(scope="module")
def loaded() -> dict[str, LoadedApplication]:
    return applications()


def brought(
    world: RealGrid, loaded: Mapping[str, LoadedApplication], policies: tuple[Placement, Dispatch], directory: Path
) -> dict[str, tuple[Left, dict[str, bytes]]]:
    """What all of them, run at once, leave by task, and the files that another node than the submitter's brings."""
    a, b, _ = world.ensure("a", "b", "c", slots=2)
    placement, dispatch = policies
    found = {}
    with a.connect() as grid, b.connect() as elsewhere:
        handles = {name: grid.run(each, placement=placement, dispatch=dispatch) for name, each in loaded.items()}
        for name, handle in handles.items():
            status = handle.wait(timeout=LIMIT_S)
            assert (status.summary.state, status.failures) == ("ok", ()), name
            assert (status.placement, status.dispatch) == policies
            left: Left = {}
            for task in loaded[name].tasks:
                for each in run_blocking(grid.session.results(handle.id, task.id)).results:
                    left[each.task] = {output.name: output.blob.digest for output in each.outputs}
            place = directory / name
            files = elsewhere.handle(handle.id).fetch(place)
            found[name] = (left, {str(path.relative_to(place)): path.read_bytes() for path in files})
    return found


@pytest.fixture(scope="module")
def usual(
    machines: RealGrid, loaded: dict[str, LoadedApplication], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Left, dict[str, bytes]]]:
    return brought(machines, loaded, USUAL, tmp_path_factory.mktemp("usual"))


def test_the_usual_policies_bring_all_that_the_applications_declare(
    usual: dict[str, tuple[Left, dict[str, bytes]]], loaded: dict[str, LoadedApplication]
) -> None:
    for name, (left, files) in usual.items():
        assert left.keys() == {each.id for each in loaded[name].tasks}, name
        assert all(set(each.outputs) <= left[each.id].keys() for each in loaded[name].tasks), name
        assert files or name.endswith(".py"), name
    assert usual["hello.toml"][1]["letter.txt"].count(b"hello") == 8


@pytest.mark.parametrize("policies", OTHERS, ids="-".join)
def test_other_policies_bring_the_same_bytes(
    policies: tuple[Placement, Dispatch],
    world: RealGrid,
    loaded: dict[str, LoadedApplication],
    usual: dict[str, tuple[Left, dict[str, bytes]]],
    tmp_path: Path,
) -> None:
    found = brought(world, loaded, policies, tmp_path)
    for name, what in usual.items():
        assert found[name] == what, name


def test_a_program_says_which_policies_and_an_executor_keeps_the_usual_ones(world: RealGrid) -> None:
    (a,) = world.ensure("a", slots=2)
    app = jcpeer.Application("sum", placement="rdv", dispatch="grab")
    app.task(sum, [app.task(abs, -number) for number in range(4)])
    with a.connect() as grid:
        own, other = grid.run(app), grid.run(app, dispatch="relay", placement="local")
        assert own.result(timeout=LIMIT_S) == other.result(timeout=LIMIT_S) == 6
        said = [(each.status().placement, each.status().dispatch) for each in (own, other)]
        assert said == [("rdv", "grab"), ("local", "relay")]
        with pytest.raises(GraphError, match="dispatch must be 'assign', 'grab' or 'relay', not 'foo'"):
            grid.run(app, dispatch="foo")  # type: ignore[arg-type]  # what a typing error would be
        with grid.executor("calls") as executor:
            assert list(executor.map(abs, [-1, -2])) == [1, 2]
        (calls,) = [each for each in grid.applications() if each.name == "calls"]
        status = grid.handle(calls.app).status()
        assert (status.placement, status.dispatch) == USUAL
