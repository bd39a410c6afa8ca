"""Who runs on this machine: one small file for each node of this person, in a directory that nobody else can open.

`<runtime>/nodes/<node id>.json` is written when a node listens and removed when it ends. A node that was killed leaves
its file behind; its process id tells, and whoever looks next clears it away. Nodes find each other here even where
there is no network but loopback, and the command line finds the local node's socket.

Plain functions without trio: the files are few, tiny and in memory (a tmpfs, as a rule), so reading them blocks nobody.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from jcpeer.ids import NodeId

_FILE_BYTES_MAX = 64 * 1024


@frozen
class LocalNode:
    """A node of this person on this machine; `socket` is the path at which it takes local commands."""

    node: NodeId
    name: str
    grid: str
    grid_name: str
    incarnation: int
    pid: int
    addresses: tuple[str, ...]
    socket: str


def local_nodes(runtime: Path) -> list[LocalNode]:
    """The nodes whose processes live, in the order in which they started. Clears away what dead ones left."""
    nodes = []
    for path in sorted(_directory(runtime).glob("*.json")):
        node = _read(path)
        if node is None or path.stem != node.node:
            continue
        if _lives(node.pid):
            nodes.append(node)
        else:
            # A node that restarts just now may lose its new file by this; it looks after its own and writes it again.
            path.unlink(missing_ok=True)
    return sorted(nodes, key=lambda node: (node.incarnation, node.node))


def write_local_node(runtime: Path, node: LocalNode) -> None:
    """Tell the others on this machine. Raises: OSError: the directory cannot be written to."""
    directory = _directory(runtime)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    passing = directory / f".{node.node}.{secrets.token_hex(4)}"
    try:
        passing.write_text(json.dumps(attrs.asdict(node)))
        passing.replace(_path(runtime, node.node))
    finally:
        passing.unlink(missing_ok=True)


def remove_local_node(runtime: Path, node: LocalNode) -> None:
    """Take one's own file away, unless a later process of the same node has put its own there."""
    path = _path(runtime, node.node)
    if _read(path) == node:
        path.unlink(missing_ok=True)


def is_written(runtime: Path, node: LocalNode) -> bool:
    """Whether one's own file is there."""
    return _path(runtime, node.node).exists()


def changed_ns(runtime: Path) -> int:
    """What changes whenever a file is added, replaced or removed; 0 while there is no directory."""
    try:
        return _directory(runtime).stat().st_mtime_ns
    except OSError:
        return 0


def _directory(runtime: Path) -> Path:
    return runtime / "nodes"


def _path(runtime: Path, node: NodeId) -> Path:
    return _directory(runtime) / f"{node}.json"


def _read(path: Path) -> LocalNode | None:
    """None for whatever is no such file: gone meanwhile, damaged, or of another version."""
    try:
        with path.open("rb") as file:
            return _parse(json.loads(file.read(_FILE_BYTES_MAX)))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _parse(fields: Any) -> LocalNode:
    node = LocalNode(**{each.name: fields[each.name] for each in attrs.fields(LocalNode)})
    texts = (node.node, node.name, node.grid, node.grid_name, node.socket, *node.addresses)
    if not all(type(text) is str for text in texts) or type(node.pid) is not int or type(node.incarnation) is not int:
        raise TypeError("a field of the wrong type")
    return attrs.evolve(node, addresses=tuple(node.addresses))


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
