"""From submission to forgetting, as a person at a terminal has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.requests import NodeName, ReconciledView, ReplicaView
from tests.cli.conftest import Command, NodeHere
from tests.client.fake_service import FakeGrid

File = Callable[[str, str], str]

FILES = """
[application]
name = "letters"
[task.a]
command = "true"
outputs = ["a.txt"]
[task.b]
command = "true"
inputs = ["a.txt"]
outputs = ["b.txt"]
"""
VALUES = """
import jcpeer
app = jcpeer.Application("sums")
two = app.task(lambda: 2)
three = app.task(lambda x: x + 1, two)
"""
FAILING = """
import jcpeer
def bad():
    raise ValueError("no such luck")
app = jcpeer.Application("luckless")
app.task(bad)
"""


def test_a_run_brings_the_files_of_the_last_tasks_and_says_where(
    jcpeer: Command, node_here: NodeHere, file: File
) -> None:
    with node_here():
        said = jcpeer("run", file("letters.toml", FILES), "--output", "out")
    assert said.status == 0
    assert said.out.splitlines()[:2] == [
        "letters ended well: 2 tasks finished in 0.00 s.",
        "Output: out/b.txt (10 B)",
    ]
    assert Path("out/b.txt").read_text() == "b.txt of b"
    assert said.err.startswith("letters is accepted as ")


def test_without_a_directory_the_files_go_to_one_of_the_runs_own(
    jcpeer: Command, node_here: NodeHere, file: File
) -> None:
    with node_here() as node:
        jcpeer("run", file("letters.toml", FILES))
        (app,) = node.grid.applications
        jcpeer("run", file("letters.toml", FILES), "--no-output")
    assert Path(f"letters-{app[:8]}/b.txt").is_file()
    assert len(list(Path().glob("letters-*"))) == 1


def test_values_of_python_tasks_are_shown(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        said = jcpeer("run", file("sums.py", VALUES))
        assert said.status == 0
        assert any(line.endswith(": 3") for line in said.out.splitlines())
        assert any(line.endswith(": 3") for line in jcpeer("result", "sums").out.splitlines())
    assert not list(Path().glob("sums-*"))


def test_json_is_events_and_then_one_object_with_the_whole(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        said = jcpeer("run", file("letters.toml", FILES), "--json", "--output", "out")
    lines = said.json_lines
    kinds = [each["event"] for each in lines]
    assert (kinds[0], kinds[-2:]) == ("submitted", ["ended", "summary"])
    assert sorted(kinds[1:-2]) == ["accepted", "finished", "finished"]
    end = lines[-1]
    assert end["application"] == lines[0]["application"]
    assert (end["name"], end["status"], end["tasks"]) == ("letters", "ok", {"finished": 2})
    assert {"attempts", "takeovers", "seconds", "epoch", "coordinator", "replicas", "participants"} <= end.keys()
    assert end["outputs"] == ["out/b.txt"]


def test_a_failed_run_exits_1_with_the_story(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        said = jcpeer("run", file("luckless.py", FAILING))
    assert said.status == 1
    assert said.out.startswith("luckless failed: 0 of 1 task finished in 0.00 s, 1 failed")
    assert "ValueError: no such luck" in said.out
    assert "ValueError: no such luck; no attempt is left" in said.err


def test_a_bad_file_is_refused_before_anything_is_sent(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here() as node:
        said = jcpeer("run", file("bad.toml", FILES.replace("inputs", "input")))
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "bad.toml" in said.err
    assert not node.grid.asked["Submit"]


def test_a_detached_run_prints_the_id_by_which_wait_and_status_find_it(
    jcpeer: Command, node_here: NodeHere, file: File
) -> None:
    with node_here():
        started = jcpeer("run", file("letters.toml", FILES), "--detach")
        app = started.out.strip()
        assert len(app) == 40
        assert f"`jcpeer wait {app[:8]}`" in started.err
        assert jcpeer("wait", app[:8]).status == 0
        status = jcpeer("status", "letters", "--json").json
        listed = jcpeer("list")
    assert status["application"] == app
    assert status["coordinator"] == {"id": "node-1", "name": "one"}
    assert status["participants"] == status["replica_set"] == [status["coordinator"]]
    assert status["placement"] == "local"
    assert status["epoch"] == 1
    assert listed.out.splitlines()[0].split() == [
        "ID",
        "NAME",
        "STATUS",
        "FINISHED",
        "SUBMITTED",
        "USER",
        "COORDINATOR",
    ]
    assert listed.out.splitlines()[1].split()[:4] == [app[:8], "letters", "ok", "2/2"]


def test_status_and_list_say_who_keeps_a_copy_what_is_promised_and_for_whom_it_waits(
    jcpeer: Command, node_here: NodeHere, file: File
) -> None:
    two, three = NodeName(NodeId("2"), "two"), NodeName(NodeId("3"), "three\x1b")
    with node_here() as node:
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        (app,) = node.grid.applications.values()
        app.replicas = (*app.replicas, ReplicaView(two, "copy"), ReplicaView(three, "missing", 12.4))
        app.missing, app.state = (three,), "stalled"
        shown, data = jcpeer("status", "letters").out, jcpeer("status", "letters", "--json").json
        listed = jcpeer("list")
        app.missing, app.state = (), "ok"
        app.reconciled = (ReconciledView(two, (TaskId("a"), TaskId("b")), (TaskId("b"),)),)
        ended = jcpeer("wait", "letters").out
    assert "  journal on    one (coordinator), two and three\ufffd (missing for 12 s)\n" in shown
    assert "  FTC           two\n" in shown
    assert "  promise       3 of 3 copies\n" in shown
    assert "  stalled       waits for three\ufffd: too few of its journals are in reach\n" in shown
    assert [(each["name"], each["state"], each["missing_s"]) for each in data["replicas"]] == [
        ("one", "coordinator", 0.0),
        ("two", "copy", 0.0),
        ("three\x1b", "missing", 12.4),
    ]
    assert (data["ftc"]["name"], data["promise"], data["missing"][0]["id"]) == ("two", "3 of 3 copies", "3")
    assert listed.out.splitlines()[1].split()[2] == "stalled"
    assert listed.err == f"letters ({app.id[:8]}) waits for three\ufffd: too few of its journals are in reach\n"
    assert "two had coordinated, too, while the grid was divided:\n  ran twice      a and b\n" in ended
    assert "  other results  b: what was shown before no longer holds\n" in ended


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_the_policies_of_a_file_are_those_of_the_run_unless_options_say_otherwise(
    jcpeer: Command, node_here: NodeHere, file: File, detach: list[str]
) -> None:
    text = FILES.replace("[task.a]", 'placement = "rdv"\ndispatch = "grab"\n[task.a]', 1)
    with node_here() as node:
        jcpeer("run", file("letters.toml", text), "--no-output", *detach)
        jcpeer("run", "letters.toml", "--dispatch", "relay", "--no-output", *detach)
        jcpeer("run", file("plain.toml", FILES), "--placement", "rdv", "--no-output", *detach)
        safe = ("--replicas", "5", "--takeover", "available", "--inputs-stay")
        jcpeer("run", file("other.toml", FILES), *safe, "--no-output", *detach)
        headers = [each.header for each in node.grid.applications.values()]
    assert [(each.placement, each.dispatch) for each in headers[:3]] == [
        ("rdv", "grab"),
        ("rdv", "relay"),
        ("rdv", "assign"),
    ]
    assert [(each.replicas, each.takeover, each.inputs_stay) for each in headers[2:]] == [
        (3, "default", False),
        (5, "available", True),
    ]


def test_without_a_node_there_is_nobody_to_leave_a_detached_run_with(jcpeer: Command, file: File) -> None:
    said = jcpeer("run", file("letters.toml", FILES), "--detach")
    assert said.status == 69
    assert "start one with `jcpeer node`" in said.err


def test_a_cancelled_application_ends_waiting_with_3(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here(grid=FakeGrid()) as node:
        node.grid.take_ready = lambda: None  # type: ignore[method-assign]  # nobody works
        jcpeer("run", file("letters.toml", FILES), "--detach")
        assert jcpeer("cancel", "letters").err.startswith("Cancelled letters (")
        said = jcpeer("wait", "letters")
        assert said.status == 3
        assert said.out.startswith("letters was cancelled: 0 of 2 tasks finished")
        assert "jcpeer result" not in said.out  # it left nothing
        assert jcpeer("result", "letters").status == 3


def test_waiting_has_an_end_where_one_was_given(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here() as node:
        node.grid.take_ready = lambda: None  # type: ignore[method-assign]  # nobody works
        jcpeer("run", file("letters.toml", FILES), "--detach")
        said = jcpeer("wait", "letters", "--timeout", "50ms")
        assert (said.status, said.err) == (75, "jcpeer: letters still runs after 0.05 s\n")
        assert jcpeer("result", "letters").status == 75
        assert jcpeer("status", "letters").out.startswith("letters is running, for ")


def test_results_are_listed_then_brought(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        assert jcpeer("result", "letters").out.splitlines() == ["TASK  FILE   SIZE", "b     b.txt  10 B"]
        brought = jcpeer("result", "letters", "a", "--output", "here")
        assert brought.out == "here/a.txt\n"
        assert Path("here/a.txt").read_text() == "a.txt of a"
        shown = jcpeer("result", "letters", "--json").json
    assert [each["task"] for each in shown["results"]] == ["b"]
    assert shown["results"][0]["outputs"][0]["size_bytes"] == 10


def test_logs_are_written_as_they_were_printed(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        assert jcpeer("logs", "letters", "a").out == "stdout of a"
        assert jcpeer("logs", "letters", "a", "--stderr", "--json").json == {
            "task": "a",
            "stream": "stderr",
            "text": "stderr of a",
        }


def test_why_says_what_a_task_waits_for(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        assert jcpeer("why", "letters", "a").out == "a is finished:\n  because\n"
        assert jcpeer("why", "letters", "a", "--json").json == {
            "task": "a",
            "state": "finished",
            "reasons": ["because"],
        }


def test_what_the_node_does_not_know_is_refused_with_4(jcpeer: Command, node_here: NodeHere, file: File) -> None:
    with node_here():
        said = jcpeer("status", "nothing")
        assert (said.status, said.err) == (4, "jcpeer: 'nothing' means 0 applications\n")
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        assert jcpeer("logs", "letters", "a").status == 0
        assert jcpeer("why", "letters", "z").err == "jcpeer: no task z\n"
        assert jcpeer("forget", "letters").status == 0
        assert jcpeer("forget", "letters").status == 4


@pytest.mark.parametrize("command", [["nodes"], ["status"], ["list"]])
def test_what_prints_data_prints_it_as_json_too(jcpeer: Command, node_here: NodeHere, command: list[str]) -> None:
    with node_here():
        assert jcpeer(*command, "--json").json
        assert jcpeer(*command).status == 0


def test_nodes_are_a_table_in_which_the_one_that_answers_has_a_star(jcpeer: Command, node_here: NodeHere) -> None:
    with node_here():
        lines = jcpeer("nodes").out.splitlines()
        (node,) = jcpeer("nodes", "--json").json["nodes"]
    assert lines[0].split() == ["NODE", "USER", "STATE", "SLOTS", "CPUS", "MEMORY", "LOAD", "AGE", "ADDRESS", "ID"]
    assert lines[1].split()[:5] == ["one*", "me", "idle", "0/1", "1"]
    assert (node["id"], node["name"], node["myself"]) == ("node-1", "one", True)
    json.dumps(node)
