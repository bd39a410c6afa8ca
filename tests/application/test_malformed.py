"""Whatever file is given, the answer is an application or one line that names the file and what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.loading import load
from jcpeer.errors import GraphError

T = "[task.t]\ncommand = 'true'\n"

TOML = {
    "is empty": "",
    "binary file": "a = 1\0",
    "is not TOML": "[task.t\n",
    "line 2, column 1": "[task.t]\n= 1",
    "unknown key 'tasks'; did you mean 'task'": "[tasks.t]\ncommand = 'x'",
    "app.toml: task.t: unknown key 'comand'; did you mean 'command'": "[task.t]\ncomand = 'x'",
    "unknown key 'zzz'; known here: command": T + "zzz = 1",
    "application: unknown key 'nmae'": "[application]\nnmae = 'x'\n" + T,
    "add a table [task.NAME]": "[application]\nname = 'x'",
    "application: this must be a table": "application = 3\n" + T,
    "task.t: this must be a table": "task.t = 'true'",
    "command is missing": "[task.t]\n",
    "command must be text or a list, not 3": "[task.t]\ncommand = 3",
    "command[1] must be text, not 5": "[task.t]\ncommand = ['sleep', 5]",
    "the command is empty": "[task.t]\ncommand = []",
    "cpus must be a whole number, 1 or more, not 'two'": T + "cpus = 'two'",
    "cpus must be a whole number, 1 or more, not 0": T + "cpus = 0",
    "cpus must be a whole number, 1 or more, not True": T + "cpus = true",
    "memory: '4 pounds' is no size; write for example 512MiB": T + "memory = '4 pounds'",
    "timeout: 'soon' is no duration": T + "timeout = 'soon'",
    "retries must be": T + "retries = -1",
    "keep must be true or false, not 'yes'": T + "keep = 'yes'",
    "env must be a table": T + "env = 'A=1'",
    "labels.gpu must be text": T + "labels = {gpu = true}",
    "outputs[0] must be text": T + "outputs = [1]",
    "output '/tmp/x': it is absolute": T + "outputs = ['/tmp/x']",
    "'..' leads out": T + "outputs = ['../x']",
    "names beginning with '@'": T + "outputs = ['@value']",
    "is a directory; name the files": T + "outputs = ['out/']",
    "inputs must consist of texts and tables, not 1": T + "inputs = [1]",
    "input 'data.csv' is neither an output of a task nor a file": T + "inputs = ['data.csv']",
    "did you mean 'data.csv'": T + "inputs = ['dta.csv']\n[task.u]\ncommand = 'x'\noutputs = ['data.csv']",
    "matches neither": T + "inputs = ['*.nothing']",
    "write {path = '../x', as = 'NAME'}": T + "inputs = ['../x']",
    "task 'u' is not there": T + "inputs = [{task = 'u'}]",
    "inputs: unknown key 'pth'; did you mean 'path'": T + "inputs = [{pth = 'x'}]",
    "leads out of": T + "inputs = [{glob = '../*', in = '/tmp'}]",
    "no file is called '*.x'": T + "inputs = [{glob = '*.x'}]",
    "after: there is no task 'tt'; did you mean 't'": T + "after = ['tt']\n[task.tu]\ncommand = 'x'",
    "comes after itself": T + "after = ['t']",
    "reads 'x', which it makes itself": T + "inputs = ['x']\noutputs = ['x']",
    "in a circle: ": "[task.a]\ncommand='x'\nafter='b'\n[task.b]\ncommand='x'\nafter='a'",
    "'x' is made by task t too": T + "outputs = ['x']\n[task.u]\ncommand = 'x'\noutputs = ['x']",
    "two tasks of this name": "[task.t]\nmatrix.x = [1]\ncommand='x'\n[task.t-1]\ncommand='x'",
    "a task cannot be called '../t'": "[task.'../t']\ncommand = 'x'",
    "a task cannot be called 'a\\nb'": '[task."a\\nb"]\ncommand = "x"',
    "{nam} is no variable; did you mean 'name'": "[application.variables]\nname = 1\n[task.t]\ncommand = 'echo {nam}'",
    "write {{print}} for the text itself": "[task.t]\ncommand = \"awk '{print}'\"",
    "{x.number} has no sense": "[application.variables]\nx = 1\n[task.t]\ncommand = 'echo {x.number}'",
    "{x.nmae} is unknown; did you mean 'name'": "[task.t]\nmatrix.x = [1]\ncommand = 'echo {x.nmae}'",
    "matrix: x has no values": T + "matrix.x = []",
    "matrix: x must be a list": T + "matrix.x = 3",
    "matrix: x must consist of texts and numbers": T + "matrix.x = [1979-05-27]",
    "range must be [stop]": T + "matrix.x = {range = []}",
    "range has more than": T + "matrix.x = {range = [0, 99999999999999999999]}",
    "at most 1000000 are possible": T + "matrix.x = {range = [2000]}\nmatrix.y = {range = [2000]}",
    "chunks must be a whole number": T + "matrix.x = {glob = 'app.toml', chunks = 0}",
    "on_failure must be 'finish' or 'stop'": "[application]\non_failure = 'retry'\n" + T,
    "placement must be 'rdv' or 'local'": "[application]\nplacement = 'here'\n" + T,
    "replicas must be a whole number from 1 to 7, not 8": "[application]\nreplicas = 8\n" + T,
    "replicas must be a whole number from 1 to 7, not True": "[application]\nreplicas = true\n" + T,
    "takeover must be 'default', 'quorum' or 'available', not 'fast'": "[application]\ntakeover = 'fast'\n" + T,
    "inputs_stay must be true or false, not 1": "[application]\ninputs_stay = 1\n" + T,
    "dispatch must be 'assign', 'grab' or 'relay', not 'push'": "[application]\ndispatch = 'push'\n" + T,
    "name must be one line": '[application]\nname = "a\\nb"\n' + T,
    "defaults: unknown key 'command'": "[application]\ndefaults = {command = 'x'}\n" + T,
    "nested too deeply": "x = " + "[" * 1_000_000,
    "more than 100 parts": ".".join("a" * 1_000_000) + " = 1",
    "is out of range": "x = " + "9" * 5000,
}

JSON = {
    "is not JSON": "{",
    "nested too deeply": "[" * 1_000_000,
    "this must be a table, not a list": "[]",
    "schemaVersion must be '1.5', not None": "{}",
    "schemaVersion must be '1.5', not '1.4'": '{"schemaVersion": "1.4"}',
    "workflow: this must be a table, not None": '{"schemaVersion": "1.5"}',
    "workflow.execution: this must be a table": '{"schemaVersion": "1.5", "workflow": {}}',
}


def refusal(path: Path) -> str:
    with pytest.raises(GraphError) as refused:
        load(path)
    line = str(refused.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("fault", TOML)
def test_a_malformed_toml_file_gives_one_line_with_the_remedy(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "app.toml"
    path.write_text(TOML[fault])
    assert fault in refusal(path)


@pytest.mark.parametrize("fault", JSON)
def test_a_malformed_json_file_gives_one_line_with_the_remedy(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(JSON[fault])
    assert fault in refusal(path)


@pytest.mark.parametrize("suffix", ["toml", "json", "py"])
def test_what_is_no_text_file_is_said_to_be_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"app.{suffix}"
    assert "No such file" in refusal(path)
    path.mkdir()
    assert "is a directory" in refusal(path)
    assert "Not a directory" in refusal(Path(__file__) / f"app.{suffix}")
    path.rmdir()
    os.mkfifo(path)
    assert "not a regular file" in refusal(path)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # may be opened, cannot be read
    assert "cannot be read" in refusal(path)
    path.unlink()
    path.write_bytes(b"name = '\xff'")
    assert "byte 8 is not UTF-8" in refusal(path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    path = tmp_path / "app.toml"
    path.write_text(T)
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_a_file_of_another_kind_or_with_options_of_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("x")
    assert "is a .toml, .py or WfFormat .json file" in refusal(path)
    path = tmp_path / "app.toml"
    path.write_text(T)
    with pytest.raises(GraphError, match=re.escape("only a recorded run (.json) can be scaled")):
        load(path, scale=0.5)
    with pytest.raises(GraphError, match="only a TOML file has variables"):
        load(tmp_path / "app.py", variables={"x": "1"})


def test_a_special_file_among_the_inputs_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    path = tmp_path / "app.toml"
    for name, fault in (("pipe", "not a regular file"), ("loop", "link to a directory above"), ("empty", "empty dir")):
        path.write_text(T + f"inputs = ['{name}']")
        assert fault in refusal(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_a_loader_fall_over(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    directory = tmp_path_factory.getbasetemp()
    for suffix in ("toml", "json"):
        path = directory / f"any.{suffix}"
        path.write_bytes(data)
        refusal(path)
