"""`matrix`: one task over values. Each combination of the values of its variables becomes a task of its own.

matrix.size = [10, 100]                                    # the values
matrix.seed = {range = [0, 5]}                             # 0 to 4, as in Python
matrix.file = {glob = "*.csv", in = "/data"}               # one task a file
matrix.files = {glob = "**/*.py", in = "src", chunks = 8}  # 8 lists of files, dealt out like cards
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from jcpeer.application.fields import Fields, shown
from jcpeer.application.local_blobs import LocalFile
from jcpeer.application.names import task_id_fault
from jcpeer.application.patterns import find_files
from jcpeer.application.substitution import Bindings, Bound, Value, is_variable_name

EXPANSIONS_MAX = 1_000_000
_READABLE_MAX = 40


@frozen
class Expansion:
    """One combination of values: what tells its task from the others, and the bindings under which it is read."""

    suffix: str
    bindings: Bindings


def expand(matrix: Fields, bindings: Bindings, directory: Path) -> list[Expansion]:
    """Every combination, the last variable changing fastest; one without a suffix where there is no variable.

    Raises:
        GraphError: a variable has no values, or there are too many combinations.
    """
    axes = {name: list(_bound(values)) for name, values in _axes(matrix, bindings, directory)}
    count = math.prod(len(values) for values in axes.values())
    if count > EXPANSIONS_MAX:
        matrix.refuse(f"this makes {count} tasks; at most {EXPANSIONS_MAX} are possible")
    combinations = list(itertools.product(*axes.values()))
    suffixes = _joined([[_readable(each) for each in values] for values in axes.values()])
    if len(set(suffixes)) < len(suffixes):
        suffixes = _joined([[each.number or "" for each in values] for values in axes.values()])
    return [
        Expansion(suffix, bindings | dict(zip(axes, each, strict=True)))
        for suffix, each in zip(suffixes, combinations, strict=True)
    ]


def _joined(axes: Sequence[Sequence[str]]) -> list[str]:
    return ["-".join(each) for each in itertools.product(*axes)]


def local_files(fields: Fields, bindings: Bindings, directory: Path) -> list[LocalFile]:
    """The files that `{glob = …, in = …, except = …}` means.

    Raises:
        GraphError: there are none.
    """
    pattern = bindings.text(fields.text("glob"))
    root = directory / bindings.text(fields.text("in", "."))
    but = [bindings.text(each) for each in fields.texts("except", [])]
    if "in" in fields.values and (pattern.startswith("/") or ".." in pattern.split("/")):
        fields.refuse(f"pattern {pattern!r:.80} leads out of {root}; write one that stays below it")
    files = find_files(pattern, root, but=but)
    if not files:
        fields.refuse(f"no file is called {pattern!r:.80} in {root}; correct the pattern or the directory")
    return files


def _axes(matrix: Fields, bindings: Bindings, directory: Path) -> Iterator[tuple[str, Sequence[Value]]]:
    for name, raw in matrix.values.items():
        if not is_variable_name(name):
            matrix.refuse(f"{name!r:.60} cannot be a variable; use letters, digits and _")
        values: Sequence[Value]
        if isinstance(raw, str):
            values = bindings.items(raw)
        elif isinstance(raw, list):
            values = [_value(matrix, name, each, bindings) for each in raw]
        elif isinstance(raw, dict):
            values = _computed(matrix.inner(name), bindings, directory)
        else:
            matrix.refuse(f"{name} must be a list, or a table with glob or range, not {shown(raw)}")
        if not values:
            matrix.refuse(f"{name} has no values; give at least one")
        yield name, values


def _value(matrix: Fields, name: str, raw: object, bindings: Bindings) -> Value:
    if isinstance(raw, list) and raw:
        return tuple(scalar_text(matrix, name, each, bindings) for each in raw)
    return scalar_text(matrix, name, raw, bindings)


def scalar_text(fields: Fields, name: str, raw: object, bindings: Bindings) -> str:
    """A text, a number or a truth value as the text that replaces its name."""
    if not isinstance(raw, (str, int, float)):
        fields.refuse(f"{name} must consist of texts and numbers, not {shown(raw)}")
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return bindings.text(raw) if isinstance(raw, str) else str(raw)


def _computed(fields: Fields, bindings: Bindings, directory: Path) -> Sequence[Value]:
    if "range" in fields.values:
        fields.only(("range",))
        return [str(each) for each in _range(fields, bindings)]
    fields.only(("glob", "in", "except", "chunks", "range"))
    files = local_files(fields, bindings, directory)
    if "chunks" not in fields.values:
        return files
    raw = fields.values["chunks"]
    chunks = Fields(fields.where, {"chunks": bindings.text(raw) if isinstance(raw, str) else raw})
    return _dealt(files, chunks.whole("chunks", at_least=1))


def _dealt(files: Sequence[LocalFile], chunks: int) -> list[Value]:
    """Dealt out like cards, because neighbours are often alike in size; never an empty hand."""
    return [tuple(files[start::chunks]) for start in range(min(chunks, len(files)))]


def _range(fields: Fields, bindings: Bindings) -> range:
    bounds = []
    for each in fields.items("range"):
        text = bindings.text(each) if isinstance(each, str) else each
        try:
            bounds.append(int(text) if isinstance(text, (str, int)) and not isinstance(text, bool) else int("none"))
        except ValueError:
            fields.refuse(f"range must consist of whole numbers, not {shown(each)}")
    if not 1 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] == 0):
        fields.refuse("range must be [stop], [start, stop] or [start, stop, step]")
    values = range(*bounds)
    if values[EXPANSIONS_MAX:]:
        fields.refuse(f"range has more than {EXPANSIONS_MAX} values; choose a smaller one")
    return values


def _bound(values: Sequence[Value]) -> Iterator[Bound]:
    digits = len(str(len(values) - 1))
    for index, value in enumerate(values):
        yield Bound(value, f"{index:0{digits}}")


def _readable(bound: Bound) -> str:
    """The value itself where it reads well in a task's name, its number otherwise."""
    value = bound.value
    if isinstance(value, str) and len(value) <= _READABLE_MAX and task_id_fault(f"x{value}") is None:
        return value
    return bound.number or ""
