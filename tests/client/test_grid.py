import asyncio
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import jcpeer
from jcpeer.client.async_grid import AsyncGrid
from jcpeer.client.blocking import SocketLink
from jcpeer.client.grid import Grid, connect
from jcpeer.client.local import find_socket
from jcpeer.client.own_node import own_node
from jcpeer.discovery.runtime_dir import LocalNode, write_local_node
from jcpeer.errors import ApplicationFailedError, GraphError, NoNodeError, RequestError
from jcpeer.ids import NodeId
from jcpeer.wire.requests import Happened
from tests.client.fake_service import FakeGrid, FakeNode, in_process_link, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
RELEASE = threading.Event()


def hold() -> str:
    assert RELEASE.wait(10)
    return "held"


def fail() -> None:
    raise LookupError("nothing there")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    RELEASE.clear()
    with serving(tmp_path / "node") as node:
        monkeypatch.setenv("JCPEER_NODE", str(tmp_path / "node"))
        yield node


def graph() -> tuple[jcpeer.Application, list[str]]:
    app = jcpeer.Application("graph", directory=Path(__file__).parent)
    first = app.task(pow, 2, 3)
    last = app.task(pow, first, 2)
    files = app.command(["true"], outputs=["out.txt"])
    return app, [first.id, last.id, files.id]


def test_an_application_is_run_followed_and_its_results_are_had(node: FakeNode, tmp_path: Path) -> None:
    app, (first, last, files) = graph()
    with jcpeer.connect() as grid:
        handle = grid.run(app)
        assert handle.result() == 64
        assert [handle.result(each) for each in (first, last)] == [8, 64]
        assert handle.wait().summary.state == "ok"
        kinds = [each.kind for each in handle.events() if isinstance(each, Happened)]
        assert (sorted(kinds[:-1]), kinds[-1]) == (["accepted", *["finished"] * 3], "ended")
        assert [each.read_text() for each in handle.fetch(tmp_path / "results")] == [f"out.txt of {files}"]
        assert b"".join(handle.logs(first)) == f"stdout of {first}".encode()
        assert [each.name for each in grid.applications()] == ["graph"]
        again = grid.handle(handle.id[:10])
        assert again.task(last).state == "finished"
        grid.forget(handle.id)
        with pytest.raises(RequestError) as caught:
            again.status()
        assert caught.value.kind == "unknown"


def test_waiting_ends_in_time_and_what_has_ended_needs_none(node: FakeNode) -> None:
    app = jcpeer.Application("slow", directory=Path(__file__).parent)
    app.task(hold)
    with jcpeer.connect() as grid:
        handle = grid.run(app)
        with pytest.raises(TimeoutError, match=f"{handle.id} still runs"):
            handle.wait(timeout=0)
        RELEASE.set()
        assert handle.result() == "held"
        assert handle.wait(timeout=0).summary.state == "ok"


def test_a_task_that_raised_and_a_cancelled_application_are_told(node: FakeNode) -> None:
    app = jcpeer.Application("bad", directory=Path(__file__).parent)
    bad = app.task(fail)
    with jcpeer.connect() as grid:
        handle = grid.run(app)
        with pytest.raises(ApplicationFailedError, match="LookupError: nothing there"):
            handle.result()
        with pytest.raises(LookupError, match="nothing there"):
            handle.result(bad)
        slow = jcpeer.Application("slow", directory=Path(__file__).parent)
        slow.task(hold)
        cancelled = grid.run(slow)
        cancelled.cancel()
        with pytest.raises(ApplicationFailedError, match="was cancelled"):
            cancelled.result()
    RELEASE.set()


def test_leaving_the_grid_waits_for_its_executors(node: FakeNode) -> None:
    with jcpeer.connect() as grid:
        future = grid.executor().submit(pow, 3, 2)
    assert future.done()
    assert future.result() == 9


def test_a_closed_grid_wakes_whoever_waits(node: FakeNode) -> None:
    app = jcpeer.Application("slow", directory=Path(__file__).parent)
    app.task(hold)
    grid = jcpeer.connect()
    handle = grid.run(app)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            handle.wait()
        except NoNodeError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    node.grid.await_request("Watch")
    grid.close()
    thread.join(10)
    assert "was closed" in str(errors[0])
    RELEASE.set()


def test_a_node_that_does_not_return_is_told_with_the_way_back(tmp_path: Path) -> None:
    app, _ = graph()
    with serving(tmp_path / "node", slots=0):
        grid = Grid(SocketLink(tmp_path / "node", patience_s=0.1))
        handle = grid.run(app)
    with pytest.raises(NoNodeError, match=f"jcpeer node.*jcpeer wait {handle.id}"):
        handle.wait()
    with pytest.raises(TimeoutError):
        Grid(SocketLink(tmp_path / "node")).handle(handle.id).wait(timeout=0)


