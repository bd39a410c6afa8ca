"""What a person sees while an application runs."""

from __future__ import annotations

import io
import json
import sys

import pytest
import structlog

from jcpeer.cli import logs
from jcpeer.cli.following import Idle, Stalled
from jcpeer.cli.node import ready_lines
from jcpeer.cli.nodes import node_lines
from jcpeer.cli.screens import PlainScreen, bar, live_screen, progress_text, screen_for, trouble, upload_text
from jcpeer.client.session import Upload
from jcpeer.ids import NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.messages import Policy
from jcpeer.wire.requests import EventKind, Happened, NodeName, Nodes, Progress, SeenNode
from tests.coordinator.little_world import record_of

STANDING = Progress(
    {"finished": 40, "failed": 1, "running": 4, "assigned": 2, "waiting": 14}, {"shed": 1, "laptop": 3}, 3.44, 6.2
)


def event(kind: EventKind, *, text: str = "", final: bool = False, attempt: int | None = 2) -> Happened:
    node = NodeName(NodeId("n"), "shed")
    return Happened(1, 0.0, kind, task=TaskId("count"), attempt=attempt, node=node, ran_s=1.5, text=text, final=final)


def test_progress_is_one_line_of_what_is_done_what_runs_and_how_long_yet() -> None:
    assert progress_text(STANDING) == (
        "41 of 61 tasks done; 4 running, 2 assigned, 14 waiting, 1 failed; 3.4 tasks/s, about 6 s left"
    )
    assert progress_text(Progress({"waiting": 1}, {}, 0.0, None)) == "0 of 1 task done; 1 waiting"


def test_a_stalled_application_says_for_whom_it_waits_once_each_time() -> None:
    waiting = evolve(STANDING, missing=(NodeName(NodeId("d"), "desk"), NodeName(NodeId("g"), "gx3")))
    assert progress_text(waiting).endswith("14 waiting, 1 failed; stalled, waits for desk and gx3")
    stalled = Stalled()
    said = [stalled.news(each) for each in (STANDING, waiting, waiting, STANDING, STANDING)]
    assert said == [
        "",
        "It is stalled: too few of its journals are in reach without desk and gx3. It goes on by itself with them.",
        "",
        "Enough of its journals are in reach again: it goes on.",
        "",
    ]


def test_an_upload_is_bytes_while_there_are_some_and_then_tasks() -> None:
    assert upload_text(Upload(512, 2048, 0, 3)) == "sending inputs, 512 B of 2.0 KiB"
    assert upload_text(Upload(2048, 2048, 2, 3)) == "sending tasks, 2 of 3"


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        (
            event("failed", text="a\nexit status 3"),
            "count: attempt 2 on shed failed after 1.5 s: exit status 3; it runs again",
        ),
        (event("failed", text="x", final=True), "count: attempt 2 on shed failed after 1.5 s: x; no attempt is left"),
        (event("lost", text="silent for 3 s"), "count: attempt 2 on shed was lost: silent for 3 s; it runs again"),
        (event("output_lost", text="shed left"), "count: its output is lost (shed left); it runs again"),
        (event("cancelled"), "count: cancelled"),
        (event("took_over", text="shed lost, desk took over at epoch 2"), "shed lost, desk took over at epoch 2"),
        (event("finished"), None),
        (event("ended", text="ok"), None),
    ],
)
def test_what_goes_wrong_is_told_as_it_happens_and_what_goes_well_is_not(happened: Happened, line: str | None) -> None:
    assert trouble(happened) == line


def test_a_bar_is_as_long_as_there_is_room_or_not_there() -> None:
    assert [bar(share, 6) for share in (0.0, 0.5, 1.0)] == ["──────", "━━━───", "━━━━━━"]
    assert bar(0.5, 3) == ""


def test_where_no_terminal_is_lines_come_now_and_then_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen("corpus")
    for _ in range(100):
        screen.progress(STANDING)
    assert capsys.readouterr().err == ""
    with screen_for("corpus", as_json=False) as chosen:
        assert isinstance(chosen, PlainScreen)


def test_a_terminal_shows_the_picture_and_keeps_the_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    with live_screen("corpus") as screen:
        screen.upload(Upload(1, 2, 0, 3))
        screen.progress(STANDING)
        screen.event(event("lost", text="silent"))
    shown = terminal.getvalue()
    assert "67%  41/61 tasks  0 s" in shown
    assert "on 2 nodes: laptop 3 and shed 1" in shown
    assert "count: attempt 2 on shed was lost: silent; it runs again" in shown


