"""Runs a loaded application in this process: the plainest possible grid, for looking at what tasks compute."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jcpeer.application.graph import check_graph
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.task import ARGUMENTS, FUNCTION, VALUE, BlobRef, Call, Command, Input, Slot, Task
from jcpeer.ids import TaskId

Outputs = dict[tuple[TaskId, str], Any]


def run_here(loaded: LoadedApplication, directory: Path) -> Outputs:
    """What each task left: bytes of files, objects of calls."""
    outputs: Outputs = {}
    by_id = {task.id: task for task in loaded.tasks}
    for id in check_graph(loaded.tasks).order:
        work_directory = directory / id
        work_directory.mkdir()
        run = _run_call if isinstance(by_id[id].work, Call) else _run_command
        run(loaded, by_id[id], work_directory, outputs)
    return outputs


def content(loaded: LoadedApplication, item: Input, outputs: Outputs) -> Any:
    source = item.source
    if not isinstance(source, BlobRef):
        return outputs[source.task, source.output]
    data = loaded.data.get(source.digest)
    return loaded.files[source.digest].read_bytes() if data is None else data


def arguments(loaded: LoadedApplication, task: Task) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as they travel, slots and all."""
    by_name = {each.name: each for each in task.inputs}
    unpickled: tuple[tuple[Any, ...], dict[str, Any]] = pickle.loads(content(loaded, by_name[ARGUMENTS], {}))
    return unpickled


def modules(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _run_command(loaded: LoadedApplication, task: Task, directory: Path, outputs: Outputs) -> None:
    assert isinstance(task.work, Command)
    for each in task.inputs:
        path = directory / each.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(loaded, each, outputs))
        path.chmod(0o755 if each.executable else 0o644)
    # Python by the name of this one, so that both count the same tokens.
    path_env = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    argv: Any = task.work.argv[0] if task.work.shell else task.work.argv
    env = {**os.environ, "PATH": path_env, **task.work.env}
    subprocess.run(argv, shell=task.work.shell, cwd=directory, env=env, check=True, capture_output=True)
    for name in task.outputs:
        outputs[task.id, name] = (directory / name).read_bytes()


def _run_call(loaded: LoadedApplication, task: Task, directory: Path, outputs: Outputs) -> None:
    by_name = {each.name: each for each in task.inputs}
    function: Callable[..., Any] = pickle.loads(content(loaded, by_name[FUNCTION], outputs))
    args, kwargs = arguments(loaded, task)

    def fill(value: Any) -> Any:
        match value:
            case Slot(name) if name.startswith("@file."):
                path = directory / name
                path.parent.mkdir(parents=True)
                path.write_bytes(content(loaded, by_name[name], outputs))
                return str(path)
            case Slot(name):
                return content(loaded, by_name[name], outputs)
            case dict():
                return {key: fill(each) for key, each in value.items()}
            case tuple() if hasattr(value, "_fields"):
                return type(value)(*map(fill, value))
            case list() | tuple():
                return type(value)(map(fill, value))
            case _:
                return value

    outputs[task.id, VALUE] = function(*fill(args), **fill(kwargs))
