"""`{name}` in the texts of a description: which places count, and what is put there.

`{name}` gives the value, `{name.number}` the place of a matrix value counted from 0 (with as many digits as the last
one has), `{name.name}` and `{name.stem}` the last part of a file's name with and without its suffix. An item of a list
that is nothing but `{name}` becomes all values where there are several. `{{name}}` is the text "{name}", `${name}` is
left to the shell, and braces around anything but a name mean nothing here.
"""

from __future__ import annotations

import functools
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
_ASPECTS = ("number", "name", "stem")


def is_variable_name(name: str) -> bool:
    return re.fullmatch(_NAME, name) is not None


@frozen
class Bound:
    """What a name stands for; `number` is set where it is one of several values of a matrix."""

    value: Value
    number: str | None = None


@frozen
class _Place:
    """`{name}` or `{name.aspect}` in a text."""

    name: str
    aspect: str | None


@functools.lru_cache(maxsize=1000)
def _cut(template: str) -> tuple[str | _Place, ...]:
    """The texts of a template and the places between them. Templates are few, and each is filled once a task."""
    pieces: list[str | _Place] = []
    end = 0
    for match in _PLACE.finditer(template):
        literal, name, aspect = match.groups()
        pieces += [template[end : match.start()], literal or _Place(name, aspect)]
        end = match.end()
    pieces.append(template[end:])
    return tuple([each for each in pieces if each])


def has_places(text: str) -> bool:
    """Whether what becomes of this text depends on what is bound."""
    return "{" in text and any(isinstance(each, _Place) for each in _cut(text))


class Bindings:
    """The names that texts may use, and what they stand for."""

    def __init__(self, bound: Mapping[str, Bound]) -> None:
        self._bound = bound

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
        if "{" not in template:
            return (template,)
        match _cut(template):
            case (_Place(name, None),):
                value = self._lookup(name).value
                return value if isinstance(value, tuple) else (value,)
        return (self.text(template),)

    def texts(self, template: str) -> tuple[str, ...]:
        """The same where only texts have a sense: a file is its name."""
        return tuple([item_text(each) for each in self.items(template)])

    def _fill(self, template: str, *, shell: bool) -> str:
        if "{" not in template:
            return template
        return "".join([each if isinstance(each, str) else self._text_of(each, shell) for each in _cut(template)])

    def _text_of(self, place: _Place, shell: bool) -> str:
        name, aspect = place.name, place.aspect
        bound = self._lookup(name)
        if aspect is None and isinstance(bound.value, str):  # what most of them are
            return bound.value
        match aspect, bound.value:
            case None, tuple() as values:
                return " ".join(shlex.quote(item_text(each)) if shell else item_text(each) for each in values)
            case None, LocalFile() as file:
                return shlex.quote(file.name) if shell else file.name
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
