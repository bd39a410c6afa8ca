"""What a worker does with a call, and what becomes of it afterwards."""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jcpeer.application.task import INLINE_BYTES_MAX, VALUE, Slot
from jcpeer.work.calling import VALUE_FILE, CallReply, CallRequest, frame_of, read_reply
from jcpeer.work.execution import Execution
from jcpeer.work.executor import ProcessExecutor
from jcpeer.work.worker import fill, pickled, unpickled
from tests.work.orders import call
from tests.work.processes import alive

real = pytest.mark.real


def value_of(execution: Execution) -> Any:
    assert execution.failure is None
    content = execution.outputs[VALUE]
    return pickle.loads(content if isinstance(content, bytes) else content.read_bytes())


class Pair(NamedTuple):
    first: Any
    second: Any


def test_slots_are_filled_wherever_they_stand_and_other_things_stay_themselves() -> None:
    request = CallRequest(
        "/d", "", "", None, b"", {"@value.0": pickle.dumps({"n": 1})}, {"@file.0": "/d/files/0"}, {}, True, False
    )
    untouched = Pair([1], {"a": 2})
    thing = [Pair(Slot("@value.0"), Slot("@file.0")), {"deep": ({"er": Slot("@value.0")},)}, untouched]
    filled = fill(thing, request)
    assert filled == [Pair({"n": 1}, "/d/files/0"), {"deep": ({"er": {"n": 1}},)}, untouched]
    assert filled[0].first is filled[1]["deep"][0]["er"]
    assert filled[2] is untouched


def test_a_reply_of_another_shape_is_refused() -> None:
    good = CallReply(None, None, b"", b"", False, 0.0, 0.0, False, False)
    assert read_reply(frame_of(good)[4:]) == good
    for bad in (good._replace(value="/etc/passwd"), good._replace(failure=("exit", 3, "")), good._replace(spent=1)):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="malformed"):
            read_reply(frame_of(bad)[4:])
    with pytest.raises(ValueError, match="malformed"):
        read_reply(b"\xc1")


@real
async def test_a_worker_is_used_again_and_is_small(executor: ProcessExecutor, directory: Path) -> None:
    def who() -> tuple[int, list[str]]:
        return os.getpid(), [each for each in ("trio", "libp2p", "asyncio") if each in sys.modules]

    first = value_of(await executor.run(*call(who), directory))
    assert first == value_of(await executor.run(*call(who), directory)) == (first[0], [])


@real
async def test_each_call_has_what_it_printed_at_whatever_level(executor: ProcessExecutor, directory: Path) -> None:
    def speak(word: str) -> None:
        import ctypes
        import subprocess

        print(word)
        print("warning", file=sys.stderr)
        subprocess.run(["echo", "from a child"], check=True)
        ctypes.CDLL(None).printf(b"from C\n")

    one = await executor.run(*call(speak, "one"), directory)
    two = await executor.run(*call(speak, "two"), directory)
    assert sorted(bytes(one.stdout).split(b"\n")) == [b"", b"from C", b"from a child", b"one"]
    assert b"two" in bytes(two.stdout)
    assert b"one" not in bytes(two.stdout)
    assert one.stderr == two.stderr == b"warning\n"


@real
async def test_much_output_and_a_large_value_come_as_files(executor: ProcessExecutor, directory: Path) -> None:
    def much(size: int) -> bytes:
        print("x" * size)
        return b"y" * size

    size = INLINE_BYTES_MAX + 1
    execution = await executor.run(*call(much, size), directory)
    assert value_of(execution) == b"y" * size
    assert isinstance(execution.stdout, Path)
    assert execution.stdout.read_bytes() == b"x" * size + b"\n"
    assert (await executor.run(*call(much, 0), directory)).stdout == b"\n"


