"""Where things are on this machine: settings, grids, the state of each node, and what lives only while nodes run.

    <config>/                settings (TOML)
    <data>/                  the grids that this person is in (`membership.store`)
    <state>/<name>/          identity, journal, blobs and address book of the node of that name
    <runtime>/<name>.sock    where that node listens for local commands
    <runtime>/nodes/         who runs here now (`discovery.runtime_dir`)

Each place is platformdirs' for the user, unless JCPEER_CONFIG_DIR, JCPEER_DATA_DIR, JCPEER_STATE_DIR or
JCPEER_RUNTIME_DIR names another. Every process of a person must come to the same runtime directory, logged in or not,
so it is looked for by what is there more than by what the environment says.
"""

from __future__ import annotations

import os
import platform
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from jcpeer.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")


def check_node_name(name: str) -> str:
    """The name, which becomes part of paths and of what is announced on the network.

    Raises:
        ConfigError: it is empty, longer than 63 characters, or has others than letters, digits, dot, dash, underscore.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"impossible node name {name!r:.80}: choose with --name up to 63 letters, digits, dots, dashes and "
            "underscores, not starting with a dot or a dash"
        )
    return name


def config_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where settings are."""
    return _override("JCPEER_CONFIG_DIR", environ) or platformdirs.user_config_path("jcpeer", appauthor=False)


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the person's grids are kept; shared by all nodes of the person on this machine."""
    return _override("JCPEER_DATA_DIR", environ) or platformdirs.user_data_path("jcpeer", appauthor=False)


def state_dir(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the node of this name keeps its state. Raises: ConfigError: an impossible name."""
    states = _override("JCPEER_STATE_DIR", environ) or platformdirs.user_state_path("jcpeer", appauthor=False)
    return states / check_node_name(name)


def socket_path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the node of this name listens for local commands. Raises: ConfigError: see `runtime_dir`."""
    return runtime_dir(environ) / f"{check_node_name(name)}.sock"


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the person's running nodes meet: made where it is missing, and open to nobody else.

    Raises:
        ConfigError: it cannot be made, or belongs to somebody else.
    """
    chosen = _override("JCPEER_RUNTIME_DIR", environ)
    if chosen is not None:
        return _private(chosen, remedy="set JCPEER_RUNTIME_DIR to a directory of your own")
    for session in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        if session and _is_own(Path(session)):
            return _private(Path(session) / "jcpeer", remedy="set JCPEER_RUNTIME_DIR to a directory of your own")
    # In containers and under cron there is no session, hence no directory made for it. The fallback's name can be taken
    # by anybody, which is why its owner is checked before it is trusted.
    fallback = Path(tempfile.gettempdir()) / f"jcpeer-{os.geteuid()}"
    return _private(fallback, remedy="remove it, or set JCPEER_RUNTIME_DIR to a directory of your own")


def _override(variable: str, environ: Mapping[str, str]) -> Path | None:
    text = environ.get(variable, "")
    return Path(text).expanduser().absolute() if text else None


def _is_own(directory: Path) -> bool:
    try:
        status = directory.stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and os.access(directory, os.W_OK | os.X_OK)


def _private(directory: Path, *, remedy: str) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()  # a link put there by somebody else would lead into a directory of theirs
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise ConfigError(f"the runtime directory {directory} is not a directory of yours: {remedy}")
        if status.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"cannot use the runtime directory {directory}: {error.strerror}; {remedy}") from error
    return directory


def default_node_name() -> str:
    """The name of a node for which none was chosen: the host's, as far as a node can bear it."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", platform.node().split(".")[0]).strip("-")
    return name[:63] or "node"
