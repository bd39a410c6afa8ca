"""Applications written as TOML.

    [application]
    name = "words"                    # default: the file's name
    on_failure = "finish"             # or "stop": a failed task cancels the other branches
    dispatch = "assign"               # or "grab", "relay"; and placement = "rdv" or "local"
    replicas = 3                      # how many nodes keep its journal; and takeover, inputs_stay
    labels = {queue = "short"}        # what it is, for nodes whose owners choose by that
    defaults = {retries = 2}          # for every task: what it needs, timeout, retries, env

    [application.variables]           # {name} in any text below; `--set top=20` replaces the value
    top = 10

    [task.count]                      # becomes count-0, count-1, count-2
    matrix.file = ["a.txt", "b.txt", "c.txt"]
    inputs = ["count.py", "{file}"]
    outputs = ["{file.stem}.json"]
    command = ["python3", "count.py", "{file}"]
    cpus = 1                          # also: gpus, disk, max_cost, labels
    memory = "512MiB"
    timeout = "5min"

    [task.merge]
    inputs = ["*.json"]               # outputs of other tasks make the edges
    outputs = ["top.txt"]
    command = "jq -s add *.json | head -{top} > top.txt"   # one text: for /bin/sh

**Inputs.** A text is the name of an output of another task or else of a file or directory beside this file; with `*`,
`?` or `[…]` all outputs of other tasks that match, or else all files. `{task = "count"}` means all outputs of all tasks
of `[task.count]`. An input arrives under the name that was written, one with an absolute path under its last part;
`{path = "../data/x.csv", as = "x.csv"}` says otherwise, and `{glob = "**/*.csv", in = "/data", except = "old/**"}`
names what arrives as it lies below `in`. Files that are executable here are so there.

**Other keys.** `after = ["count"]` waits for tasks (a table's name means all its tasks) without reading anything, `env`
and `labels` are tables of text, `keep = true` makes outputs results although other tasks read them, `once = true` is
for a task that must not start twice. `matrix` and its values: `application.matrix`. Substitution:
`application.substitution`. Known without being defined are `{here}` (this file's directory), `{home}`, and `{stdlib}`
(the standard library of the Python that runs jcpeer).
"""

from __future__ import annotations

import os
import re
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from jcpeer.application.fields import Fields, shown
from jcpeer.application.graph import check_graph, once_fault, producers
from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.local_blobs import LocalBlobs, LocalFile, files_below
from jcpeer.application.manifest import POLICY_NAMES, policies_fault
from jcpeer.application.matrix import Expansion, expand, local_files, scalar_text
from jcpeer.application.names import arrival_name, one_line, plain_name, remedy, task_id_fault
from jcpeer.application.needs import NEEDS_KEYS, application_labels, quantity, read_needs
from jcpeer.application.patterns import find_files, is_pattern, matching
from jcpeer.application.quantities import parse_seconds
from jcpeer.application.reading import read_text
from jcpeer.application.substitution import Bindings, Bound, Item, Value, has_places, is_variable_name
from jcpeer.application.task import Command, Input, Needs, OutputOf, Task
from jcpeer.errors import GraphError
from jcpeer.ids import TaskId
from jcpeer.values import evolve

_DEFAULTS = (*NEEDS_KEYS, "timeout", "retries", "env")
_TASK_KEYS = ("command", "inputs", "outputs", "after", "matrix", "keep", "once", *_DEFAULTS)

# tomllib takes quadratic time over a key of many parts, so that one line could keep it busy for hours.
_DEEP_KEY = re.compile(r"""(?:^|[\[{,])[ \t]*(?:[\w"'-]{1,200}[ \t]*\.[ \t]*){100}""", re.MULTILINE)


def load_toml(path: Path, *, variables: Mapping[str, str]) -> LoadedApplication:
    """The application that this file describes; `variables` replace values of `[application.variables]`.

    Raises:
        GraphError: it describes none; the text names file, task and remedy.
    """
    return _Reader(path, _parse(path)).read(variables)