def test_policies_are_those_of_the_application_unless_the_call_says_otherwise(node: FakeNode) -> None:
    app = jcpeer.Application("spread", placement="rdv", dispatch="relay")
    app.command(["true"])
    with jcpeer.connect() as grid:
        grid.run(app)
        grid.run(app, dispatch="grab", replicas=5, takeover="quorum")
        with pytest.raises(GraphError, match="application spread: placement must be 'rdv' or 'local', not 'here'"):
            grid.run(app, placement="here")  # type: ignore[arg-type]  # that is the point
        with grid.executor("calls", cpus=1, placement="rdv", dispatch="grab", inputs_stay=True) as executor:
            assert executor.submit(abs, -1).result() == 1
        with pytest.raises(GraphError, match="executor calls: replicas must be a whole number from 1 to 7, not 0"):
            grid.executor("calls", replicas=0)
    first, second, calls = [each.header for each in node.grid.applications.values()]
    assert [(each.placement, each.dispatch) for each in (first, second)] == [("rdv", "relay"), ("rdv", "grab")]
    assert [(each.replicas, each.takeover) for each in (first, second)] == [(3, "default"), (5, "quorum")]
    assert (calls.placement, calls.dispatch, calls.inputs_stay, calls.open_ended) == ("rdv", "grab", True, True)


async def test_the_same_verbs_under_trio(tmp_path: Path) -> None:
    app, (first, _, files) = graph()
    grid = AsyncGrid(in_process_link(FakeGrid()))
    with trio.fail_after(10):
        handle = await grid.run(app)
        assert await handle.result() == 64
        assert await handle.result(first) == 8
        assert [each.read_text() for each in await handle.fetch(tmp_path)] == [f"out.txt of {files}"]
        assert [each.name for each in await grid.applications()] == ["graph"]
        await grid.run(app, placement="rdv")


def test_it_is_used_from_asyncio_as_the_example_shows(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    asyncio.run(importlib.import_module("embed_asyncio").main())
    assert capsys.readouterr().out == "sum of squares: 328350\nseven squared: 49\n"


def test_the_blocking_face_loads_no_event_loop() -> None:
    code = (
        "import jcpeer, sys; before = set(sys.modules); jcpeer.connect; jcpeer.Application;"
        "print([each for each in ('trio', 'libp2p', 'asyncio', 'cloudpickle') if each in sys.modules],"
        "[each for each in before if each.startswith('jcpeer.client')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[] []"


# --- which node


def write(runtime: Path, *names: str) -> None:
    for number, name in enumerate(names):
        node = NodeId(f"id{number}")
        write_local_node(runtime, LocalNode(node, name, "", "", number, os.getpid(), (), f"/sockets/{name}"))


def test_a_node_is_chosen_by_name_then_by_host_then_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"JCPEER_RUNTIME_DIR": str(tmp_path)}
    write(tmp_path, "run-1", "old", "new", "myhost")
    monkeypatch.setattr("platform.node", lambda: "myhost")
    assert find_socket(environ=environ) == Path("/sockets/myhost")
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert find_socket(environ=environ) == Path("/sockets/old")
    assert find_socket("new", environ=environ) == Path("/sockets/new")
    assert find_socket(environ={**environ, "JCPEER_NODE": "run-1"}) == Path("/sockets/run-1")
    with pytest.raises(NoNodeError, match=r"no node other runs on this machine.*running here: run-1, old"):
        find_socket("other", environ=environ)


def test_a_node_of_somebodys_run_is_for_asking_only(tmp_path: Path) -> None:
    environ = {"JCPEER_RUNTIME_DIR": str(tmp_path)}
    write(tmp_path, "run-1")
    assert find_socket(environ=environ) == Path("/sockets/run-1")
    with pytest.raises(NoNodeError, match="start one with `jcpeer node`"):
        find_socket(lasting=True, environ=environ)


def test_without_a_node_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JCPEER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("JCPEER_NODE", raising=False)
    with pytest.raises(NoNodeError, match="jcpeer node"):
        connect()


# --- a node of one's own

PROGRAM = """
import json, os, signal, sys, time
print("not json", flush=True)
if "--broken" in sys.argv:
    sys.exit("the port is taken")
said = {"listens": [], "argv": sys.argv[1:], "state": os.environ["JCPEER_STATE_DIR"]}
print(json.dumps(said), flush=True)
print("x" * 200_000, flush=True)
signal.pause()
"""


@pytest.mark.real
def test_an_own_node_is_there_within_the_block_and_gone_with_its_state_afterwards() -> None:
    with own_node(name="run-x", options=["--slots", "1"], program=(sys.executable, "-c", PROGRAM)) as node:
        assert node.ready["argv"] == ["node", "--name", "run-x", "--json", "--until-eof", "--slots", "1"]
        assert Path(node.ready["state"]).is_dir()
        assert Path(f"/proc/{node.pid}").exists()
    assert not Path(node.ready["state"]).exists()
    assert not Path(f"/proc/{node.pid}").exists()


@pytest.mark.real
def test_an_own_node_that_does_not_come_up_says_why() -> None:
    with pytest.raises(NoNodeError, match="did not come up: the port is taken"):
        with own_node(options=["--broken"], program=(sys.executable, "-c", PROGRAM)):
            pass
