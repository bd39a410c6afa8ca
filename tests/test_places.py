"""Places, with directories of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jcpeer import places
from jcpeer.errors import ConfigError


def test_each_override_is_honoured(tmp_path: Path) -> None:
    environ = {f"JCPEER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "RUNTIME")}
    assert places.config_dir(environ) == tmp_path / "config"
    assert places.data_dir(environ) == tmp_path / "data"
    assert places.state_dir("alpha", environ) == tmp_path / "state" / "alpha"
    assert places.socket_path("alpha", environ) == tmp_path / "runtime" / "alpha.sock"


def test_the_runtime_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir(mode=0o755)
    assert places.runtime_dir({"JCPEER_RUNTIME_DIR": str(loose)}).stat().st_mode & 0o777 == 0o700
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    made = places.runtime_dir({"XDG_RUNTIME_DIR": str(session)})
    assert made == session / "jcpeer"
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_session_directory_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    made = places.runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path / "absent")})
    assert made.stat().st_uid == os.geteuid()
    assert not (tmp_path / "absent").exists()


def test_a_link_in_place_of_the_runtime_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="JCPEER_RUNTIME_DIR"):
        places.runtime_dir({"JCPEER_RUNTIME_DIR": str(tmp_path / "link")})


@pytest.mark.parametrize("name", ["", ".hidden", "-flag", "a/b", "a b", "é", "x" * 64, "a\n"])
def test_impossible_node_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        places.check_node_name(name)


def test_host_names_are_node_names() -> None:
    assert places.check_node_name("lab-3.example.org") == "lab-3.example.org"
