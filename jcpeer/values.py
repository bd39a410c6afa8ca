"""What travels between processes, or is kept on disk, is a `Value`: frozen, and compared by its fields.

`wire.codec` packs it as the list of its fields, in their order. A reader takes the defaults of what is missing at the
end and passes over what it does not know there: fields are added at the end, with a default, and never taken away.

These are msgspec's structs, which are made, compared and unpacked in C: a task of one instant leads to some hundred of
them, and with attrs and cattrs they took most of its time.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, TypeVar, dataclass_transform

import attrs
import msgspec

T = TypeVar("T")

Number = Annotated[float, msgspec.Meta(gt=-sys.float_info.max)]
"""A float that is one: with NaN nothing can be compared or sorted."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A class of values. One that shares a field with others is given a `tag`, which goes before its fields.

    Nothing in a value can lead back to it, so the collector of cycles need not look at any of them.
    """


def evolve(value: T, **changes: Any) -> T:
    """The same value, or instance of an attrs class, but for these fields."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return attrs.evolve(value, **changes)  # type: ignore[misc]


def field_names(kind: type) -> tuple[str, ...]:
    """Of a class of values, or of an attrs class; none of any other class."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return tuple(each.name for each in attrs.fields(kind)) if attrs.has(kind) else ()
