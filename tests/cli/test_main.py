"""Every command can be found, explains itself, and fails in one line."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from jcpeer.cli import exits, main
from jcpeer.cli.exits import Leave, status_of
from jcpeer.cli.failures import guarded
from jcpeer.errors import (
    ApplicationFailedError,
    ConfigError,
    GraphError,
    JcpeerError,
    MembershipError,
    NoNodeError,
    RequestError,
    StalledError,
    StorageError,
    UnreachableError,
)
from tests.cli.conftest import Command

COMMANDS = [name for group in main.COMMANDS.values() for name in group]


def test_help_names_every_command_and_every_exit_status(jcpeer: Command) -> None:
    said = jcpeer("--help")
    assert said.status == 0
    assert not said.err
    assert all(f"  {name} " in said.out for name in COMMANDS)
    assert all(f"  {status:>3}  " in said.out for status in exits.MEANINGS)
    assert jcpeer().out == said.out


@pytest.mark.parametrize("name", [*COMMANDS, "grid create", "grid invite", "grid join", "grid show"])
def test_each_commands_help_has_an_example_and_fits_a_terminal(jcpeer: Command, name: str) -> None:
    said = jcpeer(*name.split(), "--help")
    assert said.status == 0
    assert name == "grid" or f"jcpeer {name}" in said.out.split("Example", 1)[1]
    assert max(map(len, said.out.splitlines())) <= 100
    assert jcpeer("help", *name.split()).out == said.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nods"], "there is no command 'nods'; did you mean `jcpeer nodes`?"),
        (["frobnicate"], "there is no command 'frobnicate'; see `jcpeer --help`"),
        (["--verbos"], "there is no option '--verbos' before the command; see `jcpeer --help`"),
        (["--node", "two", "nodes"], "there is no option '--node' before the command; see `jcpeer --help`"),
        (
            ["run", "a.toml", "--detach", "--output", "b"],
            "--detach waits for no outputs: leave --output out, and later ",
        ),
        (["nodes", "--bogus"], "No such option: --bogus; see `jcpeer nodes --help`"),
        (["wait"], "Missing argument 'APP'; see `jcpeer wait --help`"),
        (["grid", "inviet"], "No such command 'inviet'. Did you mean 'invite'? See `jcpeer grid --help`"),
        (["grid", "create"], "Missing argument 'NAME'; see `jcpeer grid create --help`"),
        (["node", "--slots", "many"], "--slots: 'many' is no whole number, 0 or more"),
        (["run", "absent.toml"], "absent.toml: it cannot be read: No such file or directory"),
        (["run", "a.toml", "--dispatch", "push"], "--dispatch must be 'assign', 'grab' or 'relay', not 'push'"),
        (["run", "a.toml", "--placement", ""], "--placement must be 'rdv' or 'local', not ''"),
        (["run", "a.toml", "--replicas", "8"], "--replicas must be a whole number from 1 to 7, not 8"),
        (["run", "a.toml", "--set", "x"], "--set x: write KEY=VALUE"),
        (["grid", "invite", "--expires", "soon"], "--expires: 'soon' is no duration"),
    ],
)
def test_wrong_usage_is_one_line_with_the_remedy_and_status_2(jcpeer: Command, arguments: list[str], line: str) -> None:
    said = jcpeer(*arguments)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"jcpeer: {line}")
    assert said.err.count("\n") == 1


def test_the_version_is_told(jcpeer: Command) -> None:
    assert jcpeer("--version").out.startswith("jcpeer 0.")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), 2),
        (GraphError("x"), 2),
        (ApplicationFailedError("x"), 1),
        (RequestError("x"), 4),
        (NoNodeError("x"), 75),
        (UnreachableError("x"), 75),
        (StalledError("x"), 75),
        (StorageError("x"), 74),
        (MembershipError("x"), 77),
    ],
)
def test_each_error_has_its_documented_status(error: JcpeerError, status: int) -> None:
    assert status_of(error) == status
    assert status in exits.MEANINGS


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_a_fault_of_ours_is_one_line_and_its_traceback_is_in_a_file(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guarded(raising(KeyError("surprise"))) == exits.INTERNAL
    log = places / "state" / "errors.log"
    err = capsys.readouterr().err
    assert err.startswith("jcpeer: an error in jcpeer itself, KeyError: 'surprise'; the details are in " + str(log))
    assert err.count("\n") == 1
    assert "Traceback" in log.read_text()

    monkeypatch.setenv("JCPEER_DEBUG", "1")
    guarded(raising(KeyError("surprise")))
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_ours_is_told_even_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JCPEER_STATE_DIR", "/proc/nowhere")
    assert guarded(raising(ZeroDivisionError())) == exits.INTERNAL
    assert "JCPEER_DEBUG=1 shows the details" in capsys.readouterr().err


def test_several_children_that_fail_of_the_same_cause_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    group = ExceptionGroup("nursery", [ExceptionGroup("inner", [StorageError("disk full")]), StorageError("journal")])
    assert guarded(raising(group)) == exits.STORAGE
    assert capsys.readouterr().err == "jcpeer: disk full\n"
    assert guarded(raising(ExceptionGroup("nursery", [StorageError("x"), KeyError("y")]))) == exits.INTERNAL


def test_ctrl_c_and_a_reader_that_left_have_the_statuses_that_shells_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "jcpeer: interrupted\n"
    assert guarded(raising(Leave(exits.CANCELLED))) == 3
    assert capsys.readouterr().err == ""


def test_what_comes_from_elsewhere_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(raising(RequestError("no task '\x1b[2J'")))
    assert "\x1b" not in capsys.readouterr().err


def test_every_command_of_the_table_is_where_it_says() -> None:
    for group in main.COMMANDS.values():
        for where, _ in group.values():
            module, attribute = where.split(":")
            assert hasattr(importlib.import_module(f"jcpeer.cli.{module}"), attribute)
