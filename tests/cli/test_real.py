"""The command as a program of its own, with real nodes: how fast, how it ends, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

PROGRAM = (sys.executable, "-m", "jcpeer")
NAP = f"sleep 30.{os.getpid()}"
"""Known from all other naps of this machine."""
NAPS = f"""
[application]
name = "naps"
[task.nap]
matrix.n = {{range = [0, 4]}}
command = "exec {NAP} #{{n}}"
"""
HELLO = """
[application]
name = "hello"
[task.say]
command = "echo hello > hello.txt"
outputs = ["hello.txt"]
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60)


@contextmanager
def node_running(name: str) -> Iterator[subprocess.Popen[str]]:
    node = started("node", "--name", name, "--listen", "127.0.0.1:0", "--no-mdns", "--json", "--slots", "2")
    assert node.stdout is not None
    try:
        line = node.stdout.readline()
        assert line, node.communicate()
        assert json.loads(line)["name"] == name
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        node.communicate(timeout=10)


def first_line(process: subprocess.Popen[str], wanted: str) -> str:
    """The first line on stderr that says this."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if wanted in line:
            return line
    raise AssertionError(seen)


def processes_of(places: Path) -> list[str]:
    """Command lines of all that was started here, and of all naps."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_text().replace("\0", " ").strip()
            ours = str(places).encode() in (path / "environ").read_bytes()
        except OSError:
            continue
        if (ours and int(path.name) != os.getpid()) or NAP in command:
            found.append(command)
    return found


def eventually(look: Callable[[], bool], *, within_s: float = 10.0) -> None:
    until_s = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def has_connection(pid: int) -> bool:
    try:
        return any(os.readlink(each).startswith("socket:") for each in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # closed while we looked
        return False


def test_help_comes_without_loading_what_it_does_not_need() -> None:
    script = "import sys; from jcpeer.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(said.stderr.split())
    assert not {"trio", "libp2p", "typer", "rich", "msgspec", "structlog"} & loaded


def test_commands_that_ask_the_local_node_load_neither_trio_nor_libp2p() -> None:
    script = (
        "import sys; from jcpeer.cli.main import run\n"
        "for each in (['nodes'], ['list'], ['status'], ['wait', 'x'], ['why', 'x', 'y'], ['logs', 'x', 'y'],"
        " ['result', 'x'], ['cancel', 'x'], ['grid', 'show'], ['run', '--help']): run(each)\n"
        "print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(said.stdout.splitlines()[-1].split())
    assert "jcpeer.client.session" in loaded
    unwanted = {"trio", "asyncio", "libp2p", "zeroconf", "kademlia", "sqlite3", "structlog", "jcpeer.node"}
    assert not unwanted & loaded


def test_a_run_without_a_node_has_one_of_its_own_and_leaves_nothing_behind(places: Path) -> None:
    Path("hello.toml").write_text(HELLO)
    said = ran("run", "hello.toml", "--output", "out", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout.splitlines()[-1])["tasks"]["finished"] == 1
    assert Path("out/hello.txt").read_text() == "hello\n"
    assert "starting one for this run" in said.stderr
    assert not processes_of(places)
    assert not list((places / "runtime" / "nodes").iterdir())


def test_ctrl_c_cancels_a_run_whose_node_was_started_for_it(places: Path) -> None:
    Path("naps.toml").write_text(NAPS)
    process = started("run", "naps.toml")
    eventually(lambda: NAP in processes_of(places))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in err
    assert not processes_of(places)


def test_a_node_started_for_a_run_goes_even_when_the_run_is_killed(places: Path) -> None:
    Path("naps.toml").write_text(NAPS)
    process = started("run", "naps.toml")
    first_line(process, "works")
    process.kill()
    process.communicate()
    eventually(lambda: not processes_of(places))


def test_ctrl_c_leaves_an_application_with_the_running_node_and_says_how_to_come_back() -> None:
    Path("naps.toml").write_text(NAPS)
    with node_running("desk"):
        process = started("run", "naps.toml")
        first_line(process, "is accepted as")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "goes on without you. Come back with `jcpeer wait " in err
        (naps,) = json.loads(ran("list", "--json").stdout)["applications"]
        assert naps["status"] == "running"
        assert ran("cancel", "naps").returncode == 0
        assert ran("wait", "naps").returncode == 3


def test_a_second_node_on_the_same_state_is_one_line_and_not_zero() -> None:
    with node_running("desk"):
        said = ran("node", "--name", "desk", "--no-mdns")
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith("jcpeer: node desk runs already")
    assert said.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    with node_running("desk"):
        process = started("nodes", "--watch", "--json")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        with node_running("shed"):  # a change, which nobody reads
            assert process.wait(10) == 141
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.read() == ""


def test_a_node_that_dies_for_good_leaves_its_client_with_75_and_the_way_back() -> None:
    Path("naps.toml").write_text(NAPS)
    with node_running("desk") as node:
        app = ran("run", "naps.toml", "--detach").stdout.strip()
        script = (
            "import functools, sys, jcpeer.cli.local as local; from jcpeer.cli.main import run\n"
            "local.PatientLink = functools.partial(local.PatientLink, patience_s=0.5)\n"
            "sys.exit(run(['wait', sys.argv[1]]))"
        )
        process = subprocess.Popen([sys.executable, "-c", script, app], stderr=subprocess.PIPE, text=True)
        eventually(lambda: has_connection(process.pid))
        node.kill()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert f"come back with `jcpeer wait {app}`" in err


CHAINS = """
[application]
name = "chains"
[task.first]
matrix.n = {range = [0, 3]}
command = "echo {n} > first-{n}"
outputs = ["first-{n}"]
[task.next]
matrix.n = {range = [0, 3]}
command = "cat first-{n} first-{n} > next-{n}"
inputs = ["first-{n}"]
outputs = ["next-{n}"]
[task.all]
inputs = ["next-*"]
command = "cat next-* > all"
outputs = ["all"]
"""


@pytest.mark.parametrize("dispatch", ["grab", "relay"])
def test_an_application_is_dispatched_as_the_user_says(dispatch: str, tmp_path: Path) -> None:
    (tmp_path / "chains.toml").write_text(CHAINS)
    with node_running("ada"), node_running("ben"):
        run = ran("run", str(tmp_path / "chains.toml"), "--dispatch", dispatch, "--output", str(tmp_path / "out"))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "all").read_text() == "0\n0\n1\n1\n2\n2\n"
