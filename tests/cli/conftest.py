"""Commands run in this process against a node small enough to be obviously right, behind a real Unix socket."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from jcpeer.cli.main import run
from jcpeer.discovery.runtime_dir import LocalNode, write_local_node
from jcpeer.ids import NodeId
from tests.client.fake_service import FakeGrid, FakeNode, serving


@frozen
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Said]
NodeHere = Callable[..., AbstractContextManager[FakeNode]]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without grid or node, and nothing in the environment that says otherwise."""
    for variable in [each for each in os.environ if each.startswith("JCPEER_")]:
        monkeypatch.delenv(variable)
    for kind in ("STATE", "DATA", "RUNTIME", "CONFIG"):
        monkeypatch.setenv(f"JCPEER_{kind}_DIR", str(tmp_path / kind.lower()))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path


@pytest.fixture
def jcpeer(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command line, run to its end."""

    def command(*arguments: str) -> Said:
        capsys.readouterr()
        status = run(arguments)
        return Said(status, *capsys.readouterr())

    return command


@pytest.fixture
def node_here(places: Path) -> NodeHere:
    """A fake node of some name that runs here within the block."""

    @contextmanager
    def begin(name: str = "one", grid: FakeGrid | None = None, *, fingerprint: str = "") -> Iterator[FakeNode]:
        path = places / f"{name}.sock"
        node = LocalNode(NodeId(f"node-{name}"), name, fingerprint, "home", 1, os.getpid(), (), str(path))
        with serving(path, grid) as fake:
            write_local_node(places / "runtime", node)
            yield fake
        (places / "runtime" / "nodes" / f"{node.node}.json").unlink()

    return begin


@pytest.fixture
def file(places: Path) -> Callable[[str, str], str]:
    """A file in the work directory; returns its name."""

    def write(name: str, text: str) -> str:
        (places / "work" / name).write_text(text)
        return name

    return write
