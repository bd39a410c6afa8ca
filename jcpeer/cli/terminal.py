"""Where a command's words go: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence

from attrs import frozen


def show(text: str) -> None:
    """A line of the result."""
    print(text, flush=True)


def show_json(data: object) -> None:
    """A value of the result, on one line."""
    print(json.dumps(data, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """A line beside the result."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """Why the command does not do what was asked."""
    say(f"jcpeer: {text}")


@frozen
class Column:
    """`rank` says which go first where the terminal is narrow: the highest; those of rank 0 always stay."""

    title: str
    rank: int = 0
    right: bool = False


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table without frames, whole where stdout is no terminal."""
    for line in table_lines(columns, rows, width=terminal_width()):
        show(line)


def terminal_width() -> int | None:
    """How long a line of the result may be; None where stdout is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None) -> list[str]:
    """The table's lines, none longer than width if that can be had by leaving columns out."""
    from rich.cells import cell_len

    everything = [[each.title for each in columns], *rows]
    widths = [max(cell_len(row[index]) for row in everything) for index in range(len(columns))]
    kept = list(range(len(columns)))
    while width is not None and sum(widths[index] + 2 for index in kept) - 2 > width:
        spare = max(kept, key=lambda index: columns[index].rank)
        if columns[spare].rank == 0:
            break
        kept.remove(spare)

    def cell(row: Sequence[str], index: int) -> str:
        padding = " " * (widths[index] - cell_len(row[index]))
        return padding + row[index] if columns[index].right else row[index] + padding

    return ["  ".join(cell(row, index) for index in kept).rstrip() for row in everything]


def show_fields(fields: Mapping[str, str | Sequence[str]], *, indent: str = "  ") -> None:
    """Names and what is to be said of each, one below the other; several lines for one name are a list."""
    for line in field_lines(fields, indent=indent):
        show(line)


def field_lines(fields: Mapping[str, str | Sequence[str]], *, indent: str = "  ") -> list[str]:
    """The lines of `show_fields`. Fields with nothing to say are left out."""
    width = max((len(name) for name in fields), default=0) + 2
    lines = []
    for name, value in fields.items():
        texts = [value] if isinstance(value, str) else list(value)
        for place, text in enumerate(each for each in texts if each):
            lines.append(f"{indent}{name if place == 0 else '':<{width}}{text}")
    return lines
