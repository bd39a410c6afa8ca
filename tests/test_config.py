"""Where a setting comes from, and what is said of one that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from jcpeer.config import Config, load_config
from jcpeer.errors import ConfigError

NOWHERE = {"JCPEER_CONFIG_DIR": "/nonexistent"}


def written(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text)
    return path


def loaded(
    *, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, path: Path | None = None
) -> Config:
    return load_config(flags or {}, {**NOWHERE, **(environ or {})}, path)


def test_without_flags_variables_or_file_every_setting_has_its_default() -> None:
    assert loaded() == Config()


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    path = written(tmp_path, 'slots = 1\nname = "file"\ngrid = "file"\n')
    config = loaded(flags={"slots": 3}, environ={"JCPEER_SLOTS": "2", "JCPEER_NAME": "environ"}, path=path)
    assert (config.slots, config.name, config.grid, config.mdns) == (3, "environ", "file", True)


def test_flags_that_were_not_given_and_empty_variables_leave_the_next_source_its_say(tmp_path: Path) -> None:
    path = written(tmp_path, 'slots = 1\nbootstrap = ["a:1"]\n')
    config = loaded(flags={"slots": None, "bootstrap": []}, environ={"JCPEER_SLOTS": ""}, path=path)
    assert (config.slots, config.bootstrap) == (1, ("a:1",))


def test_the_usual_file_is_read_where_it_is_and_not_missed_where_it_is_not(tmp_path: Path) -> None:
    environ = {"JCPEER_CONFIG_DIR": str(tmp_path)}
    assert loaded(environ=environ) == Config()
    written(tmp_path, "slots = 7\n")
    assert loaded(environ=environ).slots == 7


def test_a_variable_says_what_the_same_line_of_the_file_says(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'memory = "8GiB"\nmdns = false\nbootstrap = ["a:1", "/ip4/1.2.3.4/tcp/5"]\nsilence_s = "10s"\n'
        'labels = {gpu = "a100", rack = 7}\n',
    )
    environ = {
        "JCPEER_MEMORY": "8GiB",
        "JCPEER_MDNS": "no",
        "JCPEER_BOOTSTRAP": "a:1, /ip4/1.2.3.4/tcp/5",
        "JCPEER_SILENCE_S": "10",
        "JCPEER_LABELS": "gpu=a100,rack=7",
    }
    config = loaded(environ=environ)
    assert config == loaded(path=path)
    assert config == attrs.evolve(
        Config(),
        memory=8 * 2**30,
        mdns=False,
        bootstrap=("a:1", "/ip4/1.2.3.4/tcp/5"),
        silence_s=10.0,
        labels={"gpu": "a100", "rack": "7"},
    )


def test_the_variable_for_all_states_wins_over_the_files_directory_for_one(tmp_path: Path) -> None:
    path = written(tmp_path, 'state_dir = "/from/file"\n')
    assert loaded(path=path).state_dir == Path("/from/file")
    assert loaded(environ={"JCPEER_STATE_DIR": "/all"}, path=path).state_dir is None
    assert loaded(flags={"state_dir": "/flag"}, environ={"JCPEER_STATE_DIR": "/all"}).state_dir == Path("/flag")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("slot = 4", "unknown setting 'slot'; did you mean slots?"),
        ("trust-grid = true", "unknown setting 'trust-grid'; did you mean trust_grid?"),
        ("no_mdns = true", "unknown setting 'no_mdns'; write mdns = false"),
        ("zzz = 1", "unknown setting 'zzz'; there are name, state_dir, grid,"),
        ("slots = true", "slots: True is no whole number, 0 or more"),
        ("slots = -1", "slots: -1 is no whole number, 0 or more"),
        ("gpus = 99999999999", "gpus: 99999999999 is too much; 2147483647 is the most"),
        ("only_users = ['']", "only_users: '' is no user; write a name"),
        ("slots = 1.5", "slots: 1.5 is no whole number"),
        ('memory = "lots"', "memory: 'lots' is no size; write for example 512MiB or 4GiB"),
        ('mdns = "perhaps"', "mdns: 'perhaps' is neither true nor false"),
        ('listen = "here"', "listen: 'here' is no HOST:PORT"),
        ('listen = "0.0.0.0:70000"', "listen: '0.0.0.0:70000' is no HOST:PORT"),
        ('bootstrap = ["there"]', "bootstrap: 'there' is no address of a node"),
        ("bootstrap = [1]", "bootstrap: 1 is no text"),
        ("bootstrap = 1", "bootstrap: 1 is no list"),
        ('labels = ["gpu"]', "labels: 'gpu' is no label; write KEY=VALUE"),
        ('labels = {"a b" = "c"}', "labels: 'a b' is no name of a label"),
        ("labels = {a = [1]}", "labels: label a: [1] is no text"),
        ('name = "../up"', "name: impossible node name '../up'"),
        ("name = 4", "name: 4 is no text"),
        ('durability = "both"', 'durability: \'both\' is neither "process" nor "disk"'),
        ('silence_s = "soon"', "silence_s: 'soon' is no duration"),
        ("silence_s = 0.1", "silence_s (0.1) must be longer than heartbeat_s (0.5)"),
        ("store_bytes_max = 0", "store_bytes_max: 0 leaves no room"),
        ("slots = ", "not valid TOML: Invalid value"),
        ("slots = 1\nslots = 2", "not valid TOML:"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_its_name_the_setting_and_the_remedy(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        loaded(path=path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    if "silence_s (" not in complaint:
        assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"JCPEER_SLOT": "4"}, "JCPEER_SLOT is no setting; did you mean JCPEER_SLOTS?"),
        ({"JCPEER_NO_MDNS": "1"}, "JCPEER_NO_MDNS is no setting; write JCPEER_MDNS = false"),
        ({"JCPEER_SLOTS": "many"}, "JCPEER_SLOTS: 'many' is no whole number"),
        ({"JCPEER_LABELS": "gpu"}, "JCPEER_LABELS: 'gpu' is no label"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_by_its_name(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(environ=environ)
    assert str(caught.value).startswith(complaint)


def test_variables_of_other_things_with_our_prefix_are_left_alone() -> None:
    assert loaded(environ={"JCPEER_NODE": "a", "JCPEER_DEBUG": "1", "JCPEER_WEATHER": "fine"}) == Config()


def test_a_flag_that_cannot_be_is_refused_as_the_user_typed_it() -> None:
    with pytest.raises(ConfigError, match=r"^--label: 'gpu' is no label"):
        loaded(flags={"labels": ("gpu",)})


def test_a_named_file_must_be_there_and_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        loaded(path=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        loaded(path=tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8"):
        loaded(path=binary)
