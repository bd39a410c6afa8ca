"""What a simulation found, as tables for a person and as one object for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

Cell = str | int | float | None


@frozen
class Table:
    """Rows under named columns. `title` is also its key in JSON."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def lines(self) -> list[str]:
        """With numbers to the right and texts to the left, each column as wide as it must be."""
        texts = [[shown(cell) for cell in row] for row in self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(self.columns, *texts, strict=True)]
        numeric = [all(not isinstance(row[at], str) for row in self.rows) for at in range(len(self.columns))]

        def joined(cells: Sequence[str]) -> str:
            aligned = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(cells, widths, numeric, strict=True)
            )
            return "  ".join(aligned).rstrip()

        return [f"{self.title}:", *(f"  {joined(row)}" for row in [self.columns, *texts])]

    def as_json(self) -> list[dict[str, Cell]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@frozen
class Findings:
    """The outcome of one run.

    Attributes:
        digest: Of all that any node was told by the network: the same for the same seed and options.
        events: How many lines it is over.
        tables: The results.
        lines: What no table holds, for a person.
        problems: What the checkers object to; a run with problems has failed.
    """

    digest: str
    events: int
    tables: tuple[Table, ...]
    lines: tuple[str, ...] = ()
    problems: Sequence[str] = ()

    def table(self, title: str) -> list[dict[str, Cell]]:
        """The rows of this table by column."""
        (found,) = (each for each in self.tables if each.title == title)
        return found.as_json()

    def as_text(self) -> str:
        tables = [line for table in self.tables for line in table.lines()]
        problems = [f"PROBLEM: {each}" for each in self.problems]
        end = f"digest {self.digest[:16]} over {self.events} events"
        return "\n".join([*tables, *self.lines, *problems, end])

    def as_json(self, options: Mapping[str, object]) -> str:
        tables = {each.title: each.as_json() for each in self.tables}
        told = {"options": options, "tables": tables, "problems": self.problems, "events": self.events}
        return json.dumps({**told, "digest": self.digest})


def shown(cell: Cell) -> str:
    """A cell for a person's eyes: three digits that count, or all of those before the point."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}" if abs(cell) < 100 else f"{cell:.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def quantile(values: Iterable[float], part: float) -> float:
    """The least value that this part of all does not exceed; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
