"""Fixtures of the tests that run attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jcpeer.work.executor import ProcessExecutor, open_executor
from tests.work.processes import Told


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[ProcessExecutor]:
    async with open_executor(slots=1, runtime_dir=tmp_path / "runtime") as executor:
        assert isinstance(executor, ProcessExecutor)
        yield executor


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An attempt's own."""
    path = tmp_path / "attempt"
    path.mkdir()
    return path


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.close()
