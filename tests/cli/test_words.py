from __future__ import annotations

import pytest

from jcpeer.cli import words
from jcpeer.cli.terminal import Column, field_lines, table_lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (0.004, "0.00 s"),
        (0.25, "0.25 s"),
        (0.999, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_moment_ago_has_no_fractions() -> None:
    assert [words.ago(each) for each in (-5, 0.5, 1.9, 61, 90_000)] == [
        "now",
        "now",
        "1 s ago",
        "1 min 1 s ago",
        "1 d 1 h ago",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10_240, "10 KiB"),
        (1_048_575, "1.0 MiB"),
        (25 * 2**30, "25 GiB"),
    ],
)
def test_sizes_have_two_digits(count: int, text: str) -> None:
    assert words.size(count) == text


def test_numbers_agree_with_their_words() -> None:
    assert [words.counted(each, "task") for each in (0, 1, 1204)] == ["0 tasks", "1 task", "1,204 tasks"]
    assert [words.rate(each) for each in (0.05, 3.44, 1234.5)] == ["3.0 tasks/min", "3.4 tasks/s", "1,234 tasks/s"]


def test_names_are_joined_as_one_speaks_and_many_are_cut() -> None:
    assert words.joined([]) == ""
    assert words.joined(["a"]) == "a"
    assert words.joined(["a", "b", "c"]) == "a, b and c"
    assert words.joined(list("abcd"), most=2) == "a, b and 2 more"


def test_addresses_are_shown_as_host_and_port() -> None:
    assert words.address("/ip4/192.0.2.1/tcp/4001/p2p/12D3") == "192.0.2.1:4001"
    assert words.address("/ip6/::1/tcp/4001") == "[::1]:4001"
    assert words.address("host:1") == "host:1"


def test_texts_from_elsewhere_lose_what_a_terminal_would_obey() -> None:
    assert words.plain("a\x1b[31mb\tc\nd\u202e") == "a\ufffd[31mb\tc\nd\ufffd"
    assert words.one_line("a\n  b" + "c" * 300, length=6) == "a bcc…"


def test_a_narrow_terminal_loses_the_columns_of_highest_rank_first_and_never_those_of_none() -> None:
    columns = [Column("NAME"), Column("LOAD", rank=1, right=True), Column("ADDRESS", rank=2)]
    rows = [["a", "1.0", "192.0.2.1:4001"], ["日本", "0.25", "x"]]
    assert table_lines(columns, rows, width=None) == [
        "NAME  LOAD  ADDRESS",
        "a      1.0  192.0.2.1:4001",
        "日本  0.25  x",
    ]
    assert table_lines(columns, rows, width=25)[0] == "NAME  LOAD"
    assert table_lines(columns, rows, width=1)[0] == "NAME"


def test_fields_stand_below_each_other_and_empty_ones_are_left_out() -> None:
    assert field_lines({"a": "1", "long": ["2", "3"], "none": "", "no": []}) == [
        "  a     1",
        "  long  2",
        "        3",
    ]
