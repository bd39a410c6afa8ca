"""One vertex of an application's graph, as it travels and as it is journalled.

Everything that a task reads is an *input*: a file, the function that it calls, that function's arguments, a value
that another task returned. So there is one rule for fetching, for placement by data, and for the digests that an
outcome names. Everything that it leaves is an *output*. Both are blobs; a name beginning with `@` is a value of a
Python call, any other name is a path below the task's work directory.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import field

from jcpeer.ids import Digest, TaskId
from jcpeer.values import Number, Value

INLINE_BYTES_MAX = 64 * 1024
"""A blob up to this size travels inside messages and lives in the journal; a larger one has streams of its own."""

TOGETHER_BYTES_MAX = 256 * 1024
"""Blobs up to this size travel many at a time: a stream or a request for each would cost more than its bytes do."""

VALUE = "@value"
"""Output: what a Python call returned, pickled."""
FUNCTION = "@function"
"""Input: the pickled callable."""
ARGUMENTS = "@arguments"
"""Input: the pickled pair (args, kwargs), in which a `Slot` stands for each input that the call waits for."""
MODULES = "@modules"
"""Input: a zip of the user's own modules, put on the import path of the worker."""
VALUE_PREFIX = "@value."
"""Input `@value.N`: a value that another task returned, put in place of `Slot("@value.N")`."""
FILE_PREFIX = "@file."
"""Input `@file.N/NAME`: a file of that name; its path is put in place of `Slot("@file.N/NAME")`."""


class BlobRef(Value, tag=True):
    """A blob by content."""

    digest: Digest
    size: int

    @property
    def small(self) -> bool:
        return self.size <= INLINE_BYTES_MAX

    @property
    def travels_with_others(self) -> bool:
        return self.size <= TOGETHER_BYTES_MAX


class OutputOf(Value, tag=True):
    """What another task of the same application will have left under this name."""

    task: TaskId
    output: str = VALUE


class Input(Value):
    """Something that must be on the participant before the task starts, and the name under which the task finds it."""

    name: str
    source: BlobRef | OutputOf
    executable: bool = False


class Slot(Value):
    """Within pickled arguments: the place of the input with this name."""

    name: str


class Command(Value, tag=True):
    """A program run in the task's work directory. `argv` of a shell command is one string, given to /bin/sh -c."""

    argv: tuple[str, ...]
    shell: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


class Call(Value, tag=True):
    """A Python function, called in a reused worker process of the same minor version of Python (as in "3.11")."""

    python: str
    function_name: str = ""


class Timed(Value, tag=True):
    """Work that only takes its time, for trying and measuring: sleeps, or burns one core, for `seconds`.

    It leaves each declared output with as many bytes as `output_bytes` says (missing names: none).
    """

    seconds: Number
    burn: bool = False
    output_bytes: Mapping[str, int] = field(default_factory=dict)


Work = Command | Call | Timed


class Needs(Value):
    """What a participant must offer to be given the task. A label with the value "" need only be there."""

    cpus: int = 1
    memory_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    disk_bytes: int = 0
    """Free there when the task is given."""
    cost_max: Number | None = None
    """What an hour of a slot may cost there at most; None: whatever it costs."""


class Task(Value):
    """One checked task; see `graph.check_graph` for what holds of a set of them."""

    id: TaskId
    work: Work
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    after: tuple[TaskId, ...] = ()
    needs: Needs = Needs()
    timeout_s: Number | None = None
    retries: int = 0
    keep: bool = False
    """Its outputs are results of the application even when other tasks read them."""
    once: bool = False
    """It starts at most once without the user's word: one that may have started and came to nothing has failed."""

    def sources(self) -> tuple[TaskId, ...]:
        """The tasks whose outputs this one reads, each once."""
        found = [each.source.task for each in self.inputs if isinstance(each.source, OutputOf)]
        return tuple(dict.fromkeys(found)) if found else ()

    def blobs(self) -> list[BlobRef]:
        """What it reads that no task leaves."""
        return [each.source for each in self.inputs if isinstance(each.source, BlobRef)]

    def parents(self) -> tuple[TaskId, ...]:
        """The tasks that must have finished before this one starts, each once, in order of first mention."""
        return tuple(dict.fromkeys((*self.sources(), *self.after))) if self.after else self.sources()
