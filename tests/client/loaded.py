"""Small applications to hand over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import BlobRef, Command, Input, OutputOf, Task
from jcpeer.client.calls import pack_call
from jcpeer.ids import Digest, TaskId, digest_of


def blob(data: bytes) -> BlobRef:
    return BlobRef(digest_of(data), len(data))


def command(name: str, *inputs: Input, outputs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Task:
    return Task(TaskId(name), Command(("true",)), inputs, outputs, after=tuple(TaskId(each) for each in after))


def application(*tasks: Task, data: tuple[bytes, ...] = (), **more: Any) -> LoadedApplication:
    return LoadedApplication("an-app", tasks, data={digest_of(each): each for each in data}, **more)


def calls(**functions: tuple[Callable[..., object], tuple[object, ...]]) -> LoadedApplication:
    """One call a name; an argument that is another's `TaskId` means its value."""
    packed = [
        pack_call(
            TaskId(name),
            function,
            args,
            {},
            producer=lambda argument: TaskId(argument) if isinstance(argument, str) and argument in functions else None,
        )
        for name, (function, args) in functions.items()
    ]
    data: dict[Digest, bytes] = {}
    for each in packed:
        data.update(each.data)
    return LoadedApplication("calls", tuple(each.task for each in packed), data=data)


def output_of(task: str, name: str) -> Input:
    return Input(name, OutputOf(TaskId(task), name))
