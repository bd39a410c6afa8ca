"""Things of which one is drawn by number, each as likely as the others, at a cost that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Hat(Generic[T]):
    """A set in an order that depends only on what was put in and taken out."""

    def __init__(self) -> None:
        self._things: list[T] = []
        self._places: dict[T, int] = {}

    def add(self, thing: T) -> None:
        if thing not in self._places:
            self._places[thing] = len(self._things)
            self._things.append(thing)

    def discard(self, thing: T) -> None:
        place = self._places.pop(thing, None)
        if place is None:
            return
        last = self._things.pop()
        if place < len(self._things):
            self._things[place] = last
            self._places[last] = place

    def draw(self, fraction: float) -> T:
        """The thing at this fraction (0 to below 1) of the hat, which stays in it. Raises: IndexError: empty."""
        return self._things[int(fraction * len(self._things))]

    def __contains__(self, thing: object) -> bool:
        return thing in self._places

    def __len__(self) -> int:
        return len(self._things)

    def __iter__(self) -> Iterator[T]:
        return iter(self._things)
