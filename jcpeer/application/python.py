"""Applications written as Python.

    app = jcpeer.Application("words")
    counts = [app.task(count, jcpeer.File(path)) for path in paths]
    total = app.task(merge, counts)                      # references as arguments make the edges
    app.command(["sort", "-n", jcpeer.File("n.txt"), "-o", "sorted.txt"], outputs=["sorted.txt"])

Whatever is handed in is read at once: files and arguments may change afterwards. References exist only once their task
does, so what is built here has no cycles. One thread builds an application.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypedDict, TypeVar, Unpack

from attrs import frozen

from jcpeer.application.calls import Function, FunctionPacker, Reference, function_name, pack_arguments
from jcpeer.application.fields import Fields
from jcpeer.application.graph import check_graph, once_fault
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.local_blobs import LocalBlobs, LocalFile, files_below
from jcpeer.application.manifest import Dispatch, OnFailure, Placement, Policies, Takeover, policies_fault
from jcpeer.application.modules import import_root, pack_modules
from jcpeer.application.names import arrival_name, plain_name, task_id_fault, task_id_from
from jcpeer.application.needs import NEEDS_KEYS, application_labels, quantity, read_needs
from jcpeer.application.quantities import parse_seconds
from jcpeer.application.references import File, OutputRef, TaskRef
from jcpeer.application.task import ARGUMENTS, FUNCTION, MODULES, VALUE, Call, Command, Input, Needs, OutputOf, Task
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId
from jcpeer.values import evolve

F = TypeVar("F", bound=Callable[..., Any])

Source = str | os.PathLike[str] | File | OutputRef
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_OPTIONS_ATTRIBUTE = "__jcpeer_options__"


class TaskOptions(TypedDict, total=False):
    """What a task needs, and what is done with it."""

    cpus: int
    memory: int | str
    gpus: int
    disk: int | str
    max_cost: float
    labels: Mapping[str, str]
    timeout: float | str
    retries: int
    keep: bool
    once: bool


class CallOptions(TaskOptions, total=False):
    """What can be said of one call besides."""

    name: str
    after: Sequence[TaskRef]


def task(**options: Unpack[TaskOptions]) -> Callable[[F], F]:
    """Says what a function needs wherever it runs as a task: `@jcpeer.task(cpus=2, memory="1GiB", retries=3)`.

    The function itself stays as it is and can be called directly.

    Raises:
        GraphError: an option is unknown or impossible.
    """
    _read_options("jcpeer.task", options)

    def mark(function: F) -> F:
        try:
            setattr(function, _OPTIONS_ATTRIBUTE, dict(options))
        except (AttributeError, TypeError) as error:
            name = function_name(function)
            raise GraphError(f"{name} cannot be marked; say what it needs as app.options(…).task({name}, …)") from error
        return function

    return mark


class Application:
    """A graph of calls and commands under construction.

    Args:
        name: What people call it.
        directory: Where the user's own modules are, which travel with it; default: where the calling file's modules
            are imported from.
        on_failure: `finish`: what does not depend on a failed task still runs; `stop`: everything else is cancelled.
        placement: `rdv`: its coordinator is the member closest to its key; `local`: the node that it is handed to.
        dispatch: Who decides where a task runs. `assign`: the coordinator; `grab`: participants compete for offers;
            `relay`: whoever finishes a task starts its children.
        replicas: How many nodes keep its journal, the coordinator included; with 3 any one of them may be lost.
        takeover: What the others need to go on without the coordinator. `quorum`: most of them; `available`: nothing,
            so that both sides of a divided grid may. `default`: the former where there are three or more.
        inputs_stay: Large inputs are not copied to the replicas first: the submitter's node has to stay.
        labels: What it is, for nodes whose owners choose by that.
    """

    def __init__(
        self,
        name: str,
        *,
        directory: str | os.PathLike[str] | None = None,
        on_failure: OnFailure = "finish",
        placement: Placement = "rdv",
        dispatch: Dispatch = "assign",
        replicas: int = 3,
        takeover: Takeover = "default",
        inputs_stay: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise GraphError(f"an application cannot be called {name!r:.80}; use one line of at most 200 characters")
        self.policies: Policies = {
            "on_failure": on_failure,
            "placement": placement,
            "dispatch": dispatch,
            "replicas": replicas,
            "takeover": takeover,
            "inputs_stay": inputs_stay,
        }
        if fault := policies_fault(self.policies):
            raise GraphError(f"application {name}: {fault}")
        if directory is not None and not Path(directory).is_dir():
            raise GraphError(f"application {name}: {directory} is not a directory; name that of your modules")
        self.name = name
        self.labels = application_labels(Fields(f"application {name}", {"labels": dict(labels or {})}))
        self._directory = _directory_of_caller() if directory is None else Path(directory).absolute()
        self._tasks: list[Task] = []
        self._ids: set[TaskId] = set()
        self._counts: Counter[str] = Counter()
        self._blobs = LocalBlobs()
        self._functions = FunctionPacker()
        self._modules: Input | None = None
        self._modules_data: bytes | None = None

    def task(self, function: Function, /, *args: Any, **kwargs: Any) -> TaskRef:
        """A call of this function, wherever there is room. Among its arguments, references to other tasks stand for
        what these return, `ref.output(…)` and `jcpeer.File(…)` for files, of which the function is given the path.

        Raises:
            GraphError: function or arguments cannot be sent; the text names the task and the argument.
        """
        return self._add_call({}, function, args, kwargs)

    def options(self, **options: Unpack[CallOptions]) -> WithOptions:
        """The same application, whose next calls have these options: `app.options(retries=3, after=[a]).task(f, x)`."""
        return WithOptions(self, options)

    def command(
        self,
        command: str | Sequence[str | int | float | File | OutputRef],
        *,
        inputs: Iterable[Source | TaskRef] | Mapping[str, Source] = (),
        outputs: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        **options: Unpack[CallOptions],
    ) -> TaskRef:
        """A program in a work directory of its own.

        Args:
            command: Program and arguments, or one text for /bin/sh. A `File` or an output among the arguments becomes
                an input, and its name there the argument.
            inputs: Files and directories here, relative to the current directory; outputs of other tasks; a reference
                to a command for all its outputs. A mapping gives the names under which they arrive.
            outputs: The files that it leaves and others may read.

        Raises:
            GraphError: something is not there, or makes no sense; the text names the task.
        """
        id = self._new_id(_command_name(command), options.get("name"))
        with self._blamed(id):
            found: dict[Input, None] = {}
            argv = tuple(self._argument(each, found) for each in ([command] if isinstance(command, str) else command))
            named = inputs.items() if isinstance(inputs, Mapping) else ((None, each) for each in _listed(inputs))
            for name, source in named:
                found |= dict.fromkeys(self._inputs(source, name))
            made = tuple(plain_name(each) for each in _listed(outputs))
            work = Command(argv, shell=isinstance(command, str), env=dict(env or {}))
            return self._add(Task(id=id, work=work, inputs=tuple(found), outputs=made), options)

    def load(self) -> LoadedApplication:
        """Everything, checked and ready to be handed over.

        Raises:
            GraphError: there is no task, or a name clashes.
        """
        if not self._tasks:
            raise GraphError(f"application {self.name} has no task; add one with app.task(f, …)")
        with self._blamed(None):
            return self._loaded(self._tasks)

    def take(self) -> LoadedApplication:
        """What was added since the last `take`, for a batch of an application that stays open; it is forgotten here,
        though later tasks may still refer to it.

        Raises:
            GraphError: as for `load`; nothing is forgotten then.
        """
        with self._blamed(None):
            loaded = self._loaded(self._tasks)
        self._tasks, self._blobs = [], LocalBlobs()
        return loaded

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"application {self.name} stays where it was made; pass what the function needs as arguments")

    # --- calls

    def _add_call(
        self, options: CallOptions, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> TaskRef:
        merged: CallOptions = {**getattr(function, _OPTIONS_ATTRIBUTE, {}), **options}  # checked when marked
        id = self._new_id(function_name(function), merged.get("name"))
        with self._blamed(id):
            packed = self._functions.pack(function)
            arguments, references = pack_arguments(packed, args, kwargs)
            inputs = (
                Input(FUNCTION, self._blobs.add_data(packed.data)),
                Input(ARGUMENTS, self._blobs.add_data(arguments)),
                *(self._referred(name, reference) for name, reference in references.items()),
            )
            work = Call(PYTHON, packed.name)
            return self._add(Task(id=id, work=work, inputs=inputs, outputs=(VALUE,)), merged)

    def _referred(self, name: str, reference: Reference) -> Input:
        match reference:
            case File(path):
                return self._blobs.add_file(LocalFile(name, path))
            case OutputRef(ref, output):
                return Input(name, OutputOf(self._own(ref).id, output))
            case TaskRef():
                if VALUE not in self._own(reference).outputs:
                    raise GraphError(f"task {reference.id} is a command and returns nothing; pass its .output(…)")
                return Input(name, OutputOf(reference.id))

    # --- commands

    def _argument(self, item: object, found: dict[Input, None]) -> str:
        match item:
            case str():
                return item
            case bool():
                raise GraphError(f"{item} cannot be an argument; write it as text")
            case int() | float():
                return str(item)
            case File() | OutputRef():
                inputs = list(self._inputs(item, None))
                found |= dict.fromkeys(inputs)
                # Of a directory the name, which is what its files have in common.
                return inputs[0].name if isinstance(item, OutputRef) else arrival_name(os.fspath(item.path))
            case TaskRef():
                raise GraphError(f"the result of task {item.id} cannot be an argument of a program; use .output(…)")
            case _:
                raise GraphError(
                    f"a {type(item).__name__} cannot be an argument of a program; write text, File or .output(…)"
                )

    def _inputs(self, source: Source | TaskRef, name: str | None) -> Iterator[Input]:
        match source:
            case OutputRef(ref, output):
                yield Input(plain_name(name or output), OutputOf(self._own(ref).id, output))
            case TaskRef():
                files = [each for each in self._own(source).outputs if each != VALUE]
                if not files or name:
                    raise GraphError(f"task {source.id}: name one of its files with .output(…); a result is no file")
                for output in files:
                    yield Input(output, OutputOf(source.id, output))
            case File() | str() | os.PathLike():
                path = source.path if isinstance(source, File) else Path(source)
                arrives = plain_name(name) if name else arrival_name(os.fspath(path))
                files_found = list(files_below(path, name=arrives)) if path.is_dir() else [LocalFile(arrives, path)]
                if not files_found:
                    raise GraphError(f"input {os.fspath(path)!r} is an empty directory; a task can make one itself")
                yield from map(self._blobs.add_file, files_found)
            case _:
                raise GraphError(f"a {type(source).__name__} cannot be an input; give a path, File or .output(…)")

    # --- every task

    def _add(self, task: Task, options: CallOptions) -> TaskRef:
        after = tuple(self._own(ref).id for ref in options.get("after", ()))
        task = evolve(task, after=after, **_read_options("options", options))
        self._tasks.append(task)
        self._ids.add(task.id)
        return TaskRef(task.id, task.outputs, self)

    def _own(self, ref: object) -> TaskRef:
        if not isinstance(ref, TaskRef):
            raise GraphError(f"a {type(ref).__name__} is no task; give what app.task(…) or app.command(…) returned")
        if ref.owner is not self:
            raise GraphError(f"task {ref.id} belongs to another application; build both in one")
        return ref

    def _new_id(self, stem: str, name: str | None) -> TaskId:
        if name is not None:
            if fault := task_id_fault(name):
                raise GraphError(f"application {self.name}: a task cannot be called {name!r:.80}; {fault}")
            if name in self._ids:
                raise GraphError(f"application {self.name}: there are two tasks called {name}; rename one")
            return TaskId(name)
        stem = task_id_from(stem.strip("<>")) or "task"
        while True:
            self._counts[stem] += 1
            id = TaskId(f"{stem}-{self._counts[stem]:04d}")
            if id not in self._ids:
                return id

    def _loaded(self, added: Sequence[Task]) -> LoadedApplication:
        modules = self._pack_modules() if any(isinstance(task.work, Call) for task in added) else None
        tasks = tuple(
            evolve(task, inputs=(*task.inputs, modules)) if modules and isinstance(task.work, Call) else task
            for task in added
        )
        if modules and self._modules_data is not None:
            self._blobs.add_data(self._modules_data)
        added_ids = {task.id for task in tasks}
        # Parents are earlier tasks by construction; those taken already are gone, so they are not asked for again.
        graph = check_graph([_without_taken(task, added_ids) for task in tasks])
        kept = {task.id for task in tasks if task.keep}.union(graph.unread)
        return LoadedApplication(
            name=self.name,
            tasks=tasks,
            **self.policies,
            labels=self.labels,
            results=tuple(task.id for task in tasks if task.id in kept),
            files=dict(self._blobs.files),
            data=dict(self._blobs.data),
        )

    def _pack_modules(self) -> Input | None:
        if self._modules is None and self._directory is not None:
            self._modules_data = pack_modules(self._directory)
            if self._modules_data is not None:
                self._modules = Input(MODULES, self._blobs.add_data(self._modules_data))
        return self._modules

    @contextmanager
    def _blamed(self, task: TaskId | None) -> Iterator[None]:
        try:
            yield
        except GraphError as error:
            place = f"application {self.name}" if task is None else f"application {self.name}: task {task}"
            raise GraphError(f"{place}: {error}", cycle=error.cycle) from error


@frozen
class WithOptions:
    """An application, and what is said of the calls that are made through this."""

    _application: Application
    _options: CallOptions

    def task(self, function: Function, /, *args: Any, **kwargs: Any) -> TaskRef:
        """As `Application.task`; these options win over those that the function was marked with."""
        return self._application._add_call(self._options, function, args, kwargs)


class _Read(TypedDict):
    """What options make of a task."""

    needs: Needs
    timeout_s: float | None
    retries: int
    keep: bool
    once: bool


def _read_options(where: str, options: Mapping[str, Any]) -> _Read:
    fields = Fields(where, dict(options))
    fields.only((*NEEDS_KEYS, "timeout", "retries", "keep", "once", "name", "after"))
    read = _Read(
        needs=read_needs(fields, fields.text_table("labels")),
        timeout_s=quantity(fields, "timeout", parse_seconds),
        retries=fields.whole("retries", 0, at_least=0),
        keep=fields.flag("keep", False),
        once=fields.flag("once", False),
    )
    if fault := once_fault(read["once"], read["retries"]):
        fields.refuse(fault)
    return read


def _without_taken(task: Task, added: set[TaskId]) -> Task:
    if added.issuperset(task.parents()):
        return task
    inputs = tuple(each for each in task.inputs if not isinstance(each.source, OutputOf) or each.source.task in added)
    return evolve(task, inputs=inputs, after=tuple(each for each in task.after if each in added))


def _listed(items: Iterable[Any]) -> Iterable[Any]:
    """One path where a list of them was meant."""
    return [items] if isinstance(items, (str, os.PathLike, File, OutputRef, TaskRef)) else items


def _command_name(command: object) -> str:
    first = command.split(maxsplit=1)[:1] if isinstance(command, str) else list(command)[:1]  # type: ignore[call-overload]  # what is no list is refused here
    return os.path.basename(first[0]) if first and isinstance(first[0], str) else "command"


def _directory_of_caller() -> Path | None:
    """Where the file that calls `Application(…)` imports its modules from; None at a prompt."""
    file = sys._getframe(2).f_globals.get("__file__")
    return import_root(Path(file)) if isinstance(file, str) and os.path.isfile(file) else None
