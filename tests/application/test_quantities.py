from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jcpeer.application.quantities import parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 4 * 2**30), ("500 MB", 500_000_000), ("1.5kib", 1536), ("12", 12), (7, 7), ("0B", 0), (".5KB", 500)],
)
def test_sizes_are_read_as_people_write_them(text: object, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("2h", 7200), ("7d", 604800), ("250ms", 0.25), (1.5, 1.5)]
)
def test_durations_are_read_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "wrong",
    ["", "GiB", "-1GiB", "4Gb/s", "1e9", "nan", "4 G i B", None, True, -1, float("inf"), float("nan"), [], "9" * 400],
)
def test_what_is_no_quantity_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match="write for example") as of_size:
        parse_bytes(wrong)
    assert "\n" not in str(of_size.value)
    with pytest.raises(ValueError, match="write for example"):
        parse_seconds(wrong)


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_bytes(text) >= 0