def test_log_lines_are_for_people_or_for_programs_and_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        logs.set_up("info", as_json=False)
        structlog.get_logger().info("node joined", node="shed\x1b[2J", slots_used=2)
        structlog.get_logger().warning("disk is full")
        structlog.get_logger().debug("not shown")
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition(" ")[2] for line in lines] == [
            "node joined (node: shed\ufffd[2J, slots used: 2)",
            "warning: disk is full",
        ]
        logs.set_up("warning", as_json=True)
        structlog.get_logger().info("not shown")
        structlog.get_logger().warning("disk is full", path="/x")
        line = json.loads(capsys.readouterr().err)
        assert (line["level"], line["event"], line["path"]) == ("warning", "disk is full", "/x")
    finally:
        structlog.reset_defaults()


def test_a_node_that_listens_says_who_it_is_and_what_to_do_next() -> None:
    from pathlib import Path

    from jcpeer.node.opening import NodeReady

    ready = NodeReady(
        name="desk",
        node=NodeId("12D3"),
        grid_name="lab",
        fingerprint="f" * 16,
        user="ana",
        host="desk",
        listens=("/ip4/192.0.2.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"),
        socket=Path("/run/desk.sock"),
        slots=8,
        cpus=8,
        memory_bytes=31 * 2**30,
        gpus=1,
        cost=0.0,
        labels={"gpu": "a100", "fast": ""},
        python="3.11",
        trusts_grid=False,
        fresh=True,
        notices=("another grid is near",),
    )
    assert ready_lines(ready) == [
        "Node desk listens. Ctrl-C ends it.",
        "  grid       lab (ffffffffffffffff), made for you just now",
        "  listens    192.0.2.1:4001 and 127.0.0.1:4001",
        "  offers     8 slots, 8 CPUs, 31 GiB memory, 1 GPU, Python 3.11, gpu=a100, fast",
        "  runs       tasks of ana only; --trust-grid lets in those of other members",
        "  use it     `jcpeer run FILE` in another terminal; `jcpeer nodes` shows who is there",
        "  add to it  `jcpeer grid invite` here, then `jcpeer grid join TOKEN` and `jcpeer node` on another machine",
        "  another grid is near",
    ]
    guest = ready_lines(evolve(ready, fresh=False, invites=False))
    assert "  add to it  `jcpeer grid invite` where the grid was created, then" in guest[6]

    particular = evolve(
        ready,
        disk_bytes=5 * 2**30,
        trusts_grid=True,
        policy=Policy(only_users=("ana", "bob"), only_labels={"queue": "short"}, refuse_labels={"odd": ""}),
        hours="Mon-Fri 18:00-08:00",
        coordinates=False,
    )
    assert ready_lines(particular)[3:6] == [
        "  offers     8 slots, 8 CPUs, 31 GiB memory, 1 GPU, 5.0 GiB free disk, Python 3.11, gpu=a100, fast",
        "  runs       tasks of ana and bob only, with all that you may do on this machine",
        "  but        only applications with the label queue=short; no applications with the label odd; "
        "takes tasks at Mon-Fri 18:00-08:00 only; coordinates no applications",
    ]
    nobody = ready_lines(evolve(ready, policy=Policy(only_users=("bob",))))
    assert "nothing: its settings leave out ana" in nobody[4]


def test_who_cannot_be_dialled_and_who_is_only_heard_of_is_seen_on_a_narrow_terminal_too() -> None:
    near = evolve(
        record_of(NodeId("12D3near"), slots=4),
        name="behind-a-router",
        state="participant",
        addresses=("/ip4/192.168.100.17/tcp/35157",),
    )
    seen = (
        SeenNode(evolve(near, dialable=False), age_s=0.3, myself=False, address=near.addresses[0]),
        SeenNode(evolve(near, name="far"), age_s=40.0, myself=False, address="", connected=False),
    )
    lines = node_lines(Nodes(seen), width=80)
    assert max(map(len, lines)) <= 80
    assert lines[1].endswith("cannot be dialled")
    assert "others  192.168.100.17:35157" in lines[2]


def test_an_application_that_stands_still_is_noticed_once() -> None:
    now_s = 0.0
    idle = Idle(clock_s=lambda: now_s)
    stuck, working = (
        Progress(tasks, {}, 0.0, None) for tasks in ({"ready": 2, "running": 0}, {"ready": 2, "running": 1})
    )
    noticed = []
    for progress in (stuck, stuck, stuck, stuck, working, stuck, stuck):
        noticed.append(idle.for_long(progress))
        now_s += 2
    assert noticed == [False, False, True, False, False, False, False]