def _parse(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if _DEEP_KEY.search(text):
        raise GraphError(f"{path}: a key has more than 100 parts; no application needs that")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GraphError(f"{path}: this is not TOML: {one_line(error)}") from error
    except RecursionError as error:
        raise GraphError(f"{path}: tables or lists are nested too deeply; no application needs that") from error
    except ValueError as error:  # a number with too many digits, a date out of range
        raise GraphError(f"{path}: a value is out of range: {one_line(error)}") from error


@frozen
class _Table:
    """What `[task.NAME]` says, read once, however many tasks the matrix makes of it."""

    name: str
    fields: Fields
    command: str | list[str]
    inputs: list[object]
    outputs: list[str]
    after: list[str]


@frozen
class _Draft:
    """A task whose inputs are not looked up yet, since any task may make them."""

    bindings: Bindings = field(repr=False)
    task: Task


class _Reader:
    """Reads one parsed file: first every task by itself, then where the inputs of each come from."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self._directory = path.parent.absolute()
        self._top = Fields(str(path), document)
        self._blobs = LocalBlobs()
        self._tables: dict[str, list[Task]] = {}
        self._made_by: dict[str, TaskId] = {}
        self._made: list[str] = []
        self._table_of: dict[TaskId, str] = {}

    def read(self, variables: Mapping[str, str]) -> LoadedApplication:
        self._top.only(("application", "task"))
        application = self._inner(self._top, "application")
        application.only(("name", *POLICY_NAMES, "labels", "defaults", "variables"))
        name = application.text("name", self._path.stem)
        if not name.strip() or len(name) > 200 or not name.isprintable():
            application.refuse('name must be one line of at most 200 characters; write name = "…"')
        policies = {policy: application.values[policy] for policy in POLICY_NAMES if policy in application.values}
        if fault := policies_fault(policies):
            application.refuse(fault)
        defaults = self._inner(application, "defaults")
        defaults.only(_DEFAULTS)
        bindings = self._bindings(self._inner(application, "variables"), variables)
        drafts = list(self._drafts(defaults, bindings))
        self._index(drafts)
        tasks = tuple([task for table, each in drafts for task in self._with_inputs(table, each)])
        with self._blamed(str(self._path)):
            graph = check_graph(tasks)
        kept = {task.id for task in tasks if task.keep}.union(graph.unread)
        return LoadedApplication(
            name=name,
            tasks=tasks,
            **policies,
            labels=application_labels(application),
            results=tuple(task.id for task in tasks if task.id in kept),
            files=self._blobs.files,
            data=self._blobs.data,
        )

    # --- every task by itself

    def _bindings(self, defined: Fields, given: Mapping[str, str]) -> Bindings:
        home = os.path.expanduser("~")
        known = {"here": str(self._directory), "home": home, "stdlib": sysconfig.get_path("stdlib")}
        bindings = Bindings({name: Bound(given.get(name, value)) for name, value in known.items()})
        for name, raw in defined.values.items():
            if not is_variable_name(name):
                defined.refuse(f"{name!r:.60} cannot be a variable; use letters, digits and _")
            value: Value
            with self._blamed(defined.where):
                if name in given:
                    value = given[name]
                elif isinstance(raw, list):
                    value = tuple(scalar_text(defined, name, each, bindings) for each in raw)
                else:
                    value = scalar_text(defined, name, raw, bindings)
            bindings |= {name: Bound(value)}
        for name in given:
            if name not in defined.values and name not in known:
                names = [*defined.values, *known]
                raise GraphError(
                    f"{self._path}: there is no variable {name!r:.60} to set; "
                    + remedy(name, names, f"known: {', '.join(names)}")
                )
        return bindings

    def _drafts(self, defaults: Fields, bindings: Bindings) -> Iterator[tuple[_Table, list[_Draft]]]:
        tables = self._inner(self._top, "task")
        if not tables.values:
            raise GraphError(f"{self._path}: there is no task; add a table [task.NAME] with a command")
        for name, values in tables.values.items():
            fields = Fields(f"{self._path}: task.{name:.80}" if name.isprintable() else f"{self._path}: task", values)
            if fault := task_id_fault(name):
                fields.refuse(f"a task cannot be called {name!r:.80}; {fault}")
            fields.only(_TASK_KEYS)
            table = _Table(
                name,
                fields,
                _command(fields),
                _input_list(fields),
                fields.texts("outputs", []),
                fields.texts("after", []),
            )
            with self._blamed(fields.where):
                expansions = expand(self._inner(fields, "matrix"), bindings, self._directory)
                yield table, list(_drafts(table, defaults, expansions))

    # --- where inputs come from

    def _index(self, drafts: Sequence[tuple[_Table, Sequence[_Draft]]]) -> None:
        self._tables = {table.name: [each.task for each in made] for table, made in drafts}
        self._table_of = {task.id: name for name, tasks in self._tables.items() for task in tasks}
        with self._blamed(str(self._path)):
            self._made_by = producers(task for tasks in self._tables.values() for task in tasks)
        self._made = sorted(self._made_by)

    def _with_inputs(self, table: _Table, drafts: Iterable[_Draft]) -> Iterator[Task]:
        if not table.inputs and not table.after:
            yield from (each.task for each in drafts)
            return
        with self._blamed(table.fields.where):
            for draft in drafts:
                inputs = [each for raw in table.inputs for each in self._inputs(table, draft.bindings, raw)]
                after = [
                    task
                    for template in table.after
                    for name in draft.bindings.texts(template)
                    for task in self._tasks_called(name)
                ]
                yield evolve(draft.task, inputs=tuple(dict.fromkeys(inputs)), after=tuple(dict.fromkeys(after)))

    def _tasks_called(self, name: str) -> list[TaskId]:
        if name in self._tables:
            return [task.id for task in self._tables[name]]
        if name not in self._table_of:
            raise GraphError(
                f"after: there is no task {name!r:.80}; "
                + remedy(name, [*self._tables, *self._table_of], "correct the name or add the task")
            )
        return [TaskId(name)]

    def _inputs(self, table: _Table, bindings: Bindings, raw: object) -> Iterator[Input]:
        if isinstance(raw, str):
            for item in bindings.items(raw):
                yield from self._inputs_of_item(table, item)
        elif isinstance(raw, dict):
            yield from self._inputs_of_table(table, bindings, Fields(f"{table.fields.where}: inputs", raw))
        else:
            table.fields.refuse(f"inputs must consist of texts and tables, not {shown(raw)}")

    def _inputs_of_table(self, table: _Table, bindings: Bindings, fields: Fields) -> Iterator[Input]:
        if "task" in fields.values:
            fields.only(("task",))
            name = bindings.text(fields.text("task"))
            made = [(task.id, output) for task in self._tables.get(name, []) for output in task.outputs]
            if not made:
                fault = "has no outputs" if name in self._tables else "is not there"
                fields.refuse(
                    f"task {name!r:.80} {fault}; {remedy(name, set(self._tables) - {name}, 'correct the name')}"
                )
            for task, output in made:
                yield Input(output, OutputOf(task, output))
        elif "glob" in fields.values:
            fields.only(("glob", "in", "except"))
            for file in local_files(fields, bindings, self._directory):
                yield self._blobs.add_file(file)
        else:
            fields.only(("path", "as", "task", "glob"))
            path = bindings.text(fields.text("path"))
            name = plain_name(bindings.text(fields.text("as"))) if "as" in fields.values else arrival_name(path)
            yield from self._inputs_at(table, path, name)

    def _inputs_of_item(self, table: _Table, item: Item) -> Iterator[Input]:
        if isinstance(item, LocalFile):
            yield self._blobs.add_file(item)
            return
        if (maker := self._made_by.get(item)) is not None:
            yield Input(item, OutputOf(maker, item))
            return
        name = plain_name(item)
        if is_pattern(item) and name not in self._made_by:
            yield from self._inputs_like(table, name)
        elif ".." in name.split("/"):
            table.fields.refuse(f"input {item!r:.80} lies above this file; write {{path = {item!r:.80}, as = 'NAME'}}")
        else:
            yield from self._inputs_at(table, item, arrival_name(item))

    def _inputs_like(self, table: _Table, pattern: str) -> Iterator[Input]:
        outputs = [
            name
            for name in matching(pattern, self._made)
            # A merge that writes "all.json" from "*.json" does not mean itself.
            if self._table_of[self._made_by[name]] != table.name
        ]
        for name in outputs:
            yield Input(name, OutputOf(self._made_by[name], name))
        if outputs:
            return
        if ".." in pattern.split("/"):
            table.fields.refuse(f"input {pattern!r:.80} leads above this file; write {{glob = …, in = …}}")
        files = find_files(pattern, self._directory)
        if not files:
            table.fields.refuse(
                f"input {pattern!r:.80} matches neither an output of another task nor a file in {self._directory};"
                " correct the pattern"
            )
        for file in files:
            yield self._blobs.add_file(file)

    def _inputs_at(self, table: _Table, path: str, name: str) -> Iterator[Input]:
        output = plain_name(path)
        if output in self._made_by:
            yield Input(name, OutputOf(self._made_by[output], output))
            return
        place = self._directory / path
        try:
            is_directory, exists = place.is_dir(), place.exists()
        except (OSError, ValueError):  # a name too long, or with a NUL
            is_directory = exists = False
        if is_directory:
            files = list(files_below(place, name=name))
            if not files:
                table.fields.refuse(f"input {path!r:.80} is an empty directory; a task can make one itself")
            for file in files:
                yield self._blobs.add_file(file)
        elif exists:
            yield self._blobs.add_file(LocalFile(name, place))
        else:
            hint = remedy(output, self._made, "correct the name, or make it an output of a task")
            table.fields.refuse(
                f"input {path!r:.80} is neither an output of a task nor a file (looked for {str(place)!r:.200}); {hint}"
            )

    def _inner(self, fields: Fields, key: str) -> Fields:
        where = f"{self._path}: {key}" if fields is self._top else f"{fields.where}.{key}"
        return Fields(where, fields.values.get(key, {}))

    @contextmanager
    def _blamed(self, where: str) -> Iterator[None]:
        """Faults found by those who do not know the file are said with their place in it."""
        try:
            yield
        except GraphError as error:
            if str(error).startswith(str(self._path)):
                raise
            raise GraphError(f"{where}: {error}", cycle=error.cycle) from error


def _drafts(table: _Table, defaults: Fields, expansions: Iterable[Expansion]) -> Iterator[_Draft]:
    fields = table.fields
    values = {**defaults.values, **fields.values}
    env, labels = ({**defaults.text_table(key), **fields.text_table(key)} for key in ("env", "labels"))
    simple = [values[key] for key in _DEFAULTS if isinstance(values.get(key), str)]
    differ = any(map(has_places, [*simple, *env.values(), *labels.values()]))
    common: _Common | None = None
    for each in expansions:
        bindings = each.bindings
        if common is None or differ:
            common = _common(Fields(fields.where, values), env, labels, bindings)
        task = Task(
            id=TaskId(f"{table.name}-{each.suffix}" if each.suffix else table.name),
            work=_work(table.command, bindings, common.env),
            outputs=tuple([_plain_output(fields, name) for text in table.outputs for name in bindings.texts(text)]),
            needs=common.needs,
            timeout_s=common.timeout_s,
            retries=common.retries,
            keep=common.keep,
            once=common.once,
        )
        yield _Draft(bindings, task)


@frozen
class _Common:
    """What the tasks of a table have in common, unless it is said with places in it."""

    env: Mapping[str, str]
    needs: Needs
    timeout_s: float | None
    retries: int
    keep: bool
    once: bool


def _common(fields: Fields, env: Mapping[str, str], labels: Mapping[str, str], bindings: Bindings) -> _Common:
    filled = {
        key: bindings.text(value) if key in _DEFAULTS and isinstance(value, str) else value
        for key, value in fields.values.items()
    }
    simple = Fields(fields.where, filled)
    found = _Common(
        env={name: bindings.text(text) for name, text in env.items()},
        needs=read_needs(simple, {name: bindings.text(text) for name, text in labels.items()}),
        timeout_s=quantity(simple, "timeout", parse_seconds),
        retries=simple.whole("retries", 0, at_least=0),
        keep=simple.flag("keep", False),
        once=simple.flag("once", False),
    )
    if fault := once_fault(found.once, found.retries):
        fields.refuse(fault)
    return found


def _command(fields: Fields) -> str | list[str]:
    raw = fields.values.get("command")
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, list):
        fault = "is missing" if raw is None else f"must be text or a list, not {shown(raw)}"
        fields.refuse(f'command {fault}; write command = ["PROGRAM", "ARGUMENT"] or a line for the shell')
    return fields.texts("command")


def _work(command: str | list[str], bindings: Bindings, env: Mapping[str, str]) -> Command:
    if isinstance(command, str):
        return Command((bindings.shell_text(command),), shell=True, env=env)
    return Command(tuple([text for each in command for text in bindings.texts(each)]), env=env)


def _plain_output(fields: Fields, name: str) -> str:
    if name.endswith("/"):
        fields.refuse(f"output {name!r:.80} is a directory; name the files in it, or pack them into one")
    return plain_name(name) or name


def _input_list(fields: Fields) -> list[object]:
    raw = fields.values.get("inputs", [])
    return [raw] if isinstance(raw, (str, dict)) else fields.items("inputs", [])
