"""A function call as a task: what is pickled, and where the values of other tasks go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from jcpeer.application.task import (
    ARGUMENTS,
    FUNCTION,
    MODULES,
    VALUE,
    VALUE_PREFIX,
    BlobRef,
    Call,
    Input,
    Needs,
    OutputOf,
    Slot,
    Task,
)
from jcpeer.ids import Digest, TaskId, digest_of

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@frozen
class PackedCall:
    """A task, and the bytes of the blobs that it names."""

    task: Task
    data: Mapping[Digest, bytes] = field(repr=False)


def pack_call(
    name: TaskId,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    producer: Callable[[object], TaskId | None],
    modules: bytes | None = None,
    needs: Needs = Needs(),
    timeout_s: float | None = None,
    retries: int = 0,
) -> PackedCall:
    """The task that calls this function.

    Args:
        producer: Of an argument, the task whose value is meant, or None where the argument is meant itself.
        modules: A zip of the user's own modules.

    Raises:
        Exception: whatever pickling the function or an argument raises.
    """
    import cloudpickle  # at the first call: it takes a while to load, and many clients never need it

    data: dict[Digest, bytes] = {}
    inputs: list[Input] = []

    def blob(name: str, content: bytes) -> None:
        digest = digest_of(content)
        data[digest] = content
        inputs.append(Input(name, BlobRef(digest, len(content))))

    values: list[Input] = []

    def filled(argument: object) -> object:
        task = producer(argument)
        if task is None:
            return argument
        slot = Slot(f"{VALUE_PREFIX}{len(values)}")
        values.append(Input(slot.name, OutputOf(task)))
        return slot

    arguments = tuple(filled(each) for each in args), {key: filled(each) for key, each in kwargs.items()}
    blob(FUNCTION, cloudpickle.dumps(function))
    blob(ARGUMENTS, cloudpickle.dumps(arguments))
    if modules is not None:
        blob(MODULES, modules)
    task = Task(
        id=name,
        work=Call(PYTHON, getattr(function, "__qualname__", type(function).__qualname__)),
        inputs=(*inputs, *values),
        outputs=(VALUE,),
        needs=needs,
        timeout_s=timeout_s,
        retries=retries,
        keep=True,
    )
    return PackedCall(task, data)
