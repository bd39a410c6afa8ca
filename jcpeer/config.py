"""Each setting with its unit, its default and why that default.

A setting comes from a flag, from the environment (`JCPEER_` and its name in capitals), from a TOML file, or from its
default; the first of these that has it wins, and wins whole: labels of two sources are not mixed. `load_config` joins
the four. One name is taken: JCPEER_STATE_DIR is the directory above those of all nodes (`places`), so in the
environment it stands for `state_dir` = that directory / name.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import field, frozen

from jcpeer.application.quantities import parse_bytes, parse_seconds
from jcpeer.errors import ConfigError
from jcpeer.hours import parse_hours


@frozen
class Config:
    """What one node is told at its start. Durations are seconds, sizes bytes."""

    name: str = field(default="", metadata={"help": "name of this node; several on one machine need different ones"})
    """Default: the host's name. The state directory hangs on it."""
    state_dir: Path | None = field(default=None, metadata={"help": "where identity, journal and blobs are kept"})
    """Default: platformdirs' user state directory / name."""
    grid: str = field(default="", metadata={"help": "name of the grid to be in, when this machine knows several"})
    listen: str = field(default="0.0.0.0:0", metadata={"help": "HOST:PORT for other nodes; port 0 takes a free one"})
    slots: int = field(default=0, metadata={"help": "tasks at once; 0 means one a CPU"})
    memory: int = field(default=0, metadata={"help": "memory for tasks, as in 8GiB; 0 means all of the machine's"})
    gpus: int | None = field(default=None, metadata={"help": "GPUs for tasks; those that are found if not given"})
    disk: int = field(default=0, metadata={"help": "free disk for tasks at most, as in 100GiB; 0 means all of it"})
    cost: float = field(default=0.0, metadata={"help": "price of an hour of a slot, for tasks that have a max_cost"})
    labels: Mapping[str, str] = field(factory=dict, metadata={"help": "KEY=VALUE that tasks can ask for"})
    bootstrap: tuple[str, ...] = field(default=(), metadata={"help": "HOST:PORT or multiaddress of a known node"})
    mdns: bool = field(default=True, metadata={"help": "announce and look for nodes on the local network"})
    coordinate: bool = field(default=True, metadata={"help": "be willing to coordinate applications"})
    trust_grid: bool = field(default=False, metadata={"help": "run tasks of every member, not only of your own user"})
    only_users: tuple[str, ...] = field(default=(), metadata={"help": "of the members, run tasks of these users only"})
    refuse_users: tuple[str, ...] = field(default=(), metadata={"help": "run no tasks of these users"})
    only_labels: Mapping[str, str] = field(
        factory=dict, metadata={"help": "KEY=VALUE that an application must have for its tasks to run here"}
    )
    refuse_labels: Mapping[str, str] = field(
        factory=dict, metadata={"help": "KEY=VALUE that an application must not have"}
    )
    hours: str = field(
        default="", metadata={"help": "when new tasks are taken, local time, as in Mon-Fri 18:00-08:00, Sat-Sun"}
    )

    share_half_life_s: float = 600.0
    """Use of slots that long ago counts half when users get equal shares; as long as a few tasks, so that one that
    takes long is made up for, and short enough that nobody waits for what was in the morning. (HTCondor: 1 day.)"""
    store_bytes_max: int = field(default=10 * 2**30, metadata={"help": "limit of the blob store"})
    """Blobs of running applications are never dropped for it; a 300 MiB input must fit with room to spare."""
    results_kept_s: float = 7 * 24 * 3600.0
    """How long an ended application's results and journal stay; a week bridges a holiday."""
    tombstones_kept_s: float = 90 * 24 * 3600.0
    """How long it is remembered that an application was forgotten, and how it had ended: late questions and votes, of
    a replica that was switched off for a season, find an answer."""
    durability: Literal["process", "disk"] = "process"
    """What an acknowledgement survives without the help of other nodes: the end of the process costs nothing, that of
    the machine an fsync for each group of entries. With copies on other machines the former is enough."""
    heartbeat_s: float = 0.5
    """Idle upkeep is one small frame a peer; half a second lets silence be noticed well within 3 s."""
    silence_s: float = 3.0
    """Silence for this long is suspicion; long enough for a stalled Python process, short enough for a person."""
    redial_s: float = 1.0
    """How long a redial after a broken connection may take before the peer counts as silent; a peer that is silent is
    looked for during the silence."""
    peer_queue_bytes_max: int = 64 * 2**20
    """Unsent bytes to one peer; over it the peer is dropped rather than memory filled."""
    goodbye_s: float = 1.0
    """Bound on each farewell at the end."""


