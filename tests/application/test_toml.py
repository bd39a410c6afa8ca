from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.loaded import LoadedApplication
from jcpeer.application.loading import load
from jcpeer.application.patterns import compiled, find_files
from jcpeer.application.substitution import Bindings, Bound
from jcpeer.application.task import BlobRef, Command, OutputOf, Task
from jcpeer.errors import GraphError


def loaded(directory: Path, text: str, **variables: str) -> LoadedApplication:
    path = directory / "app.toml"
    path.write_text(text)
    return load(path, variables=variables)


def by_id(application: LoadedApplication) -> dict[str, Task]:
    return {task.id: task for task in application.tasks}


def argv(task: Task) -> tuple[str, ...]:
    assert isinstance(task.work, Command)
    return task.work.argv


def input_names(task: Task) -> list[str]:
    return [each.name for each in task.inputs]


def parents(task: Task) -> set[str]:
    return set(task.parents())


def test_the_documented_example_loads(tmp_path: Path) -> None:
    from jcpeer.application import toml

    example = "\n".join(line.removeprefix("    ") for line in (toml.__doc__ or "").splitlines() if line[:4] == "    ")
    for name in ("count.py", "a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    application = loaded(tmp_path, example, top="3")
    tasks = by_id(application)
    assert application.name == "words"
    assert application.results == ("merge",)
    assert list(tasks) == ["count-a.txt", "count-b.txt", "count-c.txt", "merge"]
    assert input_names(tasks["count-b.txt"]) == ["count.py", "b.txt"]
    assert argv(tasks["count-b.txt"]) == ("python3", "count.py", "b.txt")
    assert tasks["count-b.txt"].outputs == ("b.json",)
    assert (tasks["merge"].retries, tasks["count-a.txt"].timeout_s) == (2, 300)
    assert tasks["count-a.txt"].needs.memory_bytes == 512 * 2**20
    assert parents(tasks["merge"]) == {"count-a.txt", "count-b.txt", "count-c.txt"}
    assert argv(tasks["merge"]) == ("jq -s add *.json | head -3 > top.txt",)


def test_all_that_a_task_needs_is_taken_from_it_or_from_the_defaults(tmp_path: Path) -> None:
    application = loaded(
        tmp_path,
        """
        [application]
        on_failure = "stop"
        placement = "rdv"
        dispatch = "relay"
        replicas = 5
        takeover = "available"
        inputs_stay = true
        defaults = {env = {A = "1", B = "1"}, labels = {site = "lab"}, cpus = 2, timeout = "1min"}
        variables = {price = 0.5}
        [task.one]
        command = "true"
        env = {B = 2}
        labels.gpu = ""
        cpus = 4
        gpus = 1
        disk = "10GiB"
        max_cost = "{price}"
        keep = true
        [task.two]
        command = ["true"]
        after = "one"
        """,
    )
    one, two = application.tasks
    assert application.name == "app"
    assert (application.on_failure, application.placement, application.dispatch) == ("stop", "rdv", "relay")
    assert (application.replicas, application.takeover, application.inputs_stay) == (5, "available", True)
    assert application.results == ("one", "two")
    assert one.work == Command(("true",), shell=True, env={"A": "1", "B": "2"})
    assert (one.needs.cpus, two.needs.cpus) == (4, 2)
    assert (one.needs.gpus, one.needs.disk_bytes, one.needs.cost_max) == (1, 10 * 2**30, 0.5)
    assert one.needs.labels == {"site": "lab", "gpu": ""}
    assert two.after == ("one",)
    assert two.timeout_s == 60


def test_files_arrive_under_the_names_that_were_written(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "data" / "deep").mkdir(parents=True)
    (here / "data" / "b.csv").write_text("b")
    (here / "data" / "deep" / "c.csv").write_text("c")
    (here / "tool").write_text("#!/bin/sh")
    (here / "tool").chmod(0o755)
    (tmp_path / "above.csv").write_text("above")
    application = loaded(
        here,
        f"""
        [task.t]
        command = "true"
        inputs = ["./tool", "data", "{tmp_path}/above.csv", {{path = "../above.csv", as = "in/x.csv"}},
                  {{glob = "**/*.csv", in = "data", except = "b*"}}, "data/*.csv"]
        """,
    )
    (task,) = application.tasks
    assert input_names(task) == ["tool", "data/b.csv", "data/deep/c.csv", "above.csv", "in/x.csv", "deep/c.csv"]
    assert [each.name for each in task.inputs if each.executable] == ["tool"]
    source = task.inputs[1].source
    assert isinstance(source, BlobRef)
    assert application.files[source.digest].read_text() == "b"


def test_outputs_come_before_files_and_can_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("stale")
    tasks = by_id(
        loaded(
            tmp_path,
            """
            [task.make]
            command = "true"
            outputs = ["./x.txt", "y.txt"]
            [task.use]
            command = "true"
            inputs = ["x.txt", {path = "y.txt", as = "z"}]
            [task.all]
            command = "true"
            inputs = {task = "make"}
            outputs = "all.txt"
            """,
        )
    )
    assert [(each.name, each.source) for each in tasks["use"].inputs] == [
        ("x.txt", OutputOf(tasks["make"].id, "x.txt")),
        ("z", OutputOf(tasks["make"].id, "y.txt")),
    ]
    assert input_names(tasks["all"]) == ["x.txt", "y.txt"]


def test_a_pattern_means_outputs_of_other_tables_then_files(tmp_path: Path) -> None:
    (tmp_path / "part-9.json").write_text("")
    (tmp_path / "only.csv").write_text("")
    tasks = by_id(
        loaded(
            tmp_path,
            """
            [task.part]
            matrix.n = {range = [0, 3]}
            command = "true"
            outputs = "part-{n}.json"
            [task.sum]
            matrix.of = ["all"]
            command = "true"
            inputs = ["*.json", "*.csv"]
            outputs = "sum-{of}.json"
            """,
        )
    )
    assert input_names(tasks["sum-all"]) == ["part-0.json", "part-1.json", "part-2.json", "only.csv"]
    assert parents(tasks["sum-all"]) == {"part-0", "part-1", "part-2"}


def test_files_are_dealt_into_chunks_of_which_none_is_empty(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"f {index}.txt").write_text(str(index))
    text = """
        [application.variables]
        chunks = 2
        [task.t]
        matrix.files = {glob = "*.txt", chunks = "{chunks}"}
        inputs = ["{files}"]
        outputs = ["out-{files.number}"]
        command = ["cat", "{files}", "-"]
        [task.shell]
        matrix.file = {glob = "*.txt"}
        command = "cat {file} {file.stem}"
        inputs = "{file}"
        """
    tasks = by_id(loaded(tmp_path, text))
    assert argv(tasks["t-0"]) == ("cat", "f 0.txt", "f 2.txt", "f 4.txt", "-")
    assert input_names(tasks["t-1"]) == ["f 1.txt", "f 3.txt"]
    assert tasks["t-1"].outputs == ("out-1",)
    assert argv(tasks["shell-3"]) == ("cat 'f 3.txt' f 3",)
    assert sum(id.startswith("t-") for id in by_id(loaded(tmp_path, text, chunks="50"))) == 5


def test_braces_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (task,) = loaded(
        tmp_path,
        """
        [task.t]
        command = "awk '{ print $1 }' ${HOME} {a,b} {} {1} {{name}} '{\\"a\\": 1}'"
        """,
    ).tasks
    assert argv(task) == ("awk '{ print $1 }' ${HOME} {a,b} {} {1} {name} '{\"a\": 1}'",)


def test_variables_build_on_earlier_ones_and_can_be_set(tmp_path: Path) -> None:
    text = """
        [application.variables]
        base = "{here}/x"
        both = ["{base}", 2]
        [task.t]
        matrix.each = "{both}"
        command = ["echo", "{each.number}", "{each}", "{both}"]
        """
    tasks = by_id(loaded(tmp_path, text))
    assert argv(tasks["t-2"]) == ("echo", "1", "2", f"{tmp_path}/x", "2")
    assert set(tasks) == {"t-0", "t-2"}
    assert argv(loaded(tmp_path, text, both="only").tasks[0]) == ("echo", "0", "only", "only")
    with pytest.raises(GraphError, match="there is no variable 'bsae' to set; did you mean 'base'"):
        loaded(tmp_path, text, bsae="1")


@given(
    st.lists(
        st.lists(st.integers(-99, 99) | st.text("ab-", max_size=3), min_size=1, max_size=4), min_size=1, max_size=3
    )
)
def test_a_matrix_makes_each_combination_once_under_a_name_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, axes: list[list[int | str]]
) -> None:
    lines = "\n".join(f"matrix.v{index} = {values!r}" for index, values in enumerate(axes))
    places = ", ".join(f'"<{{v{index}}}>"' for index in range(len(axes)))
    tasks = loaded(tmp_path_factory.mktemp("m"), f"[task.t]\n{lines}\ncommand = [{places}]").tasks
    wanted = [tuple(f"<{value}>" for value in each) for each in itertools.product(*axes)]
    assert [argv(task) for task in tasks] == wanted
    assert len({task.id for task in tasks}) == len(wanted)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*.py", "a.py", True),
        ("*.py", "d/a.py", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "d/e/a.py", True),
        ("**/*.py", ".git/a.py", False),
        ("d/**", "d/e/f", True),
        ("d/**", "d", False),
        ("?-[0-4].txt", "a-3.txt", True),
        ("?-[!0-4].txt", "a-3.txt", False),
        ("[[]x].txt", "[x].txt", True),
        ("a.c", "abc", False),
        ("*", ".hidden", False),
        ("[^a]", "^", True),
    ],
)
def test_patterns_mean_what_a_shell_means_by_them(pattern: str, name: str, matches: bool) -> None:
    assert bool(compiled(pattern).fullmatch(name)) is matches


