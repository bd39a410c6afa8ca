"""Functions and their arguments as bytes for a worker.

Functions of installed packages and of the application's own modules travel by name, those of the main program and
lambdas by value. In the arguments, files and results of tasks become a `Slot`, at any depth of lists, tuples and
dictionaries. Only workers turn these bytes back into objects.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import types
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen

from jcpeer.application.names import one_line
from jcpeer.application.references import File, OutputRef, TaskRef
from jcpeer.application.task import FILE_PREFIX, VALUE_PREFIX, Slot
from jcpeer.errors import GraphError

Function = Callable[..., object]
Reference = File | TaskRef | OutputRef

_PROTOCOL = 5
_PLAIN = frozenset({int, float, str, bytes, bool, type(None), Slot})
_LASTING = (types.FunctionType, types.BuiltinFunctionType)
"""What can be called and does not change. Others (bound methods, objects) may by the next call: packed each time."""


@frozen
class PackedFunction:
    """A function as bytes, and how it wants to be called (None where it does not tell)."""

    name: str
    data: bytes
    signature: inspect.Signature | None


class FunctionPacker:
    """Packs each function once, however often it is called."""

    def __init__(self) -> None:
        self._packed: WeakKeyDictionary[Function, PackedFunction] = WeakKeyDictionary()

    def pack(self, function: Function) -> PackedFunction:
        """Raises: GraphError: it cannot be sent."""
        lasting = isinstance(function, _LASTING)
        packed = self._packed.get(function) if lasting else None
        if packed is None:
            packed = PackedFunction(function_name(function), _dump_function(function), _signature(function))
            if lasting:
                self._packed[function] = packed
        return packed


def function_name(function: Function) -> str:
    """What a person calls it."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return getattr(inner, "__name__", None) or type(inner).__name__


def pack_arguments(
    function: PackedFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[bytes, dict[str, Reference]]:
    """The arguments as bytes, and what is to be put into each of their slots.

    Raises:
        GraphError: the function cannot be called so, or an argument cannot be sent; the text names it.
    """
    names: list[str] = [f"argument {index}" for index in range(1, len(args) + 1)]
    if function.signature is not None:
        try:
            function.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise GraphError(f"{function.name} cannot be called like this: {one_line(error)}") from error
        names = _positional_names(function.signature, len(args))
    places = _Places()
    placed = tuple(places.put(each) for each in args), {name: places.put(each) for name, each in kwargs.items()}
    if all(type(each) in _PLAIN for each in (*placed[0], *placed[1].values())):
        return pickle.dumps(placed, _PROTOCOL), places.references  # the same bytes, many times faster
    try:
        return _dumps(placed), places.references
    except Exception as error:  # pickling runs the code of whatever is pickled
        for name, each in (*zip(names, placed[0], strict=True), *placed[1].items()):
            if (fault := _pickling_fault(each)) is not None:
                raise GraphError(
                    f"argument {name.removeprefix('argument ')!r} (a {type(each).__name__}) cannot be sent: "
                    f"{one_line(fault)}; pass plain data, or jcpeer.File for a file"
                ) from fault
        raise GraphError(f"the arguments cannot be sent: {one_line(error)}; pass plain data") from error


class _Places:
    """Puts a slot where a reference was, one for each distinct thing."""

    def __init__(self) -> None:
        self.references: dict[str, Reference] = {}
        self._slots: dict[object, Slot] = {}
        self._above: set[int] = set()

    def put(self, value: Any) -> Any:
        """The same value; a container that holds a reference is replaced by a copy that holds slots."""
        match value:
            case File() | OutputRef() | TaskRef():
                return self._slot(value)
            case list() | tuple() | dict() if value and id(value) not in self._above:
                self._above.add(id(value))  # a list may hold itself
                try:
                    return self._put_inside(value)
                finally:
                    self._above.discard(id(value))
            case _:
                return value

    def _put_inside(self, value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> Any:
        kind: Any = type(value)
        if isinstance(value, dict):
            if kind is not dict:
                return value
            items = {key: self.put(each) for key, each in value.items()}
            return items if any(items[key] is not value[key] for key in value) else value
        if kind not in (list, tuple) and not hasattr(kind, "_make"):
            return value
        elements = [self.put(each) for each in value]
        if all(new is old for new, old in zip(elements, value, strict=True)):
            return value
        return kind._make(elements) if hasattr(kind, "_make") else kind(elements)

    def _slot(self, reference: Reference) -> Slot:
        key = (reference.task, reference.name) if isinstance(reference, OutputRef) else reference
        slot = self._slots.get(key)
        if slot is None:
            number = len(self._slots)
            if isinstance(reference, TaskRef):
                slot = Slot(f"{VALUE_PREFIX}{number}")
            else:  # under its own name, since libraries go by the suffix
                path = reference.name if isinstance(reference, OutputRef) else reference.path.name
                slot = Slot(f"{FILE_PREFIX}{number}/{PurePosixPath(path).name}")
            self._slots[key] = slot
            self.references[slot.name] = reference
        return slot


def _dumps(value: object) -> bytes:
    import cloudpickle  # here, so that importing jcpeer stays quick

    data: bytes = cloudpickle.dumps(value, _PROTOCOL)
    return data


def _dump_function(function: Function) -> bytes:
    if not callable(function):
        raise GraphError(f"a {type(function).__name__} cannot be called; give a function, then its arguments")
    try:
        return _dumps(function)
    except Exception as error:  # as above
        raise GraphError(
            f"the function {function_name(function)} cannot be sent: {one_line(error)}; define it at the top level of a"
            " module, using only what can be pickled"
        ) from error


def _pickling_fault(value: object) -> Exception | None:
    try:
        _dumps(value)
    except Exception as error:  # as above
        return error
    return None


def _signature(function: Function) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some that are written in C do not tell
        return None


def _positional_names(signature: inspect.Signature, count: int) -> list[str]:
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{index}]" for index in range(count - len(names))]
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return names[:count]
