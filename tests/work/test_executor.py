"""Attempts in real processes: what they are given, what is taken from them, and how they end."""

from __future__ import annotations

import math
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from jcpeer.application.task import INLINE_BYTES_MAX, VALUE, Slot
from jcpeer.wire.messages import Failure
from jcpeer.work.execution import Content, Execution
from jcpeer.work.executor import ProcessExecutor
from jcpeer.work.files import filler
from tests.work.orders import call, command, ordered, shell, timed
from tests.work.processes import Told, alive

pytestmark = pytest.mark.real


def failure_of(execution: Execution) -> Failure:
    assert execution.failure is not None
    return execution.failure


async def test_a_command_finds_its_inputs_and_leaves_its_outputs(
    executor: ProcessExecutor, directory: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.write_bytes(b"large\n")
    store.chmod(0o400)
    program = b"#!/bin/sh\ncat in/data > out/copy; echo more >> in/data; echo said; echo warned >&2"
    inputs: dict[str, Content] = {"run.sh": program, "in/data": store}
    listed = (ordered("run.sh", program, executable=True), ordered("in/data", b"large\n"))
    order = shell("mkdir out; ./run.sh", inputs=listed, outputs=("out/copy",))
    execution = await executor.run(order, inputs, directory)
    assert execution.failure is None
    assert execution.exit_status == 0
    assert execution.outputs == {"out/copy": b"large\n"}
    assert (execution.stdout, execution.stderr) == (b"said\n", b"warned\n")
    assert store.read_bytes() == b"large\n"  # the task wrote into its own copy


async def test_a_command_has_a_small_environment_and_its_own_place(
    executor: ProcessExecutor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_NODE", "1")
    execution = await executor.run(command("env", env={"COLOUR": "blue"}), {}, directory)
    variables = dict(line.split("=", 1) for line in bytes(execution.stdout).decode().splitlines())
    assert "SECRET_OF_THE_NODE" not in variables
    assert (variables["JCPEER_TASK"], variables["JCPEER_ATTEMPT"], variables["JCPEER_CPUS"]) == ("count", "7", "2")
    assert variables["COLOUR"] == "blue"
    assert Path(variables["TMPDIR"]).is_relative_to(directory)
    assert variables["CUDA_VISIBLE_DEVICES"] == ""
    where = await executor.run(shell("pwd; umask; ulimit -c"), {}, directory / "2")
    assert bytes(where.stdout).decode().split() == [str(directory / "2" / "work"), "0077", "0"]


async def test_ends_of_commands_are_told_in_words(executor: ProcessExecutor, directory: Path) -> None:
    exited = await executor.run(shell("exit 3"), {}, directory)
    assert (failure_of(exited).kind, failure_of(exited).text, exited.exit_status) == ("exit", "exit status 3", 3)
    killed = await executor.run(shell("kill -SEGV $$"), {}, directory)
    assert (failure_of(killed).kind, failure_of(killed).text) == ("exit", "killed by SIGSEGV")
    absent = failure_of(await executor.run(command("nonesuch"), {}, directory))
    assert absent.kind == "setup"
    assert absent.text == "cannot run 'nonesuch': there is no such file or command"
    assert absent.remedy
    inputs = (ordered("tool", b""),)
    beside = failure_of(await executor.run(command("tool", inputs=inputs), {"tool": b""}, directory))
    assert "./tool" in beside.remedy


async def test_a_missing_output_is_named_beside_what_is_there(executor: ProcessExecutor, directory: Path) -> None:
    execution = await executor.run(shell("echo > other", outputs=("result",)), {}, directory)
    failure = failure_of(execution)
    assert failure.kind == "missing_output"
    assert failure.text == "output 'result' was not made; the work directory holds other"


async def test_names_that_lead_out_of_the_work_directory_are_refused(
    executor: ProcessExecutor, directory: Path
) -> None:
    for name in ("../escaped", "/tmp/escaped"):
        bad_input = command("true", inputs=(ordered(name, b""),))
        assert failure_of(await executor.run(bad_input, {name: b""}, directory)).kind == "setup"
        assert failure_of(await executor.run(command("true", outputs=(name,)), {}, directory)).kind == "setup"


async def test_a_timeout_kills_the_whole_group(executor: ProcessExecutor, directory: Path, told: Told) -> None:
    order = shell(f"sleep 600 & echo $! > {told.path}; wait", timeout_s=0.3)
    execution = await executor.run(order, {}, directory)
    assert failure_of(execution) == Failure("timeout", "ran longer than 0.3 s", "give the task a longer timeout")
    assert not alive(await told.number())


async def test_a_cancelled_command_is_gone_when_run_returns(
    executor: ProcessExecutor, directory: Path, told: Told
) -> None:
    async with trio.open_nursery() as nursery:
        order = shell(f"setsid sleep 600 & echo $! > {told.path}; echo begun; wait")
        nursery.start_soon(executor.run, order, {}, directory)
        daemon = await told.number()
        nursery.cancel_scope.cancel()
    assert not alive(daemon)


async def test_a_call_is_followed_while_it_runs_and_gone_when_cancelled(
    executor: ProcessExecutor, directory: Path, told: Told
) -> None:
    def endless(told: str) -> None:
        import os
        import subprocess
        import time

        print("begun")
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        with open(told, "w") as file:
            file.write(f"{os.getpid()}\n{child.pid}\n")
        time.sleep(600)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.run, *call(endless, str(told.path)), directory)
        pids = [await told.number(), await told.number()]
        with trio.fail_after(5):
            while not (directory / "stdout").exists():
                await trio.lowlevel.checkpoint()
        assert (directory / "stdout").read_text() == "begun\n"
        nursery.cancel_scope.cancel()
    assert not any(alive(each) for each in pids)


async def test_a_call_sees_its_gpus_in_a_process_that_has_seen_no_others(
    executor: ProcessExecutor, directory: Path, tmp_path: Path
) -> None:
    def look() -> tuple[int, str]:
        import os

        return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]

    seen = []
    for number, gpus in enumerate([(), ("2", "0"), ("1",), ()]):
        place = tmp_path / str(number)
        place.mkdir()
        execution = await executor.run(*call(look), place, gpus=gpus)
        assert execution.failure is None
        seen.append(pickle.loads(bytes(execution.outputs[VALUE])))
    assert [each for _, each in seen] == ["", "2,0", "1", ""]
    processes = [process for process, _ in seen]
    assert [processes.count(each) for each in processes[1:3]] == [1, 1]


