"""Which node of this machine a client talks to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from jcpeer.discovery.runtime_dir import local_nodes
from jcpeer.errors import NoNodeError
from jcpeer.places import default_node_name, runtime_dir

VARIABLE = "JCPEER_NODE"
"""Environment: the name of the local node, or the path of its socket, where none is given."""
OWN_PREFIX = "run-"
"""Names of nodes that live as long as one run begin like this."""


def find_socket(name: str | None = None, *, lasting: bool = False, environ: Mapping[str, str] = os.environ) -> Path:
    """The socket of a local node.

    Args:
        name: Of the node, or the path of its socket. None: what JCPEER_NODE says, else the node named like this host,
            else the one that has run longest.
        lasting: Do not choose a node that was started for one run only.

    Raises:
        NoNodeError: there is none; the text names those that there are.
    """
    name = name or environ.get(VARIABLE) or None
    if name is not None and "/" in name:
        return Path(name)
    running = {each.name: Path(each.socket) for each in local_nodes(runtime_dir(environ))}
    if name is not None:
        if name in running:
            return running[name]
        others = f"; running here: {', '.join(running)}" if running else ""
        raise NoNodeError(f"no node {name} runs on this machine: start it with `jcpeer node --name {name}`{others}")
    chosen = {each: path for each, path in running.items() if not each.startswith(OWN_PREFIX)}
    if not chosen and not lasting:
        chosen = running
    if not chosen:
        raise NoNodeError("no node runs on this machine: start one with `jcpeer node`")
    return chosen.get(default_node_name()) or next(iter(chosen.values()))
