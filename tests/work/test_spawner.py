"""Nothing that was started outlives what started it, whatever it does to hide."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from jcpeer.work.spawning import Ended, Process, Spawner, open_spawner
from tests.work.processes import Told, alive, gone

pytestmark = pytest.mark.real

DAEMON = "env -i setsid /bin/sh -c 'sleep 600 & echo $! > {told}'"
"""A process in a session of its own, orphaned at once, that has dropped its environment."""


@pytest.fixture
async def spawner() -> AsyncIterator[Spawner]:
    async with open_spawner() as spawner:
        yield spawner


async def start(spawner: Spawner, told: Told, script: str) -> Process:
    directory = told.path.parent
    argv = ["/bin/sh", "-c", script.format(told=told.path)]
    out, err = directory / "stdout", directory / "stderr"
    return await spawner.spawn(argv, env=dict(os.environ), cwd=directory, stdout=out, stderr=err)


async def test_the_end_of_a_process_is_told_with_what_it_used(spawner: Spawner, told: Told) -> None:
    ended = await (await start(spawner, told, "echo out; echo err >&2; exit 3")).wait()
    assert ended.status == 3
    assert 0 < ended.cpu_s < 1
    assert (told.path.parent / "stdout").read_text() == "out\n"
    assert (told.path.parent / "stderr").read_text() == "err\n"


async def test_a_keeper_is_asked_again_and_tells_each_process_apart(spawner: Spawner, told: Told) -> None:
    """Nothing is left of the one before, and what that one used is not counted again."""
    busy = "echo $PPID > {told}; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    first = await (await start(spawner, told, busy + "; " + DAEMON)).wait()
    keeper, daemon = await told.number(), await told.number()
    assert not alive(daemon)
    second = await (await start(spawner, told, "echo $PPID > {told}; exit 7")).wait()
    assert (await told.number(), second.status) == (keeper, 7)
    assert second.cpu_s < first.cpu_s / 2


async def test_a_keeper_whose_process_was_killed_is_not_asked_again(spawner: Spawner, told: Told) -> None:
    process = await start(spawner, told, "echo $PPID > {told}; sleep 600")
    keeper = await told.number()
    await process.kill()
    await gone(keeper)
    await (await start(spawner, told, "echo $PPID > {told}")).wait()
    assert await told.number() != keeper


async def test_a_keeper_that_is_gone_meanwhile_is_not_asked_again(spawner: Spawner, told: Told) -> None:
    await (await start(spawner, told, "echo $PPID > {told}")).wait()
    keeper = await told.number()
    os.kill(keeper, signal.SIGKILL)
    await gone(keeper)
    assert (await (await start(spawner, told, "exit 3")).wait()).status == 3


async def test_a_daemon_that_an_ended_process_left_behind_is_killed_before_the_end_is_told(
    spawner: Spawner, told: Told
) -> None:
    process = await start(spawner, told, DAEMON + "; exit 0")
    assert (await process.wait()).status == 0
    assert not alive(await told.number())


async def test_a_kill_takes_children_and_daemons_along_and_spares_other_processes(spawner: Spawner, told: Told) -> None:
    other = await start(spawner, told, "echo $$ > {told}; exec sleep 600")
    spared = await told.number()
    process = await start(spawner, told, DAEMON + "; sleep 600 & echo $! > {told}; wait")
    killed = {await told.number(), await told.number()}
    assert (await process.kill()).status == -signal.SIGKILL
    assert not any(alive(each) for each in killed)
    assert alive(spared)
    await other.kill()


async def test_what_cannot_be_executed_is_named(spawner: Spawner, tmp_path: Path) -> None:
    out, argv = tmp_path / "out", ["no-such-program"]
    process = await spawner.spawn(argv, env={"PATH": "/usr/bin"}, cwd=tmp_path, stdout=out, stderr=out)
    assert await process.wait() == Ended(errno=errno.ENOENT, path="no-such-program")


async def test_a_task_that_kills_its_keeper_dies_with_all_that_it_started(spawner: Spawner, told: Told) -> None:
    process = await start(spawner, told, DAEMON + "; echo $$ > {told}; kill -9 $PPID; sleep 600")
    pids = [await told.number(), await told.number()]
    with trio.fail_after(2):
        assert (await process.wait()).lost
        for each in pids:
            await gone(each)


async def test_a_spawner_that_was_killed_takes_everything_along_and_is_started_again(
    spawner: Spawner, told: Told
) -> None:
    process = await start(spawner, told, DAEMON + "; sleep 600")
    daemon = await told.number()
    assert spawner.pid is not None
    os.kill(spawner.pid, signal.SIGKILL)
    with trio.fail_after(2):
        assert (await process.wait()).lost
    assert not alive(daemon)
    assert (await (await start(spawner, told, "exit 4")).wait()).status == 4


HOST = """
import os, sys, trio
from pathlib import Path
from jcpeer.work.executor import open_executor
from tests.work.orders import call, shell

def busy(told):
    import os, subprocess, time
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    open(told, "w").write(f"{os.getpid()}\\n{child.pid}\\n")
    time.sleep(600)

async def main():
    here, told = Path(sys.argv[1]), sys.argv[2]
    async with open_executor(slots=2, runtime_dir=here / "runtime") as executor, trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, *call(busy, told), here / "1")
        nursery.start_soon(executor.run, shell(sys.argv[3]), {}, here / "2")
        while executor.spawner_pid is None:
            await trio.lowlevel.checkpoint()
        open(told, "w").write(f"{executor.spawner_pid}\\n")

trio.run(main)
"""


async def test_nothing_is_left_two_seconds_after_the_node_was_killed(tmp_path: Path, told: Told) -> None:
    script = (DAEMON + "; echo $$ > {told}; sleep 600").format(told=told.path)
    argv = [sys.executable, "-c", HOST, str(tmp_path), str(told.path), script]
    host = await trio.lowlevel.open_process(argv, cwd=Path(__file__).parents[2])
    with trio.fail_after(20):
        pids = [await told.number() for _ in range(5)]  # spawner, worker and its child, daemon, command
    assert all(alive(each) for each in pids)
    host.kill()
    await host.wait()
    with trio.fail_after(2):
        for each in pids:
            await gone(each)
