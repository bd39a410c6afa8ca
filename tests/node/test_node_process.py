"""How a node process begins and ends: signals, impossible beginnings, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import jcpeer
from tests.real_grid import Gate, RealGrid, RealNode, eventually

pytestmark = pytest.mark.real


def refused(*nodes: RealNode) -> list[str]:
    """What each of these, which cannot begin, said: one line each."""
    lines = []
    for node in nodes:
        status = node.process.wait(10)
        assert node.process.stdout is not None
        assert node.process.stdout.read() == b""
        (line,) = node.said().splitlines()
        assert status in (2, 74, 77), line
        lines.append(line)
    return lines


def test_a_signal_ends_a_node_whose_tasks_will_not_end_and_others_run_them(world: RealGrid, gate: Gate) -> None:
    a, b, c = world.ensure("a", "b", "c", slots=2)
    with a.connect() as grid:
        handle = grid.run(
            gate.application("stubborn", tasks=9, replicas=1)
        )  # of three copies two would not go for good
        eventually(
            lambda: all(len(each.attempts()) == 2 for each in (a, b, c)), within_s=10, what="all slots are taken"
        )
        took_s = {"SIGTERM": b.stop(signal.SIGTERM), "SIGINT": c.stop(signal.SIGINT)}
        print(f"left after {took_s}")
        assert not b.attempts() | c.attempts()
        gate.open()
        status = handle.wait(timeout=20)
    assert status.summary.state == "ok"
    assert (status.attempts, status.failures) == (9, ())
    assert {each.node.name for each in status.shares} == {"a"}


def test_a_drained_node_lets_its_attempts_end_and_leaves_by_itself(world: RealGrid, gate: Gate) -> None:
    a, b = world.ensure("a", "b", slots=2)
    with a.connect() as grid, ThreadPoolExecutor() as pool:
        handle = grid.run(gate.application("gentle", tasks=8))
        eventually(lambda: all(len(each.attempts()) == 2 for each in (a, b)), within_s=10, what="all slots are taken")
        drained = pool.submit(world.command, "node", "--name", "b", "--drain", machine="b")
        eventually(lambda: a.seen()["b"].record.policy.closed, within_s=10, what="it says that it takes nothing new")
        assert len(b.attempts()) == 2
        gate.open()
        said = drained.result(20)
        status = handle.wait(timeout=20)
    assert (said.returncode, said.stdout) == (0, "Node b has left.\n"), said.stderr
    assert b.process.wait(1) == 0
    assert (status.summary.state, status.attempts, status.failures) == ("ok", 8, ())
    assert next(each.finished for each in status.shares if each.node.name == "b") == 2


def test_a_coordinator_that_is_told_to_stop_hands_over_all_that_it_has_and_nothing_is_lost(
    world: RealGrid, gate: Gate
) -> None:
    a, b = world.ensure("a", "b", slots=2)
    with a.connect() as grid:
        handle = grid.run(gate.application("patient", tasks=6))
        eventually(lambda: a.attempts() and b.attempts(), within_s=10, what="both work")
        a.stop()
        running = b.attempts()
        with b.connect() as there:
            assert there.handle(handle.id).status().coordinator.name == "b"
        a, b = world.ensure("a", "b", slots=2)
        gate.open()
        status = handle.wait(timeout=20)
    assert (status.summary.state, status.takeovers, status.failures) == ("ok", 1, ())
    assert status.coordinator.name == "b"
    assert running, "b has not let go of what it ran"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_start_ends_it_as_well(world: RealGrid, number: signal.Signals) -> None:
    node = world.launch("early", "--no-mdns")
    held = node.directory / "state" / "early" / "running"
    eventually(held.exists, within_s=20, what="it begins")
    node.send_signal(number)
    status = node.process.wait(3)
    assert status in (0, 130, -number)
    assert "Traceback" not in node.said()
    held.unlink()


def test_a_killed_node_leaves_nothing_behind(world: RealGrid, gate: Gate) -> None:
    a, b = world.ensure("a", "b", slots=2)
    with a.connect() as grid:
        handle = grid.run(gate.application("orphans", tasks=4))
        eventually(lambda: len(b.attempts()) == 2, within_s=10, what="b works")
        b.kill()
        eventually(lambda: not b.attempts(), within_s=2, what="its attempts are gone")
        gate.open()
        assert handle.wait(timeout=20).summary.state == "ok"


def test_what_makes_a_beginning_impossible_is_one_line(world: RealGrid) -> None:
    (a,) = world.ensure("a", slots=2)
    (spare,) = world.start("spare")
    spare.stop()
    identity = spare.directory / "state" / "spare" / "identity"
    identity.chmod(0o644)
    in_the_way = world.machine("blocked") / "state"
    in_the_way.touch()
    first = refused(
        world.launch("a", machine="a"),
        world.launch("other", "--listen", a.address),
        world.launch("spare"),
        world.launch("blocked"),
    )
    identity.write_bytes(b"rubbish")
    identity.chmod(0o600)
    (rubbish,) = refused(world.launch("spare", machine="spare"))
    for line, words in zip(
        [*first, rubbish],
        ["runs already", f"port {a.address.split(':')[1]}", f"chmod 600 {identity}", str(in_the_way), "is damaged"],
        strict=True,
    ):
        assert words in line
    assert a.seen() is not None, "it did not suffer"


@contextmanager
def small_disk(place: Path, *, mebibytes: int) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small file system is mounted")


@pytest.mark.root
@needs_root
def test_a_full_disk_makes_a_beginning_impossible(world: RealGrid) -> None:
    place = world.machine("full") / "state"
    with small_disk(place, mebibytes=4):
        (line,) = refused(world.launch("full"))
    assert "full" in line
    assert str(place) in line


@pytest.mark.root
@needs_root
def test_a_node_whose_disk_is_too_small_for_a_task_goes_on_without_it(world: RealGrid, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(2**20) * 32)
    application = jcpeer.Application("large")
    labels = {"disk": "small"}
    application.command(["wc", "-c", jcpeer.File(large)], name="reads", labels=labels)
    application.command("head -c 32000000 /dev/zero > out", outputs=["out"], name="writes", labels=labels)
    application.command(["true"], name="modest", labels=labels)
    (a,) = world.ensure("a", slots=2)
    with small_disk(world.machine("small") / "state", mebibytes=24):
        small = world.launch("small", "--label", "disk=small")
        world.await_ready(small)
        try:
            with a.connect() as grid:
                handle = grid.run(application)
                status = handle.wait(timeout=20)
                modest = handle.task("modest").state
        finally:
            small.stop()
    assert dict(status.summary.tasks).items() >= {"failed": 2, "finished": 1}.items(), status.failures
    assert modest == "finished"
    assert any("reads" in line and "no space left" in line for line in status.failures)
