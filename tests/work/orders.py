"""Orders for tests of executors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from jcpeer.application.task import ARGUMENTS, FUNCTION, MODULES, VALUE, BlobRef, Call, Command, Needs, Timed
from jcpeer.ids import TaskId, digest_of
from jcpeer.wire.messages import AttemptOrder, OrderedInput

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def ordered(name: str, content: bytes, *, executable: bool = False) -> OrderedInput:
    return OrderedInput(name, BlobRef(digest_of(content), len(content)), executable=executable)


def command(
    *argv: str,
    shell: bool = False,
    inputs: tuple[OrderedInput, ...] = (),
    outputs: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> AttemptOrder:
    work = Command(argv, shell, env or {})
    return AttemptOrder(TaskId("count"), 7, work, inputs, outputs, Needs(cpus=2), timeout_s)


def shell(text: str, **others: Any) -> AttemptOrder:
    return command(text, shell=True, **others)


def timed(seconds: float, outputs: Mapping[str, int] | None = None, **others: Any) -> AttemptOrder:
    sizes = outputs or {}
    return AttemptOrder(TaskId("count"), 1, Timed(seconds, output_bytes=sizes, **others), outputs=tuple(sizes))


def call(
    function: Callable[..., Any],
    *args: Any,
    python: str = PYTHON,
    inputs: Mapping[str, bytes] | None = None,
    modules: bytes = b"",
    outputs: tuple[str, ...] = (VALUE,),
    timeout_s: float | None = None,
) -> tuple[AttemptOrder, dict[str, bytes]]:
    """The order, and its inputs as the participant has them."""
    contents = {FUNCTION: cloudpickle.dumps(function), ARGUMENTS: cloudpickle.dumps((args, {})), **(inputs or {})}
    if modules:
        contents[MODULES] = modules
    work = Call(python, function.__name__)
    listed = tuple(ordered(name, content) for name, content in contents.items())
    return AttemptOrder(TaskId("count"), 1, work, listed, outputs, timeout_s=timeout_s), contents
