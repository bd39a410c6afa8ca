"""`make demo` as a user sees it: the right answer, the coordinator killed on the way, and nothing left behind."""

from __future__ import annotations

import os
import re
import runpy
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
STDLIB = Path(sysconfig.get_path("stdlib"))
count_names = runpy.run_path(str(EXAMPLES / "corpus" / "plain.py"))["count_names"]

pytestmark = pytest.mark.real


@contextmanager
def demo(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The demonstration, all of whose files and processes bear the mark of this directory."""
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "demo.py"), *options],
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_of(directory: Path) -> list[int]:
    """All that runs with this directory in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(directory) in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def await_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        select.select([descriptor], [], [], 30)
        os.close(descriptor)


def some_of_the_standard_library(directory: Path) -> Path:
    """As much as makes each shard's index too large for the journal, and no more."""
    directory.mkdir()
    for file in STDLIB.glob("*.py"):
        shutil.copy(file, directory)
    for package in ("asyncio", "encodings", "unittest"):
        shutil.copytree(STDLIB / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def test_the_names_are_those_of_a_plain_count_though_the_coordinator_was_killed_half_way(tmp_path: Path) -> None:
    source, temporary = some_of_the_standard_library(tmp_path / "source"), tmp_path / "t"
    temporary.mkdir()
    with demo(temporary, "--stdlib", str(source)) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")

    uses = count_names(source)
    ranked = sorted(uses, key=lambda name: (-uses[name], name))[:20]
    _, _, names = out.partition("names used most")
    pairs = re.findall(r"([\d,]+)  (\w+)", names.partition("Each node's share")[0])
    assert {name: int(number.replace(",", "")) for number, name in pairs} == {name: uses[name] for name in ranked}

    assert "its journal is kept by anna, bela and cora" in out
    (coordinator,) = re.findall(r"(\w+) coordinates it", out)
    ((killed, successor),) = re.findall(r"coordinator (\w+) lost, (\w+) took over at epoch 2 after \d+\.\d s", out)
    assert killed == coordinator != successor
    assert re.search(rf"{killed} .*\(killed half way\)", out)
    (lost,) = re.findall(r"the outputs of (\d+) were nowhere else, run again by", out)
    assert int(lost) > 0
    assert re.search(rf"its place +taken by {successor}, \d+\.\d\d s after the kill", out)

    assert processes_of(temporary) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 1), (signal.SIGKILL, -9)])
def test_however_it_is_ended_no_process_is_left(number: signal.Signals, status: int, tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        assert process.stdout is not None
        assert any("has handed over" in line for line in process.stdout)
        started = processes_of(tmp_path)
        assert len(started) > 3
        process.send_signal(number)
        _, err = process.communicate()
        assert process.returncode == status
        if number == signal.SIGKILL:
            for pid in started:  # nobody is left to wait for them: they end by themselves
                await_end(pid)
            for pid in processes_of(tmp_path):  # what these had started since
                await_end(pid)
        else:
            assert re.fullmatch(r"demo: .+\n", err)
            assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_a_node_that_does_not_come_up_is_told_in_one_line(tmp_path: Path) -> None:
    too_long_for_a_socket = tmp_path / ("long" * 25)
    too_long_for_a_socket.mkdir()
    with demo(too_long_for_a_socket) as process:
        _, err = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(r"demo: node anna did not come up: .+\n", err)
    assert processes_of(too_long_for_a_socket) == []
    assert list(too_long_for_a_socket.iterdir()) == []
