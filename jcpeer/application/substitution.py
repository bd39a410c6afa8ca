"""`{name}` in the texts of a description: which places count, and what is put there.

`{name}` gives the value, `{name.number}` the place of a matrix value counted from 0 (with as many digits as the last
one has), `{name.name}` and `{name.stem}` the last part of a file's name with and without its suffix. An item of a list
that is nothing but `{name}` becomes all values where there are several. `{{name}}` is the text "{name}", `${name}` is
left to the shell, and braces around anything but a name mean nothing here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from attrs import frozen

from jcpeer.application.local_blobs import LocalFile
from jcpeer.application.names import remedy
from jcpeer.errors import GraphError

Item = str | LocalFile
Value = Item | tuple[Item, ...]

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PLACE = re.compile(rf"\{{(\{{{_NAME}(?:\.{_NAME})?\}})\}}|(?<!\$)\{{({_NAME})(?:\.({_NAME}))?\}}")
_WHOLE = re.compile(rf"\{{({_NAME})\}}")
_ASPECTS = ("number", "name", "stem")


def is_variable_name(name: str) -> bool:
    return re.fullmatch(_NAME, name) is not None


@frozen
class Bound:
    """What a name stands for; `number` is set where it is one of several values of a matrix."""

    value: Value
    number: str | None = None


class Bindings:
    """The names that texts may use, and what they stand for."""

    def __init__(self, bound: Mapping[str, Bound]) -> None:
        self._bound = dict(bound)

    def __or__(self, more: Mapping[str, Bound]) -> Bindings:
        return Bindings({**self._bound, **more})

    def text(self, template: str) -> str:
        """The text with every place filled; several values are joined by blanks.

        Raises:
            GraphError: a place uses a name that is not known.
        """
        return self._fill(template, shell=False)

    def shell_text(self, template: str) -> str:
        """The same for a line that a shell will read: names of files and lists are quoted where they need it."""
        return self._fill(template, shell=True)

    def items(self, template: str) -> tuple[Item, ...]:
        """What this item of a list becomes: the values themselves where it is but a place, else one text."""
        whole = _WHOLE.fullmatch(template)
        if whole is None:
            return (self.text(template),)
        value = self._lookup(whole[1]).value
        return value if isinstance(value, tuple) else (value,)

    def texts(self, template: str) -> tuple[str, ...]:
        """The same where only texts have a sense: a file is its name."""
        return tuple(item_text(each) for each in self.items(template))

    def _fill(self, template: str, *, shell: bool) -> str:
        def fill(match: re.Match[str]) -> str:
            literal, name, aspect = match.groups()
            return literal or self._text_of(name, aspect, shell)

        return _PLACE.sub(fill, template) if "{" in template else template

    def _text_of(self, name: str, aspect: str | None, shell: bool) -> str:
        bound = self._lookup(name)
        match aspect, bound.value:
            case None, tuple() as values:
                return " ".join(shlex.quote(item_text(each)) if shell else item_text(each) for each in values)
            case None, LocalFile() as file:
                return shlex.quote(file.name) if shell else file.name
            case None, str() as text:
                return text
            case "number", _ if bound.number is not None:
                return bound.number
            case "name" | "stem", (str() | LocalFile()) as value:
                path = PurePosixPath(item_text(value))
                return path.name if aspect == "name" else path.stem
        if aspect in _ASPECTS:
            raise GraphError(
                f"{{{name}.{aspect}}} has no sense: {name} is {'a list' if aspect != 'number' else 'no matrix'}"
            )
        raise GraphError(
            f"{{{name}.{aspect}}} is unknown; " + remedy(str(aspect), _ASPECTS, f"known: {', '.join(_ASPECTS)}")
        )

    def _lookup(self, name: str) -> Bound:
        bound = self._bound.get(name)
        if bound is None:
            known = f"known: {', '.join(sorted(self._bound))}; write {{{{{name}}}}} for the text itself"
            raise GraphError(f"{{{name}}} is no variable; {remedy(name, self._bound, known)}")
        return bound


def item_text(item: Item) -> str:
    return item.name if isinstance(item, LocalFile) else item
