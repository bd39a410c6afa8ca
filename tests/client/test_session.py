from contextlib import aclosing
from itertools import count
from pathlib import Path

import pytest

from jcpeer.application.manifest import Header
from jcpeer.application.python import Application
from jcpeer.application.task import Input
from jcpeer.client.blocking import SocketLink, run_blocking
from jcpeer.client.session import Session, Upload
from jcpeer.client.shipment import BATCH_TASKS_MAX, PIECE_BYTES
from jcpeer.errors import ApplicationFailedError, NoNodeError, RequestError
from jcpeer.wire.requests import Happened
from tests.client.fake_service import BreakingLink, FakeGrid, in_process_link, serving
from tests.client.loaded import application, blob, command, output_of

HEADER = Header("an-app", 1.0, b"nonce")
LARGE = b"large" * 60_000
LARGER = b"x" * (2 * PIECE_BYTES + 7)
# Two batches, two large blobs, one small one.
TASKS = (
    command("a", Input("large", blob(LARGE)), outputs=("o",)),
    *(command(f"b{n}", Input("small", blob(b"small"))) for n in range(BATCH_TASKS_MAX)),
    command("c", output_of("a", "o"), Input("larger", blob(LARGER))),
)
LOADED = application(*TASKS, data=(LARGE, b"small", LARGER))


def assert_is_there_once(grid: FakeGrid) -> None:
    (app,) = grid.applications.values()
    assert (app.sealed, app.batches) == (True, {0, 1})
    assert list(app.tasks.values()) == list(TASKS)
    assert set(grid.store) >= {blob(each).digest for each in (LARGE, b"small", LARGER)}


def test_a_link_that_breaks_at_any_frame_of_a_submission_leaves_one_application_with_all_its_tasks() -> None:
    for at_frame in count(1):
        grid = FakeGrid()
        link = BreakingLink(grid, at_frame)
        run_blocking(Session(link).submit(LOADED, HEADER))
        assert_is_there_once(grid)
        assert link.returns == link.broke
        if not link.broke:
            assert at_frame > 15
            return


def test_the_same_holds_over_a_socket(tmp_path: Path) -> None:
    for at_frame in range(1, 25):
        with serving(tmp_path / "node", break_at_frame=at_frame, slots=0) as node:
            link = SocketLink(tmp_path / "node")
            run_blocking(Session(link).submit(LOADED, HEADER))
            assert_is_there_once(node.grid)
            link.close()


def test_a_submission_is_reported_to_its_last_byte_and_sends_only_what_is_missing() -> None:
    grid = FakeGrid()
    grid.store[blob(LARGE).digest] = LARGE
    reports: list[Upload] = []
    run_blocking(Session(in_process_link(grid)).submit(LOADED, HEADER, progress=reports.append))
    assert reports[0] == Upload(0, len(LARGER), 0, len(TASKS))
    assert reports[-1] == Upload(len(LARGER), len(LARGER), len(TASKS), len(TASKS))


def test_a_file_changed_behind_our_back_is_named(tmp_path: Path) -> None:
    path = tmp_path / "input.dat"
    path.write_bytes(LARGE[::-1])
    loaded = application(command("a", Input("in", blob(LARGE))), files={blob(LARGE).digest: path})
    with pytest.raises(RequestError, match=r"input\.dat: the bytes are not what the digest says"):
        run_blocking(Session(in_process_link(FakeGrid())).submit(loaded, HEADER))


def test_events_resume_after_the_last_one_seen() -> None:
    async def indexes(session: Session, app: str) -> list[int]:
        async with aclosing(session.events(app)) as events:
            return [each.index async for each in events if isinstance(each, Happened)]

    loaded = application(*(command(f"t{n}") for n in range(4)))
    for at_frame in range(1, 8):
        grid = FakeGrid()
        app = run_blocking(Session(in_process_link(grid)).submit(loaded, HEADER)).app
        link = BreakingLink(grid, at_frame)
        assert run_blocking(indexes(Session(link), app)) == [1, 2, 3, 4, 5, 6]
        assert link.broke


def test_a_node_that_falls_over_one_request_again_and_again_is_given_up_with_the_way_back() -> None:
    class Felled(BreakingLink):
        def _frame(self) -> None:
            raise NoNodeError("the node went away")

    link = Felled(FakeGrid(), 0)
    with pytest.raises(NoNodeError, match=r"went away 6 times .* come back with `jcpeer wait abc`"):
        run_blocking(Session(link).status("abc"))
    assert link.returns == 5


def test_results_are_brought_below_the_directory_whatever_breaks(tmp_path: Path) -> None:
    loaded = application(command("a", outputs=("dir/" + "n" * 100, "b")), command("c" * 1000, outputs=("c",)))
    for at_frame in range(1, 7):
        grid = FakeGrid()
        app = run_blocking(Session(in_process_link(grid)).submit(loaded, HEADER)).app
        run_blocking(Session(in_process_link(grid)).wait(app))
        link = BreakingLink(grid, at_frame)
        paths = run_blocking(Session(link).fetch(app, tmp_path / str(at_frame)))
        assert link.broke == (
            at_frame < 6
        )  # the last output is too large to come with the results: it comes in two pieces
        assert sorted(each.read_bytes() for each in paths) == sorted(
            f"{name} of {task.id}".encode() for task in loaded.tasks for name in task.outputs
        )
        assert not list((tmp_path / str(at_frame)).rglob("*.part"))


def fail() -> None:
    raise ValueError("no good")


def test_a_failed_application_tells_its_story_and_the_traceback(tmp_path: Path) -> None:
    session = Session(in_process_link(FakeGrid()))
    graph = Application("calls", directory=tmp_path)
    graph.options(name="good").task(int)
    bad = graph.options(name="bad").task(fail)
    graph.options(name="never").task(int, bad)
    app = run_blocking(session.submit(graph.load(), HEADER)).app
    with pytest.raises(ApplicationFailedError) as caught:
        run_blocking(session.wait_ok(app))
    assert "task bad: ValueError: no good" in str(caught.value).splitlines()[0]
    assert "in fail" in str(caught.value)
    assert "bad" in caught.value.story[0]
    assert run_blocking(session.wait_task(app, "good")) is None
    with pytest.raises(ValueError, match="no good"):
        run_blocking(session.wait_task(app, "bad"))
    with pytest.raises(ApplicationFailedError):
        run_blocking(session.wait_task(app, "never"))
    assert run_blocking(session.value(app, "good")) == 0