PREFIX = "JCPEER_"
FILE_NAME = "node.toml"
ABOUT_PLACES = ("config_dir", "data_dir", "state_dir", "runtime_dir")
NOT_SETTINGS = (*ABOUT_PLACES, "node", "debug")
"""Variables with our prefix that say other things."""
FLAGS: Mapping[str, str] = {
    "labels": "--label",
    "only_users": "--only-user",
    "refuse_users": "--refuse-user",
    "only_labels": "--only-label",
    "refuse_labels": "--refuse-label",
    "mdns": "--no-mdns",
    "coordinate": "--no-coordinate",
}
"""Flags that are not called like their setting."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_LABEL_VALUE_CHARACTERS_MAX = 255
_WHOLE_MAX = 2**31 - 1


def load_config(flags: Mapping[str, object], environ: Mapping[str, str], path: Path | None = None) -> Config:
    """What flags, environment and file together say, checked.

    Args:
        flags: Values by setting, as text or of the setting's type; None and empty lists were not given.
        environ: A variable that is set to nothing counts as not set.
        path: A TOML file that must be there; None takes node.toml of the configuration directory, if it is there.

    Raises:
        ConfigError: a setting is unknown or impossible; the text names where it stands and the remedy.
    """
    values = _from_file(path or _default_path(environ), must_be_there=path is not None)
    from_environ = _from_environ(environ)
    if environ.get(f"{PREFIX}STATE_DIR"):
        values.pop("state_dir", None)
    given = {name: value for name, value in flags.items() if value is not None and value != [] and value != ()}
    from_flags = {name: _read(name, _flag(name), value) for name, value in given.items()}
    config = Config(**{**values, **from_environ, **from_flags})
    if config.silence_s <= config.heartbeat_s:
        raise ConfigError(
            f"silence_s ({config.silence_s:g}) must be longer than heartbeat_s ({config.heartbeat_s:g}): "
            "otherwise every peer is suspected between two heartbeats"
        )
    return config


def _default_path(environ: Mapping[str, str]) -> Path:
    from jcpeer.places import config_dir

    return config_dir(environ) / FILE_NAME


def _from_file(path: Path, *, must_be_there: bool) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_be_there:
            raise ConfigError(f"{path}: there is no such file; correct --config") from error
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for name in table:
        if name not in _READERS:
            raise ConfigError(f"{path}: unknown setting {name!r:.80}{_remedy(name)}")
    return {name: _read(name, f"{path}: {name}", value) for name, value in table.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {
        variable.removeprefix(PREFIX).lower(): text
        for variable, text in environ.items()
        if variable.startswith(PREFIX) and text
    }
    values = {}
    for name, text in found.items():
        variable = PREFIX + name.upper()
        if name in NOT_SETTINGS:
            continue
        if name in _READERS:
            values[name] = _read(name, variable, text)
        elif _closest(name):
            # Others may use the prefix for their own ends; what looks like a slip of ours would be lost in silence.
            raise ConfigError(f"{variable} is no setting{_remedy(name, spelled=lambda each: PREFIX + each.upper())}")
    return values


def _remedy(name: str, *, spelled: Callable[[str], str] = str) -> str:
    plain = name.replace("-", "_")
    if plain.startswith("no_") and plain[3:] in _READERS:
        return f"; write {spelled(plain[3:])} = false"
    if meant := _closest(plain):
        return f"; did you mean {spelled(meant)}?"
    return f"; there are {', '.join(spelled(each) for each in _READERS)}"


def _closest(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name[:80], _READERS, n=1, cutoff=0.7)), None)


def _flag(name: str) -> str:
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def _read(name: str, where: str, value: object) -> Any:
    """The value of this setting, whatever form its source has. `where` begins each complaint."""
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


# --- one reader for each kind of setting; each raises ValueError


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{value!r:.60} is no text")
    return value


def _node_name(value: object) -> str:
    from jcpeer.places import check_node_name

    try:
        return check_node_name(_text(value))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _path(value: object) -> Path:
    if isinstance(value, Path):
        value = os.fspath(value)
    text = _text(value)
    if not text:
        raise ValueError("an empty path; name a directory, or leave the setting out")
    return Path(text).expanduser().absolute()


def _address(value: object) -> str:
    text = _text(value)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not _is_port(port):
        raise ValueError(f"{text!r:.80} is no HOST:PORT; write for example 0.0.0.0:4001, or port 0 for a free one")
    return text


def _known_node(text: str) -> str:
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not _is_port(port) or int(port) == 0:
        raise ValueError(f"{text!r:.80} is no address of a node; write HOST:PORT or a multiaddress like /ip4/…/tcp/…")
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def _flag_value(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    raise ValueError(f"{value!r:.60} is neither true nor false")


def _count(value: object) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r:.60} is no whole number, 0 or more")
    if value > _WHOLE_MAX:
        raise ValueError(f"{value!r:.60} is too much; {_WHOLE_MAX} is the most")
    return value


def _price(value: object) -> float:
    number = value
    if isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise ValueError(f"{value!r:.60} is no price; write a number, 0 or more")
    return float(number)


def _positive_size(value: object) -> int:
    size = parse_bytes(value)
    if size <= 0:
        raise ValueError(f"{value!r:.60} leaves no room; write for example 10GiB")
    return size


def _positive_duration(value: object) -> float:
    seconds = parse_seconds(value)
    if seconds <= 0:
        raise ValueError(f"{value!r:.60} is too short; write for example 500ms or 3s")
    return seconds


def _durability(value: object) -> str:
    if value not in ("process", "disk"):
        raise ValueError(f'{value!r:.60} is neither "process" nor "disk"')
    return str(value)


def _texts(value: object) -> list[str]:
    """A list; text is a list with commas between."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r:.60} is no list of texts")
    return [_text(each) for each in value]