async def test_a_call_that_runs_too_long_is_killed_and_the_next_one_runs(
    executor: ProcessExecutor, directory: Path
) -> None:
    execution = await executor.run(*call(time.sleep, 600, timeout_s=0.3), directory)
    assert failure_of(execution).kind == "timeout"
    assert (await executor.run(*call(abs, -1), directory)).failure is None


async def test_a_call_reads_values_and_files_and_leaves_files(
    executor: ProcessExecutor, directory: Path, tmp_path: Path
) -> None:
    def join(texts: list[str], path: str) -> int:
        with open(path) as source, open("joined.txt", "w") as target:
            return target.write(" ".join(texts) + source.read())

    inputs = {"@value.0": pickle.dumps("one"), "@value.1": pickle.dumps("two"), "@file.0/three.txt": b" three"}
    args = ([Slot("@value.0"), Slot("@value.1")], Slot("@file.0/three.txt"))
    execution = await executor.run(*call(join, *args, inputs=inputs, outputs=(VALUE, "joined.txt")), directory)
    assert execution.failure is None
    assert execution.outputs == {VALUE: pickle.dumps(13, protocol=5), "joined.txt": b"one two three"}
    missing = await executor.run(*call(abs, -1, outputs=("joined.txt",)), tmp_path / "another")
    assert failure_of(missing).text == "output 'joined.txt' was not made; the work directory is empty"


async def test_another_minor_version_of_python_is_refused(executor: ProcessExecutor, directory: Path) -> None:
    failure = failure_of(await executor.run(*call(abs, -1, python="3.4"), directory))
    assert failure.kind == "setup"
    assert "Python 3.4" in failure.text


async def test_a_killed_spawner_is_no_fault_of_the_task_and_is_replaced(
    executor: ProcessExecutor, directory: Path, told: Told
) -> None:
    executions: list[Execution] = []

    async def run() -> None:
        order = shell(f"sleep 600 & echo $! > {told.path}; wait")
        executions.append(await executor.run(order, {}, directory))

    await executor.run(*call(abs, -1), directory)  # leaves an idle worker, which dies as well
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        child = await told.number()
        assert executor.spawner_pid is not None
        os.kill(executor.spawner_pid, signal.SIGKILL)
    assert failure_of(executions[0]).kind == "killed"
    assert not alive(child)
    assert (await executor.run(*call(abs, -1), directory)).failure is None


async def test_work_that_only_takes_time_leaves_what_it_says(executor: ProcessExecutor, directory: Path) -> None:
    sizes = {"small": 10, "none": 0, "large": INLINE_BYTES_MAX + 1}
    for burn in (False, True):
        execution = await executor.run(timed(0.1, sizes, burn=burn), {}, directory)
        assert execution.failure is None
        assert execution.ran_s >= 0.1
        small, large = execution.outputs["small"], execution.outputs["large"]
        assert (small, execution.outputs["none"]) == (filler(timed(0).task, "small", 10), b"")
        assert isinstance(large, Path)
        assert large.read_bytes() == filler(timed(0).task, "large", sizes["large"])


async def test_a_thousand_calls_need_one_worker_and_no_directory(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A call that the machine holds up is shown in its directory; whether one is, is not for the clock to decide here.
    monkeypatch.setattr("jcpeer.work.call_runner.FOLLOW_AFTER_S", math.inf)

    def nothing() -> Any:
        return os.getpid()

    order, inputs = call(nothing)
    values = {(await executor.run(order, inputs, tmp_path / "never")).outputs[VALUE] for _ in range(1000)}
    assert len(values) == 1
    assert not (tmp_path / "never").exists()
