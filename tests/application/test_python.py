from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jcpeer
from jcpeer.application.python import PYTHON, Application
from jcpeer.application.task import ARGUMENTS, FUNCTION, MODULES, VALUE, BlobRef, Call, Command, OutputOf, Slot
from jcpeer.errors import GraphError
from jcpeer.ids import digest_of
from tests.application.here import arguments, modules, run_here

Pair = namedtuple("Pair", "left right")


def add(*numbers: int) -> int:
    return sum(numbers)


def collect(*values: object, **named: object) -> tuple[object, ...]:
    return (*values, named)


def read(path: str) -> str:
    return Path(path).read_text()


def fit(x: int, *, rate: float = 1.0) -> float:
    return x * rate


@pytest.fixture
def app(tmp_path: Path) -> Application:
    return Application("test", directory=tmp_path)


def test_references_anywhere_in_the_arguments_make_edges(app: Application, tmp_path: Path) -> None:
    one, two = app.task(add, 1), app.task(add, 2)
    nested = app.task(collect, one, [two, (one, {"k": two})], Pair(one, 5), named={"deep": [one]})
    loaded = app.load()
    task = loaded.tasks[2]
    assert (one.id, two.id, nested.id) == ("add-0001", "add-0002", "collect-0001")
    assert task.parents() == (one.id, two.id)
    assert [each.name for each in task.inputs] == [FUNCTION, ARGUMENTS, "@value.0", "@value.1"]
    assert arguments(loaded, task)[0][1] == [Slot("@value.1"), (Slot("@value.0"), {"k": Slot("@value.1")})]
    assert loaded.results == (nested.id,)
    assert run_here(loaded, tmp_path)[nested.id, VALUE] == (1, [2, (1, {"k": 2})], Pair(1, 5), {"named": {"deep": [1]}})


def test_a_function_is_one_blob_however_often_it_is_called(app: Application) -> None:
    for number in range(3):
        app.task(add, number)
    loaded = app.load()
    assert len({task.inputs[0].source for task in loaded.tasks}) == 1
    assert len(loaded.data) == 4
    assert all(digest_of(data) == digest for digest, data in loaded.data.items())
    assert loaded.tasks[0].work == Call(PYTHON, "add")


