"""What the documents say is so, as far as that can be looked up: examples, commands, settings, messages, paths."""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
import typer.main
from attrs import frozen

from jcpeer.application.loading import load
from jcpeer.application.manifest import POLICIES, POLICY_NAMES
from jcpeer.application.toml import _DEFAULTS, _TASK_KEYS
from jcpeer.cli import exits
from jcpeer.cli.main import _WHERE, run
from jcpeer.client import Handle
from jcpeer.config import FLAGS, Config, load_config
from jcpeer.wire import facts, peer, requests
from tests.real_grid import real_grid

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
GUIDE, PROTOCOL, EMBED, DEVELOP = (ROOT / "docs" / f"{name}.md" for name in ("guide", "protocol", "embed", "develop"))


@frozen
class Snippet:
    """A fenced block: where it is, what it says that it is, and its text."""

    where: str
    kind: str
    text: str

    def __str__(self) -> str:
        return self.where


def snippets(document: Path) -> Iterator[Snippet]:
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL):
        line = document.read_text().count("\n", 0, match.start()) + 1
        yield Snippet(f"{document.name}:{line}", match[1], match[2])


SNIPPETS = [each for document in DOCUMENTS for each in snippets(document)]


def of_kind(*kinds: str) -> list[Snippet]:
    return [each for each in SNIPPETS if each.kind in kinds]


