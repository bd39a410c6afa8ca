"""Numbers of starts, whatever becomes of the clock and of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcpeer.errors import ConfigError
from jcpeer.node.incarnation import INCARNATION_MAX, next_incarnation


def test_each_start_has_a_higher_number_though_the_clock_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "incarnation"
    starts = [next_incarnation(path, clock_ms=clock_ms) for clock_ms in (5000, 9000, 100, 100, 9001, 20_000)]
    assert starts == [5000, 9000, 9001, 9002, 9003, 20_000]


@pytest.mark.parametrize("content", [b"", b"half a numb", b"\xff\xfe", str(INCARNATION_MAX * 8).encode(), b"9" * 5000])
def test_a_file_that_makes_no_sense_is_written_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "incarnation"
    path.write_bytes(content)
    assert [next_incarnation(path, clock_ms=7000) for _ in range(2)] == [7000, 7001]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="incarnation"):
        next_incarnation(tmp_path / "nowhere" / "incarnation", clock_ms=1)
