"""Whatever goes through all that a machine keeps costs more where it keeps more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from tests.steps import steps, watched


class Shelf:
    """A machine, as far as `watched` looks: it comes from the package."""

    __module__ = "jcpeer.shelf"

    def __init__(self, size: int) -> None:
        self.list = list(range(size))
        self.dict = dict.fromkeys(range(size), 1)
        self.set = set(range(size))
        self.deque = deque(range(size))
        self.nested = {"one": {"two": list(range(size))}}


SCANS: dict[str, Callable[[Shelf], object]] = {
    "sum of a list": lambda shelf: sum(shelf.list),
    "sorted list": lambda shelf: sorted(shelf.list),
    "copy of a list": lambda shelf: list(shelf.list),
    "slice of a list": lambda shelf: shelf.list[1:],
    "list with another": lambda shelf: shelf.list.__add__([1]),
    "list in a tuple": lambda shelf: (*shelf.list, 1),
    "membership of a list": lambda shelf: -1 in shelf.list,
    "first of a list": lambda shelf: shelf.list.pop(0),
    "place in a list": lambda shelf: shelf.list.insert(0, 1),
    "list of a dict": lambda shelf: list(shelf.dict),
    "copy of a dict": lambda shelf: dict(shelf.dict),
    "dict in a dict": lambda shelf: {**shelf.dict},
    "dict and another": lambda shelf: shelf.dict | {1: 1},
    "least of a dict's values": lambda shelf: min(shelf.dict.values()),
    "a dict's keys but for some": lambda shelf: shelf.dict.keys() - {1},
    "a dict's items": lambda shelf: tuple(shelf.dict.items()),
    "a dict backwards": lambda shelf: list(reversed(shelf.dict.values())),
    "largest of a set": lambda shelf: max(shelf.set),
    "set and another": lambda shelf: shelf.set | {1},
    "set without another": lambda shelf: shelf.set - {1},
    "membership of a deque": lambda shelf: -1 in shelf.deque,
    "deque in a tuple": lambda shelf: tuple(shelf.deque),
    "what is nested": lambda shelf: sum(shelf.nested["one"]["two"]),
}

LOOKS: dict[str, Callable[[Shelf], object]] = {
    "end of a list": lambda shelf: (shelf.list[-1], shelf.list.pop()),
    "membership of a dict": lambda shelf: (-1 in shelf.dict, shelf.dict[1], shelf.dict.pop(2), len(shelf.dict)),
    "first of a dict": lambda shelf: next(iter(shelf.dict)),
    "some of a dict's keys": lambda shelf: shelf.dict.keys() & {1, 2},
    "membership of a set": lambda shelf: (-1 in shelf.set, shelf.set & {1, 2}),
    "ends of a deque": lambda shelf: (shelf.deque.popleft(), shelf.deque.pop()),
}


@pytest.mark.parametrize("scan", SCANS)
def test_what_is_gone_through_counts_whoever_does_it(scan: str) -> None:
    few, many = (steps(lambda shelf=watched(Shelf(size)): SCANS[scan](shelf)) for size in (10, 1000))  # type: ignore[misc]
    assert many > 10 * few


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_looked_up_does_not(look: str) -> None:
    few, many = (steps(lambda shelf=watched(Shelf(size)): LOOKS[look](shelf)) for size in (10, 1000))  # type: ignore[misc]
    assert many == few


def test_what_two_parts_share_they_share_still() -> None:
    shelf = Shelf(10)
    shelf.nested["same"] = shelf.nested["one"]
    watched(shelf).nested["same"]["two"] = [1]
    assert shelf.nested["one"]["two"] == [1]
