"""A table of a description (TOML or JSON), read field by field: whatever is wrong is said with its place."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn

from jcpeer.application.names import remedy
from jcpeer.errors import GraphError

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}


class Fields:
    """One table. `where` is its place as a person would say it: file, then path within the file."""

    def __init__(self, where: str, value: object) -> None:
        self.where = where
        if not isinstance(value, dict):
            self.refuse(f"this must be a table, not {shown(value)}")
        self.values: dict[str, Any] = value

    def refuse(self, text: str) -> NoReturn:
        raise GraphError(f"{self.where}: {text}")

    def only(self, known: Collection[str]) -> None:
        """No key but these."""
        for key in self.values:
            if key not in known:
                known_here = f"known here: {', '.join(known)}"
                self.refuse(f"unknown key {key!r:.80}; {remedy(key, known, known_here)}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            self._wrong(key, value, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            self._wrong(key, value, "true or false")
        return value

    def whole(self, key: str, default: int | None = None, *, at_least: int) -> int:
        """A whole number; as text too, since that is what a variable makes of one."""
        value = self.values.get(key, default)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < 2**31:
            self._wrong(key, value, f"a whole number, {at_least} or more")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number that is neither negative nor infinite."""
        value = self.values.get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
            self._wrong(key, value, "a number, 0 or more")
        return float(value)

    def items(self, key: str, default: Sequence[object] | None = None) -> list[Any]:
        value = self.values.get(key, default)
        if not isinstance(value, list):
            self._wrong(key, value, "a list")
        return value

    def texts(self, key: str, default: Sequence[object] | None = None) -> list[str]:
        """A list of texts; one text alone stands for a list of it."""
        value = self.values.get(key)
        if isinstance(value, str):
            return [value]
        for index, each in enumerate(items := self.items(key, default)):
            if not isinstance(each, str):
                self._wrong(f"{key}[{index}]", each, "text")
        return items

    def text_table(self, key: str) -> dict[str, str]:
        """Names and texts; numbers count as text."""
        table = self.values.get(key, {})
        if not isinstance(table, dict):
            self._wrong(key, table, "a table")
        return {name: self._as_text(f"{key}.{name}", value) for name, value in table.items()}

    def inner(self, key: str) -> Fields:
        """The table of this name, empty where there is none."""
        return Fields(f"{self.where}: {key}", self.values.get(key, {}))

    def each(self, key: str) -> Iterator[Fields]:
        """The tables in this list."""
        for index, value in enumerate(self.items(key, [])):
            yield Fields(f"{self.where}.{key}[{index}]", value)

    def _as_text(self, key: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            self._wrong(key, value, "text")
        return str(value)

    def _wrong(self, key: str, value: object, wanted: str) -> NoReturn:
        if value is None:
            self.refuse(f"{key} is missing; it must be {wanted}")
        self.refuse(f"{key} must be {wanted}, not {shown(value)}")


def shown(value: object) -> str:
    """A wrong value for a message: short, on one line, and what it is where its looks would not tell."""
    if isinstance(value, (dict, list)):
        return _KINDS[type(value)]
    return f"{value!r:.60}"
