"""Small applications to hand over."""

from __future__ import annotations

from typing import Any

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import BlobRef, Command, Input, OutputOf, Task
from jcpeer.ids import TaskId, digest_of


def blob(data: bytes) -> BlobRef:
    return BlobRef(digest_of(data), len(data))


def command(name: str, *inputs: Input, outputs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Task:
    return Task(TaskId(name), Command(("true",)), inputs, outputs, after=tuple(TaskId(each) for each in after))


def application(*tasks: Task, data: tuple[bytes, ...] = (), **more: Any) -> LoadedApplication:
    return LoadedApplication("an-app", tasks, data={digest_of(each): each for each in data}, **more)


def output_of(task: str, name: str) -> Input:
    return Input(name, OutputOf(TaskId(task), name))