def _known_nodes(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_known_node(each) for each in _texts(value)))


def _users(value: object) -> tuple[str, ...]:
    users = tuple(dict.fromkeys(_texts(value)))
    if "" in users:
        # From an option whose variable is empty, as in --only-user "$WHO": to let everybody in would be worse.
        raise ValueError("'' is no user; write a name as `jcpeer nodes` shows it")
    return users


def _hours(value: object) -> str:
    text = _text(value).strip()
    if text:
        parse_hours(text)
    return text


def read_labels(value: object) -> dict[str, str]:
    """Labels: a table, or KEY=VALUE as texts.

    Raises:
        ValueError: one cannot be.
    """
    pairs: Iterable[tuple[str, object]]
    pairs = value.items() if isinstance(value, Mapping) else [_pair(each) for each in _texts(value)]
    return dict(_label(key, each) for key, each in pairs)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r:.80} is no label; write KEY=VALUE, as in gpu=a100")
    return key.strip(), value.strip()


def _label(key: str, value: object) -> tuple[str, str]:
    if not _LABEL.fullmatch(key):
        raise ValueError(f"{key!r:.80} is no name of a label; use up to 63 letters, digits and . _ / -")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"label {key}: {value!r:.60} is no text")
    text = str(value)
    if not text.isprintable() or len(text) > _LABEL_VALUE_CHARACTERS_MAX:
        raise ValueError(f"label {key}: use up to {_LABEL_VALUE_CHARACTERS_MAX} printable characters")
    return key, text


_READERS: Mapping[str, Callable[[object], object]] = {
    "name": _node_name,
    "state_dir": _path,
    "grid": _text,
    "listen": _address,
    "slots": _count,
    "memory": parse_bytes,
    "gpus": _count,
    "disk": parse_bytes,
    "cost": _price,
    "labels": read_labels,
    "bootstrap": _known_nodes,
    "mdns": _flag_value,
    "coordinate": _flag_value,
    "trust_grid": _flag_value,
    "only_users": _users,
    "refuse_users": _users,
    "only_labels": read_labels,
    "refuse_labels": read_labels,
    "hours": _hours,
    "share_half_life_s": _positive_duration,
    "store_bytes_max": _positive_size,
    "results_kept_s": _positive_duration,
    "tombstones_kept_s": _positive_duration,
    "durability": _durability,
    "heartbeat_s": _positive_duration,
    "silence_s": _positive_duration,
    "redial_s": _positive_duration,
    "peer_queue_bytes_max": _positive_size,
    "goodbye_s": _positive_duration,
}
assert list(_READERS) == [each.name for each in attrs.fields(Config)], "each setting needs its reader"