@real
async def test_an_exception_is_told_without_our_own_frames(executor: ProcessExecutor, directory: Path) -> None:
    def fails() -> None:
        raise KeyError("colour " * 10_000)

    failure = (await executor.run(*call(fails), directory)).failure
    assert failure is not None
    assert failure.kind == "exception"
    assert "in fails" in failure.text
    assert "jcpeer/work" not in failure.text
    assert len(failure.text) <= 16 * 1024


@real
async def test_a_missing_package_is_named_with_the_remedy(executor: ProcessExecutor, directory: Path) -> None:
    def needs() -> None:
        import nonesuch.part  # type: ignore[import-not-found]  # noqa: F401

    failure = (await executor.run(*call(needs), directory)).failure
    assert failure is not None
    assert failure.kind == "missing_package"
    assert "package 'nonesuch'" in failure.text
    assert "-m pip install nonesuch" in failure.remedy


@real
async def test_a_result_that_cannot_be_pickled_is_a_failure_that_says_so(
    executor: ProcessExecutor, directory: Path
) -> None:
    def numbers() -> Any:
        return (each for each in range(3))

    failure = (await executor.run(*call(numbers), directory)).failure
    assert failure is not None
    assert failure.text.startswith("the result of numbers, a builtins.generator, cannot be pickled")


@real
async def test_the_end_of_a_worker_fails_its_call_and_the_next_one_finds_another(
    executor: ProcessExecutor, directory: Path
) -> None:
    def end(number: int) -> None:
        print("last words")
        if number:
            os.kill(os.getpid(), number)
        os._exit(3)

    def leave() -> None:
        sys.exit(5)

    crashed = await executor.run(*call(end, int(signal.SIGSEGV)), directory)
    assert crashed.failure is not None
    assert (crashed.failure.kind, crashed.failure.text) == ("killed", "the call's process was killed by SIGSEGV")
    assert crashed.stdout == b"last words\n"
    exited = await executor.run(*call(end, 0), directory)
    assert exited.failure is not None
    assert (exited.failure.kind, exited.exit_status) == ("exit", 3)
    left = await executor.run(*call(leave), directory)
    assert left.failure is not None
    assert (left.failure.text, left.exit_status) == ("leave called sys.exit(5)", 5)
    assert value_of(await executor.run(*call(abs, -1), directory)) == 1


@real
async def test_a_call_that_leaves_a_process_behind_takes_its_worker_along(
    executor: ProcessExecutor, directory: Path
) -> None:
    def leave_behind() -> tuple[int, int]:
        import subprocess

        return os.getpid(), subprocess.Popen(["sleep", "600"], start_new_session=True).pid

    worker, child = value_of(await executor.run(*call(leave_behind), directory))
    assert not alive(worker)
    assert not alive(child)
    assert value_of(await executor.run(*call(os.getpid), directory)) != worker


@real
async def test_modules_of_the_user_are_imported_by_a_worker_of_their_own(
    executor: ProcessExecutor, directory: Path
) -> None:
    def greet() -> str:
        import greeting  # type: ignore[import-not-found]

        return str(greeting.WORD)

    def zipped(word: str) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("greeting.py", f"WORD = {word!r}")
        return file.getvalue()

    assert value_of(await executor.run(*call(greet, modules=zipped("hello")), directory)) == "hello"
    assert value_of(await executor.run(*call(greet, modules=zipped("bonjour")), directory)) == "bonjour"
    failure = (await executor.run(*call(greet), directory)).failure
    assert failure is not None
    assert failure.kind == "missing_package"


def test_a_large_result_that_cannot_be_pickled_to_its_end_leaves_no_file(tmp_path: Path) -> None:
    directory = tmp_path / "attempt"
    with pytest.raises(TypeError):
        pickled([bytes(2 * INLINE_BYTES_MAX), threading.Lock()], str(directory))
    assert not directory.exists()
    assert pickled(bytes(2 * INLINE_BYTES_MAX), str(directory)) is True
    assert unpickled(str(directory / VALUE_FILE)) == bytes(2 * INLINE_BYTES_MAX)
