"""What stands in a Python program for something that only the tasks will have: files and results of tasks.

None of them can be pickled: in the arguments of a call, each is replaced by the place where a worker puts the real
thing (`calls`), and one that is hidden where it cannot be found must not travel as itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from jcpeer.application.names import remedy
from jcpeer.application.task import VALUE
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId

_WHERE = "put it into the arguments themselves, or into a list, tuple or dict among them"


@frozen
class File:
    """A file of this machine. As an argument of a call, the function is given its path where it runs."""

    path: Path = field(converter=Path)

    def __reduce__(self) -> Any:
        raise TypeError(f"File({str(self.path)!r}) is hidden inside another object; {_WHERE}")


@frozen(eq=False)
class TaskRef:
    """A task of an application. As an argument of a call, the function is given what that task returned."""

    id: TaskId
    outputs: tuple[str, ...]
    owner: object = field(repr=False)

    def output(self, name: str) -> OutputRef:
        """A file that this task makes. As an argument of a call, the function is given its path where it runs.

        Raises:
            GraphError: the task makes no such file.
        """
        files = [each for each in self.outputs if each != VALUE]
        if name not in files:
            otherwise = f"it makes {', '.join(files)}" if files else "it makes no files"
            raise GraphError(f"task {self.id} has no output {name!r:.80}; {remedy(name, files, otherwise)}")
        return OutputRef(self, name)

    def __reduce__(self) -> Any:
        raise TypeError(f"the result of task {self.id} is hidden inside another object; {_WHERE}")


@frozen(eq=False)
class OutputRef:
    """One file that a task makes."""

    task: TaskRef
    name: str

    def __reduce__(self) -> Any:
        raise TypeError(f"output {self.name!r} of task {self.task.id} is hidden inside another object; {_WHERE}")