@given(st.text())
def test_a_text_without_places_stays_as_it_is(text: str) -> None:
    bindings = Bindings({"x": Bound("value")})
    assert bindings.text(text.replace("{", "(")) == text.replace("{", "(")
    assert bindings.text("<{x}>{{x}}${x}") == "<value>{x}${x}"


def test_files_are_found_without_walking_in_circles_or_into_what_is_left_out(tmp_path: Path) -> None:
    for name in ("a/x.py", "a/deep/y.py", "skip/z.py", ".hidden/h.py", "top.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "a" / "deep" / "again").symlink_to(tmp_path)
    (tmp_path / "skip" / "closed").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "a")

    def found(pattern: str, *but: str) -> list[str]:
        return [each.name for each in find_files(pattern, tmp_path, but=but)]

    assert found("**/*.py", "**/linked/**", "skip/**") == ["a/deep/y.py", "a/x.py", "top.py"]
    assert found("*/*.py") == ["a/x.py", "linked/x.py", "skip/z.py"]
    assert found(".hidden/*.py") == [".hidden/h.py"]
    assert found("nowhere/*.py") == []
    assert [each.name for each in find_files(f"{tmp_path}/a/*.py", Path("/"))] == ["x.py"]


def test_a_task_can_be_marked_once_and_has_no_retries_then(tmp_path: Path) -> None:
    text = '[application]\ndefaults = {retries = 2}\n[task.pay]\ncommand = "pay"\nonce = true\n'
    (pay,) = loaded(tmp_path, text + "retries = 0").tasks
    assert pay.once
    with pytest.raises(GraphError, match=r"task\.pay: it is marked once, and has retries = 2; write retries = 0"):
        loaded(tmp_path, text)