def test_files_and_outputs_of_commands_become_paths(app: Application, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("b\na\n")
    file = jcpeer.File(tmp_path / "in.txt")
    sort = app.command(["sort", file, "-o", "out.txt"], outputs=["out.txt"])
    joined = app.task(collect, app.task(read, sort.output("out.txt")), app.task(read, file), file == jcpeer.File("x"))
    loaded = app.load()
    assert loaded.tasks[0].work == Command(("sort", "in.txt", "-o", "out.txt"))
    assert loaded.tasks[1].inputs[2].source == OutputOf(sort.id, "out.txt")
    (tmp_path / "run").mkdir()
    assert run_here(loaded, tmp_path / "run")[joined.id, VALUE] == ("a\nb\n", "b\na\n", False, {})


def test_commands_take_files_directories_and_what_others_made(app: Application, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    make = app.command("touch a b", outputs=["a", "b"], env={"A": "1"}, cpus=2, name="make")
    app.command("true", inputs=[tmp_path / "d", make])
    app.command("true", inputs={"here/x": tmp_path / "d" / "x", "c": make.output("a")}, after=[make])
    first, second, third = app.load().tasks
    assert (first.id, first.needs.cpus, first.work) == ("make", 2, Command(("touch a b",), shell=True, env={"A": "1"}))
    assert [each.name for each in second.inputs] == ["d/x", "a", "b"]
    assert [(each.name, type(each.source)) for each in third.inputs] == [("here/x", BlobRef), ("c", OutputOf)]
    assert third.after == ("make",)


def test_needs_come_from_the_decorator_and_from_the_call(app: Application) -> None:
    @jcpeer.task(cpus=2, memory="1GiB", gpus=1, disk="10GiB", max_cost=2, timeout="5min", retries=3)
    def marked(x: int) -> int:
        return x

    assert marked(4) == 4
    first = app.task(marked, 1)
    app.options(retries=0, keep=True, labels={"gpu": ""}, after=[first], name="mine").task(marked, 2)
    app.command("true", once=True)
    one, two, three = app.load().tasks
    assert [each.once for each in (one, two, three)] == [False, False, True]
    assert (one.needs.cpus, one.needs.memory_bytes, one.timeout_s, one.retries) == (2, 2**30, 300, 3)
    assert (one.needs.gpus, one.needs.disk_bytes, one.needs.cost_max) == (1, 10 * 2**30, 2.0)
    assert (two.id, two.retries, two.keep, two.needs.cpus, two.after) == ("mine", 0, True, 2, (one.id,))
    assert two.needs.labels == {"gpu": ""}


def test_builtins_partials_methods_and_lambdas_can_be_called(app: Application, tmp_path: Path) -> None:
    refs = [
        app.task(math.sqrt, 4.0),
        app.task(functools.partial(fit, rate=2.0), 3),
        app.task("a b".split),
        app.task(lambda: 7),
    ]
    assert [ref.id for ref in refs] == ["sqrt-0001", "fit-0001", "split-0001", "lambda-0001"]
    outputs = run_here(app.load(), tmp_path)
    assert [outputs[ref.id, VALUE] for ref in refs] == [2.0, 6.0, ["a", "b"], 7]


def test_modules_of_the_application_travel_with_its_calls_only(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 1")
    app = Application("m", directory=tmp_path)
    app.task(add, 1)
    app.command("true")
    loaded = app.load()
    (source,) = [each.source for each in loaded.tasks[0].inputs if each.name == MODULES]
    assert isinstance(source, BlobRef)
    assert modules(loaded.data[source.digest]) == {"helper.py": b"x = 1"}
    assert loaded.tasks[1].inputs == ()


def test_an_open_application_gives_each_task_once_and_forgets_it(app: Application) -> None:
    first = app.task(add, 1)
    assert [task.id for task in app.take().tasks] == [first.id]
    app.task(add, first)
    later = app.take()
    assert [task.id for task in later.tasks] == ["add-0002"]
    assert later.tasks[0].parents() == (first.id,)
    assert {each.source.digest for each in later.tasks[0].inputs if isinstance(each.source, BlobRef)} == set(later.data)
    assert app.take().tasks == ()


def hidden(app: Application) -> object:
    return {app.task(add, 1)}


def foreign(_: Application) -> object:
    return Application("other").task(add, 1)


REFUSED: dict[str, Any] = {
    "task collect-0001: argument 'values[1]' (a lock) cannot be sent": lambda app: app.task(
        collect, 0, threading.Lock()
    ),
    "task fit-0001: argument 'x' (a lock) cannot be sent": lambda app: app.task(fit, threading.Lock()),
    "argument 'named' (a generator)": lambda app: app.task(collect, named=iter_nothing()),
    "put it into the arguments themselves": lambda app: app.task(collect, hidden(app)),
    "fit cannot be called like this: missing a required argument: 'x'": lambda app: app.task(fit),
    "unexpected keyword argument 'rat'": lambda app: app.task(fit, 1, rat=2),
    "belongs to another application": lambda app: app.task(collect, foreign(app)),
    "a int cannot be called": lambda app: app.task(5),
    "is a command and returns nothing": lambda app: app.task(collect, app.command("true")),
    "has no output 'x'; it makes y": lambda app: app.command("true", outputs=["y"]).output("x"),
    "cannot be an argument of a program; use .output": lambda app: app.command(["cat", app.task(add)]),
    "is no file": lambda app: app.command("cat", inputs=[app.task(add)]),
    "cannot be read: No such file": lambda app: app.command(["cat", jcpeer.File("/nowhere")]),
    "the function stuck cannot be sent": lambda app: app.task(stuck()),
    "unknown key 'cpu'; did you mean 'cpus'": lambda app: app.command("true", cpu=1),
    "retries must be a whole number": lambda app: app.options(retries="many").task(add),
    "task add-0001: options: it is marked once, and has retries = 2": lambda app: app.options(once=True).task(
        jcpeer.task(retries=2)(add)
    ),
    "jcpeer.task: it is marked once": lambda _: jcpeer.task(once=True, retries=1),
    "once must be true or false": lambda app: app.options(once=1).task(add),
    "'1 apple' is no size": lambda app: app.options(memory="1 apple").task(add),
    "two tasks called x": lambda app: [app.command("true", name="x"), app.command("true", name="x")],
    "cannot be called '/'": lambda app: app.command("true", name="/"),
    "it is absolute": lambda app: [app.command("true", outputs=["/x"]), app.load()],
    "has no task; add one": lambda app: app.load(),
    "is no task; give what": lambda app: app.options(after=["x"]).task(add),
    "jcpeer.task: cpus must be": lambda _: jcpeer.task(cpus=0),
    "len cannot be marked; say": lambda _: jcpeer.task(cpus=1)(len),
    "cannot be called ' '": lambda _: Application(" "),
    "is not a directory": lambda _: Application("x", directory="/nowhere"),
    "dispatch must be 'assign', 'grab' or 'relay'": lambda _: Application("x", dispatch="push"),  # type: ignore[arg-type]  # likewise
    "replicas must be a whole number from 1 to 7, not 0": lambda _: Application("x", replicas=0),
    "placement must be 'rdv' or 'local'": lambda _: Application("x", placement="here"),  # type: ignore[arg-type]  # likewise
    "on_failure must be": lambda _: Application("x", on_failure="retry"),  # type: ignore[arg-type]  # that is the point
}


def iter_nothing() -> Iterator[int]:
    yield from ()


def stuck() -> object:
    lock = threading.Lock()

    def stuck() -> None:
        lock.acquire()

    return stuck


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_sent_is_refused_where_it_is_written(app: Application, fault: str) -> None:
    with pytest.raises(GraphError) as refused:
        REFUSED[fault](app)
    assert fault in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_list_that_holds_itself_is_sent_as_it_is(app: Application) -> None:
    loop: list[object] = [1]
    loop.append(loop)
    app.task(collect, loop)
    args, _ = arguments(loaded := app.load(), loaded.tasks[0])
    assert args[0][1] is args[0]


def script(directory: Path, text: str) -> Path:
    path = directory / "app.py"
    path.write_text(text)
    return path


def test_a_script_defines_app_with_functions_of_its_own_and_of_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "jcpeer_test_neighbour.py").write_text("def double(x):\n    return 2 * x\n")
    path = script(
        tmp_path,
        "import jcpeer\nfrom jcpeer_test_neighbour import double\n"
        "class Own:\n    pass\ndef own(x):\n    return Own, x + 1\n"
        "app = jcpeer.Application('s')\napp.task(own, app.task(double, 4))\n"
        "if __name__ == '__main__':\n    raise SystemExit('connects here')\n",
    )
    try:
        loaded = jcpeer.load(path)
        (tmp_path / "run").mkdir()
        kind, value = run_here(loaded, tmp_path / "run")[loaded.tasks[1].id, VALUE]
        assert (kind.__name__, value) == ("Own", 9)
        packed = next(each.source for each in loaded.tasks[0].inputs if each.name == MODULES)
        assert isinstance(packed, BlobRef)
        assert set(modules(loaded.data[packed.digest])) == {"app.py", "jcpeer_test_neighbour.py"}
        assert str(tmp_path) not in sys.path
    finally:
        sys.modules.pop("jcpeer_test_neighbour", None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x = 1", "it defines no application"),
        ("app = 3", "it defines no application"),
        ("x = (", "line 1: this is not Python: '(' was never closed"),
        ("x = 1\n1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("import jcpeer_no_such_module", "line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        ("import jcpeer\napp = jcpeer.Application('a')", "application a has no task"),
        (
            "import jcpeer\napp = jcpeer.Application('a')\napp.task(len)",
            "line 3: application a: task len-0001: len cannot",
        ),
        ("(" * 100_000, "this is not Python"),
    ],
)
def test_a_script_that_defines_none_is_refused_with_file_and_line(tmp_path: Path, text: str, fault: str) -> None:
    path = script(tmp_path, text)
    with pytest.raises(GraphError) as refused:
        jcpeer.load(path)
    assert str(refused.value).startswith(str(path))
    assert fault in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.real
def test_importing_jcpeer_loads_next_to_nothing() -> None:
    code = (
        "import sys, jcpeer; jcpeer.Application, jcpeer.task, jcpeer.File, jcpeer.load\n"
        "print(*{'trio', 'libp2p', 'cloudpickle', 'socket'}.intersection(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert result.stdout.strip() == ""
