"""What a step of a machine costs: instructions of the interpreter are counted, which are the same each time.

Much is gone through within one instruction: `list`, `sum`, `sorted`, `in`, `pop(0)` and the like. So before it counts,
a test may have the containers that a machine keeps `watched`: then they are gone through one by one, and that counts.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from types import FrameType
from typing import Any, SupportsIndex, TypeVar

import attrs
import msgspec

T = TypeVar("T")


def steps(do: Callable[[], object]) -> int:
    """How many instructions of the interpreter this takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "opcode"
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # whoever wants to know of a collection, as Hypothesis does, would be counted
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count


def watched(machine: T) -> T:
    """The same machine, in which going through a dict, list, set or deque counts, whoever does it.

    What a machine was given as a value is left as it is, and so are counters; a set that is copied by `set` or
    `frozenset` does not show.
    """
    seen: dict[int, tuple[object, Any]] = {}  # with what was there, which must not make room for another of its id

    def watch(value: Any) -> Any:
        if id(value) in seen:
            return seen[id(value)][1]
        kind = type(value)
        new = _WATCHED[kind](value) if kind in _WATCHED else value
        if kind in (dict, list, deque, set) or _is_part(kind):
            seen[id(value)] = value, new
        if kind is dict:
            for key, each in value.items():
                dict.__setitem__(new, key, watch(each))
        elif kind is list:
            new[:] = [watch(each) for each in value]
        elif _is_part(kind):
            for name in _attributes(value):
                before = getattr(value, name)
                if (after := watch(before)) is not before:
                    setattr(value, name, after)
        return new

    watch(machine)
    return machine


def _is_part(kind: type) -> bool:
    """Of a machine: something that changes."""
    if not kind.__module__.startswith("jcpeer.") or issubclass(kind, msgspec.Struct | tuple | str):
        return False
    return kind.__setattr__ is object.__setattr__ or not _is_frozen(kind)


def _is_frozen(kind: type) -> bool:
    return attrs.has(kind) and "frozen" in kind.__setattr__.__name__


def _attributes(value: object) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = [*getattr(value, "__dict__", ()), *slots]
    return [each for each in names if not each.startswith("__") and hasattr(value, each)]


class _Keys(KeysView[Any]):
    def __init__(self, watched: _Dict) -> None:
        super().__init__(watched)
        self._watched = watched

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._watched)

    def __and__(self, other: Any) -> Any:
        few, many = sorted((self, other), key=len)
        return {each for each in few if each in many}

    __rand__ = __and__


class _Values(ValuesView[Any]):
    def __init__(self, watched: _Dict) -> None:
        super().__init__(watched)
        self._watched = watched

    def __reversed__(self) -> Iterator[Any]:
        return (self._watched[each] for each in reversed(self._watched))


class _Items(ItemsView[Any, Any]):
    def __init__(self, watched: _Dict) -> None:
        super().__init__(watched)
        self._watched = watched

    def __reversed__(self) -> Iterator[Any]:
        return ((each, self._watched[each]) for each in reversed(self._watched))


class _Dict(dict[Any, Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        yield from super().__reversed__()

    def keys(self) -> Any:
        return _Keys(self)

    def values(self) -> Any:
        return _Values(self)

    def items(self) -> Any:
        return _Items(self)

    def copy(self) -> dict[Any, Any]:
        return {each: self[each] for each in self}

    def __or__(self, other: Mapping[Any, Any]) -> Any:
        return {**self.copy(), **other}


class _List(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)

    def index(self, value: object, *between: Any) -> int:
        return next(at for at, each in enumerate(self) if each == value)

    def remove(self, value: object) -> None:
        del self[self.index(value)]

    def pop(self, at: SupportsIndex = -1) -> Any:
        for _ in range(int(at), len(self) if int(at) >= 0 else 0):
            pass  # those that move up
        return super().pop(at)

    def insert(self, at: SupportsIndex, value: Any) -> None:
        for _ in range(int(at), len(self)):
            pass
        super().insert(at, value)

    def __getitem__(self, at: Any) -> Any:
        return (
            [self[each] for each in range(*at.indices(len(self)))] if isinstance(at, slice) else super().__getitem__(at)
        )

    def __add__(self, other: Any) -> Any:
        return [*self, *other]

    def copy(self) -> list[Any]:
        return list(self)

    def sort(self, **how: Any) -> None:
        self[:] = sorted(self, **how)


class _Set(set[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()

    def __or__(self, other: Iterable[Any]) -> Any:
        return {each for both in (self, other) for each in both}

    def __and__(self, other: Any) -> Any:
        few, many = sorted((self, other), key=len)
        return {each for each in few if each in many}

    def __sub__(self, other: Any) -> Any:
        return {each for each in self if each not in other}

    def copy(self) -> set[Any]:
        return set(iter(self))


class _Deque(deque[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()

    def __contains__(self, value: object) -> bool:
        return any(each == value for each in self)

    def remove(self, value: object) -> None:
        for each in self:
            if each == value:
                break
        super().remove(value)


_WATCHED: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: _Dict(),
    list: lambda value: _List(),
    set: _Set,
    deque: lambda value: _Deque(value, value.maxlen),
}