def tables(document: Path, first: str) -> list[list[list[str]]]:
    """The cells of each table whose first heading is this."""
    found: list[list[list[str]]] = []
    lines = iter(document.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            below = itertools.takewhile(lambda each: each.startswith("|"), lines)
            found.append([[cell.strip() for cell in row.strip("|").split("|")] for row in below][1:])
    return found


def rows(document: Path, first: str) -> list[list[str]]:
    (table,) = tables(document, first)
    return table


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- examples


@pytest.mark.parametrize("snippet", of_kind("toml"), ids=str)
def test_applications_in_toml_can_be_loaded(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "application.toml"
    path.write_text(snippet.text)
    assert load(path).tasks


@pytest.mark.parametrize("snippet", of_kind("python app"), ids=str)
def test_applications_in_python_can_be_loaded(snippet: Snippet, tmp_path: Path) -> None:
    path = tmp_path / "application.py"
    path.write_text(snippet.text)
    assert load(path).tasks


def test_settings_in_a_file_are_taken(tmp_path: Path) -> None:
    (snippet,) = of_kind("toml node.toml")
    path = tmp_path / "node.toml"
    path.write_text(snippet.text)
    config = load_config({}, {}, path)
    assert all(getattr(config, name) != getattr(Config(), name) for name in tomllib.loads(snippet.text))


def test_the_test_of_a_machine_passes() -> None:
    (snippet,) = of_kind("python machine")
    scope: dict[str, Any] = {}
    exec(snippet.text, scope)
    (test,) = (each for name, each in scope.items() if name.startswith("test_"))
    test()


def test_examples_are_shown_as_they_are() -> None:
    examples = {path: path.read_text() for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".toml")}
    shown = [*of_kind("python"), *(each for each in of_kind("toml") if each.where.startswith("README"))]
    for each in shown:
        calls_connect_alone = "with jcpeer.connect() as grid:\n" in each.text
        assert calls_connect_alone or any(each.text.strip() in text for text in examples.values()), each.where


@pytest.mark.parametrize("name", ["hello.toml", "squares.py"])
def test_first_applications_can_be_loaded(name: str) -> None:
    assert len(load(ROOT / "examples" / name).tasks) > 1


@pytest.mark.real
def test_first_applications_and_programs_run_on_real_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_grid(tmp_path) as world:
        (ada,) = world.start("ada", slots=2, options=("--no-mdns",))
        command = partial(world.command, machine="ada")
        for name, value in world.environment("ada").items():
            monkeypatch.setenv(name, value)
        hello = command("run", str(ROOT / "examples" / "hello.toml"), "--output", str(tmp_path))
        assert hello.returncode == 0, hello.stderr
        assert len((tmp_path / "letter.txt").read_text().splitlines()) == 8
        squares = command("run", str(ROOT / "examples" / "squares.py"))
        assert "328350" in squares.stdout
        (program,) = (each for each in of_kind("python") if "with jcpeer.connect() as grid:\n" in each.text)
        shown = tmp_path / "program.py"
        shown.write_text(program.text)
        for script in (shown, ROOT / "examples" / "executor.py", ROOT / "examples" / "embed_asyncio.py"):
            runpy.run_path(str(script), run_name="__main__")
        with ada.connect() as grid:
            assert {each.state for each in grid.applications()} == {"ok"}


@pytest.mark.real
def test_a_trio_program_can_be_a_node(tmp_path: Path) -> None:
    with real_grid(tmp_path) as world:
        script = [sys.executable, str(ROOT / "examples" / "embed_trio.py")]
        ran = subprocess.run(script, env=world.environment("ada"), capture_output=True, text=True, timeout=60)
    assert "sum of squares: 328350" in ran.stdout, ran.stderr


# --- commands


def mentioned_commands() -> Iterator[tuple[str, list[str]]]:
    """Where each is, and its words after `jcpeer`."""
    for document in DOCUMENTS:
        for line in re.findall(r"`(?:id=\$\()?jcpeer ([a-z][^`]*?)\)?`", document.read_text()):
            yield f"{document.name}: {line}", shlex.split(line)
    for snippet in of_kind("sh", "console"):
        for line in re.findall(r"^(?:\w*\$ )?jcpeer ([a-z][^\n#]*)", snippet.text, re.MULTILINE):
            yield f"{snippet}: {line}", shlex.split(line)


def command_called(words: list[str]) -> tuple[Any, list[str]]:
    """The command and what follows its name."""
    module, attribute = _WHERE[words[0]].split(":")
    found = getattr(import_module(f"jcpeer.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        group: Any = typer.main.get_command(found)
        return (group.commands[words[1]], words[2:]) if len(words) > 1 else (group, [])
    app = typer.Typer(add_completion=False)
    app.command()(found)
    return typer.main.get_command(app), words[1:]


def test_commands_and_their_options_exist() -> None:
    for where, words in mentioned_commands():
        assert words[0] in _WHERE, where
        command, rest = command_called(words)
        known = {"--help", *(name for each in command.params for name in (*each.opts, *each.secondary_opts))}
        assert {each.split("=")[0] for each in rest if each.startswith("--")} <= known, where


def test_the_graph_of_the_guide_is_drawn_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = (each for each in of_kind("console") if each.text.startswith("$ jcpeer graph fork.json\n"))
    assert run(["graph", str(ROOT / "tests" / "application" / "fork.wfformat.json")]) == 0
    assert shown.text.partition("\n")[2] == capsys.readouterr().out


def test_every_command_has_its_place_in_the_guide() -> None:
    text = GUIDE.read_text()
    assert [name for name in _WHERE if f"jcpeer {name}" not in text] == []


def test_exit_statuses_are_those_of_the_command_line() -> None:
    assert {int(status): meaning for status, meaning in rows(GUIDE, "Status")} == dict(exits.MEANINGS)


# --- tables


def test_the_table_of_settings_is_complete_and_true(tmp_path: Path) -> None:
    table = {named(setting)[0]: (option, default) for setting, option, _, default, _ in rows(GUIDE, "Setting")}
    assert list(table) == [each.name for each in attrs.fields(Config)]
    command, _ = command_called(["node"])
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    for name, (option, default) in table.items():
        flag = FLAGS.get(name, "--" + name.replace("_", "-"))
        assert named(option) == ([flag] if flag in options else []), name
        value = getattr(Config(), name)
        if named(default):
            assert load_config({name: named(default)[0]}, {"JCPEER_CONFIG_DIR": str(tmp_path)}) == Config(), name
        else:
            assert not value, f"{name}: the default {value} is not in the table"


def test_the_tables_of_keys_are_complete() -> None:
    application, task = ({named(row[0])[0]: row for row in table} for table in tables(GUIDE, "Key"))
    assert application.keys() == {"name", *POLICY_NAMES, "labels", "defaults", "variables"}
    for policy, known in POLICIES.items():
        assert named(application[policy][1]) == [f'"{known[0]}"']
        assert named(application[policy][2]) == [f'"{each}"' for each in known]
    assert named(application["defaults"][2]) == list(_DEFAULTS)
    assert task.keys() == set(_TASK_KEYS)


def kinds(union: object) -> set[str]:
    return {each.__name__ for each in typing.get_args(union)}


def test_every_message_request_and_fact_has_its_row() -> None:
    table = {named(row[0])[0] for row in rows(PROTOCOL, "Message")}
    assert table == {"Hello", "Turned"} | kinds(peer.PeerMessage)
    assert {named(row[0])[0] for row in rows(PROTOCOL, "Fact")} == kinds(facts.Fact)
    asked = {named(row[0])[0]: set(named(row[1])) for row in rows(PROTOCOL, "Request")}
    assert asked.keys() == kinds(requests.RequestBody) | kinds(requests.HomeRequest)
    assert set().union(*asked.values()) | {"Refusal", "Moved", "Forgotten"} == kinds(requests.ReplyBody)


def test_the_methods_of_a_handle_are_in_the_table() -> None:
    told = {re.split(r"[.(]", named(row[0])[0])[1] for row in rows(EMBED, "Method")}
    assert told == {name for name, each in vars(Handle).items() if callable(each) and not name.startswith("_")}


# --- paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each.name)
def test_paths_and_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (document.parent / target).exists(), target
    for name in re.findall(r"`([\w./-]+)`", text):
        if name.startswith(("tests/", "examples/", "simulations/", "docs/", ".ci/", "jcpeer/")):
            assert (ROOT / name).exists(), name


def test_what_is_imported_by_name_is_there() -> None:
    for document in DOCUMENTS:
        for name in set(re.findall(r"`(jcpeer(?:\.\w+)+)", document.read_text())):
            module, _, attribute = name.rpartition(".")
            try:
                import_module(name)
            except ImportError:
                assert hasattr(import_module(module), attribute), f"{document.name}: {name}"
