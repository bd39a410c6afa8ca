"""A module imports only what stands above it in the table of DESIGN.md, and users pay for nothing they do not use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jcpeer

ROOT = Path(jcpeer.__file__).parent

ROWS = (
    # `quantities` knows nothing of applications: it reads "4GiB", and settings are written so, too.
    ("_version", "values", "ids", "errors", "config", "hours", "places", "application.quantities"),
    ("application",),
    ("wire",),
    ("membership",),
    ("net",),
    ("discovery",),
    ("dht",),
    ("rdv",),
    ("coordinator",),
    ("ft",),
    ("work",),
    ("node",),
    ("client",),
    ("cli",),
    ("__init__", "__main__"),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each module or name of jcpeer that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        match node:
            case ast.Import(names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module, names, 0) if module is not None:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{path}:{node.lineno}: imports are absolute")


def row_of(name: str) -> int | None:
    """The row of a dotted name in jcpeer, be it a module or something in one; None outside of it."""
    first, *rest = name.split(".")
    if first != "jcpeer":
        return None
    if not rest or rest == ["__version__"]:
        return 0  # the package as such, not what it fetches from below on demand
    return ROW_OF.get(".".join(rest[:2]), ROW_OF.get(rest[0], ROW_OF["__init__"]))


def module_of(path: Path) -> str:
    return ".".join(("jcpeer", *path.with_suffix("").parts))


def test_every_module_has_its_row() -> None:
    unknown = {path.parts[0].removesuffix(".py") for path in MODULES} - ROW_OF.keys()
    assert not unknown, f"give them a row in DESIGN.md's table and here: {sorted(unknown)}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_upward_only(path: Path) -> None:
    own = row_of(module_of(path))
    assert own is not None
    downward = [
        f"jcpeer/{path}:{line} imports {name}"
        for line, name in imported(path)
        if (row := row_of(name)) is not None and row > own
    ]
    assert not downward


@pytest.mark.parametrize("module", ["jcpeer", "jcpeer.cli.main", "jcpeer.work.worker"])
def test_only_nodes_load_kademlia(module: str) -> None:
    code = f"import sys, {module}; print('kademlia' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    "module",
    ["jcpeer", "jcpeer.wire.codec", "jcpeer.net.events", "jcpeer.net.local_client", "jcpeer.membership.handshake"],
)
def test_import_loads_neither_trio_nor_libp2p(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('trio', 'libp2p') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
