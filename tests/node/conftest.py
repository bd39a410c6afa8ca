"""Fixtures of the tests with real nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_grid import Gate, RealGrid, real_grid


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrid]:
    with real_grid(tmp_path_factory.mktemp("g")) as grid:
        yield grid


@pytest.fixture
def world(machines: RealGrid) -> Iterator[RealGrid]:
    """The machines of all tests of a module; a test starts those nodes that it needs and do not run."""
    yield machines
    machines.calm()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.open()
