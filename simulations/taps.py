"""Looking on: machines and carriers know nothing of being watched, so their methods are wrapped for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def wrapped(owner: type, method: str, around: Callable[..., Any]) -> Iterator[None]:
    """While in the block, a call of the method is one of `around(self, method, *args)`."""
    plain = getattr(owner, method)

    def call(self: object, *args: Any, **named: Any) -> Any:
        return around(self, plain, *args, **named)

    setattr(owner, method, call)
    try:
        yield
    finally:
        setattr(owner, method, plain)
