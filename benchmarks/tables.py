"""Tables of what was measured, one after another as they come to be, as text and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

WIDTH = 23


@frozen
class Point:
    """One line of a table: the cells by heading, in order. A first one of text names the line."""

    cells: Mapping[str, float | int | str]


def tell(
    parser: argparse.ArgumentParser,
    names: Sequence[str],
    known: Mapping[str, Callable[[], Iterator[Point]]],
    file: Path | None,
) -> None:
    """Measure the tables of these names, or all, print each when it is complete, and write them to the file."""
    if unknown := [each for each in names if each not in known]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(known)}")
    found: dict[str, list[Point]] = {}
    for name in names or known:
        found[name] = []
        for point in known[name]():
            found[name].append(point)
            print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        print(as_text(name, found[name]), end="\n\n", flush=True)
    if file:
        told = {name: [dict(each.cells) for each in points] for name, points in found.items()}
        file.write_text(json.dumps(told, indent=1) + "\n")


def as_text(name: str, points: Sequence[Point]) -> str:
    lines = [name, _line(points[0].cells, list(points[0].cells))]
    lines += [_line(each.cells, [_shown(cell) for cell in each.cells.values()]) for each in points]
    return "\n".join(lines)


def _line(cells: Mapping[str, float | int | str], texts: Sequence[str]) -> str:
    """Names stand to the left, numbers to the right."""
    return "".join(
        f"{text:<50}" if isinstance(cell, str) else f"{text:>{WIDTH}}"
        for cell, text in zip(cells.values(), texts, strict=True)
    )


def _shown(cell: float | int | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:,.3g}"
